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

"""What is left of an answer, predicted from its own states while it is decoded, and learned from those that are served.

That an answer has lived for so many tokens says something of its length: the distribution that the first plan was made
with is conditioned on it. Its states say more. At each look (look_labels.py) a head for the age that the answer has
reached predicts how many tokens are still to come, from the prompt's state, the newest one and the mean. It is the
same regression as for prompts (look_head.py), fitted to the looks at answers that went on at that age, among
which those that were cut are known to be longer. So without states it is the conditional marginal at that age.

A head is mixed with what would be planned with otherwise, the conditional distribution. Where its CRPS over the last
looks is not below that, the conditional distribution is planned with, at that age.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from timebill_ros.length.hidden_state_head import HiddenStateHead
from timebill_ros.length.label_grid import crps_of, from_left, left_on_grid
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.look_head import fit_looks
from timebill_ros.length.look_labels import AGES, LookLabels, age_at, joined
from timebill_ros.length.refitting import RECENT, is_due, is_trusted
from timebill_ros.length.state_labels import CAPACITY, for_fitting

log = logging.getLogger(__name__)

ReadStates = Callable[[], tuple[np.ndarray, np.ndarray]]  # returns the newest state and the mean, see AnswerState


@dataclass(frozen=True)
class Look:
    """What was expected of an answer after `n` tokens.

    distribution:  of the whole length, to plan with.
    states:        of the label [S], normalised; None where the answer has given one at this age.
    cdfs:          of what is left, with the head and without, [K] each, to be compared; None without a head.
    """

    n: int
    age: int
    distribution: LengthDistribution
    states: np.ndarray | None = None
    bucket_size: int = 1
    cdfs: tuple[np.ndarray, np.ndarray] | None = None
    by_head: bool = False


class RemainingLearner:
    """Predicts what is left of answers, and learns it. Memory is bounded: see LookLabels.

    `labels`: what it learns from, and goes on from. `prompt_width`: H, of the prompt's state. `executor`: where heads
    are fitted.
    """

    def __init__(self, labels: LookLabels, prompt_width: int, executor: ThreadPoolExecutor):
        self.labels, self._prompt_width, self._executor = labels, prompt_width, executor
        self.heads: dict[int, HiddenStateHead] = {}  # by age
        self._clear()

    def _clear(self) -> None:
        self.heads.clear()
        self._fitted = dict.fromkeys(AGES, 0)  # of `labels.seen`
        self._gains: dict[int, deque[float]] = {age: deque(maxlen=RECENT) for age in AGES}
        self._fits: list[Future] = []

    def head_is_used(self, age: int) -> bool:
        """Whether predictions at this age are the head's."""
        return is_trusted(self.heads.get(age), self._gains[age])

    def of_answer(self, prompt_state: np.ndarray, distribution: LengthDistribution, read: ReadStates
                  ) -> RemainingLength:
        """Return what looks at one answer while it is decoded, see there."""
        return RemainingLength(self, prompt_state, distribution, read)

    def look(self, states: np.ndarray, n: int, distribution: LengthDistribution) -> Look | None:
        """Predict after `n` tokens from normalised states [S]: the prompt's, the newest and the mean.

        distribution: of the whole length, as expected without them. None before the first age, and where a state is
        not finite.
        """
        age = age_at(n)
        if age is None or not np.isfinite(states @ states):
            return None
        head = self.heads.get(age)
        if head is None:
            return Look(n, age, distribution, states)
        without = left_on_grid(distribution, n, head.bucket_size, len(head.intercept))
        mixed, used = head.mixed(states, without), self.head_is_used(age)
        return Look(n, age, from_left(mixed, head.bucket_size, n) if used else distribution, states, head.bucket_size,
                    (mixed, without), used)

    def observe(self, looks: list[Look], n: int, *, whole: bool) -> None:
        """Account for an answer of `n` tokens that ended by itself (`whole`), or that was cut after them."""
        for look in looks:
            left = n - look.n
            if left < 1:
                continue  # cut at the look, which says nothing
            if look.cdfs is not None:
                head, without = (crps_of(cdf, look.bucket_size, left, whole=whole) for cdf in look.cdfs)
                self._gains[look.age].append(without - head)
            if look.states is not None:
                self.labels.add(look.age, look.states, left, whole=whole)

    def refit_if_due(self) -> None:
        """Start fits in the background at the ages that have enough new labels, where none is under way."""
        if not all(one.done() for one in self._fits):
            return
        self._fits = []
        for age in AGES:
            if is_due(self.labels.seen[age] - self._fitted[age], self.labels.count(age)):
                self._fitted[age] = self.labels.seen[age]
                try:
                    # All looks may be at one age. A fit to so many takes the square of their number in memory.
                    self._fits.append(self._executor.submit(self._fit_to, age, *self.labels.at(age, CAPACITY)))
                except MemoryError:
                    log.warning('there is no memory to learn from %d looks at answers', len(self.labels))

    def wait(self) -> None:
        """Wait for the fits that are under way."""
        for one in self._fits:
            one.result()

    def _fit_to(self, age: int, states: np.ndarray, lengths: np.ndarray, whole: np.ndarray) -> None:
        try:
            self.heads[age] = fit_looks(states.astype(np.float32), self._prompt_width, for_fitting(lengths, whole))
        except Exception:  # a bug, or no memory; the head so far serves on
            log.exception('the head after %d tokens could not be fitted to %d looks', age, len(lengths))

    def forget(self, labels: LookLabels) -> None:
        """Start anew, with labels that are empty."""
        self.wait()
        self.labels = labels
        self._clear()


class RemainingLength:
    """What is expected of one answer while it is decoded. Calling it is a look.

    prompt_state:  normalised [H].
    distribution:  of the whole length, as expected before the first token.
    read:          returns the answer's states, [H'] each.
    """

    def __init__(self, learner: RemainingLearner, prompt_state: np.ndarray, distribution: LengthDistribution,
                 read: ReadStates):
        self._learner, self._prompt_state, self._read = learner, prompt_state, read
        self._distribution, self.looks = distribution, []

    def __call__(self, n: int) -> LengthDistribution:
        """Return the distribution of the whole length to plan with after `n` tokens."""
        try:
            look = self._look(n)
        except Exception:  # a bug: the answer is planned for as without states
            log.exception('what is left of an answer could not be predicted from its states')
            look = None
        return self._distribution if look is None else look.distribution

    def _look(self, n: int) -> Look | None:
        if age_at(n) is None:
            return None
        states = np.concatenate([self._prompt_state, joined(*self._read())])
        look = self._learner.look(states, n, self._distribution)
        if look is not None:
            known = any(look.age == earlier.age for earlier in self.looks)
            # What was planned with is not needed again, and is longer the longer the answer.
            self.looks.append(replace(look, states=None if known else states, distribution=self._distribution))
        return look

    def observe(self, n: int, *, whole: bool) -> None:
        """Teach the learner that the answer had `n` tokens and ended by itself (`whole`), or was cut after them."""
        self._learner.observe(self.looks, n, whole=whole)
