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

"""The queries of a prompt's last tokens, which SnapKV scores the cache by."""
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch


class QueryRecorder:
    """The last `size` prompt queries of one layer, [1, H_q, <= size, D], kept across prefill chunks.

    The attention function pushes queries while `recording` is on, which it is while a prompt is read.
    """

    def __init__(self, size: int):
        self.size = size
        self.recording = False
        self.queries: torch.Tensor | None = None
        self._before: torch.Tensor | None = None  # the queries before the latest push
        self.scaling = 1.0  # what the layer multiplies its logits by

    def push(self, query: torch.Tensor, scaling: float) -> None:
        """Take over a chunk's queries, [1, H_q, L, D], rotary embedding applied."""
        tail = query[:, :, -self.size:]
        if tail.shape[2] < self.size and self.queries is not None:
            tail = torch.cat([self.queries, tail], dim=2)[:, :, -self.size:]
        # A copy: a view would hold the whole chunk in memory.
        self._before, self.queries, self.scaling = self.queries, tail.clone(), scaling

    def take_back(self) -> None:
        """Forget the latest chunk."""
        self.queries = self._before

    def clear(self) -> None:
        self.queries = self._before = None


@contextlib.contextmanager
def recording(recorders: Iterable[QueryRecorder]) -> Iterator[None]:
    """Record queries inside."""
    recorders = list(recorders)
    for recorder in recorders:
        recorder.recording = True
    try:
        yield
    finally:
        for recorder in recorders:
            recorder.recording = False
