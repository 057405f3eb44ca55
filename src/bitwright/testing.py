"""pytest plug-in (assert_same_graph and golden graphs)."""
