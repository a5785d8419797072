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

"""What a prompt takes whose beginning is known: points of the kind 'prefix', see profiling.measure."""
from __future__ import annotations

import random
import time
from dataclasses import replace

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_reading import read_prompt
from timebill_ros.timing import fitting
from timebill_ros.timing.execution_time import FRESH
from timebill_ros.timing.profile import Profile

LONGEST_S = 1.0  # expected time of reading the longest prompt, where the points are added to a profile
REPEATS = 2  # visits of each length then


def lengths_of(profile: Profile, model: CausalLM) -> list[int]:
    """Return the prompt lengths of a profile that are long enough to go on after a known beginning, ascending.

    None for a model that keeps no prompts.
    """
    store = model.prefixes
    if store is None:
        return []
    return sorted({int(n) for n, _ in profile.points.get('prefill', []) if FRESH + store.unit < n < model.max_context})


def measure(model: CausalLM, ids: list[int], chunk_tokens: int) -> list[float]:
    """Measure FRESH new tokens after the known beginning of `ids`, which were read last -> [tokens known, seconds]."""
    store = model.prefixes
    known = min(store.held(ids), (len(ids) - FRESH) // store.unit * store.unit)  # less where the store is small
    start = time.perf_counter()
    _, taken = read_prompt(model, [*ids[:known], *ids[:FRESH]], chunk_tokens=chunk_tokens)
    model.synchronize()
    return [taken, time.perf_counter() - start]


def added_to(profile: Profile, model: CausalLM, chunk_tokens: int) -> Profile:
    """Return a profile that lacks these times with them, measured now at the shortest and the longest of its lengths.

    Prompts that take longer than LONGEST_S to read are left out, but for the shortest. Its other times stay.
    """
    lengths = lengths_of(profile, model)
    if not lengths:
        return profile
    longest = max((n for n in lengths if profile.times.prefill(n) <= LONGEST_S), default=lengths[0])
    draw, vocabulary, points = random.Random(2), len(model.tokenizer), []
    with model.stream.entered():  # as the engine does
        for repeat in range(REPEATS + 1):
            for n in sorted({lengths[0], longest}):
                ids = [draw.randrange(vocabulary) for _ in range(n)]
                model.prefixes.clear()
                read_prompt(model, ids, chunk_tokens=chunk_tokens)
                model.synchronize()
                point = measure(model, ids, chunk_tokens)
                if repeat:  # the first reading of a length may make room for it
                    points.append(point)
        model.prefixes.clear()
        model.reset()
    slope, constant = fitting.fit_line(points)
    return replace(profile, times=replace(profile.times, g_1=slope, g_0=constant),
                   points={**profile.points, 'prefix': points})
