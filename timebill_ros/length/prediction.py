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

"""The length predictor on an executor of its own, beside prefill (PAPER: deployment).

One thread; on CUDA with a stream of lower priority than the model's, on a CPU with its own number of threads.
"""
from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from timebill_ros.deadline import Clock
from timebill_ros.length.length_distribution import LengthDistribution


@dataclass(frozen=True)
class Prediction:
    """A predicted length distribution and when it was computed (monotonic seconds)."""

    distribution: LengthDistribution
    started_s: float
    finished_s: float

    @property
    def seconds(self) -> float:
        return self.finished_s - self.started_s

    def hidden_s(self, prefill_started_s: float, prefill_finished_s: float) -> float:
        """How much of the prediction ran while prefill ran."""
        return max(0.0, min(self.finished_s, prefill_finished_s) - max(self.started_s, prefill_started_s))


class PredictionExecutor:
    """Runs predictions one at a time, apart from the thread that runs the model."""

    def __init__(self, predictor, fingerprint: str = '', *, threads: int = 1, scores: Sequence[float] = (),
                 directory: str = '', clock: Clock = time.monotonic):
        self.predictor = predictor
        self.scores = list(scores)  # of calibration prompts, see calibration.py
        self.fingerprint = fingerprint  # of the predictor's files, for the profile
        self.directory = directory  # where it was loaded from
        self.placement = 'beside'  # see tuning.py
        self._clock = clock
        self._cuda = predictor.device.type == 'cuda'
        self._executor = ThreadPoolExecutor(1, 'length-predictor', initializer=self._prepare, initargs=(threads,))
        self._executor.submit(lambda: None).result()  # the thread exists, and has its own settings, before any request

    def _prepare(self, threads: int) -> None:
        if self._cuda:
            # CUDA's lowest priority is 0, the default; the model's stream takes a higher one.
            self._stream = torch.cuda.Stream(self.predictor.device, priority=0)
            return
        # OpenMP keeps the thread count per calling thread, so this does not touch the model's.
        torch.set_num_threads(threads)

    def submit(self, text: str, max_input_tokens: int) -> Future[Prediction]:
        """Start predicting the response length of the rendered prompt `text`."""
        return self._executor.submit(self._predict, text, max_input_tokens)

    def _predict(self, text: str, max_input_tokens: int) -> Prediction:
        started = self._clock()
        with torch.cuda.stream(self._stream) if self._cuda else contextlib.nullcontext():
            distribution = self.predictor.predict(text, max_input_tokens=max_input_tokens)
        return Prediction(distribution, started, self._clock())

    def marginal(self) -> LengthDistribution:
        """The length distribution of the calibration prompts, for a prediction that is late or failed."""
        return self.predictor.marginal()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
