"""Ports where nobody listens, also while other tests look for free ones."""

import socket
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def silent_port() -> Generator[int]:
    """A port that refuses connections. Nobody is given it but who asks for it, as a server of this test may."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
