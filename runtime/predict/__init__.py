"""The predict job: sources in, files out."""
