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

"""Replays on a virtual clock: what is promised and missed can be told by hand, and every method gets the same."""
import json
import math
import random

import pytest

from timebill_ros.bench import miss_rate, recordings, replay
from timebill_ros.bench.recordings import RATIOS, Answer, Recording
from timebill_ros.bench.replay import Device, Method
from timebill_ros.codes import Verdict
from timebill_ros.length.calibration import surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.tracker import Tracker
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.profile import Identity, Profile

TIMES = ExecutionTimes(a=0, b=1e-4, c=0.01, p=1e-6, q=1e-3, e_1=1e-7, e_0=1e-4)
IDENTITY = Identity('here', 'x', 'y', 'float32')
DEVICE = Device(TIMES, ['float32'], 512, 8192, 0.95)
PREDICTED = LengthDistribution(4, [0.02 * 0.98 ** i for i in range(127)] + [0.98 ** 127])


def recorded(seed, n_x=2000, lengths=None, noise=0.0, stretch=1.0):
    """A recording of a geometric length, the same after every eviction unless told, with exact step times."""
    rng = random.Random(seed)
    n = 1 + min(510, int(stretch * 4 * math.log(1 - rng.random()) / math.log(0.98)))
    answers = {}
    for i, ratio in enumerate(RATIOS):
        n_i = lengths[i] if lengths else n
        n_keep = (1 - ratio) * n_x
        steps = [TIMES.step(n_keep + j) * (1 + noise * rng.expovariate(1.0)) for j in range(n_i - 1)]
        answers[str(ratio)] = Answer('mug @table1', n_i, True, steps, 1 - ratio / 2)
    return Recording('find', 'test', seed, n_x, TIMES.prefill(n_x), TIMES.eviction(n_x), 4, PREDICTED.to_list(),
                     {'float32': answers})


RECORDED = [recorded(seed) for seed in range(300)]
SCORES = [surprise(PREDICTED, recorded(seed).answers['float32']['0.0'].n) for seed in range(1000, 2000)]
PROFILE = Profile(IDENTITY, TIMES, run_ratios=[1.0] * 50)
METHODS = {method.name: method for method in miss_rate.methods(SCORES, PROFILE, 0.05)}


def one(method, budget_s, recording=RECORDED[0], slowdown=1.0):
    return replay.run_one(METHODS[method], METHODS[method].make(), DEVICE, recording, budget_s, slowdown)


def test_an_answer_that_fits_ends_and_one_that_does_not_is_cut_where_the_budget_ends():
    whole = TIMES.steps.decode(2000, 100)
    recording = recorded(0, lengths=[100] * 6)
    fits = one('oracle', whole * 1.001, recording)
    assert fits.promised and fits.in_time and fits.n == 100 and fits.plan.n_keep == 2000
    assert fits.slack_s == pytest.approx(0.001 * whole, rel=0.01) and fits.within_wcet
    slow = one('oracle', whole * 3, recording, slowdown=2.0)
    assert slow.promised and slow.in_time and not slow.within_wcet, 'twice as long as the worst case'
    cut = one('k = 1', whole * 0.5, recording, slowdown=3.0)
    assert not cut.in_time and 10 < cut.n < 60 and cut.slack_s < 0


def test_the_oracle_takes_the_least_eviction_of_the_grid_and_knows_what_length_follows():
    # After an eviction of a half the answer grows, so half does not fit, but three quarters do.
    recording = recorded(0, lengths=[200, 200, 350, 200, 200, 200])
    needed = {ratio: TIMES.eviction(2000) + TIMES.steps.decode((1 - ratio) * 2000, n)
              for ratio, n in zip(RATIOS, [200, 200, 350, 200, 200, 200], strict=True)}
    chosen = one('oracle', needed[0.75] * 1.01, recording)
    assert chosen.plan.eviction_ratio == 0.75 and chosen.promised and chosen.in_time
    assert one('oracle', needed[0.95] * 0.9, recording).plan.verdict is Verdict.INFEASIBLE


