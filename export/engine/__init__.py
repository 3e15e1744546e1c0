"""TensorRT engines from ONNX files, without torch."""
