"""Lower precision in the graph: half and INT8."""
