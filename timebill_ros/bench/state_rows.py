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

"""Lengths from the target's hidden states, for the comparison of length predictors: learned in service, and offline.

In service, goals come one after the other, as a node is sent them: after 50, 100, 300 and 1,000 of them the learner is
asked for the prompts that are judged. Offline, a head is fitted to all of them at once.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from timebill_ros.inference.model import CausalLM
from timebill_ros.length.hidden_state_head import FEWEST, HiddenStateHead, fit, normalised
from timebill_ros.length.label_grid import Labels, bucket_size_for, from_cdf
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.state_learner import StateLearner
from timebill_ros.worker.state_lengths import watch_states

CHECKPOINTS = (50, 100, 300, 1000)  # goals
OFFLINE = 'states, offline'


@dataclass(frozen=True)
class Goal:
    """A prompt's hidden state [H] and tokens, and the response: its tokens, and whether it ended by itself."""

    state: np.ndarray
    prompt_tokens: int
    n: int
    whole: bool


def read_states(model: CausalLM, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
                ) -> list[tuple[np.ndarray, int]]:
    """Return the hidden state [H] and the number of tokens of each rendered prompt."""
    if model.prompt_state is None:
        watch_states(model)
    found = []
    for text in texts:
        ids = model.tokenize(text, is_chat=True)
        with model.stream.entered():
            model.reset()
            model.prefill(ids, chunk_tokens=256)
            model.synchronize()
        found.append((model.prompt_state.read(), len(ids)))
        on_progress(len(found))
    return found


class Learned:
    """What was learned from goals: `predict` gives the distributions of every row for one prompt."""

    def __init__(self, goals: Sequence[Goal], max_new_tokens: int):
        self._limit = max_new_tokens
        self._after: dict[str, tuple[HiddenStateHead | None, bool, ObservedLengths]] = {}
        learner, observed = StateLearner(len(goals[0].state), 0), ObservedLengths()
        for number, goal in enumerate(goals, start=1):
            expected = learner.predict(goal.state, observed.distribution(goal.prompt_tokens, max_new_tokens))
            observed.observe(goal.prompt_tokens, max_new_tokens, goal.n, whole=goal.whole)
            learner.observe(expected, goal.n, whole=goal.whole)
            learner.refit_if_due()
            learner.wait()
            if number in CHECKPOINTS:
                self._after[f'states, after {number:,} goals'] = (learner.head, learner.head_is_used,
                                                                  copy.deepcopy(observed))
        self._offline: HiddenStateHead | None = None
        if len(goals) >= FEWEST:
            lengths, whole = np.array([goal.n for goal in goals]), np.array([goal.whole for goal in goals])
            labels = Labels(lengths, whole, bucket_size_for(lengths))
            self._offline = fit(normalised(np.array([goal.state for goal in goals])), labels)
            self._marginal = from_cdf(labels.marginal(), labels.bucket_size)

    def predict(self, state: np.ndarray, prompt_tokens: int) -> dict[str, LengthDistribution]:
        """Return row -> length distribution for a prompt with this hidden state [H]."""
        state, found = normalised(state), {}
        for name, (head, is_used, observed) in self._after.items():
            marginal = observed.distribution(prompt_tokens, self._limit)
            found[name] = head.predict(state, marginal) if is_used else marginal
        if self._offline is not None:
            found[OFFLINE] = self._offline.predict(state, self._marginal)
        return found
