"""Two exported files on the same images: what differs, as values and as a page."""
