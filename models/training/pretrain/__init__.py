"""What stands in for Vicuna's companions, CLIP and Stable Diffusion: trained from nothing on pictures of the world."""
