"""DreamLLM: the model, the same model inside vLLM, its diffusion side and its training. Never imports ``server``."""
