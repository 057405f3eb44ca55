"""Constant matrices as graphs of adders: a product without a multiplier, with common sub-sums made once."""
