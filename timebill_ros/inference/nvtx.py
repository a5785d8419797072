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

"""Ranges for Nsight Systems and other tools that read NVTX: a request, its phases, and the host's part of each step.

A range is on the time line of the thread that does the work. A step is started in `launch` and waited for in `read`; a
GPU computes it later than `launch`, which the profiler shows by the kernels and graphs that were started inside the
range. Where no profiler listens, NVTX's calls return at once.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.cuda import nvtx

from timebill_ros.inference.ranges import Ranges
from timebill_ros.inference.token_chain import PassedChain


class NvtxRanges(Ranges):
    """Ranges of one thread nest: those of a phase are inside the request's. Requests run one at a time."""

    def __init__(self):
        self._in_phase = False

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        with self.around('request'):
            try:
                yield
            finally:
                self._end_phase()

    def phase(self, name: str) -> None:
        self._end_phase()
        nvtx.range_push(name)
        self._in_phase = True

    def _end_phase(self) -> None:
        if self._in_phase:
            self._in_phase = False
            nvtx.range_pop()

    @contextlib.contextmanager
    def around(self, name: str) -> Iterator[None]:
        nvtx.range_push(name)
        try:
            yield
        finally:
            nvtx.range_pop()

    def stepping(self, model) -> MarkedModel:
        return MarkedModel(model)


class MarkedModel:
    """What the token loop needs of a model, with its steps marked."""

    def __init__(self, model):
        self._model, self.eos_ids = model, model.eos_ids

    def chain(self, sampler) -> MarkedChain:
        return MarkedChain(self._model.chain(sampler))


class MarkedChain(PassedChain):
    """A chain with its calls in ranges."""

    def start(self, logits) -> None:
        nvtx.range_push('start')
        try:
            self._chain.start(logits)
        finally:
            nvtx.range_pop()

    def launch(self, position: int) -> None:
        nvtx.range_push('launch')
        try:
            self._chain.launch(position)
        finally:
            nvtx.range_pop()

    def read(self) -> int:
        nvtx.range_push('read')
        try:
            return self._chain.read()
        finally:
            nvtx.range_pop()
