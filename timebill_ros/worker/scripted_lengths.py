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

"""Length predictions for scripted answers: what the script foresees, with nothing learned from one goal to the next."""
from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import PessimisticLength
from timebill_ros.length.prediction import Prediction

LIKELY = 0.75  # probability of the predicted length; the pessimistic one has the rest


class LongestForeseen(PessimisticLength):
    """N_W is the longest length that the distribution foresees; once so many tokens have come, N_max."""

    def pessimistic(self, distribution: LengthDistribution, n_max: int, generated: int = 0,
                    prompt_tokens: int = 0) -> int:
        longest = distribution.bucket_size * distribution.n_buckets
        return min(longest, n_max) if longest > generated else n_max


def foreseen(predicted: int, pessimistic: int) -> LengthDistribution:
    """Return the distribution with N_hat = `predicted` and, by LongestForeseen, N_W = `pessimistic` tokens."""
    shares = np.zeros(pessimistic)
    shares[predicted - 1] = LIKELY
    shares[-1] += 1 - LIKELY
    return LengthDistribution(1, shares)


class ScriptedLengths:
    """Stands in the place of a PredictionExecutor.

    `now()` returns the lengths (predicted, pessimistic) of the answer to the prompt that was rendered last; `usual`
    are those of an answer to no prompt in particular.
    """

    scores: tuple[float, ...] = ()

    def __init__(self, now: Callable[[], tuple[int, int]], usual: tuple[int, int]):
        self._now, self._usual = now, usual

    def submit(self, text: str, max_input_tokens: int) -> Future[Prediction]:
        """Return the prediction for the prompt, which is there at once."""
        future: Future[Prediction] = Future()
        moment = time.monotonic()
        future.set_result(Prediction(foreseen(*self._now()), moment, moment))
        return future

    def marginal(self) -> LengthDistribution:
        """Return what is foreseen where the prompt is not known, for the node's own estimates."""
        return foreseen(*self._usual)
