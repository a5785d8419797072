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
from dataclasses import dataclass, replace
from pathlib import Path

from timebill_ros.bench.answers import request_for
from timebill_ros.codes import ErrorCode, Strategy
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Plan
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.worker.assembly import Loaded, make_engine, make_tracker, planning_rule
from timebill_ros.worker.loading import load_engine

PLANNERS = ('quality', 'paper')


@dataclass
class LiveAnswer:
    """How one request ended. A promise is a first plan that fits; `natural`: at its natural end, by its deadline."""

    promised: bool
    natural: bool
    late_s: float  # when the result was there, after the deadline; negative: before it
    text: str  # what the client holds
    n: int
    verdict: str  # of the first plan
    eviction_ratio: float
    variant: str
    error: str

    def score(self, task: ScoredTask) -> float:
        """Return the score of what the client holds at the deadline: nothing of a late result."""
        return task.score(self.text) if self.text and self.late_s <= 0 else 0.0


class LiveMethods:
    """An engine for each planner of PLANNERS, on one model and one profile.

    Each learns from its own requests alone. What they have learned is kept in `folder`, so that a run goes on.
    """

    def __init__(self, values: dict, folder: Path, stem: str):
        settings = {planner: {**values, 'planner': planner, 'keep_state': False} for planner in PLANNERS}
        rules = {planner: planning_rule(settings[planner]) for planner in PLANNERS}
        self.loaded: Loaded = load_engine(settings['quality'])
        self.engines: dict[str, Engine] = {}
        self._files = {planner: folder / f'{stem}.{planner}.state.json' for planner in PLANNERS}
        first, profile = self.loaded.engine, self.loaded.profile
        for planner, own in settings.items():
            scores = first.predictor.scores if first.predictor else []
            tracker = make_tracker(own, scores, profile)
            tracker.load(self._files[planner])
            self.engines[planner] = make_engine(own, first.model, first.predictor, profile, tracker, rules[planner],
                                                first.prefill_chunk_tokens)

    def save(self) -> None:
        """Keep what the engines have learned."""
        for planner, engine in self.engines.items():
            engine.tracker.save(self._files[planner])


def answer_live(engine: Engine, task: ScoredTask, *, budget_s: float, strategy: Strategy,
                margin_s: float) -> LiveAnswer:
    """Send one task through the engine, `budget_s` seconds before its deadline, and wait for the result."""
    plans: list[Plan] = []
    released = engine.clock()
    request = replace(request_for(task, task.max_new_tokens), request_id=task.key, release_s=released,
                      deadline_s=released + budget_s, strategy=strategy, delivery_margin_s=margin_s)
    control = Control(Deadline(request.deadline_s, engine.clock), margin_s)
    control.on_plan = lambda plan, timing: plans.append(plan)
    outcome = engine.run(request, control)
    late_s = engine.clock() - request.deadline_s
    ratio = outcome.timing.eviction_ratio
    return LiveAnswer(
        promised=bool(plans) and plans[0].verdict.is_promise,
        natural=outcome.error_code is ErrorCode.NONE and outcome.finish_reason.is_natural and late_s <= 0,
        late_s=late_s, text=outcome.text, n=outcome.timing.generated_tokens,
        eviction_ratio=0.0 if math.isnan(ratio) else ratio, variant=outcome.timing.variant,
        verdict=(plans[0] if plans else outcome.timing).verdict.name,
        error='' if outcome.error_code is ErrorCode.NONE else outcome.error_code.name)
