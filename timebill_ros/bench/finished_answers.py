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

"""The answers of a comparison of budgets that are finished, by task, method and case. See budgets.py."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.bench.budget_rows import PLAIN
from timebill_ros.bench.live_answers import PLANNERS, LiveAnswer
from timebill_ros.bench.timed_answers import TimedAnswer, methods_of
from timebill_ros.codes import Strategy
from timebill_ros.inference.model import CausalLM
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.text_tasks import balanced, in_turns

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
STRATEGIES = (Strategy.TRUNCATE, Strategy.KILL)
FIRST, BESIDE = 0, 1  # when an answer was recorded: for the budgets, or beside the live runs


@dataclass(frozen=True)
class Cases:
    """What is measured: `live` methods are names of live_answers.METHODS.

    ratios:       fixed evictions, one method for each; those that are in `few_ratios` too answer the live tasks alone
    plain:        the method that the mean over the budgets is compared with
    """

    ratios: tuple[float, ...] = (0.5, 0.95)
    few_ratios: tuple[float, ...] = ()
    live: tuple[str, ...] = PLANNERS
    strategies: tuple[Strategy, ...] = STRATEGIES
    quantiles: tuple[float, ...] = QUANTILES
    plain: str = PLAIN


COMPARED = Cases()  # by `timebill bench budgets`


class FinishedAnswers:
    """The answers in the pieces of a journal, and which tasks and methods they belong to.

    `model`: tells the methods and turns tokens into text, for which an AnsweredModel is enough. `margin_s`: the
    delivery margin.
    """

    def __init__(self, model: CausalLM, pieces: Sequence[dict], tasks: list[ScoredTask], n_live: int,
                 margin_s: float, cases: Cases = COMPARED):
        self.model, self.margin_s, self.cases = model, margin_s, cases
        self.tasks = in_turns(tasks)
        self.methods = methods_of(model, cases.ratios)
        self.few = {method for method, (_, ratio) in self.methods.items() if ratio in cases.few_ratios}
        self.live_tasks = in_turns(balanced(tasks, n_live)) if n_live else []
        self.recorded: dict[tuple[str, str, int], TimedAnswer] = {}
        self.answered: dict[tuple[str, str, str, float], LiveAnswer] = {}
        self.shared: set[tuple[str, str, str, float]] = set()  # of `answered`, those that were given in another case
        self.budgets_s: list[float] = []
        for piece in pieces:
            self.take(piece)

    def take(self, piece: dict) -> None:
        """Add what a piece of the journal holds."""
        kind, key = piece['kind'], piece.get('key')
        if kind == 'budgets':
            self.budgets_s = piece['budgets_s']
        elif kind == 'recorded':
            self.recorded[tuple(key)] = TimedAnswer(**piece['answer'])
        else:
            self.answered[tuple(key)] = LiveAnswer(**piece['answer'])
            if 'of' in piece:
                self.shared.add(tuple(key))

    @property
    def total(self) -> int:
        """How many answers the whole measurement takes."""
        return len(self.tasks) * (len(self.methods) - len(self.few)) + len(self.live_tasks) * (
            1 + len(self.few) + len(self.cases.live) * len(self.cases.strategies) * len(self.cases.quantiles))

    @property
    def done(self) -> int:
        """How many of them are there; the journal may hold others too."""
        wanted = {*self.cases.live}
        strategies = {strategy.name for strategy in self.cases.strategies}
        return sum(method in self.methods for _, method, _ in self.recorded) + sum(
            method in wanted and strategy in strategies and quantile in self.cases.quantiles
            for _, method, strategy, quantile in self.answered)

    def recorded_answer(self, task: ScoredTask, method: str) -> TimedAnswer | None:
        """Return a task's answer by a method that does not depend on the budget; None: there is none yet."""
        return self.recorded.get((task.key, method, BESIDE)) or self.recorded.get((task.key, method, FIRST))

    @property
    def live_cases(self) -> list[tuple[str, str, float]]:
        """What every live task is answered in: (method, strategy, quantile)."""
        return [(method, strategy.name, quantile) for method in self.cases.live for strategy in self.cases.strategies
                for quantile in self.cases.quantiles]

    def finished_tasks(self) -> list[ScoredTask]:
        """Return the tasks that every method has answered which answers all of them."""
        return [task for task in self.tasks if all(self.recorded_answer(task, method) for method in self.methods
                                                   if method not in self.few)]

    def finished_live_tasks(self) -> list[ScoredTask]:
        """Return the live tasks that every method has answered, in every case."""
        cases = self.live_cases
        return [task for task in self.live_tasks if all(self.recorded_answer(task, method) for method in self.methods)
                and all((task.key, *case) in self.answered for case in cases)]

    def budget_s(self, quantile: float) -> float:
        """Return the budget at a quantile of the unhurried time."""
        return self.budgets_s[QUANTILES.index(quantile)]
