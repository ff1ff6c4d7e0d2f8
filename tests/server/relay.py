"""A Unix socket in front of a server that listens on a port: bytes in, bytes out."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def socket_before(port: int, path: Path) -> Iterator[str]:
    """Listens on a socket at `path` and passes bytes to a port of this machine; yields the socket's address."""
    threads: list[threading.Thread] = []

    def spawn(target, *arguments) -> None:
        threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        threads[-1].start()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while block := source.recv(65536):
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one side has closed the connection
            pass

    def join(ours: socket.socket) -> None:
        with ours, socket.create_connection(("127.0.0.1", port)) as theirs:
            back = threading.Thread(target=pump, args=(theirs, ours), daemon=True)
            back.start()
            pump(ours, theirs)
            back.join()

    def accept(listening: socket.socket) -> None:
        while True:
            try:
                ours, _ = listening.accept()
            except OSError:  # closed
                return
            spawn(join, ours)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        spawn(accept, listening)
        yield f"unix://{path}"
        listening.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)