@pytest.mark.parametrize(('condition', 'slowdown'), [('nominal', 1.0), ('slow', 1.5)])
def test_methods_on_lengths_that_are_as_predicted(condition, slowdown):
    rates = {}
    for name, method in METHODS.items():
        outcomes = [o for seed in range(2) for o in replay.replay(method, DEVICE, RECORDED, RECORDED, n_requests=300,
                                                                  change_at=100, slowdown=slowdown, seed=seed)]
        rates[name] = miss_rate.summary(outcomes)
    assert rates['oracle']['miss_rate'] <= 0.04, 'only the few requests after a change'
    assert rates['adaptive']['miss_rate'] <= 0.06 and rates['adaptive']['beyond_wcet'] <= 0.1
    assert rates['k = 1']['miss_rate'] > 0.2
    if condition == 'nominal':
        assert rates['conformal']['miss_rate'] <= 0.05
    assert rates['oracle']['share_promised'] > rates['adaptive']['share_promised'] > 0.1
    assert rates['oracle']['mean_score'] >= rates['adaptive']['mean_score'] - 0.01


def test_every_method_gets_the_same_requests_and_a_replay_can_be_repeated():
    def requests(name):
        return [o.recording.seed for o in replay.replay(METHODS[name], DEVICE, RECORDED, RECORDED[:5], n_requests=40,
                                                        change_at=20, slowdown=1.0, seed=4)]
    assert requests('k = 1') == requests('adaptive') == requests('adaptive')
    assert set(requests('k = 1')[20:]) <= set(range(5)), 'the split changes where it should'


def test_the_tracked_factor_follows_the_slow_down():
    outcomes = replay.replay(METHODS['adaptive'], DEVICE, RECORDED, RECORDED, n_requests=60, change_at=30, slowdown=1.5,
                             seed=0)
    assert outcomes[29].factor == pytest.approx(1.0, abs=0.02) and outcomes[-1].factor == pytest.approx(1.5, abs=0.02)
    paper = replay.replay(METHODS['k = 5'], DEVICE, RECORDED, RECORDED, n_requests=60, change_at=30, slowdown=1.5,
                          seed=0)
    assert {o.factor for o in paper} == {1.0}, 'the paper has no timing factor'


def test_budgets_span_their_range():
    rng = random.Random(0)
    drawn = [recordings.draw_budget(rng, TIMES) for _ in range(500)]
    low, high = (TIMES.steps.decode(recordings.BUDGET_ENTRIES, n)
                 for n in recordings.BUDGET_TOKENS)
    assert low <= min(drawn) < 1.1 * low and 0.9 * high < max(drawn) <= high


@pytest.mark.parametrize(('missed', 'n', 'low', 'high'), [
    (0, 0, 0.0, 1.0), (0, 100, 0.0, 0.037), (5, 100, 0.0215, 0.1118), (100, 100, 0.963, 1.0)])
def test_intervals_are_wilsons(missed, n, low, high):
    assert miss_rate.interval(missed, n) == [pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3)]


def test_what_falls_short_is_said():
    def row(method, condition, rate, attainable=0.01, eviction=0.3, after=0.05, promised=0.7):
        return {'method': method, 'condition': condition, 'miss_rate': rate, 'attainable_miss_rate': attainable,
                'interval': [rate - 0.01, rate + 0.01], 'share_promised': promised,
                'mean_eviction_ratio': eviction, 'after_change': {'miss_rate': after}}
    rows = [row('adaptive', 'nominal', 0.055), row('adaptive', 'slow', 0.08, after=0.2),
            row('adaptive', 'both', 0.02), row('adaptive', 'tight', 0.02, promised=0.8)]
    rows += [row(f'k = {k}', c, rate, eviction=0.25) for k, rate in ((1, 0.5), (3, 0.1), (5, 0.06), (8, 0.01))
             for c in ('nominal', 'slow')]
    rows += [row('oracle', c, 0.0, promised=0.8) for c in ('nominal', 'slow', 'both', 'tight')]
    found = miss_rate.judge(rows, 0.05)
    assert found['smallest_k_that_holds'] == 'k = 5'
    assert found['conditions']['nominal'] == {
        'attainable': True, 'kept': True, 'approached': True, 'share_of_oracle': pytest.approx(0.875),
        'kept_after_change': True, 'eviction_above_smallest_k': pytest.approx(0.05)}
    assert not found['conditions']['slow']['kept'] and not found['conditions']['slow']['kept_after_change']
    assert not found['conditions']['both']['approached'], 'far below epsilon, and the oracle promises more'
    assert found['conditions']['tight']['approached'], 'no more can be promised'
    few = row('adaptive', 'few', 0.07)
    few['interval'] = [0.01, 0.2]
    assert not miss_rate.judge([few, row('oracle', 'few', 0.0)], 0.05)['conditions']['few']['kept'], 'few promises'


