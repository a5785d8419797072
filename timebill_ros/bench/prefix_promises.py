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

"""Whether promises and worst cases hold where prompts are reused: goals of several robots, one after the other.

Each goal has a budget around what it is expected to take, and the node's own rule for lengths and times, which learns
from goal to goal. A promise is a first plan that fits; it is missed where the answer has not come to its natural end by
the deadline.
"""
from __future__ import annotations

import math
import random
from statistics import median

from timebill_ros.bench.miss_rate import interval
from timebill_ros.bench.prefix_answers import ids_of
from timebill_ros.bench.prefix_goals import Goal, mixed
from timebill_ros.bench.prefix_ways import repeats
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.request import Request

SHORTEST, LONGEST = 0.6, 3.0  # budgets, in expected times of a whole answer


def measure(engine: Engine, *, miss_rate: float, n_goals: int, seconds: float, draw: random.Random) -> dict:
    """Run up to `n_goals` goals in about so many seconds -> the row. `miss_rate`: what is promised."""
    print(f'promises on {n_goals} goals whose prompts are reused', flush=True)
    engine.model.prefixes.clear()
    goals = mixed(n_goals, lambda messages: len(ids_of(engine, messages)))
    rows = []
    for i in repeats(n_goals, seconds, least=min(n_goals, 20)):
        rows.append(one(engine, next(goals), math.exp(draw.uniform(math.log(SHORTEST), math.log(LONGEST)))))
        if (i + 1) % 50 == 0:
            print(f'{i + 1} goals, {sum(row["promised"] for row in rows)} promised', flush=True)
    return {**summary(rows), 'aimed_at': miss_rate, 'rows': rows}


def one(engine: Engine, goal: Goal, times: float) -> dict:
    """Run a goal with a budget of so many `times` what it is expected to take; return its row."""
    ids, known = ids_of(engine, goal.messages), engine.times
    reused = engine.model.prefixes.known(ids)
    whole_s = known.prefill(len(ids), reused) * engine.tracker.prefill_factor + \
        known.steps.decode(len(ids), goal.max_new_tokens) * engine.tracker.timing_factor
    released_s, plans = engine.clock(), []
    request = Request('bench', released_s, released_s + times * whole_s, messages=goal.messages,
                      max_new_tokens=goal.max_new_tokens)
    control = Control(Deadline(request.deadline_s, engine.clock))
    control.on_plan = lambda plan, timing: plans.append((plan, timing.wcet_s))
    outcome = engine.run(request, control)
    late_s, timing = engine.clock() - request.deadline_s, outcome.timing
    engine.tracker.settle()
    natural = not outcome.error_code and outcome.finish_reason.is_natural and late_s <= 0
    promised = bool(plans) and plans[0][0].verdict.is_promise
    took_s = timing.prefill_s + timing.eviction_s + timing.decode_s if plans else math.nan
    return {'tokens': len(ids), 'reused': timing.reused_tokens, 'budget_s': times * whole_s, 'promised': promised,
            'missed': promised and not natural, 'late_s': max(late_s, 0.0), 'code': outcome.error_code.name,
            # The worst case that is said with a promise.
            'beyond_wcet': promised and took_s > plans[0][1],
            'prefill_ratio': timing.prefill_s / known.prefill(len(ids), timing.reused_tokens)
            if plans else None}


def summary(rows: list[dict]) -> dict:
    """Return how much was promised, missed and beyond its worst case, with the 95 % interval of the missed share."""
    promised = [row for row in rows if row['promised']]
    missed = sum(row['missed'] for row in promised)
    return {'goals': len(rows), 'reused_goals': sum(row['reused'] > 0 for row in rows),
            'reused_share': sum(row['reused'] for row in rows) / max(1, sum(row['tokens'] for row in rows)),
            'promised': len(promised), 'missed': missed, 'missed_share': missed / len(promised) if promised else 0.0,
            'interval': interval(missed, len(promised)), 'beyond_wcet': sum(row['beyond_wcet'] for row in promised),
            'prefill_over_estimate': median(row['prefill_ratio'] for row in rows if row['prefill_ratio'])
            if any(row['prefill_ratio'] for row in rows) else None, 'late_s': max(row['late_s'] for row in rows)}
