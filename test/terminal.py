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

"""A terminal for programs under test, which draw otherwise where their output is none."""
from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading


class Terminal:
    """A pseudo terminal of `columns` x `rows`. A context manager; `output` is what goes to Popen as stdout."""

    def __init__(self, columns: int = 130, rows: int = 30):
        self._ours, self.output = pty.openpty()
        fcntl.ioctl(self.output, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_) -> None:
        """Call it once the program has ended."""
        os.close(self.output)
        self._reader.join(5.0)
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was written, with what moves the cursor and sets colours."""
        return b''.join(self._chunks).decode(errors='replace')

    def _read(self) -> None:
        try:
            while chunk := os.read(self._ours, 65536):
                self._chunks.append(chunk)
        except OSError:  # nobody holds the other end any more
            return
