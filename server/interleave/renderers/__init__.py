"""Document events as each surface shows them."""
