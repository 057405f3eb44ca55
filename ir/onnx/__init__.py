"""ONNX in and out: the only place that knows the format of ONNX files."""
