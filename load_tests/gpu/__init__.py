"""The diffusion engine at the size of Stable Diffusion 2.1 on a GPU, and what could make it faster there."""
