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

"""Answers that were generated once without a deadline, each token with its time, so that any deadline can cut them.

This stands for plain generation that is cut at the deadline: which tokens come does not depend on the budget. What
runs is what the engine runs for a request, without a plan. Times count from where a request would be released.
"""
from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from timebill_ros.bench.answers import entries_to_keep, generate_ids, prompt_ids, request_for, text_of
from timebill_ros.codes import Strategy
from timebill_ros.deadline import Clock
from timebill_ros.inference.model import CausalLM
from timebill_ros.tasks.scored_task import ScoredTask

FIXED = 'fixed_'  # how the names of methods begin that evict the same share of every prompt


@dataclass(frozen=True)
class TimedAnswer:
    """A whole answer, to its natural end. `ids`: its tokens, an end token among them; `at_s`: when each was there."""

    n_x: int
    ids: list[int]
    at_s: list[float]

    @property
    def unhurried_s(self) -> float:
        """Seconds until the last token was there."""
        return self.at_s[-1]

    def cut(self, seconds: float) -> int:
        """Return how many tokens there are after so many seconds."""
        return bisect_right(self.at_s, seconds)


def record(model: CausalLM, task: ScoredTask, methods: Mapping[str, tuple[str, float]], *, chunk_tokens: int,
           max_eviction_ratio: float, clock: Clock = time.perf_counter) -> dict[str, TimedAnswer]:
    """Answer a task by each of some methods of `methods_of`: with its weights, after evicting its share of the cache.

    The prompt is read once, because reading it is the same for all methods. Each goes on from its states as prefill
    left them, and the time that reading took counts for each. Putting the states back counts for none.
    """
    with model.stream.entered():
        started = clock()
        ids = prompt_ids(model, task)
        model.reset()
        logits = model.prefill(ids, chunk_tokens=chunk_tokens)
        model.synchronize()
        read_s = clock() - started
        several = len(methods) > 1
        if several:
            logits, states = logits.clone(), model.snapshot()
        found = {}
        for name, (variant, ratio) in methods.items():
            if several:
                model.restore(states)
                model.synchronize()
            n_keep = entries_to_keep(len(ids), ratio, max_eviction_ratio)
            found[name] = _answered(model, task, variant, logits, n_x=len(ids), n_keep=n_keep, read_s=read_s,
                                    clock=clock)
    return found


def _answered(model: CausalLM, task: ScoredTask, variant: str, logits, *, n_x: int, n_keep: int, read_s: float,
              clock: Clock) -> TimedAnswer:
    """Answer a prompt that has been read, in `read_s` seconds."""
    started = clock() - read_s
    at: list[float] = []

    def read() -> float:  # once for every token but the last
        at.append(clock() - started)
        return at[-1]

    model.use_variant(variant)
    try:
        if n_keep < n_x:
            model.evict(n_keep)
            model.synchronize()
        request = request_for(task, task.max_new_tokens)
        tokens, _ = generate_ids(model, request, logits, n_x=n_x, n_kv=n_keep, clock=read)
        read()
    finally:
        model.use_variant(model.variant)
    return TimedAnswer(n_x, tokens, [round(seconds, 6) for seconds in at])


def score_of_cut(model: CausalLM, task: ScoredTask, answer: TimedAnswer, seconds: float, strategy: Strategy) -> float:
    """Return the score of what a client holds of `answer` where the deadline cuts it after `seconds`.

    Under KILL nothing is left of an answer that has not ended by then.
    """
    n = answer.cut(seconds)
    if n == 0 or (n < len(answer.ids) and strategy is Strategy.KILL):
        return 0.0
    return task.score(text_of(model, answer.ids[:n]))


def methods_of(model: CausalLM, ratios: Sequence[float] = (0.5, 0.95)) -> dict[str, tuple[str, float]]:
    """Return the methods whose tokens do not depend on the budget, by name: (variant, eviction ratio).

    `ratios`: the shares of every prompt's cache that are evicted, one method for each.
    """
    fixed = ratios if model.supports_eviction else ()
    return {'vanilla': (model.variant, 0.0),
            **{f'{FIXED}{100 * ratio:.0f}': (model.variant, ratio) for ratio in fixed},
            **{variant: (variant, 0.0) for variant in model.variants if variant != model.variant}}
