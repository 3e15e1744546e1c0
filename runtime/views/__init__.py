"""Detectors that look at an image several times: tiles and test-time augmentation."""
