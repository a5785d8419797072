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
import itertools
import random
import time
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from mock_model import TIMES, FakeClock, MockModel, MockPredictions

from timebill_ros.inference.model import CausalLM
from timebill_ros.length import length_predictor
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.request import CHOICES, SAMPLING_KINDS, Sampling
from timebill_ros.timing import profiling
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.fitting import errors, fit
from timebill_ros.timing.profile import Identity, Profile
from timebill_ros.timing.profile_journal import ProfileJournal

CHUNK = 256
DRAWN = {f'draw:{kind}' for kind in profiling.SAMPLINGS}


class TimedModel(MockModel):
    """Takes exactly as long as TIMES says for whatever it is asked."""

    fingerprint, asides = 'mock', None

    def prefill(self, ids, *, chunk_tokens, should_stop=lambda: False):
        self.calls.append(f'prefill {len(ids)}')
        self._work(TIMES.prefill(len(ids)))
        self.n_kv = self.n_prompt = len(ids)
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
    assert sorted(points) == [*sorted(DRAWN), 'eviction', 'prediction', 'prefill', 'run', 'step']
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


class SlowModel(TimedModel):
    """Reads 280 tokens a second and takes 0.1 s for a step, with a noise that goes up and down."""

    max_context = 8192
    times = ExecutionTimes(a=1e-8, b=3.5e-3, c=0.05, p=1e-6, q=0.1, e_1=1e-6, e_0=1e-3)
    noise = itertools.cycle([0.97, 1.04, 1.0, 0.98, 1.03])

    def prefill(self, ids, *, chunk_tokens, should_stop=lambda: False):
        self._work(next(self.noise) * self.times.prefill(len(ids)))
        self.n_kv = self.n_prompt = len(ids)
        return torch.ones(257)

    def step(self, token, position):
        self._work(self.times.step(self.n_kv))
        self.n_kv += 1
        return torch.ones(257)


def test_a_slow_model_spends_its_budget_on_long_prompts_and_foretells_longer_ones(bench):
    model = SlowModel(bench.clock)
    started = bench.clock.now
    points = profiling.measure(model, None, chunk_tokens=CHUNK, budget_s=20.0, repeats=4)
    assert bench.clock.now - started <= 20.0
    assert max(n for n, _ in points['prefill']) >= 300 and len({n for n, _ in points['prefill']}) >= 4
    times = fit(points, CHUNK)
    for n in (802, 3002):
        assert times.prefill(n) == pytest.approx(model.times.prefill(n), rel=0.3)
        assert times.step(n) == pytest.approx(model.times.step(n), rel=0.05)


def test_each_variant_goes_on_where_the_one_before_has_ended(bench):
    model, behind = bench.model, []
    model.variants, step = {'float32': None, 'int8': None, 'int4': None}, model.step

    def noted(token, position):
        behind.append(position - model.n_kv)
        return step(token, position)

    model.step = noted
    points = profiling.visit(model, None, profiling.SHORTEST, CHUNK, random.Random(0))
    assert behind == [0] * 3 * profiling.STEPS
    assert [points[kind][0][0] - profiling.SHORTEST for kind in ('step', 'step:int8', 'step:int4')] == [6, 18, 30]


def points_at(*lengths, prefill=TIMES.prefill, step=TIMES.step):
    return {'prefill': [[n, prefill(n)] for n in lengths], 'step': [[n, step(n)] for n in lengths]}


@pytest.mark.parametrize(('points', 'longest', 'reason'), [
    (points_at(64, 128, 256, 512, 1000), 8192, ''),
    (points_at(64, 128, 256), 8192, ''),
    (points_at(64, 117), 8192, 'prefill times were measured at two lengths only, up to 117'),
    (points_at(64, 117), 128, 'two lengths only'),
    (points_at(64, 117, 200, prefill=lambda n: n * (1 if n < 200 else 2.3)), 8192, 'had not seen were 5'),
    (points_at(64, 128, 256, 512, prefill=lambda n: n * (1 if n < 512 else 2.3)), 8192, 'had not seen were 5'),
    (points_at(64, 128, 256, 512, prefill=lambda n: n * (1 if n < 512 else 2.3)), 512, ''),  # all lengths were seen
    (points_at(64, 128, 256, 512, step=lambda n: n * (1 if n < 512 else 2.3)), 8192, 'step times at a length'),
    (points_at(64, 128, 256, 512, prefill=lambda n: n * (1e-3 if n in (64, 256) else 3e-3)), 512, 'noisy'),
])
def test_a_profile_is_doubted_where_no_length_left_out_speaks_for_it(points, longest, reason, bench, monkeypatch):
    monkeypatch.setattr(profiling, 'identity', lambda *of: Identity('cpu', 'mock', 'none', 'float32'))
    profile = profiling.make_profile(bench.model, None, points, CHUNK)
    doubt = profiling.doubt(profile, longest)
    assert reason in doubt if reason else doubt == ''


SLOWER = {'greedy': 1e-4, 'temperature': 7e-4, 'top_k': 8e-4, 'top_p': 5e-3, 'greedy+penalty': 4e-4}


