"""The text of some callers while pictures of others are drawn: real vLLM, and a worker in a process of its own."""
