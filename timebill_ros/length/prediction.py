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

"""The length predictor on a thread of its own, beside prefill (PAPER: deployment).

On CUDA the thread has a stream of lower priority than the model's; on a CPU it has its own number of OpenMP threads.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

from timebill_ros.deadline import Clock
from timebill_ros.inference.ranges import Ranges
from timebill_ros.length.length_distribution import LengthDistribution

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A predicted length distribution and when it was computed (monotonic seconds)."""

    distribution: LengthDistribution
    started_s: float
    finished_s: float

    @property
    def seconds(self) -> float:
        """t_predict as measured."""
        return self.finished_s - self.started_s

    def hidden_s(self, prefill_started_s: float, prefill_finished_s: float) -> float:
        """Return how many seconds of the prediction ran while prefill ran. Both ends are monotonic seconds."""
        return max(0.0, min(self.finished_s, prefill_finished_s) - max(self.started_s, prefill_started_s))


class PredictionExecutor:
    """Runs predictions one at a time, on a thread other than the one that runs the model.

    predictor:    a LengthPredictor, on the device where it is to run.
    fingerprint:  of the predictor's files, for the identity of a profile.
    threads:      OpenMP threads of a prediction on a CPU.
    scores:       of calibration prompts, see calibration.py.
    directory:    where the predictor was loaded from.
    """

    def __init__(self, predictor, fingerprint: str = '', *, threads: int = 1, scores: Sequence[float] = (),
                 directory: str = '', clock: Clock = time.monotonic):
        self.predictor = predictor
        self.scores = list(scores)
        self.fingerprint = fingerprint
        self.directory = directory
        self.placement = 'beside'  # where the predictor runs; worker/tuning.py may choose another
        self.ranges = Ranges()  # what marks a prediction for a profiler
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, 'length-predictor', initializer=self._prepare, initargs=(threads,))
        # Wait until the thread exists with its own settings, so that no request waits for that.
        self._executor.submit(lambda: None).result()

    def _prepare(self, threads: int) -> None:
        import torch  # here: Prediction serves without it too

        from timebill_ros.inference.streams import stream_on
        self._stream = stream_on(self.predictor.device)
        with self._stream.entered():  # after the predictor's weights, which may be on their way to the device
            pass
        if self.predictor.device.type != 'cpu':
            return
        # OpenMP keeps a thread count for each calling thread, so the count of the model's thread stays as it is.
        torch.set_num_threads(threads)

    def submit(self, text: str, max_input_tokens: int) -> Future[Prediction]:
        """Start predicting the response length of the rendered prompt `text`.

        `max_input_tokens`: N_p; a longer prompt is compressed to that many of the predictor's tokens.
        """
        return self._executor.submit(self._predict, text, max_input_tokens)

    def _predict(self, text: str, max_input_tokens: int) -> Prediction:
        started = self._clock()
        with self.ranges.around('length prediction'), self._stream.entered(ordered=False):  # beside the model's stream
            distribution = self.predictor.predict(text, max_input_tokens=max_input_tokens)
        return Prediction(distribution, started, self._clock())

    def marginal(self) -> LengthDistribution:
        """Return the length distribution of the training prompts, for a prediction that is late or failed."""
        return self.predictor.marginal()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def collect(future: Future[Prediction], wait_s: float) -> Prediction | None:
    """Wait for a prediction for `wait_s` seconds at most; None, and a line in the log, where it is late or failed.

    One that has not even begun by then is given up, so that the next one does not wait for it.
    """
    try:
        return future.result(timeout=wait_s)
    except FutureTimeout:
        future.cancel()
        log.info('the length prediction was late; planning with the marginal distribution')
    except Exception:
        log.exception('the length prediction failed; planning with the marginal distribution')
    return None
