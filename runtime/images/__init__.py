"""Images: read and check files, prepare the network input, draw boxes."""
