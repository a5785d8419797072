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

"""Expected quality: times of ways to go on against sums of steps, and worth against cases worked out by hand."""
import random

import numpy as np
import pytest

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.expected_quality import Outlook, Stand, Way
from timebill_ros.timing.step_time import StepTime

LINE, BENT = StepTime(p=1e-5, q=0.01), StepTime(p=1e-5, q=0.01, bend=3e-5, knee=400)
CUT = ((0.0, 0.0), (1.0, 1.0))


def some_way(seed):
    rng = random.Random(seed)
    n_keep = rng.randint(1, 900)
    stand = Stand(n_keep, n_keep + rng.choice([0, 0, 13, 200]), rng.choice([0.0, 0.004]))
    return rng, stand, Way(rng.randint(1, n_keep), rng.choice([0, 0, 1, 8, 33]))


@pytest.mark.parametrize('steps', [LINE, BENT])
@pytest.mark.parametrize('seed', range(60))
def test_the_time_of_a_way_is_the_sum_of_its_steps_and_its_eviction(steps, seed):
    rng, stand, way = some_way(seed)
    n = rng.randint(1, 120)
    # Token 1 is there. The eviction comes before the step of the token after `after`.
    cached, seconds, evicted = stand.n_kv, 0.0, way.n_keep >= stand.n_keep
    for token in range(1, n + 1):
        if not evicted and token > way.after:
            cached -= stand.n_keep - way.n_keep
            seconds += stand.eviction_s
            evicted = True
        if token > 1:
            seconds += steps(cached)
            cached += 1
    assert stand.decode_s(steps, way, n) == pytest.approx(seconds)


@pytest.mark.parametrize('most', [0, 500, 1000])
def test_entries_that_come_back_take_their_time_and_count_for_what_is_written_since(most):
    stand, way = Stand(500, 540, 0.002, 0.004, most), Way(900)
    kept = min(900, max(most, 500))
    back_s = 0.004 if kept > 500 else 0.0
    for n in (1, 30):
        assert stand.decode_s(LINE, way, n) == pytest.approx(back_s + LINE.decode(540 + kept - 500, n))
    n_fit = stand.longest_fit(LINE, way, 0.5, 100)
    assert stand.fits(LINE, [way], 0.5, 100)[0] in (n_fit, n_fit - 1)
    outlook = Outlook(LengthDistribution.point(80), 41, longest=80, cut=CUT)
    worth = outlook.quality([way], [80], stand, lambda n_keep: n_keep / 1000)[0]
    assert worth == pytest.approx(0.5 * 0.5 + 0.5 * kept / 1000)


@pytest.mark.parametrize('steps', [LINE, BENT])
@pytest.mark.parametrize('seed', range(60))
def test_many_fits_at_once_are_as_one_by_one_or_a_little_less(steps, seed):
    rng, stand, _ = some_way(seed)
    ways = [some_way(seed * 100 + i)[2] for i in range(8)] + [Way(stand.n_keep)]
    n_max, left_s = rng.choice([1, 2, 30, 400]), rng.choice([-0.1, 0.0, rng.uniform(0.0, 4.0)])
    found = stand.fits(steps, ways, left_s, n_max)
    exact = np.array([stand.longest_fit(steps, way, left_s, n_max) for way in ways])
    assert (found <= exact).all() and (found >= 0.97 * exact - 2).all()


def quality(way, reached, *, n_keep=1000, generated=0, lengths=((20, 0.5), (40, 0.5)), **options):
    probabilities = np.zeros(4)
    for length, share in lengths:
        probabilities[length // 10 - 1] = share
    outlook = Outlook(LengthDistribution(10, probabilities), generated,
                      **{'longest': 100, 'cut': CUT, **options})
    # A whole cache is worth 1, half of it 0.6.
    return outlook.quality([way], [reached], Stand(n_keep, n_keep, 0.0), lambda kept: 1.0 if kept == 1000 else 0.6)[0]


@pytest.mark.parametrize(('case', 'expected'), [
    (dict(way=Way(1000), reached=40), 1.0),
    (dict(way=Way(1000), reached=20), 0.5 + 0.5 * 0.5),
    (dict(way=Way(1000), reached=10), 0.5 * 0.5 + 0.5 * 0.25),
    (dict(way=Way(1000), reached=0), 0.0),
    (dict(way=Way(1000), reached=30, longest=30), 1.0),  # the goal asked for no more
    (dict(way=Way(500), reached=40), 0.6),
    (dict(way=Way(500, 20), reached=40), 0.5 * 1.0 + 0.5 * (0.5 * 1.0 + 0.5 * 0.6)),
    (dict(way=Way(500, 10), reached=20), 0.5 * 0.8 + 0.5 * 0.5 * 0.8),  # of 20 tokens that came, 10 are whole
    # After 25 tokens only 40 are possible. 24 of them lie before the rest.
    (dict(way=Way(1000), reached=40, generated=25), 1.0),
    (dict(way=Way(500), reached=40, generated=25), 0.6 * 1.0 + 0.4 * 0.6),
    (dict(way=Way(1000), reached=50, generated=45), 0.5),  # longer than predicted: 100 tokens may come
])
def test_worth(case, expected):
    assert quality(**case) == pytest.approx(expected)


@pytest.mark.parametrize('seed', range(40))
def test_more_time_and_more_entries_never_make_it_worse(seed):
    rng = random.Random(seed)
    reached = sorted(rng.randint(0, 60) for _ in range(2))
    options = dict(generated=rng.choice([0, 7]))
    for way in (Way(1000), Way(500), Way(500, 8)):
        low, high = (quality(way, n, **options) for n in reached)
        assert low <= high + 1e-12
    evicted, waited, whole = (quality(way, reached[1], **options) for way in (Way(500), Way(500, 8), Way(1000)))
    assert evicted <= waited + 1e-12 and waited <= whole + 1e-12
