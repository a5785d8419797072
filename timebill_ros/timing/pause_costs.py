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

"""Measuring what a request that gives way costs: its sequence is put aside and taken up again."""
from __future__ import annotations

import time
from dataclasses import replace

from timebill_ros.inference.model import CausalLM
from timebill_ros.timing import fitting
from timebill_ros.timing.fitting import Points
from timebill_ros.timing.profile import Profile

REPEATS = 3


def measure(model: CausalLM, n_kv: int) -> Points:
    """Measure 'pause' with the `n_kv` entries that the cache holds, which it holds afterwards too.

    Nothing is measured where there is no room for so many.
    """
    if model.asides is None or n_kv > model.asides.room:
        return {}
    start = time.perf_counter()
    aside = model.asides.put()
    model.synchronize()
    model.asides.take_up(aside)
    model.synchronize()
    seconds = time.perf_counter() - start
    model.asides.let_go(aside)
    return {'pause': [[n_kv, seconds]]}


def added_to(profile: Profile, model: CausalLM) -> Profile:
    """Return a profile with this cost, measured now in a moment where it is missing: an earlier version made it."""
    if model.asides is None or profile.points.get('pause'):
        return profile
    most = min(model.max_context, model.asides.room)
    points: Points = {}
    with model.stream.entered():  # as the engine does
        for n in sorted({max(1, most // 8), max(1, most // 2), most} - {0}) * REPEATS:
            model.reset()
            for layer in model.cache.layers:
                layer.refill(n)  # whatever the slots hold, copying them takes as long
            for kind, measured in measure(model, n).items():
                points.setdefault(kind, []).extend(measured)
        model.reset()
    if not points:
        return profile
    lengths, seconds = fitting.median_by_length(points['pause'])
    h_1, h_0 = fitting.fit_nonnegative([lengths, [1.0] * len(lengths)], seconds).tolist()
    return replace(profile, times=replace(profile.times, h_1=h_1, h_0=h_0), points={**profile.points, **points})
