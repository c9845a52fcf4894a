"""Latency over offered load: callers who come when they come, however many are there already."""
