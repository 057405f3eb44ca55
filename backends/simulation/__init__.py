"""Graph -> onnxruntime, in the formats of the graph."""
