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

"""On a GPU prefill and prediction run side by side: what each takes is told apart, and a prediction can be late."""
import math
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import SimpleNamespace

import pytest
import torch
from engine_bench import N_X, Bench
from fake_cuda import FakeCuda
from mock_model import TIMES, MockModel, MockPredictions

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.streams import stream_on
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import Prediction
from timebill_ros.timing import profiling

CUDA = torch.device('cuda')
MARGINAL = 50  # tokens, the median that a late prediction is replaced by


class GpuModel(MockModel):
    """Its work goes to a stream, and takes time there only."""

    synchronize = CausalLM.synchronize

    def _work(self, seconds):
        self.cuda.work(seconds)

    def step(self, token, position):
        logits = super().step(token, position)
        self.synchronize()  # as reading the token does
        return logits


class GpuPredictions(MockPredictions):
    """Predicts on a stream of its own. Whoever waits for the result lets the clock run."""

    def submit(self, text, max_input_tokens):
        clock, cuda, stream = self.clock, self.cuda, self.stream
        started = clock.now
        with stream.entered(ordered=False):
            cuda.work(self.seconds)
            done_s = cuda.current.done_s

        class OnStream(Future):
            def result(self, timeout=None):
                if timeout is not None and clock.now + timeout < done_s:
                    clock.now += timeout
                    raise FutureTimeout
                clock.now = max(clock.now, done_s)
                return Prediction(LengthDistribution.point(20), started, done_s)

        return OnStream()


@pytest.fixture
def bench(monkeypatch):
    """Return an engine on a stand-in for a GPU, given the seconds of a prediction there."""
    def made(prediction_s: float) -> Bench:
        bench = Bench(predictions={'seconds': prediction_s})
        bench.cuda = FakeCuda(bench.clock, monkeypatch)
        bench.model.__class__, bench.predictions.__class__ = GpuModel, GpuPredictions
        bench.model.cuda = bench.predictions.cuda = bench.cuda
        bench.model.stream, bench.predictions.stream = stream_on(CUDA, urgent=True), stream_on(CUDA)
        return bench
    return made


def test_a_prediction_that_outlasts_prefill_by_far_is_late_and_prefill_has_not_waited_for_it(bench):
    bench = bench(5.0)
    outcome = bench.run()
    timing = outcome.timing
    assert timing.prefill_s == pytest.approx(TIMES.prefill(N_X)) and math.isnan(timing.prediction_s)
    assert timing.predicted_tokens == MARGINAL
    assert bench.clock.now - 1000.0 < 1.0, 'the answer has not waited for it either'


def test_one_that_is_done_before_is_hidden(bench):
    bench = bench(0.05)
    timing = bench.run().timing
    assert timing.prefill_s == pytest.approx(TIMES.prefill(N_X)) and timing.predicted_tokens == 20
    assert timing.prediction_s == timing.hidden_prediction_s == pytest.approx(0.05)


def test_a_profile_is_measured_with_the_same_streams_and_waits(bench, monkeypatch):
    bench = bench(0.5)
    bench.predictions.predictor = SimpleNamespace(max_input_tokens=500)
    monkeypatch.setattr(profiling, 'time', SimpleNamespace(perf_counter=bench.clock))
    seen = set()
    real = GpuModel._work
    monkeypatch.setattr(GpuModel, '_work', lambda self, seconds: seen.add(self.cuda.current) or real(self, seconds))
    monkeypatch.setattr(GpuModel, 'step', lambda self, token, position: torch.ones(257))
    draw = SimpleNamespace(randrange=lambda n: 120)
    points = profiling.visit(bench.model, bench.predictions, N_X, 100, draw)
    assert points['prefill'] == [[N_X, pytest.approx(TIMES.prefill(N_X))]]
    assert points['prediction'] == [[500, pytest.approx(0.5)]]
    assert points['eviction'] == [[N_X, pytest.approx(TIMES.eviction(N_X))]]
    assert seen == {bench.model.stream._stream}, 'the stream that goes before others'
