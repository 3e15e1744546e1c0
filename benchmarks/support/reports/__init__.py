"""Reports of benchmarks: what is stored, and how it is shown."""
