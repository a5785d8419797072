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

"""Where the length of a response is expected from.

That is a second network, which reads the prompt while prefill does (length/prediction.py), or the hidden state that
prefill leaves (length/state_learner.py), or neither: responses to earlier goals that were about as long
(length/observed_lengths.py).
"""
from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from timebill_ros.deadline import Clock
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.prediction import Prediction, PredictionExecutor, collect
from timebill_ros.timing.execution_time import ExecutionTimes

if TYPE_CHECKING:  # the engine also runs where safetensors is not installed
    from timebill_ros.length.remaining_learner import RemainingLength
    from timebill_ros.length.state_learner import StateLearner, StatePrediction

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExpectedLength:
    """What is expected of one response.

    known:       False: the distribution is a mere prior, which nothing may be refused for.
    prediction:  what read the prompt, and when; None: nothing did in time.
    by_state:    to be compared with the response, by `LengthSource.observe`.
    """

    distribution: LengthDistribution
    known: bool
    prediction: Prediction | None = None
    by_state: StatePrediction | None = None


@dataclass
class LengthSource:
    """Expects lengths. `wait_s`, `max_tokens`: the parameters prediction_wait_s and predictor_max_tokens."""

    predictor: PredictionExecutor | None = None
    states: StateLearner | None = None
    wait_s: float = 0.02
    max_tokens: int = 0
    clock: Clock = time.monotonic

    def start(self, prompt: str, n_x: int, times: ExecutionTimes, reused: int = 0) -> Future[Prediction] | None:
        """Start what predicts beside prefill of the rendered prompt; None where nothing does.

        The prompt has `n_x` tokens, and the first `reused` of them are known.
        """
        if self.predictor is None:
            return None
        # N_p, the predictor's longest input: as much as prefill hides, unless the parameter says otherwise.
        bound = self.max_tokens or max(times.predictor_bound(n_x, reused), 2 * MAX_WINDOW)
        return self.predictor.submit(prompt, bound)

    def expected(self, started: Future[Prediction] | None, observed: ObservedLengths, n_x: int, n_goal: int, *,
                 state: np.ndarray | None = None, wait_s: float | None = None) -> ExpectedLength:
        """Return what is expected of a goal of at most `n_goal` tokens, once its prompt has been read.

        started:  what `start` returned. Where it is late or fails, the marginal of the predictor's training stands in.
        state:    hidden state [H] of the prompt's last token; None: the prompt was not read.
        wait_s:   how long to wait for a prediction that was started, where not as the parameter says.
        """
        if started is not None:
            prediction = collect(started, self.wait_s if wait_s is None else wait_s)
            distribution = prediction.distribution if prediction is not None else self.predictor.marginal()
            return ExpectedLength(distribution, True, prediction)
        without, known = observed.distribution(n_x, n_goal), observed.are_known(n_x, n_goal)
        by_state, begun = None, self.clock()
        if self.states is not None and state is not None:
            try:
                by_state = self.states.predict(state, without)
            except Exception:  # a bug: the goal is planned as where there are no states
                log.exception('the length could not be predicted from the hidden state')
        if by_state is None:
            return ExpectedLength(without, known)
        # Before there is a head, nothing was predicted.
        prediction = Prediction(by_state.distribution, begun, self.clock()) if by_state.cdfs is not None else None
        known = known or (by_state.by_head and self.states.is_sure)
        return ExpectedLength(by_state.distribution, known, prediction, by_state)

    def while_decoding(self, expected: ExpectedLength, model) -> RemainingLength | None:
        """Return what looks at what is left of an answer of `model` while it is decoded; None where nothing does."""
        learner = self.states.remaining if self.states is not None else None
        if learner is None or expected.by_state is None or model.answer_state is None:
            return None
        return learner.of_answer(expected.by_state.state, expected.distribution, model.answer_state.read)

    def observe(self, expected: ExpectedLength, n: int, *, whole: bool, remaining: RemainingLength | None = None
                ) -> None:
        """Learn from a response of `n` tokens that ended by itself (`whole`), or that was cut after them.

        remaining: what looked at it while it was decoded.
        """
        if self.states is not None and expected.by_state is not None:
            try:
                self.states.observe(expected.by_state, n, whole=whole)
                if remaining is not None:
                    remaining.observe(n, whole=whole)
            except Exception:  # a bug, which the answer must not suffer from
                log.exception('a length was not learned')

    def learn(self) -> None:
        """Learn in the background from what was observed, where enough is new. To be called between goals."""
        if self.states is not None:
            self.states.refit_if_due()

    def save(self, *, ends: bool) -> None:
        """Write down what was learned, if it is much or the process `ends`. OSError where that fails."""
        if self.states is not None:
            self.states.save(ends=ends)

    def forget(self) -> None:
        """Start anew."""
        if self.states is not None:
            self.states.forget()
