"""Routers, one file per surface, and what they share."""
