"""Training DreamLLM from nothing on a synthetic world of shapes."""
