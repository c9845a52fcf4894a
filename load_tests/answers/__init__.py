"""Whole answers, text and pictures, against the plain program that one would write with transformers and diffusers."""
