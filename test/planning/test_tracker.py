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

"""What finished requests teach, how the miss rate is shared, and that the lessons survive a restart."""
import json
import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from timebill_ros.codes import Verdict
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.tracker import AMPLE, Feedback, Tracker
from timebill_ros.settings import POLICIES

SCORES = [-math.log((i + 0.5) / 200) for i in range(200)]
LENGTHS = LengthDistribution(4, [0.25, 0.25, 0.25, 0.2, 0.05])


def tracker(policy='adaptive', **options):
    return Tracker(policy, scores=SCORES, **options)


def seen(of: Tracker, *, decode_s=1.0, profiled_s=1.0, prefill_s=0.1, n=10, ended=True, kept=None):
    """A request that was planned with the bounds that `of` has now."""
    return Feedback(generated_tokens=n, ended=ended, prefill_s=prefill_s, prefill_profiled_s=0.1, decode_s=decode_s,
                    decode_profiled_s=profiled_s, distribution=LENGTHS, max_tokens=500, kept=kept,
                    factor=of.timing_factor)


def test_both_bounds_share_one_level():
    t = tracker(miss_rate=0.08)
    assert (t.level.of_lengths, t.level.of_times) == (pytest.approx(0.04), pytest.approx(0.04))
    lengths, times = t.length.pessimistic(LENGTHS, 500), t.time_bound
    for _ in range(40):
        t.observe(replace(seen(t, kept=True), in_time=True, needed=lambda: 1.0))
        t.settle()
    assert t.length.pessimistic(LENGTHS, 500) <= lengths and t.time_bound <= times and t.level.value > 0.5


@pytest.mark.parametrize(('tells_length', 'shorter'), [(True, True), (False, False)])
def test_goals_that_name_all_answers_do_not_shorten_what_is_feared_of_others(tells_length, shorter):
    """The answers that they name are alike in length, so that none ever surprises."""
    t = tracker(miss_rate=0.2)
    before = t.length.pessimistic(LENGTHS, 500)
    for _ in range(300):
        t.observe(replace(seen(t, n=2), distribution=LengthDistribution.point(2), tells_length=tells_length))
    assert (t.length.pessimistic(LENGTHS, 500) < before) == shorter


@pytest.mark.parametrize(('spare', 'raises'), [(AMPLE, False), (0.9 * AMPLE, True), (None, True)])
def test_goals_with_time_to_spare_do_not_lower_the_bounds_of_others(spare, raises):
    t = tracker(miss_rate=0.2)
    nominal = t.length.pessimistic(LENGTHS, 500)
    assert 12 < nominal == t.length.at(0.1).pessimistic(LENGTHS, 500) < 500
    for _ in range(300):
        longer = t.length.at(0.1).pessimistic(LENGTHS, 500) / t.length.pessimistic(LENGTHS, 500)
        t.observe(replace(seen(t, kept=True), spare=spare and spare * longer))
    assert (t.level.value > 0.3) == raises
    assert raises or t.level.value == pytest.approx(0.2)


def fits_in_12(bounds):
    return SimpleNamespace(verdict=Verdict.FITS if bounds.length.pessimistic(LENGTHS, 500) <= 12 else Verdict.AT_RISK)


def needed_of(t):
    return t.needed(fits_in_12(t.bounds()), fits_in_12, t.bounds())


def test_goals_without_a_promise_that_are_in_time_raise_the_level_to_where_they_get_one():
    t = tracker()
    needed = needed_of(t)
    assert not fits_in_12(t.bounds()).verdict.is_promise and 0.3 < needed() < 1
    for i in range(40):
        t.observe(replace(seen(t), in_time=i % 30 != 29, needed=needed))
        assert len(t.shown.state()) == i, 'the answer does not wait for it'
        t.settle()
    assert fits_in_12(t.bounds()).verdict.is_promise and t.level.value >= needed()
    assert t.level.aim == pytest.approx(0.05), 'which promises alone move'
    for _ in range(5):
        t.observe(replace(seen(t), in_time=False, needed=needed))
    t.settle()
    assert not fits_in_12(t.bounds()).verdict.is_promise