def test_the_cost_of_a_draw_is_measured_by_kind_of_sampling(bench, monkeypatch):
    class TimedSampler(profiling.Sampler):
        def draw(self, logits, mask=None):
            assert logits.shape == (257,), "the model's own logits"
            bench.clock.now += SLOWER[self.sampling.kind]
            return super().draw(logits, mask)

    monkeypatch.setattr(profiling, 'Sampler', TimedSampler)
    monkeypatch.setattr(profiling, 'identity', lambda *of: Identity('cpu', 'mock', 'none', 'float32'))
    points = profiling.measure(bench.model, None, chunk_tokens=CHUNK, budget_s=1000.0, repeats=2)
    times = profiling.make_profile(bench.model, None, points, CHUNK).times
    assert times.draws == pytest.approx(SLOWER)
    for kind, seconds in SLOWER.items():
        expected = TIMES.step(1000) + seconds
        assert times.of_sampling(kind).step(1000) == pytest.approx(expected, rel=1e-2)
    assert times.step(1000) == pytest.approx(TIMES.step(1000) + SLOWER['greedy'], rel=1e-2)


def test_each_kind_of_sampling_is_measured_as_itself():
    assert [sampling.kind for sampling in profiling.SAMPLINGS.values()] == list(profiling.SAMPLINGS)
    assert tuple(profiling.SAMPLINGS) == (*CHOICES, 'greedy+penalty')


@pytest.mark.parametrize(('sampling', 'kind'), [
    (Sampling(0.0, 0.5, 3), 'greedy'), (Sampling(0.7), 'temperature'), (Sampling(0.7, 0.5), 'top_p'),
    (Sampling(0.7, 0.5, 9), 'top_k'), (Sampling(0.7, 1.0, 9), 'top_k'), (Sampling(0.7, min_p=0.1), 'temperature'),
    (Sampling(repetition_penalty=1.1), 'greedy+penalty'),
    (Sampling(0.7, 0.5, repetition_penalty=0.9), 'top_p+penalty'), (Sampling(masked=True), 'greedy+grammar'),
    (Sampling(0.7, repetition_penalty=0.9, masked=True), 'temperature+penalty+grammar')])
def test_the_kind_of_a_sampling_is_what_its_draw_has_to_do(sampling, kind):
    assert sampling.kind == kind and kind in SAMPLING_KINDS


@pytest.mark.parametrize('slowness', [1.0, 2.0, 0.4])
def test_a_few_points_tell_whether_a_profile_still_fits(slowness, bench, monkeypatch):
    monkeypatch.setattr(profiling, 'identity', lambda *of: Identity('cpu', 'mock', 'none', 'float32'))
    points = profiling.measure(bench.model, bench.predictions, chunk_tokens=CHUNK, budget_s=1000.0, repeats=2)
    profile = profiling.make_profile(bench.model, bench.predictions, points, CHUNK)
    bench.model.slowness, started = slowness, bench.clock.now
    ratios = profiling.spot_check(bench.model, bench.predictions, profile, CHUNK)
    assert bench.clock.now - started <= 5 * profiling.CHECK_S * slowness
    assert ratios['prefill'] == pytest.approx(slowness, rel=0.02)
    assert ratios['step'] == pytest.approx(slowness, rel=0.02)


def test_a_slow_device_is_looked_at_briefly_and_a_profile_without_points_not_at_all(bench, monkeypatch):
    monkeypatch.setattr(profiling, 'identity', lambda *of: Identity('cpu', 'mock', 'none', 'float32'))
    model = SlowModel(bench.clock)
    points = profiling.measure(model, None, chunk_tokens=CHUNK, budget_s=20.0)
    profile = profiling.make_profile(model, None, points, CHUNK)
    started = bench.clock.now
    ratios = profiling.spot_check(model, None, profile, CHUNK)
    assert bench.clock.now - started <= 2.5 and ratios['step'] == pytest.approx(1.0, abs=0.1)
    profile.points = {}
    assert profiling.spot_check(model, None, profile, CHUNK) == {}
    profile.points = points
    model.max_context = 60
    assert profiling.spot_check(model, None, profile, CHUNK) == {}, 'shorter than any length that was measured'


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


@pytest.mark.parametrize('budget_s', [1000.0, 20.0])
@pytest.mark.parametrize('n_visits', [1, 3, 9, 14])
def test_a_measurement_that_was_interrupted_goes_on_where_it_ended(n_visits, budget_s, bench, tmp_path):
    options = dict(chunk_tokens=CHUNK, budget_s=budget_s, repeats=3)
    whole = profiling.measure(bench.model, bench.predictions, **options)
    n_whole, path, started = bench.model.calls.count('reset'), tmp_path / 'case.part.json', bench.clock.now
    bench.model.calls.clear()
    told = []

    def interrupt(share):
        told.append(share)
        if len(told) == n_visits:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profiling.measure(bench.model, bench.predictions, **options, progress=interrupt, journal=ProfileJournal(path))
    assert path.is_file()
    points = profiling.measure(bench.model, bench.predictions, **options, journal=ProfileJournal(path))
    assert not path.exists(), 'it is over'
    spent_s = bench.clock.now - started
    if budget_s == 1000.0:
        assert bench.model.calls.count('reset') == n_whole + 1, 'only the warm-up came twice'
        for kind, measured in whole.items():
            assert [n for n, _ in sorted(points[kind])] == [n for n, _ in sorted(measured)]
            assert [s for _, s in sorted(points[kind])] == pytest.approx([s for _, s in sorted(measured)])
        assert points.keys() == whole.keys()
    else:
        assert spent_s <= budget_s + 0.1, 'the time before counts; the second warm-up is no part of it'
        assert len(points['prefill']) >= len(whole['prefill']) - 1
    fit(points)


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
    kinds = kinds | DRAWN
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
