"""The text path against ``vllm serve``: the same model in the same vLLM, by turns."""
