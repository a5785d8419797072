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

"""Which kernels compute attention over long buckets: timed on the device, while a model is configured."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from statistics import median

import torch

from timebill_ros.inference import slot_attention
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.slot_attention import ON_CUDA, UNTIMED, WAYS
from timebill_ros.inference.steps.compiled import one_line

log = logging.getLogger(__name__)

SHORTEST = 256  # slots; over fewer all ways take about as long as it takes to start a kernel
GROWTH = 4  # from one timed length to the next
QUICKER = 0.9  # another way must take at most this share of UNTIMED's time: timing it again must not choose anew
ALIKE = 0.02  # largest difference from the exact result, as a share; rounding to bfloat16 makes 0.004
CALLS = 8  # in one graph: a single one is too short to time
ROUNDS = 9

Capture = Callable[[Callable[[], object]], Callable[[], object]]


@torch.inference_mode()
def choose(cache: SlotCache, n_heads: int, capture: Capture) -> None:
    """Time each way over some lengths of `cache`, and use the quickest from each length on.

    `n_heads`: query heads of the model. `capture`: see captured.capturer. A way that fails is left out. What was chosen
    before for attention of the same shape stays, for instance for weights of another precision.
    """
    layer = cache.layers[0]
    n_kv, width = layer.keys.shape[1], layer.keys.shape[3]
    if layer.values.shape[3] != width or n_heads % n_kv:
        return
    query = torch.randn(1, n_kv, n_heads // n_kv, width, device=cache.device).to(layer.keys.dtype)
    if slot_attention.is_timed(slot_attention.shape_of(query)):
        return
    ways, said = {}, []
    for n in lengths(cache.capacity):
        seconds = _times(query, n, cache, capture)
        if not seconds:
            continue
        best = min(seconds, key=seconds.get)
        if best != UNTIMED and UNTIMED in seconds and seconds[best] > QUICKER * seconds[UNTIMED]:
            best = UNTIMED
        ways[n] = best
        said.append(f'{best} over {n:,} entries (' + ', '.join(f'{name} {1e6 * s:.0f} us' for name, s in
                                                              seconds.items()) + ')')
    if ways:
        slot_attention.use(slot_attention.shape_of(query), ways)
        log.info('attention of a decode step: %s', '; '.join(said))


def lengths(capacity: int) -> list[int]:
    """Return the lengths to time, ascending up to `capacity`; none for a short cache."""
    found = []
    n = SHORTEST
    while n < capacity:
        found.append(n)
        n *= GROWTH
    return [*found, capacity] if found else []


def _times(query: torch.Tensor, n: int, cache: SlotCache, capture: Capture) -> dict[str, float]:
    """Return the seconds of one call by way, over `n` slots of layers that follow one another as in a step."""
    states = [(layer.keys[:, :, :n], layer.values[:, :, :n]) for layer in cache.layers]
    visible = (torch.arange(n, device=cache.device) < n - n // 16)[None, None, None]
    key, value = torch.randn_like(states[0][0]), torch.randn_like(states[0][1])
    expected = slot_attention.by_products(query.float(), key.float(), value.float(), visible, 0.1)
    seconds = {}
    for name, way in WAYS.items():
        if name in ON_CUDA and cache.device.type != 'cuda':
            continue
        try:
            got = way(query, key, value, visible, 0.1).float()
            if not (got - expected).norm() <= ALIKE * expected.norm():
                log.info('attention by %s differs from the exact result; it is not used', name)
                continue
            replay = capture(lambda way=way: [way(query, *states[i % len(states)], visible, 0.1)
                                              for i in range(CALLS)])
            seconds[name] = _median_s(replay, cache.device) / CALLS
        except Exception as error:  # compilers and captures raise errors of many kinds
            log.info('attention by %s cannot be had: %s', name, one_line(error))
    return seconds


def _median_s(replay: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(ROUNDS + 1):  # the first one is thrown away
        start = time.perf_counter()
        replay()
        if device.type == 'cuda':
            torch.cuda.current_stream(device).synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])
