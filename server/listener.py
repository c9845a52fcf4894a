"""Listening before there is anything to answer with."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """A socket that connections wait at until a server takes them.

    Raises:
        OSError: the address is in use, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
