"""TensorRT engines of both flavours, run without torch."""
