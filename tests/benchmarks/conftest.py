"""The benchmarks' tests use the runtime's small detector."""

from red_files import folder, make_model, make_picture, model, write_picture

__all__ = ["folder", "make_model", "make_picture", "model", "write_picture"]
