"""From sources to detections: read, batch, run, collect, for one image or a stream."""
