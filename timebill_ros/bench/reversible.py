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

"""`timebill bench reversible`: evictions that can be taken back, against the same planner where they cannot.

Both are `planner: quality` at the same budgets on the same tasks, one after the other. In place, what is evicted stays
gone. Reversible, it comes back from the store of prompts where an answer turns out shorter, or steps quicker, than was
feared (docs/concepts.md).
"""
from __future__ import annotations

from pathlib import Path

from timebill_ros.bench.budgets import measure
from timebill_ros.bench.finished_answers import Cases
from timebill_ros.bench.live_answers import IN_PLACE
from timebill_ros.bench.machine import write
from timebill_ros.codes import Strategy
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import beside

CASES = Cases(ratios=(), live=('quality', IN_PLACE), strategies=(Strategy.TRUNCATE, Strategy.KILL),
              quantiles=(0.1, 0.3, 0.5, 0.7), plain=IN_PLACE)


def run(values: dict, out: Path, *, source: TaskSource, n_live: int, answers: Path | None = None,
        finished_only: bool = False) -> int:
    """Measure what is not measured yet, print, and write the rows to `out`. `answers`: see budgets.py."""
    write(out, measure(values, answers or beside(out), source=source, n_live=n_live, cases=CASES,
                       finished_only=finished_only))
    return 0
