"""The kernels themselves, in Triton, which torch's CUDA builds for Linux bring along; imported on first use."""
