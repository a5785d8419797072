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
lengths. A step reads an eighth more than is kept at most, and eviction still makes steps shorter. All graphs are
captured while configuring, with fused layers where they can be had, otherwise from the model's modules.

The draw of the most likely token, the token's way to the next step and to the host, and the next position and slot are
part of each graph (device_state.py). Drawing by chance is a graph of its own for each kind of sampling, launched after
the step's: one for each kind and bucket would take minutes to capture.
"""
from __future__ import annotations

import dataclasses
import logging
from bisect import bisect_left
from collections.abc import Callable

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps.captured_draws import DRAWS
from timebill_ros.inference.steps.compiled import one_line
from timebill_ros.inference.steps.device_state import DeviceState
from timebill_ros.inference.steps.fused import FusedStep
from timebill_ros.inference.steps.interface import Step
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.steps.step_module import BucketStep
from timebill_ros.inference.token_chain import TokenChain

log = logging.getLogger(__name__)

SMALLEST = 128  # entries of the smallest bucket
MULTIPLE = 16  # of which the lengths of buckets are multiples, for kernels that load many numbers at once

# (token, position, slot, bucket's length) -> (logits [V], hidden [H]), see step_module.BucketStep
Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], 'tuple[torch.Tensor, torch.Tensor | None]']
Graph = Callable[[], object]  # runs what was captured again


def buckets(capacity: int) -> list[int]:
    """Return the bucket lengths, ascending up to `capacity`.

    A bucket is an eighth longer at most than the shortest cache that it is used for, where that is longer than
    SMALLEST.
    """
    found = [min(SMALLEST, capacity)]
    while found[-1] < capacity:
        n = found[-1]
        longest = (n + 1) * 9 // 8
        found.append(min(max(longest - longest % MULTIPLE, n + 1), capacity))
    return found


def capturer(device: torch.device) -> Callable[[Callable[[], object]], Graph]:
    """Return a function that captures calls. Their temporary tensors share memory, so one graph runs at a time."""
    # Kernels keep the priority of the stream that they were captured on: as in the engine, before the predictor's.
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device, priority=-1)

    def capture(call: Callable[[], object]) -> Graph:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            call()  # libraries set themselves up in their first call, which no graph may hold
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode='thread_local'):
            call()
        return graph.replay

    return capture


class CapturedStep(Step):
    """Graphs of `step`, one with fused layers or the one through the modules."""

    @torch.inference_mode()
    def __init__(self, step: FusedStep | ModuleStep, cache: SlotCache):
        run = _through_modules(step, cache) if isinstance(step, ModuleStep) else step.run_bucket
        self.kind = 'captured' if isinstance(step, ModuleStep) else f'{step.kind} and captured'
        self._cache, self._lengths = cache, buckets(cache.capacity)
        with torch.inference_mode(False):  # as the tensors of `state`: each kind would be compiled for
            one = torch.zeros(1, 1, dtype=torch.long, device=cache.device)
            spare = torch.full((1,), cache.capacity, dtype=torch.long, device=cache.device)
        self.state = state = DeviceState(cache.capacity, cache.device, *run(one, one, spare, self._lengths[0]))
        # What the device's slot and position will be once all that was launched is done; None: somebody else's.
        self._slot = self._position = None
        capture = capturer(cache.device)
        graphs = []
        for n in reversed(self._lengths):  # the largest first: the others fit into its memory
            state.park()  # what warms up counts on, too
            graphs.append(capture(lambda n=n: state.finish(*run(state.token, state.position, state.slot, n))))
        self._graphs = graphs[::-1]
        state.park()
        self.draws = self._capture_draws(capture)

    def _capture_draws(self, capture: Callable[[Callable[[], object]], Graph]) -> dict[str, Graph]:
        """Capture the draws by kind of sampling; a kind that cannot be captured is drawn outside."""
        draws = {}
        for kind in DRAWS:
            try:
                self.state.count.fill_(1)
                draws[kind] = capture(lambda kind=kind: self.state.draw_again(kind))
            except Exception as error:  # a capture may fail with errors of many kinds
                log.info('tokens of kind %s are not drawn in a CUDA graph: %s', kind, one_line(error))
        return draws

    @property
    def n_graphs(self) -> int:
        return len(self._graphs) + len(self.draws)

    def __call__(self, token, position):
        n = self._next_length()
        self.state.token.copy_(token)
        self.state.position.copy_(position)
        self.state.slot.fill_(n - 1)
        self._replay(n)
        self._slot = self._position = None
        return self.state.logits, self.state.hidden

    def launch(self, position: int) -> None:
        """Start a step over the token in `state`, which stands at `position`; it draws the most likely next token."""
        n = self._next_length()
        if self._slot != n - 1:  # the first step of a row, and after an eviction
            self.state.slot.fill_(n - 1)
        if self._position != position:
            self.state.position.fill_(position)
        self._replay(n)
        self._slot, self._position = n, position + 1

    def chain(self, sampler):
        if sampler.waits_for_host:
            return None
        sampling = sampler.sampling
        if sampling.top_k >= len(self.state.logits):  # keeps all, as 0 does
            sampling = dataclasses.replace(sampling, top_k=0)
        if sampling.kind != 'greedy' and sampling.kind not in self.draws:
            return None
        return CapturedChain(self, sampler, self.draws.get(sampling.kind))

    def _next_length(self) -> int:
        n = self._cache.layers[0].length + 1
        if n > self._cache.capacity:
            raise ValueError(f'the cache holds one sequence of {self._cache.capacity} tokens')
        return n

    def _replay(self, n: int) -> None:
        self._graphs[bisect_left(self._lengths, n)]()
        self._cache.advance()


class CapturedChain(TokenChain):
    """Tokens drawn by the graphs of a captured step. `draw`: the graph that draws by chance; None: tokens are greedy.

    Of a row's tokens only the first is drawn outside, by `sampler`, from the logits of prefill.
    """

    ahead = True

    def __init__(self, step: CapturedStep, sampler: Sampler, draw: Graph | None):
        self._step, self._sampler, self._redraw = step, sampler, draw
        self._arrivals, self._n = step.state.arrivals, 0  # tokens that were read

    def start(self, logits):
        self.logits = logits
        self._step.state.begin(self._sampler.sampling, self._sampler.generator, self._sampler.draw(logits))

    def launch(self, position):
        self._step.launch(position)
        if self._redraw is not None:
            self._redraw()
        self._arrivals.sent()
        self.logits = self._step.state.logits
        self.hidden = self._step.state.hidden

    def read(self):
        self._n += 1
        # The one wait for the device per token: it makes EOS and the deadline guard possible.
        return self._arrivals.read()

    def save(self):
        return self._step.state.save()

    def restore(self, saved):
        self._step.state.restore(saved, self._n)


def _through_modules(step: ModuleStep, cache: SlotCache) -> Run:
    module = BucketStep(step.model)
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)
    return lambda token, position, slot, n: module(token, position, slot, filled[:n], keys, values)
