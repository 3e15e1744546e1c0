"""Video: read files, cameras and streams; write annotated videos."""
