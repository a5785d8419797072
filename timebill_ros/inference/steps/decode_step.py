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

"""One decode step as a module: what compiled_step.py traces and captured_step.py captures, and how they are judged."""
from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from transformers.cache_utils import Cache

from timebill_ros.inference.kv_cache import BucketLayer, SlotCache

TIMED_S = 1.0  # how long every way of stepping is timed together, at most
TIMED_STEPS = 30


def forward(model: nn.Module, ids: torch.Tensor, positions: torch.Tensor, cache: Cache,
            options: dict) -> torch.Tensor:
    """Through the modules: ids and positions [1, L] appended to the cache -> logits [V] after the last one."""
    return model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, **options).logits[0, -1]


def uses_buckets(cache: SlotCache) -> bool:
    """Whether steps are of fixed sizes, so that they can be captured (captured_step.py): on CUDA, and where layers are
    equally long.
    """
    return cache.device.type == 'cuda' and not any(layer.is_sliding for layer in cache.layers)


class ExactStep(nn.Module):
    """Token and position [1, 1], `filled` [n] of any content, the slots of every layer -> logits [V].

    The new token's keys and values go into slot n - 1, and its queries attend to slots 0 .. n - 1. Of a layer with a
    sliding window only those slots are given that its window reaches, [1, H_kv, w, D]: the last one is the new token's.
    """

    def __init__(self, model: nn.Module, sliding: list[bool], options: dict):
        super().__init__()
        self.model, self._sliding, self._options = model, sliding, options

    def forward(self, token, position, filled, keys, values):
        lengths = [key.shape[2] - 1 if slides else filled.shape[0] - 1
                   for key, slides in zip(keys, self._sliding, strict=True)]
        return forward(self.model, token, position, SlotCache.of(keys, values, lengths), self._options)


class BucketStep(nn.Module):
    """The same with an attention over b slots, of which those after the new token's are hidden: kernels and their
    arguments are alike for every length up to b, as a CUDA graph has to have them.

    `slot`, int64 [1], is where the new token's keys and values go, which only the device knows; `bucket` [b] of any
    content. No layer has a sliding window.
    """

    def __init__(self, model: nn.Module, options: dict):
        super().__init__()
        self.model, self._options = model, options
        self._windows = [module.timebill_window for module in model.modules() if hasattr(module, 'timebill_window')]

    def forward(self, token, position, slot, bucket, keys, values):
        n = bucket.shape[0]
        hidden = torch.arange(n, device=slot.device) > slot
        cache = Cache(layers=[BucketLayer(key, value, slot, n) for key, value in zip(keys, values, strict=True)])
        for window in self._windows:
            window.hidden = hidden
        try:
            return forward(self.model, token, position, cache, self._options)
        finally:
            for window in self._windows:
                window.hidden = None


Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # token and position [1, 1] -> logits [V]


@torch.inference_mode()
def compare(model: nn.Module, steps: list[Step], cache: SlotCache, options: dict, token: torch.Tensor,
            position: torch.Tensor) -> list[float]:
    """Median seconds of a step through the modules and of each of `steps`; ValueError where logits of theirs differ by
    more than rounding. `token` and `position` [1, 1] are what they are called with; the cache is left as it was.
    """
    lengths = [layer.length for layer in cache.layers]
    position.fill_(lengths[0])

    def modules(token, position):
        return forward(model, token, position, cache, options)

    def timed(step: Step) -> tuple[torch.Tensor, float]:
        for layer, length in zip(cache.layers, lengths, strict=True):
            layer.length = length
        start_s = time.perf_counter()
        logits = step(token, position)
        logits.argmax().item()  # waits for the device
        return logits, time.perf_counter() - start_s

    ways = [modules, *steps]
    expected, *found = [timed(way)[0].clone() for way in ways]
    rounding = torch.finfo(expected.dtype).eps ** 0.5
    if not all((got.float() - expected.float()).norm() <= rounding * expected.float().norm() for got in found):
        raise ValueError('its logits are not those of the modules')
    taken: list[list[float]] = [[] for _ in ways]
    until_s = time.perf_counter() + TIMED_S
    while len(taken[0]) < TIMED_STEPS and time.perf_counter() < until_s or not taken[0]:
        for way, seconds in zip(ways, taken, strict=True):
            seconds.append(timed(way)[1])
    for layer, length in zip(cache.layers, lengths, strict=True):
        layer.length = length
    return [median(seconds) for seconds in taken]


def one_line(error: Exception) -> str:
    """What tracers, compilers and captures raise, fit for a log."""
    return f'{type(error).__name__}: {(str(error).strip() or "no message").splitlines()[0][:200]}'
