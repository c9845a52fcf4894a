"""A client in the terminal. It knows the server by its HTTP surface alone."""
