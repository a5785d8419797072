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

"""What SIGTERM does to a command: the same as Ctrl-C, so that no node, worker or client of it is left behind."""
from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

CODE = 128 + signal.SIGTERM  # the exit status, as a shell reports it


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Whatever ends itself in order at Ctrl-C ends itself in order at this."""


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Have SIGTERM raise Terminated in the main thread; afterwards it does what it did before."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not break off what the first one ends
    raise Terminated
