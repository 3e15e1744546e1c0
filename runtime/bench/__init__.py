"""Latency and memory of a model file, each plan in a process of its own."""
