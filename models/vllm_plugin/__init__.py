"""DreamLLM inside vLLM: the model, its multimodal processor and the capture of dream states.

vLLM calls :func:`register` in each of its processes, through the entry point group ``vllm.general_plugins``.
"""

ARCHITECTURE = "DreamLLMForConditionalGeneration"
MODEL_CLASS = f"models.vllm_plugin.model:{ARCHITECTURE}"


def register() -> None:
    """Make this process know DreamLLM: its config and processor to transformers, its model class to vLLM.

    The class is registered by name, so that a process that runs no model never imports it.
    """
    from vllm import ModelRegistry

    import models.dreamllm  # noqa: F401 - importing it registers the Auto classes

    ModelRegistry.register_model(ARCHITECTURE, MODEL_CLASS)
