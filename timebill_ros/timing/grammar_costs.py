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

"""Measuring what an answer of a given form takes besides steps: masks, and tokens that its grammar forces."""
from __future__ import annotations

import statistics
import time

import torch

from timebill_ros.inference.grammars.chain import MaskedSampler
from timebill_ros.inference.grammars.compiler import Grammars
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps.several import append_at_once
from timebill_ros.request import Sampling
from timebill_ros.timing.execution_time import WIDE
from timebill_ros.timing.fitting import Points

MORE = WIDE - 1  # tokens beside the first of a step of several
LEAST_S = 1e-9  # of a measured time: errors are shares of it


@torch.inference_mode()
def measure(model: CausalLM, logits: torch.Tensor, n_kv: int, position: int, step_s: float) -> Points:
    """Measure a masked draw ('draw:greedy+grammar') and each token more in a step of several ('forced').

    `logits` [V] are those after `n_kv` cached entries, behind which the cache gets MORE + 1 further ones, the first at
    `position`. `step_s`: seconds of a decode step there. Nothing is measured where answers cannot be given a form.
    """
    if not isinstance(model.grammars, Grammars):
        return {}
    points: Points = {}
    answer, tokens = model.grammars.example()
    sampler, draws = MaskedSampler(Sampling(masked=True), model.device, (), answer), []
    for token in tokens[:2 * MORE]:
        start = time.perf_counter()
        int(sampler.draw(logits))
        draws.append(time.perf_counter() - start)
        answer.accept(token)
    points['draw:greedy+grammar'] = [[n_kv, max(statistics.median(draws), LEAST_S)]]
    if position + MORE + 1 < model.max_context:
        model.synchronize()
        start = time.perf_counter()
        append_at_once(model, tokens[:MORE + 1], position)
        model.synchronize()
        points['forced'] = [[n_kv, max((time.perf_counter() - start - step_s) / MORE, LEAST_S)]]
    return points
