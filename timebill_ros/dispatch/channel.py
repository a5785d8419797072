"""Messages between the node and its worker: one JSON object per line over a socket pair.

JSON, not pickle: neither side can make the other run code. Both sides import this; it imports nothing heavy.
"""
from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator


class Channel:
    """One end of the pipe. `send` may be called from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._lock = threading.Lock()

    def send(self, message: dict) -> bool:
        """Send one message; False where the other end is gone."""
        data = json.dumps(message).encode() + b'\n'
        try:
            with self._lock:
                self._socket.sendall(data)
            return True
        except OSError:
            return False

    def receive(self) -> Iterator[dict]:
        """Messages until the other end closes or writes something else than a JSON object."""
        try:
            with self._socket.makefile('rb') as lines:
                for line in lines:
                    message = json.loads(line)
                    if not isinstance(message, dict):
                        return
                    yield message
        except (OSError, ValueError, RecursionError):
            return

    def close(self) -> None:
        """Close this end; a `receive` that waits here or there ends."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end closed first
        self._socket.close()
