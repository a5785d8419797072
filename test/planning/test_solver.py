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

"""The solver compared with brute force over every count of kept entries, and with the paper's worked example."""
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timebill_ros.codes import Verdict
from timebill_ros.planning.solver import largest_keep, longest_fit, smallest_keep, solve
from timebill_ros.timing.step_time import StepTime

EXAMPLE = StepTime(p=6e-7, q=0.028)  # made-up coefficients, PAPER: worked example
EXAMPLE_N_X, EXAMPLE_D = 12000, 2.124


def brute_force(*, steps, n_x, n_min, time_left_s, eviction_s, predicted, pessimistic, n_max, caution, reserve_s):
    """(verdict, n_keep, N_fit) by trying every count of kept entries and every length."""
    n_hat = min(max(predicted, 1), n_max)
    n_w = min(max(pessimistic, n_hat), n_max)

    def fits(n_keep, n, cautious=True):
        factor, spare = (caution, reserve_s) if cautious else (1.0, 0.0)
        left = time_left_s - spare - (eviction_s * factor if n_keep < n_x else 0)
        return left >= 0 and steps.scaled(factor).decode(n_keep, n) <= left

    keeps = range(n_x, n_min - 1, -1)
    # Longer answers take longer, so going down from the longest, the first that fits is the longest that fits.
    n_fit = max(next((n for n in range(n_max, 0, -1) if fits(keep, n)), 0) for keep in {n_x, n_min})
    for n, verdict in ((n_w, Verdict.FITS_WITH_EVICTION), (n_hat, Verdict.AT_RISK)):
        for keep in keeps:
            if fits(keep, n, cautious=verdict is Verdict.FITS_WITH_EVICTION):
                return (Verdict.FITS if keep == n_x and verdict is Verdict.FITS_WITH_EVICTION else verdict), keep, n_fit
    return Verdict.INFEASIBLE, n_min, n_fit


def random_case(rng):
    """Coefficients over twenty orders of magnitude, corner values often, and a time left near where it matters."""
    p = rng.choice([0.0, 1e-18, 1e-9, 6e-7, 1e-3, 10.0, 1e9, rng.uniform(0, 1e-4), 10 ** rng.uniform(-12, 2)])
    q = rng.choice([0.0, 1e-12, 0.028, 5.0, rng.uniform(0, 0.1), 10 ** rng.uniform(-9, 1)])
    bend = rng.choice([0.0, 0.0, p, 10 * p, 1e-4])
    steps = StepTime(p, q, bend, rng.choice([0, 1, 10, 150, 299, 1000]))
    n_x = rng.choice([1, 2, 3, 5, 33, rng.randint(1, 300)])
    n_min = rng.choice([n_x, 1, rng.randint(1, n_x), smallest_keep(n_x, rng.choice([0.0, 0.5, 0.95, 0.99]), 32)])
    n_max = rng.choice([1, 2, rng.randint(1, 60)])
    predicted = rng.choice([0, 1, 2, rng.randint(1, 80)])
    pessimistic = rng.choice([1, predicted, 5 * predicted, rng.randint(1, 200)])
    eviction_s = rng.choice([0.0, 0.0, 1e-3, rng.uniform(0, 1) * steps.decode(n_x, n_max)])
    # Exactly at the border between two decisions, and one rounding error beside it.
    n = min(max(rng.choice([predicted, pessimistic, rng.randint(1, n_max)]), 1), n_max)
    near = steps.decode(rng.randint(n_min, n_x), n) + rng.choice([0.0, eviction_s])
    beside = [math.nextafter(near, -1), math.nextafter(near, math.inf), near * rng.uniform(0.9, 1.1)]
    time_left_s = rng.choice([near, *beside, near + rng.uniform(-1, 1), 0.0, -1e-9, 1e6])
    return dict(steps=steps, n_x=n_x, n_min=n_min, time_left_s=time_left_s, eviction_s=eviction_s, predicted=predicted,
                pessimistic=pessimistic, n_max=n_max, caution=rng.choice([1.0, 1.0, 1.25, 3.0]),
                reserve_s=rng.choice([0.0, 0.0, 1e-3]))


@pytest.mark.parametrize('seed', range(10))
def test_plan_equals_brute_force(seed):
    rng = random.Random(seed)
    seen = set()
    for _ in range(1000):
        case = random_case(rng)
        made = solve(**case)
        assert (made.verdict, made.n_keep, made.fitting_tokens) == brute_force(**case), case
        seen.add(made.verdict)
    assert seen == {Verdict.FITS, Verdict.FITS_WITH_EVICTION, Verdict.AT_RISK, Verdict.INFEASIBLE}


CASES = st.integers(0, 2 ** 32).map(lambda seed: random_case(random.Random(seed)))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(CASES, st.floats(0, 100))
def test_more_time_never_makes_a_plan_worse(case, more_s):
    before, after = solve(**case), solve(**{**case, 'time_left_s': case['time_left_s'] + more_s})
    assert after.verdict <= before.verdict
    assert after.fitting_tokens >= before.fitting_tokens
    if after.verdict is before.verdict:
        assert after.n_keep >= before.n_keep


@settings(max_examples=300, derandomize=True, deadline=None)
@given(CASES, st.integers(0, 100))
def test_a_larger_permitted_eviction_never_makes_a_verdict_worse(case, fewer):
    after = solve(**{**case, 'n_min': max(1, case['n_min'] - fewer)})
    assert after.verdict <= solve(**case).verdict


