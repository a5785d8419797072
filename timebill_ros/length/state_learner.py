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

"""Response lengths predicted from hidden states, learned from the goals that are served. No torch.

Every goal that was decoded is a label (state_labels.py); one that was cut is a label too, which says that the response
is longer. The head (hidden_state_head.py) is fitted again after every eighth part of new labels, on a thread that gives
way to everything else, and never while a token is waited for.

Each prediction is compared with the marginal that stands in without states (observed_lengths.py), once the goal has
ended. Where the head's CRPS over the last goals is not below that of the marginal, the marginal is planned with. The
head goes on being compared, and is used again when it is better.
"""
from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timebill_ros.length.hidden_state_head import FEWEST, HiddenStateHead, fit, normalised
from timebill_ros.length.label_grid import crps_of, from_cdf, on_grid
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.refitting import ENOUGH, MOST_NEW, RECENT, is_due, is_trusted
from timebill_ros.length.remaining_learner import RemainingLearner
from timebill_ros.length.state_labels import StateLabels, for_fitting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StatePrediction:
    """What was expected of one response.

    distribution:  to plan with.
    state:         normalised hidden state [H], float32.
    cdfs:          of head and marginal, [K] each, at the edges of a grid, to be compared; None without a head.
    by_head:       the distribution is the head's, mixed with the marginal; False: it is the marginal.
    """

    distribution: LengthDistribution
    state: np.ndarray
    bucket_size: int = 1
    cdfs: tuple[np.ndarray, np.ndarray] | None = None
    by_head: bool = False


class StateLearner:
    """Predicts from states and learns. Memory is bounded: see StateLabels.

    `width`: H; `depth`: how many layers the states have passed; `path`: the file to keep labels in; None: nowhere.
    `last_width`: of the states of answers, from which `remaining` learns what is left of them; 0: there are none.
    """

    def __init__(self, width: int, depth: int, *, path: Path | None = None, model: str = '', last_width: int = 0):
        self.labels = StateLabels(width, depth, last_width)
        self.head: HiddenStateHead | None = None
        self._path, self._model = path, model
        self._fitted = self._saved = 0  # of `labels.seen`
        self._gains: deque[float] = deque(maxlen=RECENT)  # tokens of CRPS by which the head was better
        self._ended: deque[bool] = deque(maxlen=RECENT)  # whether the answers that this compares ended by themselves
        self._fit: Future | None = None
        # Made now, so that it gets neither a real-time priority that the worker takes later nor a request's time.
        self._executor = ThreadPoolExecutor(1, 'state-learner', initializer=_give_way)
        self._executor.submit(lambda: None).result()
        looks = self.labels.looks
        self.remaining = RemainingLearner(looks, width, self._executor) if looks is not None else None

    @property
    def head_is_used(self) -> bool:
        """Whether predictions are the head's."""
        return is_trusted(self.head, self._gains)

    @property
    def is_sure(self) -> bool:
        """Whether so many predictions were compared with the answers that goals may be refused for one.

        Where most answers were cut, nobody knows how long they are: all that was compared is that they are longer.
        """
        return len(self._gains) >= ENOUGH and 2 * sum(self._ended) >= len(self._ended)

    def predict(self, state: np.ndarray, marginal: LengthDistribution) -> StatePrediction | None:
        """Predict the length of the response to a prompt with the hidden state [H].

        marginal: what is expected without the state. None where the state is not finite.
        """
        if not math.isfinite(state @ state):
            return None
        state, head = normalised(state), self.head
        if head is None:
            return StatePrediction(marginal, state)
        without = on_grid(marginal, head.bucket_size, len(head.intercept))
        mixed = head.mixed(state, without)
        used = self.head_is_used
        return StatePrediction(from_cdf(mixed, head.bucket_size) if used else marginal, state, head.bucket_size,
                               (mixed, without), used)

    def observe(self, prediction: StatePrediction, n: int, *, whole: bool) -> None:
        """Account for a response of `n` tokens that ended by itself (`whole`), or that was cut after them."""
        if n < 1:
            return
        if prediction.cdfs is not None:
            head, marginal = (crps_of(cdf, prediction.bucket_size, n, whole=whole) for cdf in prediction.cdfs)
            self._gains.append(marginal - head)
            self._ended.append(whole)
        self.labels.add(prediction.state, n, whole=whole)

    def refit_if_due(self) -> None:
        """Start fits in the background, where there are enough new labels and none is under way."""
        if is_due(self.labels.seen - self._fitted, len(self.labels)) and (self._fit is None or self._fit.done()):
            self._start()
        if self.remaining is not None:
            self.remaining.refit_if_due()

    def _start(self) -> None:
        self._fitted = self.labels.seen
        try:
            self._fit = self._executor.submit(self._fit_to, *self.labels.snapshot())
        except MemoryError:
            log.warning('there is no memory to learn lengths from %d hidden states', len(self.labels))

    def wait(self) -> None:
        """Wait for the fits that are under way."""
        if self._fit is not None:
            self._fit.result()
        if self.remaining is not None:
            self.remaining.wait()

    def _fit_to(self, states: np.ndarray, lengths: np.ndarray, whole: np.ndarray) -> None:
        try:
            self.head = fit(states.astype(np.float32), for_fitting(lengths, whole))
        except Exception:  # a bug, or no memory; the head so far serves on
            log.exception('the head on hidden states could not be fitted to %d labels', len(lengths))

    def forget(self) -> None:
        """Start anew, without a label."""
        self.wait()
        self.labels = StateLabels(self.labels.width, self.labels.depth, self.labels.last_width)
        self.head, self._fitted, self._saved = None, 0, 0
        self._gains.clear()
        self._ended.clear()
        if self.remaining is not None:
            self.remaining.forget(self.labels.looks)

    # -- across restarts -----------------------------------------------------------------------------------------

    def load(self) -> bool:
        """Go on from the file, fit the head to what it holds, and return whether there is one."""
        if self._path is None or not self.labels.load(self._path):
            return False
        self._saved = self.labels.seen
        self._fit_at_start()
        return True

    def begin_with(self, path: Path) -> None:
        """Begin with the labels of a user's file. ValueError where it cannot be used."""
        self.labels.begin_with(path)
        self._fit_at_start()

    def _fit_at_start(self) -> None:
        if len(self.labels) >= FEWEST:
            self._start()
            self.wait()
        if self.remaining is not None:  # not waited for: no plan needs it before the first look at an answer
            self.remaining.refit_if_due()

    def save(self, *, ends: bool = True) -> None:
        """Write the labels where MOST_NEW of them are new or, if the process `ends`, any. OSError where that fails."""
        seen = self.labels.seen
        if self._path is not None and seen - self._saved >= (1 if ends else MOST_NEW):
            self.labels.save(self._path, self._model)
            self._saved = seen


def _give_way() -> None:
    """Let every other thread of the machine go first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 19)  # Linux: of this thread alone
