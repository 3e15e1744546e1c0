"""Served models: loading, batching, admission, metrics."""