@settings(max_examples=300, derandomize=True, deadline=None)
@given(CASES)
def test_a_plan_does_not_contradict_itself(case):
    made = solve(**case)
    assert 1 <= made.predicted_tokens <= made.pessimistic_tokens <= made.length_cap == case['n_max']
    assert case['n_min'] <= made.n_keep <= case['n_x']
    assert made.eviction_ratio == 1 - made.n_keep / case['n_x']
    cost, caution = case['eviction_s'] if made.n_keep < case['n_x'] else 0.0, case['caution']
    assert made.decode_expected_s == cost + case['steps'].decode(made.n_keep, made.predicted_tokens)
    worst = case['steps'].scaled(caution).decode(made.n_keep, made.pessimistic_tokens)
    assert made.decode_wcet_s == case['reserve_s'] + cost * caution + worst
    # The verdict says what N_fit says; where nothing is added for caution, of the predicted length too.
    assert made.verdict.is_promise == (made.pessimistic_tokens <= made.fitting_tokens)
    assert made.verdict is not Verdict.INFEASIBLE or made.fitting_tokens < made.predicted_tokens
    if caution == 1.0 and case['reserve_s'] == 0.0:
        assert (made.verdict is Verdict.INFEASIBLE) == (made.fitting_tokens < made.predicted_tokens)


@pytest.mark.parametrize(('n_w', 'alpha', 'verdict'), [
    (2, 0.0, Verdict.FITS),
    (61, 0.0, Verdict.FITS),
    (62, 0.055, Verdict.FITS_WITH_EVICTION),
    (64, 0.209, Verdict.FITS_WITH_EVICTION),
    (70, 0.616, Verdict.FITS_WITH_EVICTION),
    (75, 0.905, Verdict.FITS_WITH_EVICTION),
    (76, 0.95, Verdict.INFEASIBLE),
])
def test_the_papers_worked_example(n_w, alpha, verdict):
    n_min = smallest_keep(EXAMPLE_N_X, 0.95, 32)
    made = solve(steps=EXAMPLE, n_x=EXAMPLE_N_X, n_min=n_min, time_left_s=EXAMPLE_D, eviction_s=0.0, predicted=n_w,
                pessimistic=n_w, n_max=1000)
    assert made.verdict is verdict
    assert made.eviction_ratio == pytest.approx(alpha, abs=1e-3)
    assert made.fitting_tokens == 75


def test_the_papers_corrected_formula():
    """n_keep = floor((1 - alpha_req) * N_x), the third term of alpha_req without the misprinted p."""
    p, q = EXAMPLE.p, EXAMPLE.q
    for n_w in range(62, 76):
        alpha = 1 - EXAMPLE_D / (p * EXAMPLE_N_X * (n_w - 1)) + (n_w - 2) / (2 * EXAMPLE_N_X) + q / (p * EXAMPLE_N_X)
        assert largest_keep(EXAMPLE, EXAMPLE_N_X, 1, EXAMPLE_D, n_w) == math.floor((1 - alpha) * EXAMPLE_N_X)


@pytest.mark.parametrize(('p', 'q', 'd', 'n_max', 'n'), [
    (1.0, 0.0, -1e-9, 100, 0),
    (1.0, 0.0, 0.0, 0, 0),
    (1.0, 0.0, 0.0, 100, 1),
    (0.0, 0.0, 0.0, 100, 100),  # steps that cost nothing
    (0.0, 0.1, 1.05, 100, 11),
    (1e-300, 0.1, 1.05, 100, 11),
    (1e300, 0.0, 1.0, 100, 1),
    (1.0, 0.0, 1e300, 100, 100),
])
def test_longest_fit_at_the_corners(p, q, d, n_max, n):
    assert longest_fit(StepTime(p, q), 10, d, n_max) == n


@pytest.mark.parametrize(('p', 'q'), [(1e-5, 0.01), (6e-7, 0.028), (1e-3, 0.0)])
def test_longest_fit_is_the_papers_stable_form(p, q):
    for n_keep in (1, 100, 5000):
        for d in (0.05, 1.0, 7.3):
            beta = p * n_keep + q - p / 2
            n_fit = 1 + math.floor(2 * d / (beta + math.sqrt(beta * beta + 2 * p * d)))
            assert longest_fit(StepTime(p, q), n_keep, d, 10 ** 6) == n_fit


def test_no_eviction_where_it_costs_more_than_it_saves():
    """Evicting everything saves 9 s of 10 s but costs 20 s."""
    case = dict(steps=StepTime(1.0, 0.0), n_x=10, n_min=1, eviction_s=20.0, predicted=2, pessimistic=2, n_max=9)
    made = solve(**case, time_left_s=10.0)
    assert (made.verdict, made.n_keep) == (Verdict.FITS, 10)
    late = solve(**case, time_left_s=9.0)
    assert late.verdict is Verdict.INFEASIBLE and late.fitting_tokens == 1


@pytest.mark.parametrize(('n_x', 'alpha_max', 'window', 'n_min'), [
    (32, 0.95, 32, 32),  # within the scorer's window: kept whole
    (33, 0.95, 32, 2),
    (12000, 0.95, 32, 600),
    (100, 0.0, 32, 100),
    (100, 0.5, 32, 50),
    (1, 0.99, 0, 1),
    (10, 0.99, 0, 1),  # never nothing
    (1000, 0.8999999761581421, 32, 100),  # 0.9 as float32: the limit is kept, and not missed by rounding
])
def test_smallest_keep(n_x, alpha_max, window, n_min):
    assert smallest_keep(n_x, alpha_max, window) == n_min
