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

"""The decode step as CUDA graphs: one launch for a whole step, instead of some hundreds.

A graph repeats kernels with the arguments that they were captured with, so there is one for each bucket of cache
lengths, an eighth apart at most: a step reads up to that much more than is kept, and eviction goes on to pay. All are
captured while configuring, from the compiled step where there is one, or else from the model's own modules. One is used
only after its logits were found to be those of the modules, and where it is no slower.
"""
from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import nn

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.steps.compiled_step import CompiledStep
from timebill_ros.inference.steps.decode_step import BucketStep, compare, one_line

log = logging.getLogger(__name__)

SMALLEST = 128  # entries of the smallest bucket
SLOWER = 1.05  # times the next best step: timing it again must not choose anew

# (token, position, slot, bucket's length) -> logits [V], see decode_step.BucketStep
Run = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]
# What runs a step again, and the logits [V] that it writes each time
Graph = tuple[Callable[[], None], torch.Tensor]


class NotCaptured(RuntimeError):
    """Why a model's steps are launched kernel by kernel."""


def buckets(capacity: int) -> list[int]:
    """Lengths, ascending, up to `capacity`: half the smallest apart at first, later an eighth of the power of two
    below.
    """
    found = [min(SMALLEST, capacity)]
    while found[-1] < capacity:
        n = found[-1]
        found.append(min(n + max(SMALLEST // 2, (1 << n.bit_length() - 1) // 8), capacity))
    return found


def capturer(device: torch.device) -> Callable[[Callable[[], torch.Tensor]], Graph]:
    """Captures calls, whose temporary tensors then share their memory: one runs at a time."""
    # Kernels keep the priority of the stream that they were captured on: as in the engine, before the predictor's.
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device, priority=-1)

    def capture(call: Callable[[], torch.Tensor]) -> Graph:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            call()  # libraries set themselves up in their first call, which no graph may hold
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode='thread_local'):
            logits = call()
        return graph.replay, logits

    return capture


class CapturedStep:
    """Steps of one model on one cache. `token` and `position` [1, 1] are the tensors that calls pass.

    The logits are valid until the next step.
    """

    def __init__(self, run: Run, cache: SlotCache, token: torch.Tensor, position: torch.Tensor, *, kind: str):
        self.kind = kind
        self._layers, self._capacity = cache.layers, cache.capacity
        self._token, self._position = token, position
        # Until the first step it is the slot to spare (see kv_cache.py).
        self._slot = torch.full((1,), cache.capacity, dtype=torch.long, device=cache.device)
        self._lengths = buckets(cache.capacity)
        capture = capturer(cache.device)
        # The largest first, into whose memory the others fit.
        graphs = [capture(lambda n=n: run(token, position, self._slot, n)) for n in reversed(self._lengths)]
        self._graphs = graphs[::-1]

    def __call__(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Token id and position, int64 [1, 1] each -> logits [V]. No host synchronisation."""
        n = self._layers[0].length + 1
        if n > self._capacity:
            raise ValueError(f'the cache holds one sequence of {self._capacity} tokens')
        if token is not self._token or position is not self._position:
            self._token.copy_(token)
            self._position.copy_(position)
        self._slot.fill_(n - 1)
        replay, logits = self._graphs[bisect_left(self._lengths, n)]
        replay()
        for layer in self._layers:
            layer.length += 1
        return logits


@torch.inference_mode()
def prepare(model: nn.Module, cache: SlotCache, options: dict, compiled: CompiledStep | None, token: torch.Tensor,
            position: torch.Tensor) -> CapturedStep:
    """The captured step of `model`, from `compiled` where that is given. NotCaptured with a sentence where it cannot be
    had or is slower. `cache` holds at least two entries of a sequence.
    """
    if any(layer.is_sliding for layer in cache.layers):
        raise NotCaptured('layers with a sliding window are as long as the others, until these are evicted')
    start_s = time.monotonic()
    if compiled is not None:
        run, others, kind = compiled.run_bucket, [compiled], 'compiled and captured'
    else:
        run, others, kind = _through_modules(model, cache, options), [], 'captured'
    lengths = [layer.length for layer in cache.layers]
    try:
        step = CapturedStep(run, cache, token, position, kind=kind)
        for n in {lengths[0], cache.capacity - 1}:  # there are zeros in slots that were never filled
            for layer in cache.layers:
                layer.length = n
            *rest, seconds = compare(model, [*others, step], cache, options, token, position)
            if seconds > SLOWER * min(rest):
                raise ValueError(f'over {n} entries it takes {1e3 * seconds:.3f} ms, and {1e3 * min(rest):.3f} ms '
                                 'without')
    except Exception as error:  # what a capture meets has many kinds
        raise NotCaptured(one_line(error)) from error
    finally:
        for layer, length in zip(cache.layers, lengths, strict=True):
            layer.length = length
    log.info('captured %d graphs of the decode step in %.1f s', len(buckets(cache.capacity)),
             time.monotonic() - start_s)
    return step


def _through_modules(model: nn.Module, cache: SlotCache, options: dict) -> Run:
    step = BucketStep(model, options)
    keys, values = [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    filled = torch.zeros(cache.capacity, dtype=torch.long, device=cache.device)
    return lambda token, position, slot, n: step(token, position, slot, filled[:n], keys, values)
