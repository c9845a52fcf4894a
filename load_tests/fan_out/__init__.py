"""Many readers on one server process, and on vLLM's own API server that sends them the same."""
