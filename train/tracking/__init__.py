"""What a run records: its folder, counters, plots, loggers."""
