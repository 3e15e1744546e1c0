"""Images on the device that computes the network: decoded, resized and read there."""
