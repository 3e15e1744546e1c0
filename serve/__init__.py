"""aweigh.serve: exported detectors behind HTTP and gRPC, without torch."""
