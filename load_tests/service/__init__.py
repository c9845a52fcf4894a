"""A service to put under load, as processes of its own, and what it holds while it runs."""