def test_every_condition_is_replayed_with_every_method_and_tight_budgets_promise_less():
    names = ['k = 8', 'adaptive', 'oracle']
    tried = miss_rate.Replays(DEVICE, {'test': RECORDED, 'shifted': RECORDED[:40]}, SCORES, PROFILE, 0.05, n_replays=2,
                              n_requests=30, change_at=10)
    rows, trace = tried.run(names, 1)
    assert [(r['condition'], r['method']) for r in rows] == [(c, name) for c in miss_rate.CONDITIONS for name in names]
    promised = {r['condition']: r['share_promised'] for r in rows if r['method'] == 'adaptive'}
    assert promised[miss_rate.TIGHT] < 0.5 * promised['nominal'] and trace['slowdown'] == miss_rate.SLOWDOWN
    assert 'tight' in miss_rate.judge(rows, 0.05)['conditions']


@pytest.mark.slow
def test_processes_replay_the_same():
    tried = miss_rate.Replays(DEVICE, {'test': RECORDED, 'shifted': RECORDED[:40]}, SCORES, PROFILE, 0.05, n_replays=1,
                              n_requests=20, change_at=10)
    alone, spread = ([json.dumps(part) for part in tried.run(['adaptive', 'oracle'], n)] for n in (1, 2))
    assert alone == spread


def test_adaptive_keeps_its_rate_under_tight_budgets():
    """Answers are a quarter as long as predicted, which calibration knows."""
    short = [recorded(seed, stretch=0.25) for seed in range(200)]
    others = [recorded(seed, stretch=0.25) for seed in range(1000, 1400)]
    scores = [surprise(PREDICTED, one.answers['float32']['0.0'].n) for one in others]
    adaptive = next(m for m in miss_rate.methods(scores, PROFILE, 0.05) if m.name == 'adaptive')
    found = miss_rate.summary([o for seed in (4, 5) for o in replay.replay(
        adaptive, DEVICE, short, short, n_requests=700, change_at=700, slowdown=1.0, seed=seed,
        budget_tokens=(20, 110))])
    assert 0.1 < found['share_promised'] < 0.35 and 0 < found['miss_rate'] <= 0.06


def test_recordings_are_kept_in_a_file_and_others_are_not_taken_for_them(tmp_path):
    path = tmp_path / 'deep' / 'recordings.json'
    assert recordings.load(path, {'prompts': 2}) is None
    recordings.save(path, {'test': RECORDED[:2]}, {'prompts': 2})
    assert recordings.load(path, {'prompts': 2}) == {'test': RECORDED[:2]}
    assert recordings.load(path, {'prompts': 3}) is None


def test_the_nearest_eviction_of_the_grid_is_replayed():
    assert RECORDED[0].answer('float32', 0.4) is RECORDED[0].answers['float32']['0.5']
    assert RECORDED[0].answer('float32', 0.93) is RECORDED[0].answers['float32']['0.95']


def test_a_tracker_learns_from_replays():
    tracker = Tracker(scores=SCORES)
    before = tracker.state()
    replay.run_one(Method('adaptive', Tracker), tracker, DEVICE, RECORDED[1], 1.0, 1.0)
    assert tracker.state() != before
