"""Arithmetic of dense detectors: points, boxes, losses, post-processing."""
