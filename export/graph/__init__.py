"""The ONNX graph: tracing, edits, checks of operators."""
