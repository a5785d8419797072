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

"""Measuring what it takes to bring entries of a prompt back that were evicted: points of the kind 'restore'."""
from __future__ import annotations

import time
from dataclasses import replace

import torch

from timebill_ros.inference.evictions import Evictions
from timebill_ros.inference.model import CausalLM
from timebill_ros.timing import fitting
from timebill_ros.timing.fitting import Points
from timebill_ros.timing.profile import Profile

REPEATS = 3
EVICTED = 8  # of a prompt this part is left before it comes back


def measure(model: CausalLM, evictions: Evictions) -> Points:
    """Measure bringing back all that was evicted of the prompt in the cache; the cache has it afterwards.

    Nothing is measured where nothing comes back, or the cache has no room for it any more.
    """
    most = evictions.most
    if most == 0 or max(model.cache.lengths) + most > model.max_context:
        return {}
    start = time.perf_counter()
    evictions.bring_back(most)
    model.synchronize()
    seconds = time.perf_counter() - start
    return {'restore': [[max(model.cache.lengths), seconds]]}


def added_to(profile: Profile, model: CausalLM) -> Profile:
    """Return a profile with this cost, measured now in a moment where it is missing: an earlier version made it.

    It stays as it is for a model that keeps no prompts, and where the store has no room for one.
    """
    store = model.prefixes
    if store is None or not model.supports_eviction or profile.times.knows_restores:
        return profile
    most = min(model.max_context, store.unit * (store.n_blocks - 1))
    points: Points = {}
    with model.stream.entered():  # as the engine does
        for n in sorted({max(EVICTED, most // part) for part in (8, 2, 1)} if most >= EVICTED else ()) * REPEATS:
            points.setdefault('restore', []).extend(_one(model, n))
        model.reset()
        store.clear()
    if not points.get('restore'):
        return profile
    slope, constant = fitting.fit_line(points['restore'])
    return replace(profile, times=replace(profile.times, r_1=slope, r_0=constant), points={**profile.points, **points})


@torch.inference_mode()
def _one(model: CausalLM, n: int) -> list[list[float]]:
    """Measure bringing back `n` entries, whatever they hold; none where the store has no room for them."""
    model.reset()
    for layer in model.cache.layers:
        layer.refill(n)
    held = model.prefixes.hold(range(n))
    if held is None:
        return []
    for index in model.cache.evictable_layers():
        layer = model.cache.layers[index]
        held.scores.append(torch.rand(1, layer.keys.shape[1], n).to(model.device))
        layer.refill(n // EVICTED)
    model.synchronize()
    start = time.perf_counter()
    model.prefixes.bring_back(held, n, n // EVICTED)
    model.synchronize()
    seconds = time.perf_counter() - start
    model.prefixes.let_go(held)
    return [[n, seconds]]
