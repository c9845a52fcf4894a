"""The pool of diffusion workers: throughput, share of the UNet, latency, hand-off, commands, memory, previews.

All numbers but those of the hand-off are ratios of what was measured in one run, by turns.
"""