def test_goals_show_nothing_where_they_had_time_to_spare():
    t = tracker()
    needed = needed_of(t)
    for spare, in_time, n in ((AMPLE, True, 0), (AMPLE, False, 0), (1.0, True, 1)):
        t.observe(replace(seen(t), in_time=in_time, needed=needed, spare=spare))
        t.settle()
        assert len(t.shown.state()) == n
    t.observe(seen(t))
    t.settle()
    assert len(t.shown.state()) == 1, 'nor where it is not known what became of them'


def test_a_promised_goal_that_runs_on_needed_no_more_than_the_level_of_its_promise():
    """What it teaches of its kind comes first, and would have it promised at no level any more."""
    t = tracker(miss_rate=0.4)
    level = t.level.value
    lengths = LengthDistribution(4, [0.5, 0.49, 0.01])
    def fits_in_8(bounds):
        n_w = bounds.length.pessimistic(lengths, 500)
        return SimpleNamespace(verdict=Verdict.FITS if n_w <= 8 else Verdict.AT_RISK)
    assert fits_in_8(t.bounds()).verdict.is_promise
    needed = t.needed(fits_in_8(t.bounds()), fits_in_8, t.bounds())
    t.observe(replace(seen(t, n=400, ended=False, kept=False), distribution=lengths, needed=needed))
    t.settle()
    assert not fits_in_8(t.bounds()).verdict.is_promise, 'its kind runs on'
    (_, _, _, (shown, in_time)), = t.shown.state()
    assert shown <= level and not in_time


def test_what_is_not_settled_is_bounded():
    t = tracker()
    for _ in range(1000):
        t.observe(replace(seen(t), in_time=True, needed=lambda: 0.2))
    t.settle()
    assert 1 <= len(t.shown.state()) <= 16


@pytest.mark.parametrize('policy', ['fixed', 'conformal'])
def test_rules_without_a_level_look_for_none_and_tell_their_own_worst_case(policy):
    t = tracker(policy)
    assert needed_of(t) is None and t.bounds().told is None
    t.observe(replace(seen(t), in_time=True, needed=None))
    t.settle()


def test_the_worst_case_is_told_at_the_miss_rate_whatever_the_level():
    t = tracker(fixed_s=0.1)
    before = t.bounds()
    assert before.told.time_bound == before.time_bound and before.told.reserve_s == before.reserve_s
    for _ in range(60):
        t.observe(replace(seen(t, kept=True), decode_s=1.0, in_time=True, needed=lambda: t.shown.levels[-2]))
        t.settle()
    now = t.bounds()
    assert t.level.value > 0.5
    assert now.length.pessimistic(LENGTHS, 500) < now.told.length.pessimistic(LENGTHS, 500)
    assert now.time_bound <= now.told.time_bound and now.told.timing_factor == now.timing_factor
    assert now.told.reserve_s == pytest.approx((now.told.time_bound - 1) * 0.1)


@pytest.mark.parametrize(('noise', 'is_uncertain', 'larger'), [(0.5, False, 'times'), (0.0, True, 'lengths')])
def test_the_bound_that_is_uncertain_gets_the_larger_share(noise, is_uncertain, larger):
    rng, t = random.Random(1), tracker()
    geometric = LengthDistribution(1, [0.9 ** i * 0.1 for i in range(200)] + [0.9 ** 200])
    predicted = geometric if is_uncertain else LengthDistribution.point(10)
    for _ in range(200):
        n = 1 + int(rng.expovariate(-math.log(0.9))) if is_uncertain else 10
        t.observe(replace(seen(t, decode_s=1.0 + noise * rng.random(), n=n), distribution=predicted))
    assert (t.level.length_share > 0.5) == (larger == 'lengths') and t.level.length_share != 0.5


@pytest.mark.parametrize('bad', ['', 'adaptiv', None])
def test_an_unknown_policy_is_refused(bad):
    with pytest.raises(ValueError, match='pessimistic_length'):
        Tracker(bad)


