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

"""torch.cuda without a GPU: streams, events and waits whose work takes time of a clock that the tests hold."""
from __future__ import annotations

import contextlib
import threading

import torch


class FakeStream:
    """Does one piece of work after the other. `done_s`: the clock's reading when all of it is done."""

    def __init__(self, cuda: FakeCuda, priority: int = 0):
        self.cuda, self.priority, self.done_s = cuda, priority, cuda.clock.now
        cuda.streams.append(self)

    def wait_stream(self, other: FakeStream) -> None:
        self.done_s = max(self.done_s, other.done_s)

    def synchronize(self) -> None:
        self.cuda.clock.now = max(self.cuda.clock.now, self.done_s)


class FakeEvent:
    def __init__(self, cuda: FakeCuda):
        self.cuda, self.at_s = cuda, cuda.clock.now

    def record(self, stream: FakeStream) -> None:
        self.at_s = stream.done_s

    def synchronize(self) -> None:
        self.cuda.clock.now = max(self.cuda.clock.now, self.at_s)


class FakeCuda:
    """Takes the place of torch.cuda's streams. `work` is what a kernel is: it returns before it is done."""

    def __init__(self, clock, monkeypatch):
        self.clock, self.streams = clock, []
        self.default = FakeStream(self)
        self._of_thread = threading.local()
        for name, stand_in in (
                ('Stream', lambda device, priority=0: FakeStream(self, priority)),
                ('Event', lambda blocking=False: FakeEvent(self)), ('stream', self._entered),
                ('current_stream', lambda device=None: self.current), ('synchronize', self._synchronize)):
            monkeypatch.setattr(torch.cuda, name, stand_in)

    @property
    def current(self) -> FakeStream:
        return getattr(self._of_thread, 'stream', self.default)

    def work(self, seconds: float) -> None:
        self.current.done_s = max(self.current.done_s, self.clock.now) + seconds

    @contextlib.contextmanager
    def _entered(self, stream: FakeStream):
        outer, self._of_thread.stream = self.current, stream
        try:
            yield
        finally:
            self._of_thread.stream = outer

    def _synchronize(self, device=None) -> None:
        for stream in self.streams:
            stream.synchronize()
