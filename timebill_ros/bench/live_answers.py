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

"""Tasks that the real engine answers by a deadline, one after the other, on the machine's own clock."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from timebill_ros import overrun
from timebill_ros.bench.answers import request_for
from timebill_ros.bench.decisions import Decisions, WatchedPlanner
from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.request import Plan, Request
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.worker.assembly import Loaded, make_engine, make_tracker, planning_rule
from timebill_ros.worker.loading import load_engine
from timebill_ros.worker.state_lengths import learner

PLANNERS = ('quality', 'paper')
ORACLE = 'oracle'
IN_PLACE = 'in_place'  # as quality, but what is evicted stays gone
OVERRUN_S = 600.0  # how long a late answer of SKIP_NEXT may go on: to its end

# What each method sets. The oracle plans as the default does, with the length that the unhurried answer had.
METHODS: dict[str, dict] = {
    **{planner: {'planner': planner} for planner in PLANNERS},
    IN_PLACE: {'planner': 'quality'},
    ORACLE: {'planner': 'quality', 'pessimistic_length': 'fixed', 'pessimistic_factor': 1.0},
    **{f'paper_k{k}': {'planner': 'paper', 'pessimistic_factor': float(k)} for k in range(1, 9)}}


@dataclass
class LiveAnswer:
    """How one request ended. A promise is a first plan that fits.

    `natural`: at its natural end, by its deadline. `ended`: at its natural end, whenever.
    """

    promised: bool
    natural: bool
    late_s: float  # when the result was there, after the deadline; negative: before it
    text: str  # what the client holds
    n: int
    verdict: str  # of the first plan
    eviction_ratio: float
    variant: str
    error: str
    ended: bool = False

    def score(self, task: ScoredTask) -> float:
        """Return the score of what the client holds at the deadline: nothing of a late result."""
        return task.score(self.text) if self.text and self.late_s <= 0 else 0.0


class LiveMethods:
    """An engine for each of `methods`, names of METHODS, on one model and one profile.

    Each learns from its own requests alone. What they have learned is kept in `folder`, so that a run goes on.
    """

    def __init__(self, values: dict, folder: Path, stem: str, methods: Sequence[str] = PLANNERS):
        settings = {method: {**values, **METHODS[method], 'keep_state': False} for method in methods}
        rules = {method: planning_rule(own) for method, own in settings.items()}
        if IN_PLACE in rules:
            rules[IN_PLACE] = replace(rules[IN_PLACE], brings_back=False)
        self.loaded: Loaded = load_engine({**values, 'planner': 'quality', 'keep_state': False})
        self.engines: dict[str, Engine] = {}
        self._files = {method: folder / f'{stem}.{method}.state.json' for method in methods}
        first, profile = self.loaded.engine, self.loaded.profile
        for method, own in settings.items():
            predictor = first.predictor if method != ORACLE else None
            tracker = make_tracker(own, predictor.scores if predictor else [], profile)
            tracker.load(self._files[method])
            states = learner(first.model, self._files[method], own['length_predictor']) if method != ORACLE else None
            self.engines[method] = make_engine(own, first.model, predictor, profile, tracker, rules[method],
                                               first.prefill_chunk_tokens, states)
            watch(self.engines[method])
            if method == ORACLE:
                self.engines[method].lengths = KnownLengths()

    def save(self) -> None:
        """Keep what the engines have learned."""
        for method, engine in self.engines.items():
            engine.tracker.save(self._files[method])
            engine.lengths.learn()
            engine.lengths.save(ends=True)


@dataclass(frozen=True)
class LiveRun:
    """A live answer, and what tells whether it holds for another budget or strategy too."""

    answer: LiveAnswer
    request: Request
    budget_s: float
    reason: FinishReason
    decisions: Decisions
    drop_infeasible: str  # the parameter
    guard_s: float  # the longest step that the guard of the deadline may have expected
    prefill_s: float
    prefill_estimated_s: float  # by which a goal is refused before it is read

    def under(self, strategy: Strategy, budget_s: float) -> LiveAnswer | None:
        """Return the answer under another strategy and budget where it must be the same tokens; None: it may differ.

        That holds for an answer that came to its natural end, and for one that TRUNCATE cut at the same budget: KILL
        keeps nothing of it. Every decision must have the same effect, and no check of the deadline may end the answer.
        """
        later_s = budget_s - self.budget_s
        if not self.answer.ended and not (
                self.request.strategy is Strategy.TRUNCATE and strategy is Strategy.KILL and later_s == 0
                and self.reason is FinishReason.DEADLINE):
            return None
        if self.answer.ended and not self._comes_to_its_end(strategy, budget_s):
            return None
        plans = self.decisions.again(later_s=later_s, may_cap=overrun.STRATEGIES[strategy].cut_is_lost)
        if plans is None:
            return None
        drops = overrun.drops(replace(self.request, strategy=strategy, max_overrun_s=0.0), self.drop_infeasible)
        if drops and any(plan.verdict is Verdict.INFEASIBLE for plan in plans):
            return None
        verdict = plans[0].verdict if plans else Verdict[self.answer.verdict]
        late_s = self.answer.late_s - later_s
        found = replace(self.answer, promised=bool(plans) and verdict.is_promise, verdict=verdict.name, late_s=late_s,
                        natural=self.answer.ended and late_s <= 0)
        return found if self.answer.ended else replace(found, text='', error=ErrorCode.DEADLINE_MISSED.name)

    def _comes_to_its_end(self, strategy: Strategy, budget_s: float) -> bool:
        """Tell whether no check of the deadline would have ended this whole answer."""
        later_s = budget_s - self.budget_s
        if later_s >= 0 and not overrun.of(self.request).runs_on:
            return True  # every check has passed with less time
        took_s = self.budget_s + self.answer.late_s
        overrun_s = OVERRUN_S if overrun.STRATEGIES[strategy].runs_on else 0.0
        if took_s + self.guard_s + self.request.delivery_margin_s > budget_s + overrun_s:
            return False
        # The plan came after prefill, so that at least so much was left before it.
        return self.decisions.made[0].left_s + self.prefill_s + later_s >= self.prefill_estimated_s


def watch(engine: Engine) -> WatchedPlanner:
    """Have an engine's planner watched, and return what watches it."""
    if not isinstance(engine.planner, WatchedPlanner):
        engine.planner = WatchedPlanner(engine.planner)
    return engine.planner