def test_the_papers_rule_has_no_time_bound_and_learns_only_how_fast_the_device_is():
    paper = tracker('fixed', k=3.0)
    for _ in range(20):
        paper.observe(seen(paper, decode_s=1.5, n=400))
    assert paper.time_bound == 1.0 and paper.length.k == 3.0 and paper.timing_factor == pytest.approx(1.5)
    static = tracker('fixed', track_timing=False)
    for _ in range(20):
        static.observe(seen(static, decode_s=1.5))
    assert static.timing_factor == 1.0 and static.prefill_factor == 1.0


@pytest.mark.parametrize('wrong', [0.07, 0.3, 7.0, 15.0])
def test_a_profile_wrong_by_any_factor_is_corrected(wrong):
    t = tracker()
    for _ in range(9):
        t.observe(seen(t, decode_s=wrong, prefill_s=0.1 * wrong))
    assert (t.timing_factor, t.prefill_factor) == (pytest.approx(wrong), pytest.approx(wrong))


@pytest.mark.parametrize('slow', [1.0, 1.5, 2.5])
def test_the_time_bound_is_exceeded_at_the_miss_rate_whatever_the_device_does(slow):
    """Noise with a tail, and after 300 requests all of it `slow` times as long. Each request is promised."""
    rng, t = random.Random(4), tracker(miss_rate=0.1)
    exceeded = []
    for i in range(1500):
        ratio = (1 + 0.1 * rng.expovariate(1.0)) * (slow if i >= 300 else 1.0)
        exceeded.append(ratio > t.timing_factor * t.time_bound)
        t.observe(seen(t, decode_s=ratio, kept=not exceeded[-1]))
    assert np.mean(exceeded) == pytest.approx(0.1, abs=0.03)
    assert np.mean(exceeded[350:450]) <= 0.15, 'soon after the change too'
    assert t.timing_factor == pytest.approx(1.07 * slow, rel=0.1)


def test_a_whole_requests_ratio_is_tracked_and_not_that_of_its_steps():
    """Independent noise of single steps averages out over a request, and the bound follows that."""
    rng, t = random.Random(5), tracker()
    for _ in range(500):
        steps = [rng.choice([0.5, 1.5]) for _ in range(100)]
        t.observe(seen(t, decode_s=sum(steps), profiled_s=100.0))
    assert t.time_bound < 1.15, 'a step alone takes half as long again every other time'


def test_an_answer_of_one_token_says_nothing_of_times():
    t = tracker()
    before = t.time_bound
    for _ in range(30):
        t.observe(seen(t, decode_s=0.1, profiled_s=0.0, n=1))
    assert (t.timing_factor, t.time_bound) == (1.0, before)


def test_noise_of_short_answers_is_a_time_and_not_a_factor():
    """2 ms more than estimated are half as much again of a short answer, and nothing to a long one."""
    t = tracker(fixed_s=0.02)
    for i in range(400):
        profiled_s = 0.004 if i % 2 else 1.0
        t.observe(seen(t, decode_s=profiled_s + 0.002, profiled_s=profiled_s))
    assert t.timing_factor == pytest.approx(1.0, abs=0.01), 'short ones say nothing of steps'
    assert t.time_bound == pytest.approx(1 + 0.002 / 0.024, abs=0.02)
    assert t.reserve_s == pytest.approx((t.time_bound - 1) * 0.02)
    assert 0.004 * t.time_bound + t.reserve_s >= 0.006 - 1e-4, 'and their bound holds them'


@pytest.mark.parametrize(('kept', 'moves'), [(True, 1), (False, -1), (None, 0)])
def test_a_promise_moves_the_level_and_every_request_teaches_times_and_lengths(kept, moves):
    t = tracker()
    before = t.level.value
    t.observe(seen(t, n=10, ended=False, kept=kept))
    assert np.sign(round(t.level.value - before, 4)) == moves
    assert len(t.steps.state()['greedy']) == 1 and t.length.state()['cut'] == [len(SCORES)]


def plain(of: Tracker):
    """The state without dates, which are rounded on the way."""
    state = of.state()
    factors = {'prefill': state['factors']['prefill'], **state['factors']['step']}
    level = round(state['promises']['log_level'], 4), state['promises']['length_share']
    return (state['policy'], state['miss_rate'], state['length'], level, [seen[1:] for seen in state['time_bound']],
            {name: [seen[1:] for seen in kept] for name, kept in factors.items()},
            [seen[1:] for seen in state['shown']])


