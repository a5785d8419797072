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

"""The order of a device's work and the waits for it: streams and events on CUDA, nothing on a CPU.

A GPU computes later than it is asked to. What lies in different streams it computes side by side: the language model's
work in one, the length predictor's in another. So nothing here waits for the whole device. Such a wait would count the
predictor's time as prefill's, and no prediction could ever be late.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


class Event:
    """A point in the work for the device. On a CPU the work is done when it is recorded, so there is no wait."""

    def record(self) -> None:
        """Set the point behind everything that this thread has asked the device for so far."""

    def wait(self) -> None:
        """Wait until the device has reached the point; return at once where none was recorded."""


class Stream:
    """A queue of work, which the device does in order. This one is a CPU's, which does it at once."""

    def entered(self, *, ordered: bool = True) -> contextlib.AbstractContextManager:
        """Put what this thread asks the device for inside on this stream.

        ordered: that work comes after what the thread's own stream holds before, and before what it is given later.
        Otherwise the two streams know nothing of each other.
        """
        return contextlib.nullcontext()

    def wait(self) -> None:
        """Wait until the device has done what this thread has asked it for, on the stream that it is on now.

        A time that is read before this leaves out what the device has yet to do.
        """

    def event(self) -> Event:
        """Return an event, which can be recorded again and again."""
        return Event()


class _CudaEvent(Event):
    def __init__(self, device: torch.device):
        self._device = device
        self._event = torch.cuda.Event(blocking=True)  # the thread sleeps, so the length predictor's has the core

    def record(self) -> None:
        self._event.record(torch.cuda.current_stream(self._device))

    def wait(self) -> None:
        self._event.synchronize()


class _CudaStream(Stream):
    def __init__(self, device: torch.device, priority: int):
        self._device, self._stream = device, torch.cuda.Stream(device, priority=priority)

    @contextlib.contextmanager
    def entered(self, *, ordered: bool = True) -> Iterator[None]:
        outer = torch.cuda.current_stream(self._device)
        if outer == self._stream:
            yield
            return
        if ordered:
            self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            if ordered:
                outer.wait_stream(self._stream)

    def wait(self) -> None:
        torch.cuda.current_stream(self._device).synchronize()

    def event(self) -> Event:
        return _CudaEvent(self._device)


def stream_on(device: torch.device, *, urgent: bool = False) -> Stream:
    """Return a stream of its own on `device`. An urgent one goes before all others of a GPU."""
    if device.type != 'cuda':
        return Stream()
    return _CudaStream(device, priority=-1 if urgent else 0)  # 0 is CUDA's lowest priority, and the default
