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

from timebill_ros.bench.answers import request_for
from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.codes import ErrorCode, Strategy
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Plan
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.worker.assembly import Loaded, make_engine, make_tracker, planning_rule
from timebill_ros.worker.loading import load_engine
from timebill_ros.worker.state_lengths import learner

PLANNERS = ('quality', 'paper')
ORACLE = 'oracle'
OVERRUN_S = 600.0  # how long a late answer of SKIP_NEXT may go on: to its end

# What each method sets. The oracle plans as the default does, with the length that the unhurried answer had.
METHODS: dict[str, dict] = {
    **{planner: {'planner': planner} for planner in PLANNERS},
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
            if method == ORACLE:
                self.engines[method].lengths = KnownLengths()

    def save(self) -> None:
        """Keep what the engines have learned."""
        for method, engine in self.engines.items():
            engine.tracker.save(self._files[method])
            engine.lengths.learn()
            engine.lengths.save(ends=True)


def answer_live(engine: Engine, task: ScoredTask, *, budget_s: float, strategy: Strategy,
                margin_s: float) -> LiveAnswer:
    """Send one task through the engine, `budget_s` seconds before its deadline, and wait for the result."""
    plans: list[Plan] = []
    released = engine.clock()
    request = replace(request_for(task, task.max_new_tokens), request_id=task.key, release_s=released,
                      deadline_s=released + budget_s, strategy=strategy, delivery_margin_s=margin_s,
                      max_overrun_s=OVERRUN_S if strategy is Strategy.SKIP_NEXT else 0.0)
    control = Control(Deadline(request.deadline_s, engine.clock), margin_s, request.max_overrun_s)
    control.on_plan = lambda plan, timing: plans.append(plan)
    outcome = engine.run(request, control)
    late_s = engine.clock() - request.deadline_s
    ratio = outcome.timing.eviction_ratio
    ended = outcome.error_code is ErrorCode.NONE and outcome.finish_reason.is_natural
    return LiveAnswer(
        promised=bool(plans) and plans[0].verdict.is_promise, ended=ended, natural=ended and late_s <= 0,
        late_s=late_s, text=outcome.text, n=outcome.timing.generated_tokens,
        eviction_ratio=0.0 if math.isnan(ratio) else ratio, variant=outcome.timing.variant,
        verdict=(plans[0] if plans else outcome.timing).verdict.name,
        error='' if outcome.error_code is ErrorCode.NONE else outcome.error_code.name)
