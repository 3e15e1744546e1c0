"""Model files: ONNX, TensorRT plans with their sidecars, golden images."""
