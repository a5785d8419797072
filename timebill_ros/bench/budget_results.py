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

"""What a client holds of every finished answer of a measurement, by method, strategy and budget."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from timebill_ros.bench import skip_next
from timebill_ros.bench.budget_rows import Held, Results
from timebill_ros.bench.finished_answers import FinishedAnswers
from timebill_ros.bench.live_answers import LiveAnswer
from timebill_ros.bench.skip_next import SEEDS
from timebill_ros.bench.timed_answers import score_of_cut
from timebill_ros.codes import Strategy
from timebill_ros.tasks.scored_task import ScoredTask

# How answers came about, for readers of results.
RECORDED = ('each prompt is read once for all methods whose tokens do not depend on the budget; the time of reading '
            'counts for each, and the times of eviction and of every token are its own')
LIVE = "every goal runs on the machine's clock, from reading its prompt on, except those whose answers are shared"
SHARED = ('an answer stands for another budget or strategy of the same method and task where each decision of the '
          'planner, worked out again, has the same effect, and no check of the deadline would have ended it: a whole '
          'answer in time, or one cut by TRUNCATE of which KILL keeps nothing')


def results_of(measured: FinishedAnswers) -> Results:
    """Return what each method made of each finished task, by (method, strategy, quantile) and the task's key.

    Under SKIP_NEXT jobs arrive in several orders, and the key is of a place in an order (`place`). ValueError where no
    task is finished.
    """
    cases, finished, live = measured.cases, measured.finished_tasks(), measured.finished_live_tasks()
    if not measured.budgets_s or not finished:
        raise ValueError('no task is finished yet, so that there are no results')
    found: Results = {}
    for strategy in cases.strategies:
        for quantile in cases.quantiles:
            budget_s = measured.budget_s(quantile)
            for method in measured.methods:
                if tasks := live if method in measured.few else finished:
                    found[method, strategy.name, quantile] = {
                        task.key: _held(measured, task, method, budget_s, strategy) for task in tasks}
            for method in cases.live if live else ():
                found[method, strategy.name, quantile] = {
                    task.key: _held_live(measured, task, (task.key, method, strategy.name, quantile), budget_s)
                    for task in live}
    arriving = [task.key for task in (live if measured.live_tasks else finished)]
    for case, held in found.items():
        if case[1] == Strategy.SKIP_NEXT.name:
            found[case] = in_orders(held, arriving, measured.budget_s(case[2]))
    return found


def _held(measured: FinishedAnswers, task: ScoredTask, method: str, budget_s: float, strategy: Strategy) -> Held:
    """Return what is left of a recorded answer."""
    answer, seconds = measured.recorded_answer(task, method), budget_s - measured.margin_s
    ratio, takes_s = measured.methods[method][1], answer.unhurried_s + measured.margin_s
    if strategy is Strategy.SKIP_NEXT:
        whole = score_of_cut(measured.model, task, answer, answer.unhurried_s, strategy)
        return Held(whole, True, late=answer.unhurried_s > seconds, seconds=takes_s, eviction_ratio=ratio)
    return Held(score_of_cut(measured.model, task, answer, seconds, strategy), answer.cut(seconds) == len(answer.ids),
                seconds=min(takes_s, budget_s), eviction_ratio=ratio)


def _held_live(measured: FinishedAnswers, task: ScoredTask, key: tuple[str, str, str, float], budget_s: float) -> Held:
    return held_live(task, measured.answered[key], budget_s, shared=key in measured.shared)


def held_live(task: ScoredTask, answer: LiveAnswer, budget_s: float, *, shared: bool = False) -> Held:
    """Return what a client holds of a live answer; `shared`: it was given in another case."""
    facts = {'late': answer.late_s > 0, 'promised': answer.promised, 'missed': answer.promised and not answer.natural,
             'seconds': budget_s + answer.late_s, 'eviction_ratio': answer.eviction_ratio, 'shared': shared}
    if answer.ended and not answer.natural:  # SKIP_NEXT
        return Held(task.score(answer.text), True, **facts)
    return Held(answer.score(task), answer.natural, **facts)


def in_orders(held: dict[str, Held], tasks: Sequence[str], period_s: float) -> dict[str, Held]:
    """Return what becomes of jobs that arrive one after the other, under SKIP_NEXT, in several orders."""
    found = {}
    for seed in SEEDS:
        arriving = skip_next.order(tasks, seed)
        served = skip_next.served(arriving, {key: each.seconds for key, each in held.items()}, period_s)
        for key, is_served in zip(arriving, served, strict=True):
            found[place(key, seed)] = held[key] if is_served else Held(0.0, False)
    return found


def place(key: str, seed: int) -> str:
    """Return the name of a task's place in one order of arrival."""
    return f'{key} in order {seed}'


def families_of(measured: FinishedAnswers) -> dict[str, str]:
    """Return the family of every key in `results_of`."""
    return {name: task.family for task in measured.tasks
            for name in (task.key, *(place(task.key, seed) for seed in SEEDS))}


def how(measured: FinishedAnswers) -> dict:
    """Return how the answers of these cases came about, and how many were shared, for readers of the results."""
    wanted = set(measured.live_cases)
    keys = {key for key in measured.answered if key[1:] in wanted}
    shared = Counter(f'{method}, {strategy}' for _, method, strategy, _ in measured.shared & keys)
    return {'recorded': RECORDED, 'live': LIVE, 'shared': SHARED, 'live_answers': len(keys),
            'live_runs': len(keys) - shared.total(), 'shared_answers': shared}
