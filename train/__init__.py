"""Training a graph in its formats: graph -> torch module -> graph. Needs the extra `[train]` (torch)."""