def answer_live(engine: Engine, task: ScoredTask, *, budget_s: float, strategy: Strategy, margin_s: float) -> LiveRun:
    """Send one task through the engine, `budget_s` seconds before its deadline, and wait for the result.

    ModelError where the engine failed, because what it answers then says nothing of a method.
    """
    plans: list[Plan] = []
    looks: list[float] = []

    def clock() -> float:  # the guard reads it at every token
        looks.append(engine.clock())
        return looks[-1]

    decisions = watch(engine).begin(engine.tracker.length)
    quickest = engine.tracker.quickest_prefill
    released = engine.clock()
    request = replace(request_for(task, task.max_new_tokens), request_id=task.key, release_s=released,
                      deadline_s=released + budget_s, strategy=strategy, delivery_margin_s=margin_s,
                      max_overrun_s=OVERRUN_S if strategy is Strategy.SKIP_NEXT else 0.0)
    control = Control(Deadline(request.deadline_s, clock), margin_s, request.max_overrun_s)
    control.on_plan = lambda plan, timing: plans.append(plan)
    outcome = engine.run(request, control)
    late_s = engine.clock() - request.deadline_s
    engine.tracker.settle()
    if outcome.error_code in (ErrorCode.UNKNOWN, ErrorCode.OUT_OF_MEMORY):
        raise ModelError(f'task {task.key} within {budget_s:.3f} s under {strategy.name} failed: '
                           f'{outcome.error_msg}. What was finished before is kept')
    timing = outcome.timing
    ended = outcome.error_code is ErrorCode.NONE and outcome.finish_reason.is_natural
    answer = LiveAnswer(
        promised=bool(plans) and plans[0].verdict.is_promise, ended=ended, natural=ended and late_s <= 0,
        late_s=late_s, text=outcome.text, n=timing.generated_tokens,
        eviction_ratio=0.0 if math.isnan(timing.eviction_ratio) else timing.eviction_ratio, variant=timing.variant,
        verdict=(plans[0] if plans else timing).verdict.name,
        error='' if outcome.error_code is ErrorCode.NONE else outcome.error_code.name)
    step_s = 0.0
    if plans:
        own = engine.planner.times_of(plans[0].variant, request.sampling.kind)
        step_s = own.steps.scaled(plans[0].timing_factor)(timing.prompt_tokens + timing.generated_tokens)
    # A step lies between two looks at the clock. Other things do too, so that this is no less than the longest step.
    longest_s = max((b - a for a, b in zip(looks, looks[1:], strict=False)), default=0.0)
    return LiveRun(answer, request, budget_s, outcome.finish_reason, decisions, engine.drop_infeasible,
                   max(step_s, longest_s), timing.prefill_s,
                   engine.times.prefill(timing.prompt_tokens) * quickest)
