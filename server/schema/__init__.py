"""Request and response types of the HTTP surface, one file per surface."""
