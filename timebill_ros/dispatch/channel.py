# Copyright 2026 timebill_ros authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Messages between the node and its worker: one JSON object per line over a socket pair.

JSON, not pickle, so that neither side can make the other run code. Node and worker both import this module; it imports
neither rclpy nor torch.
"""
from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator


class Channel:
    """One end of the socket pair. `send` may be called from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._lock = threading.RLock()  # a finalizer that runs in the midst of `send` may log, and so send itself

    def send(self, message: dict) -> bool:
        """Send one message; return False if the other end is gone."""
        data = json.dumps(message).encode() + b'\n'
        try:
            with self._lock:
                self._socket.sendall(data)
            return True
        except OSError:
            return False

    def receive(self) -> Iterator[dict]:
        """Yield messages until the other end closes, or writes something that is no JSON object."""
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
        """Close this end; a `receive` that waits at either end returns."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end closed first
        self._socket.close()