@pytest.mark.parametrize('policy', POLICIES)
def test_state_survives_a_restart(policy, tmp_path):
    path = tmp_path / 'state' / 'x.json'
    t, rng = tracker(policy), random.Random(6)
    assert not t.load(path), 'there is none yet'
    for _ in range(100):
        t.observe(replace(seen(t, decode_s=rng.uniform(1.2, 1.6), n=rng.randint(1, 20), prefill_s=0.13,
                               kept=rng.choice([True] * 20 + [False, None])), in_time=True, needed=lambda: 0.15))
        t.settle()
    t.save(path)
    other = tracker(policy)
    assert other.load(path) and plain(other) == plain(t)
    assert (other.time_bound, other.timing_factor, other.prefill_factor) == (
        t.time_bound, t.timing_factor, t.prefill_factor)
    assert other.length.pessimistic(LENGTHS, 500) == t.length.pessimistic(LENGTHS, 500)
    assert [p.name for p in path.parent.iterdir()] == ['x.json']


def broken(**changes):
    """A saved state with some of it changed; None leaves a name out."""
    state = {'format': 2, **tracker().state(), **changes}
    return json.dumps({name: value for name, value in state.items() if value is not None})


@pytest.mark.parametrize('text', [
    '', '{', '[]', '7', '\x00', broken(format=99), broken(factors=3), broken(factors={'prefill': []}),
    broken(factors={'prefill': [], 'step': {'greedy': [[1.7e9, 120.0, 1.0, -1.0]]}}), broken(length={}),
    broken(factors={'prefill': [], 'step': 7}), broken(time_bound=[[1.7e9, 600.0, 1.0, ['x']]]),
    broken(time_bound=[[1.7e9, 600.0, 1.0, [float('nan')]]]), broken(profile=None),
    broken(promises={}), broken(promises=3), broken(shown=7),
    broken(shown=[[1.7e9, 600.0, 1.0, [7.0, True]]]), broken(promises={'log_level': 10 ** 400}), '[' * 100_000,
    json.dumps({'format': 2}),
])
def test_a_state_that_is_corrupt_is_set_aside_with_a_warning(text, tmp_path, caplog):
    path = tmp_path / 'x.json'
    path.write_text(text)
    t = tracker()
    before = plain(t)
    assert not t.load(path) and plain(t) == before, 'nothing of it was taken over'
    assert 'set aside' in caplog.text and str(path) in caplog.text
    assert not path.exists() and path.with_name('x.json.corrupt').read_text() == text
    t.save(path)  # and the next one has its place
    assert tracker().load(path)


def test_bounds_for_another_promise_are_not_taken_over(tmp_path):
    t = tracker(miss_rate=0.05)
    for _ in range(9):
        t.observe(seen(t, decode_s=2.0, n=20))
    t.save(tmp_path / 'x.json')
    other = tracker(miss_rate=0.2)
    assert not other.load(tmp_path / 'x.json'), 'nothing to speak of was taught'
    assert other.length.state() == tracker(miss_rate=0.2).length.state()
    assert other.timing_factor == pytest.approx(2.0), 'but the device is the same'
    changed = tracker(miss_rate=0.2)
    changed.take_over(t)
    assert changed.timing_factor == t.timing_factor, 'but the device is the same'
    another = tracker(miss_rate=0.05, profile={'date': 'today'})
    assert another.load(tmp_path / 'x.json') and another.timing_factor == 1.0, 'times are relative to a profile'
    assert another.length.state() == t.length.state() and another.time_bound == tracker().time_bound
    same = tracker(miss_rate=0.05)
    same.take_over(t)
    assert plain(same) == plain(t)


def test_the_level_of_an_earlier_version_is_not_taken_for_an_aim():
    t, other = tracker(), tracker()
    for _ in range(60):
        t.observe(seen(t, kept=True))
    state = t.state()
    other.restore(state)
    assert other.level.aim > 0.1
    del state['shown']
    other.restore(state)
    assert other.level.aim == other.level.value == pytest.approx(0.05)
