"""Searches for formats; drives passes and reads scores."""
