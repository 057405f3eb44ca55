"""The ground floor: number formats, graphs, ONNX in and out, text in and out, diff."""
