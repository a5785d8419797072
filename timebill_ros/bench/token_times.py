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

"""Seconds between consecutive tokens: of our token loop, of a bare loop around our step, and of model.generate."""
from __future__ import annotations

import contextlib
import math
from statistics import median
from time import perf_counter

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from timebill_ros.codes import FinishReason, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.replan import Replanner
from timebill_ros.planning.situation import Bounds, Situation
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Plan, Sampling, Timing
from timebill_ros.timing.execution_time import ExecutionTimes

REPLAN_TOKENS = 32
# Times so short that every plan fits: what is measured is the loop, not its decisions.
INSTANT = ExecutionTimes(a=0, b=0, c=0, p=1e-9, q=1e-4)
SCORES = [i / 100 for i in range(300)]  # of calibration prompts, as many as are kept


class _Times(StoppingCriteria):
    """Notes the time of every token: generate calls this once per token. Never stops it."""

    def __init__(self):
        self.at: list[float] = []

    def __call__(self, input_ids, scores, **kwargs):
        self.at.append(perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class _Endless:
    """The model without an end-of-sequence token, so that every row decodes equally many tokens."""

    eos_ids: frozenset[int] = frozenset()

    def __init__(self, model: CausalLM):
        self.chain = model.chain


def differences(at: list[float]) -> list[float]:
    """Return the seconds between consecutive instants."""
    return [b - a for a, b in zip(at, at[1:], strict=False)]


def time_generate(reference, prompt: list[int], n_tokens: int, *, static: bool = False,
                  within: contextlib.AbstractContextManager | None = None) -> list[float]:
    """Time model.generate, greedy and past any end of the text: seconds between its tokens.

    static: on transformers' static cache
    within: a context around the call
    """
    return time_generate_whole(reference, prompt, n_tokens, static=static, within=within)[1]


def time_generate_whole(reference, prompt: list[int], n_tokens: int, *, static: bool = False,
                        within: contextlib.AbstractContextManager | None = None) -> tuple[float, list[float]]:
    """Return seconds to the first token too: (prefill, steps), see `time_generate`."""
    times = _Times()
    reference.generation_config.eos_token_id = None  # or it would take the place of the None below
    config = GenerationConfig(max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0,
                              cache_implementation='static' if static else None)
    ids = torch.tensor([prompt], device=reference.device)
    start = perf_counter()
    with within or contextlib.nullcontext():
        reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config,
                           stopping_criteria=StoppingCriteriaList([times]))
    return times.at[0] - start, differences(times.at)


def _prefilled(model: CausalLM, prompt: list[int], chunk_tokens: int, n_keep: int) -> torch.Tensor:
    model.reset()
    logits = model.prefill(prompt, chunk_tokens=chunk_tokens)
    if n_keep < len(prompt):
        model.evict(n_keep)
    model.synchronize()
    return logits


def time_bare(model: CausalLM, prompt: list[int], n_tokens: int, chunk_tokens: int) -> list[float]:
    """Time the shortest loop around the model's step, greedy."""
    logits = _prefilled(model, prompt, chunk_tokens, len(prompt))
    at = []
    with torch.inference_mode(), no_collection():
        for position in range(len(prompt), len(prompt) + n_tokens - 1):
            token = logits.argmax(dim=-1)
            int(token)
            at.append(perf_counter())
            logits = model.step(token, position)
    return differences(at)


def time_ours(model: CausalLM, prompt: list[int], n_tokens: int, chunk_tokens: int, ratio: float = 0.0,
              variant: str = '') -> list[float]:
    """Time our token loop as the engine runs it, with the deadline guard and revised plans.

    ratio:   of the prompt's cache entries that are evicted before
    variant: weight precision to decode with; empty: the model's own
    """
    n_keep = int((1 - ratio) * len(prompt))
    logits = _prefilled(model, prompt, chunk_tokens, n_keep)
    at: list[float] = []

    def clock() -> float:  # read by the guard after every token, and again where the plan is revised
        now = perf_counter()
        if control.n_tokens > len(at):
            at.append(now)
        return now

    # A deadline far enough for every token, and near enough that revised plans have something to compute.
    control = Control(Deadline(perf_counter() + 3600.0, clock), tokens=[0] * n_tokens)
    lengths, bounds = LengthDistribution(4, [1 / 128] * 128), Tracker(scores=SCORES).bounds()
    bounds.length.pessimistic(lengths, n_tokens)  # the first plan, which comes before the loop, looks the bound up
    verdict = Verdict.FITS if n_keep == len(prompt) else Verdict.FITS_WITH_EVICTION
    plan = Plan(verdict, len(prompt), n_keep, 1 - n_keep / len(prompt), n_tokens, predicted_tokens=1,
                pessimistic_tokens=n_tokens, fitting_tokens=n_tokens)
    # The default bounds on times, so that what is timed does not depend on a profile.
    known = Situation(lengths, len(prompt), 1, n_tokens, Bounds(bounds.length))
    replan = Replanner(model, Planner(INSTANT, list(model.variants)), known, plan=plan,
                       timing=Timing(prompt_tokens=len(prompt), kept_tokens=n_keep), control=control, started_s=0.0)
    model.use_variant(variant or model.variant)
    try:
        with torch.inference_mode(), no_collection():
            decode(_Endless(model), Sampler(Sampling(), model.device), logits, position=len(prompt), n_kv=n_keep,
                   cap=n_tokens, cap_reason=FinishReason.LENGTH, step_s=INSTANT.steps,
                   stops=StopStrings(model.tokenizer, ()), control=control, replan_tokens=REPLAN_TOKENS, replan=replan)
    finally:
        model.use_variant(model.variant)
    return differences(at)


def spin(seconds: float, n: int) -> list[float]:
    """Return by how much each of `n` loops that only look at the clock overran `seconds`: the machine's own jitter."""
    excess = []
    with no_collection():
        for _ in range(n):
            start = perf_counter()
            while (now := perf_counter()) - start < seconds:
                pass
            excess.append(now - start - seconds)
    return excess


def quantile(values: list[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


SETTLED = 3  # steps after prefill that are slower: they find the processor's caches full of other data


def settling(answers: list[list[float]]) -> dict[str, float]:
    """Return the median of the answers' first steps, and the tail of their steps after the first SETTLED."""
    later = [seconds for answer in answers for seconds in answer[SETTLED:]]
    return {'first_ms': 1e3 * median(answer[0] for answer in answers), 'settled_after': SETTLED,
            **({'settled_p99.9_ms': 1e3 * quantile(later, 0.999)} if later else {})}


def milliseconds(values: list[float]) -> dict[str, float]:
    """Return count, median and tails of values in seconds."""
    return {'n': len(values), 'median_ms': 1e3 * median(values), 'p99_ms': 1e3 * quantile(values, 0.99),
            'p99.9_ms': 1e3 * quantile(values, 0.999)}


def between(lengths: list[float]) -> list[int]:
    """Return lengths that a profile has not seen: the geometric middles of its own."""
    ordered = sorted(set(lengths))
    return [round((a * b) ** 0.5) for a, b in zip(ordered, ordered[1:], strict=False)]
