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

"""Recorded answers on a virtual clock: what a planner promises, and what becomes of the promise. No model runs here.

A request is a recording and a budget for decoding. The planner makes a plan. Then the answer recorded at the grid's
nearest eviction ratio comes step by step. Each step's time is scaled, by the profile, from the recorded cache to the
planned one, and slowed down as the condition says. At the end of the budget the answer is cut. What happened goes back
to the method's tracker.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from timebill_ros.bench.recordings import BUDGET_TOKENS, RATIOS, Recording, draw_budget, nearest
from timebill_ros.codes import Verdict
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.situation import Bounds, Situation
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.planning.tracker import Feedback, Tracker
from timebill_ros.request import Plan
from timebill_ros.timing.execution_time import ExecutionTimes


@dataclass
class Device:
    """What a replay needs to know of the device and the node."""

    times: ExecutionTimes
    variants: Sequence[str]  # the model's own first
    max_new_tokens: int
    max_context: int
    max_eviction_ratio: float


@dataclass
class Outcome:
    """One request: what was planned, and how it ended."""

    plan: Plan
    promised: bool
    in_time: bool  # at its natural end
    n: int  # tokens that came
    within_wcet: bool  # whole, in no more than the WCET that was told
    slack_s: float  # left at the end; negative where it was cut
    factor: float  # timing factor and time bound that the plan was made with
    time_bound: float
    recording: Recording


@dataclass
class Method:
    """A planner to try. `make()` returns a fresh tracker; an oracle knows each recorded answer's length."""

    name: str
    make: Callable[[], Tracker]
    oracle: bool = False
    rule: QualityRule | None = None  # None: the paper's


def plan_for(method: Method, tracker: Tracker, device: Device, recording: Recording,
             budget_s: float) -> tuple[Plan, Callable[[], float] | None]:
    """Return the plan that the engine would make with `budget_s` seconds left for decoding, and `Tracker.needed`."""
    times, n_x = device.times, recording.n_x
    n_max = min(device.max_new_tokens, device.max_context - n_x)
    n_min = smallest_keep(n_x, device.max_eviction_ratio, MAX_WINDOW)
    bounds = tracker.bounds()
    known = Situation(recording.distribution, n_x, n_min, n_max, bounds, n_goal=device.max_new_tokens)

    def oracle(bounds: Bounds) -> Plan:
        slow = bounds.timing_factor * bounds.time_bound
        return _oracle(recording, times, slow, n_x=n_x, n_min=n_min, n_max=n_max,
                       budget_s=budget_s - bounds.reserve_s, evict_s=times.eviction(n_x) * slow)

    plan_with = oracle if method.oracle else Planner(times, device.variants, method.rule).with_bounds(known, budget_s)
    plan = plan_with(bounds)
    return plan, tracker.needed(plan, plan_with, bounds)


def _oracle(recording: Recording, times: ExecutionTimes, slow: float, *, n_x: int, n_min: int, n_max: int,
            budget_s: float, evict_s: float) -> Plan:
    """Return the plan of the grid's least eviction with which the answer as recorded fits; the largest if none does."""
    for ratio in RATIOS:
        n = next(iter(recording.answers.values()))[str(ratio)].n
        n_keep = max(n_min, int((1 - ratio) * n_x))
        needed_s = times.steps.scaled(slow).decode(n_keep, n) + (evict_s if n_keep < n_x else 0.0)
        fits = needed_s <= budget_s
        if fits or ratio == RATIOS[-1]:
            verdict = Verdict.FITS if n_keep == n_x else Verdict.FITS_WITH_EVICTION
            return Plan(verdict if fits else Verdict.INFEASIBLE, n_x, n_keep, 1 - n_keep / n_x, n_max,
                        predicted_tokens=n, pessimistic_tokens=n, fitting_tokens=n if fits else 0,
                        decode_wcet_s=needed_s, decode_expected_s=needed_s, decode_planned_s=needed_s)
    raise AssertionError('unreachable: the grid is not empty')


def run_one(method: Method, tracker: Tracker, device: Device, recording: Recording, budget_s: float,
            slowdown: float) -> Outcome:
    """Plan, let the recorded answer come until the end of the budget, and tell the tracker what happened."""
    plan, needed = plan_for(method, tracker, device, recording, budget_s)
    factor, bound = tracker.timing_factor, tracker.time_bound
    variant = plan.variant or device.variants[0]
    recorded, times = recording.answer(variant, plan.eviction_ratio), device.times.of_variant(variant)
    on_grid, middle = nearest(plan.eviction_ratio), recorded.n / 2
    scale = times.step(plan.n_keep + middle) / times.step((1 - on_grid) * recording.n_x + middle)
    spent = recording.eviction_s * slowdown if plan.n_keep < recording.n_x else 0.0
    cap = min(recorded.n, plan.length_cap)
    n = 1 if spent <= budget_s else 0
    for step_s in recorded.step_s[:cap - 1] if n else ():
        if spent + step_s * scale * slowdown > budget_s:
            break
        spent += step_s * scale * slowdown
        n += 1
    in_time = n == recorded.n and spent <= budget_s
    n_max = min(device.max_new_tokens, device.max_context - recording.n_x)
    profiled = times.steps.decode(plan.n_keep, n)
    profiled += device.times.eviction(recording.n_x) if plan.n_keep < recording.n_x else 0.0
    tracker.observe(Feedback(
        generated_tokens=n, ended=in_time, prefill_s=recording.prefill_s * slowdown,
        prefill_profiled_s=device.times.prefill(recording.n_x), decode_s=spent, decode_profiled_s=profiled,
        distribution=recording.distribution, max_tokens=n_max, kept=in_time if plan.verdict.is_promise else None,
        factor=factor, prompt_tokens=recording.n_x, capped=in_time and not recorded.ended, in_time=in_time,
        needed=needed,
        spare=budget_s / plan.decode_planned_s if plan.decode_planned_s > 0 else None))
    tracker.settle()
    slack_s = budget_s - spent if in_time else -(recorded.n - n) * times.step(plan.n_keep) * slowdown
    within_wcet = in_time and spent <= plan.decode_wcet_s
    return Outcome(plan, plan.verdict.is_promise, in_time, n, within_wcet, slack_s, factor, bound, recording)


def replay(method: Method, device: Device, before: list[Recording], after: list[Recording], *, n_requests: int,
           change_at: int, slowdown: float, seed: int,
           budget_tokens: tuple[int, int] = BUDGET_TOKENS) -> list[Outcome]:
    """Replay `n_requests` requests, drawn from `before`; from number `change_at` on, from `after` with slower steps.

    The same seed gives every method the same requests and budgets. `budget_tokens`: see `draw_budget`.
    """
    rng, tracker = random.Random(seed), method.make()
    outcomes = []
    for i in range(n_requests):
        changed = i >= change_at
        recording = rng.choice(after if changed else before)
        budget_s = draw_budget(rng, device.times, budget_tokens)
        outcomes.append(run_one(method, tracker, device, recording, budget_s, slowdown if changed else 1.0))
    return outcomes


def is_missed(outcome: Outcome) -> bool:
    """Return whether this is a promise that was not kept."""
    return outcome.promised and not outcome.in_time
