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

"""The step captured as CUDA graphs: one launch for a whole step instead of some hundreds.

A graph repeats kernels with the arguments that they were captured with, so there is one graph for each bucket of cache
lengths. Buckets lie an eighth apart at most: a step reads up to that much more than is kept, and eviction still makes
steps shorter. All graphs are captured while configuring, from the compiled step where there is one, otherwise from the
model's modules.
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.compiled import CompiledStep
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.steps.step_module import BucketStep

SMALLEST = 128  # entries of the smallest bucket

Outputs = tuple[torch.Tensor, 'torch.Tensor | None']  # logits [V], hidden [H]
# (token, position, slot, bucket's length) -> outputs, see step_module.BucketStep
Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], Outputs]
# What runs a captured step again, and the tensors that it writes each time
Graph = tuple[Callable[[], None], Outputs]


def buckets(capacity: int) -> list[int]:
    """Return the bucket lengths, ascending up to `capacity`.

    They lie half the smallest bucket apart at first, later an eighth of the power of two below.
    """
    found = [min(SMALLEST, capacity)]
    while found[-1] < capacity:
        n = found[-1]
        found.append(min(n + max(SMALLEST // 2, (1 << n.bit_length() - 1) // 8), capacity))
    return found


def capturer(device: torch.device) -> Callable[[Callable[[], Outputs]], Graph]:
    """Return a function that captures calls. Their temporary tensors share memory, so one graph runs at a time."""
    # Kernels keep the priority of the stream that they were captured on: as in the engine, before the predictor's.
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device, priority=-1)

    def capture(call: Callable[[], Outputs]) -> Graph:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            call()  # libraries set themselves up in their first call, which no graph may hold
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode='thread_local'):
            outputs = call()
        return graph.replay, outputs

    return capture


class CapturedStep(Step):
    """Graphs of `step`, a compiled step for buckets or the step through the modules.

    `token` and `position` [1, 1] are the tensors that calls pass; others are copied into them.
    """

    def __init__(self, step: CompiledStep | ModuleStep, cache: SlotCache, token: torch.Tensor, position: torch.Tensor):
        run = _through_modules(step, cache) if isinstance(step, ModuleStep) else step.run_bucket
        self.kind = 'captured' if isinstance(step, ModuleStep) else f'{step.kind} and captured'
        self._cache, self._token, self._position = cache, token, position
        # Before the first step this points at the spare slot of inference/kv_cache.py: warm-up writes harm nothing.
        self._slot = torch.full((1,), cache.capacity, dtype=torch.long, device=cache.device)
        self._lengths = buckets(cache.capacity)
        capture = capturer(cache.device)
        # The largest first: the others fit into its memory.
        graphs = [capture(lambda n=n: run(token, position, self._slot, n)) for n in reversed(self._lengths)]
        self._graphs = graphs[::-1]

    @property
    def n_graphs(self) -> int:
        return len(self._graphs)

    def __call__(self, token, position):
        n = self._cache.layers[0].length + 1
        if n > self._cache.capacity:
            raise ValueError(f'the cache holds one sequence of {self._cache.capacity} tokens')
        if token is not self._token or position is not self._position:
            self._token.copy_(token)
            self._position.copy_(position)
        self._slot.fill_(n - 1)
        replay, outputs = self._graphs[bisect_left(self._lengths, n)]
        replay()
        self._cache.advance()
        return outputs


def _through_modules(step: ModuleStep, cache: SlotCache) -> Run:
    module = BucketStep(step.model)
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)
    return lambda token, position, slot, n: module(token, position, slot, filled[:n], keys, values)
