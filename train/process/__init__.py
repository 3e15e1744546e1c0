"""Processes, devices, threads, memory and the console."""
