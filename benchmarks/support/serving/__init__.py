"""Servers and clients of the serving benchmarks."""
