"""Images on the device that computes the network: decoded there, resized there, and never copied to the host."""
