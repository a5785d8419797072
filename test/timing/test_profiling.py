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

"""Measuring a profile: of a model that takes exactly known times on a fake clock, and of tiny real models."""
import time
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.timing import profiling
from timebill_ros.timing.execution_time import Profile
from timebill_ros.timing.fitting import errors, fit

CHUNK = 256


class TimedModel(MockModel):
    """Takes exactly as long as TIMES says for whatever it is asked."""

    fingerprint = 'mock'

    def prefill(self, ids, *, chunk_tokens, should_stop=lambda: False):
        self.calls.append(f'prefill {len(ids)}')
        self._work(TIMES.prefill(len(ids)))
        self.n_kv = len(ids)
        return torch.ones(257)

    def step(self, token, position):
        self._work(TIMES.step(self.n_kv))
        self.n_kv += 1
        return torch.ones(257)


class TimedPredictions(MockPredictions):
    predictor = SimpleNamespace(max_input_tokens=500)

    def submit(self, text, max_input_tokens):
        self.seconds = TIMES.prediction(min(max_input_tokens, 500))
        return super().submit(text, max_input_tokens)


@pytest.fixture
def bench(monkeypatch):
    """A model and predictions that move the clock that profiling reads."""
    clock = FakeClock()
    monkeypatch.setattr(profiling, 'time', SimpleNamespace(monotonic=clock, perf_counter=clock))
    return SimpleNamespace(clock=clock, model=TimedModel(clock), predictions=TimedPredictions(clock))


@pytest.mark.parametrize(('longest', 'n'), [(65, 9), (200, 9), (4000, 9), (32768, 9), (8192, 2)])
def test_a_grid_spans_the_lengths_evenly(longest, n):
    grid = profiling.length_grid(longest, n)
    assert grid[0] == profiling.SHORTEST and grid[-1] == longest and grid == sorted(set(grid))
    assert len(grid) <= n and (len(grid) == n or longest < 100)


@pytest.mark.parametrize('longest', [4, 10, 38, 64])
def test_a_short_context_still_gives_two_lengths(longest):
    assert profiling.length_grid(longest, 9) == [longest // 2, longest]


def test_a_profile_recovers_the_times_of_the_model(bench):
    points = profiling.measure(bench.model, bench.predictions, chunk_tokens=CHUNK, budget_s=1000.0)
    assert sorted(points) == ['eviction', 'prediction', 'prefill', 'run', 'step']
    assert len(points['prefill']) == 9 * 8, 'eight visits of each of nine lengths'
    assert max(n for n, _ in points['prefill']) <= bench.model.max_context - 2 * profiling.STEPS
    times = fit(points)
    for n in (100, 1000, 3900):
        assert times.prefill(n) == pytest.approx(TIMES.prefill(n), rel=1e-3)
        assert times.step(n) == pytest.approx(TIMES.step(n), rel=1e-2)
        assert times.eviction(n) == pytest.approx(TIMES.eviction(n), rel=0.02)  # measured over 12 more
        assert times.prediction(min(n, 500)) == pytest.approx(TIMES.prediction(min(n, 500)), rel=1e-2)
    assert max(errors(times, points).values()) < 0.01


@pytest.mark.parametrize('budget_s', [3.0, 6.0, 20.0, 60.0])
@pytest.mark.parametrize('repeats', [1, 4])
def test_measuring_stays_within_its_budget(budget_s, repeats, bench):
    started = bench.clock.now
    points = profiling.measure(bench.model, bench.predictions, chunk_tokens=CHUNK, budget_s=budget_s, repeats=repeats)
    assert bench.clock.now - started <= budget_s
    assert len({n for n, _ in points['prefill']}) >= 2 and len(points['prefill']) <= 9 * repeats
    fit(points)


def test_a_device_too_slow_for_its_budget_measures_the_least_that_can_be_fitted(bench):
    bench.model.slowness = 100.0
    points = profiling.measure(bench.model, bench.predictions, chunk_tokens=CHUNK, budget_s=1.0)
    assert bench.model.calls.count('reset') == 3  # the warm-up and two lengths
    assert fit(points).step(100) == pytest.approx(100 * TIMES.step(100), rel=0.02)


def test_lengths_come_in_order_once_and_then_in_random_order(bench):
    profiling.measure(bench.model, None, chunk_tokens=CHUNK, budget_s=1000.0, repeats=3, n_lengths=4)
    lengths = [int(call.split()[1]) for call in bench.model.calls if call.startswith('prefill')]
    warm_up, first, rest = lengths[0], lengths[1:5], lengths[5:]
    assert warm_up == first[0] and first == sorted(first)
    assert sorted(rest) == sorted(first * 2) and rest != sorted(rest)


def test_progress_grows_to_one(bench):
    seen = []
    profiling.measure(bench.model, None, chunk_tokens=CHUNK, budget_s=30.0, progress=seen.append)
    assert seen == sorted(seen) and 0 < seen[0] < 1 and seen[-1] == 1.0 and len(seen) > 5


@pytest.mark.parametrize(('kind', 'with_predictor', 'kinds'), [
    ('qwen2', True, {'prefill', 'step', 'run', 'eviction', 'prediction'}),
    ('llama', False, {'prefill', 'step', 'run', 'eviction'}),
    ('mistral_sliding', False, {'prefill', 'step', 'run'}),
    ('falcon_h1', True, {'prefill', 'step', 'run', 'prediction'}),
])
def test_a_real_model_can_be_measured_and_its_profile_kept(kind, with_predictor, kinds, tmp_path):
    model = CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1)
    predictor = PredictionExecutor(length_predictor.load(tiny_models.predictor_directory(), device=model.device),
                                   'abc') if with_predictor else None
    started = time.monotonic()
    points = profiling.measure(model, predictor, chunk_tokens=64, budget_s=1.5, repeats=2, n_lengths=3, longest=200)
    assert time.monotonic() - started < 30
    assert set(points) == kinds and all(seconds > 0 for values in points.values() for _, seconds in values)
    profile = profiling.make_profile(model, predictor, points, 64)
    assert profile.times.prefill(100) > 0 and profile.times.step(100) > 0 and set(profile.fit_errors) == kinds
    profile.save(tmp_path / 'profile.yaml')
    loaded = Profile.load(tmp_path / 'profile.yaml')
    assert loaded == profile
    loaded.check(profiling.identity(model, predictor), 'here')
    assert loaded.identity.model == model.fingerprint and loaded.identity.dtype == 'float32'
    assert loaded.identity.predictor == ('abc' if with_predictor else 'none')
    assert loaded.versions['torch'] == torch.__version__
