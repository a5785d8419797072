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

"""Whether graphs that draw tokens themselves draw those that come of their logits, one step started ahead or not.

comparison.py says whether the logits are right. What is left is what the graphs do between two steps without the host:
take the token on, count position, slot and random numbers, and tell the host each token once.
"""
from __future__ import annotations

import torch

from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.steps import captured_draws
from timebill_ros.inference.steps.captured import CapturedStep
from timebill_ros.inference.steps.comparison import StepDiffers
from timebill_ros.request import Sampling

N_TOKENS = 9  # of each row: more than the host keeps
SAMPLINGS = (Sampling(), Sampling(temperature=1.0, seed=1), Sampling(temperature=1.0, top_p=0.9, seed=2),
             Sampling(temperature=1.0, top_k=40, top_p=0.9, min_p=0.01, seed=3))


@torch.inference_mode()
def check(step: CapturedStep, cache: SlotCache, n: int) -> None:
    """Compare rows of tokens over the first `n` entries of the cache, which holds finite values. StepDiffers.

    Entries after them are overwritten, and the cache is left with `n`.
    """
    n_tokens = min(N_TOKENS, cache.capacity - n + 1)
    for sampling in SAMPLINGS:
        cache.lengths = [n - 1] * len(cache.lengths)
        one = torch.ones(1, 1, dtype=torch.long, device=cache.device)
        logits = step(one, one * (n - 1))[0].clone()
        for ahead in (True, False):
            got = _drawn_inside(step, cache, sampling, logits, n, n_tokens, ahead)
            if got is None:
                break  # tokens of this kind are drawn outside
            expected = _drawn_outside(step, cache, sampling, got[0], n, n_tokens)
            if got != expected:
                raise StepDiffers(f'tokens of kind {sampling.kind} are drawn as {got}{" ahead" if ahead else ""}, and '
                                  f'its logits give {expected}')
    cache.lengths = [n] * len(cache.lengths)


def _drawn_inside(step: CapturedStep, cache: SlotCache, sampling: Sampling, logits: torch.Tensor, n: int,
                  n_tokens: int, ahead: bool) -> list[int] | None:
    chain = step.chain(Sampler(sampling, cache.device))
    if chain is None:
        return None
    cache.lengths = [n] * len(cache.lengths)
    chain.start(logits)
    found, launched = [chain.read()], 1
    while len(found) < n_tokens:
        while launched < min(len(found) + 1 + ahead, n_tokens):
            chain.launch(n + launched - 1)
            launched += 1
        found.append(chain.read())
    return found


def _drawn_outside(step: CapturedStep, cache: SlotCache, sampling: Sampling, first: int, n: int,
                   n_tokens: int) -> list[int]:
    """Draw with the random numbers that `step.state` was given last, each step on its own."""
    cache.lengths = [n] * len(cache.lengths)
    found = [first]
    for i in range(1, n_tokens):
        token = torch.full((1, 1), found[-1], dtype=torch.long, device=cache.device)
        logits = step(token, torch.full_like(token, n + i - 1))[0]
        drawn = captured_draws.greedy(logits) if sampling.kind == 'greedy' else \
            captured_draws.DRAWS[sampling.kind](logits, step.state.numbers, step.state.random[i:i + 1])
        found.append(int(drawn))
    return found
