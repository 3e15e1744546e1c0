"""Weights to start from: files, URLs, hubs."""
