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

"""What the server's answers teach about the next one: bounds hold at their rate, and follow length and silence."""
import math
import random

import pytest

from timebill_ros.codes import Verdict
from timebill_ros.dispatch.offboard.served_times import (
    Expectation,
    ServedTimes,
    line_through,
    upper_bound,
    usual_length,
)


def test_a_bound_is_the_conformal_quantile_or_none():
    assert upper_bound(list(range(1, 20)), 0.05) == 19 and upper_bound(list(range(1, 40)), 0.05) == 38
    assert upper_bound(list(range(1, 19)), 0.05) == math.inf and upper_bound([], 0.5) == math.inf


@pytest.mark.parametrize(('points', 'line'), [
    ([(10, 3.0)], (3.0, 0.0)), ([(0, 1.0), (10, 2.0), (20, 3.0), (30, 4.0), (40, 5.0),
                           (50, 100.0)], (1.0, 0.1)),
    ([(0, 3.0), (10, 1.0)], (2.0, 0.0)), ([(5, 1.0), (5, 3.0)], (2.0, 0.0)),
])
def test_a_line_bears_a_point_far_off_and_never_falls(points, line):
    assert line_through(points) == pytest.approx(line, abs=0.01)


def served(n, seed=0, noise=0.2):
    """Times of a server that takes 0.1 s and 1 ms a character to the first token, and 20 ms a token after it."""
    draw, times = random.Random(seed), ServedTimes()
    for _ in range(n):
        answer(times, draw, noise)
    return times, draw


def answer(times, draw, noise):
    characters, n = draw.randint(10, 1000), draw.randint(2, 50)
    first_s = (0.1 + 0.001 * characters) * draw.lognormvariate(0.0, noise)
    rest_s = 0.02 * (n - 1) * draw.lognormvariate(0.0, noise)
    known = times.expect(characters, 1.0, 100, 0.1)
    times.first_token(characters, 1.0, first_s)
    times.tokens(n, rest_s)
    times.complete(n, first_s + rest_s, at_limit=False)
    return known, first_s + rest_s


def test_the_worst_case_is_exceeded_no_more_often_than_allowed():
    times, draw = served(100)
    seen = [answer(times, draw, 0.2) for _ in range(400)]
    late = sum(took > known.wcet_s for known, took in seen)
    assert late / len(seen) <= 0.1
    assert all(known.expected_s < known.wcet_s < 5.0 for known, _ in seen), 'and is not far above what they take'


def test_nothing_is_promised_before_enough_answers_came():
    assert math.isnan(ServedTimes().expect(10, 1.0, 10, 0.05).expected_s) and ServedTimes().usual_s == 0.0
    times, _ = served(20)
    known = times.expect(10, 1.0, 10, 0.05)
    assert known.expected_s > 0 and math.isnan(known.wcet_s)


def test_longer_prompts_and_answers_take_longer():
    times, _ = served(300)
    short, long = times.expect(10, 1.0, 10, 0.1), times.expect(1000, 1.0, 10, 0.1)
    assert long.expected_s > short.expected_s + 0.5 and long.wcet_s > short.wcet_s + 0.5
    assert times.expect(10, 1.0, 50, 0.1).wcet_s > short.wcet_s
    assert times.expect(10, 1.0, 10 ** 6, 0.1).wcet_s == times.expect(10, 1.0, 60, 0.1).wcet_s, 'as long as seen'


def test_a_limit_of_one_token_needs_no_time_per_token():
    times = ServedTimes()
    for _ in range(60):
        times.first_token(10, 1.0, 0.2)
    assert times.expect(10, 1.0, 1, 0.05) == Expectation(pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.2))


def test_answers_at_the_limit_say_nothing_of_longer_ones():
    times = ServedTimes()
    for _ in range(100):
        times.first_token(10, 1.0, 0.2)
        times.tokens(11, 1.0)
        times.complete(11, 1.2, at_limit=True)
    assert times.expect(10, 1.0, 101, 0.05).wcet_s == pytest.approx(0.2 + 10.0)


def test_after_a_long_silence_a_bound_needs_answers_after_such_a_silence():
    times, _ = served(200)
    assert math.isfinite(times.expect(100, 1.0, 10, 0.1).wcet_s)
    after = times.expect(100, 7200.0, 10, 0.1)
    assert math.isnan(after.wcet_s) and after.expected_s > 0
    for _ in range(3):
        times.first_token(100, 7200.0, 20.0)  # its model had been put away
    assert times.expect(100, 7200.0, 10, 0.1).expected_s > 10.0
    assert times.expect(100, 1.0, 10, 0.1).expected_s < 2.0


@pytest.mark.parametrize('began', [False, True])
def test_failures_take_the_promise_and_leave_the_expectation(began):
    times, _ = served(300)
    before = times.expect(100, 1.0, 10, 0.1)
    for _ in range(30):
        times.failed(1.0, began=began)
    known = times.expect(100, 1.0, 10, 0.1)
    assert math.isnan(known.wcet_s) and known.expected_s == pytest.approx(before.expected_s, rel=0.2)


def test_a_wait_that_is_usual_says_nothing():
    times, _ = served(100)
    before = times.expect(100, 1.0, 10, 0.1)
    times.none_came(100, 1.0, 0.01)
    assert times.expect(100, 1.0, 10, 0.1) == before
    for _ in range(20):
        times.none_came(100, 1.0, 5.0)
    assert math.isnan(times.expect(100, 1.0, 10, 0.1).wcet_s)


@pytest.mark.parametrize(('expectation', 'verdict'), [
    (Expectation(), Verdict.UNKNOWN), (Expectation(1.0), Verdict.AT_RISK), (Expectation(1.0, 2.0), Verdict.FITS),
    (Expectation(1.0, 3.0), Verdict.AT_RISK), (Expectation(2.5), Verdict.INFEASIBLE),
])
def test_verdicts(expectation, verdict):
    assert expectation.verdict(2.0) is verdict


@pytest.mark.parametrize(('lengths', 'usual'), [
    ([], math.inf), ([(7, True)], 7), ([(5, True), (9, True), (30, True)], 9), ([(5, True), (9, False)], 5),
    ([(5, False), (9, True)], 9), ([(9, False)] * 3 + [(5, True)], math.inf),
    ([(1, False)] * 9 + [(5, True), (9, True), (30, True)], 9),  # those say next to nothing
])
def test_the_usual_length_where_some_answers_were_not_waited_for(lengths, usual):
    assert usual_length(lengths) == usual


def test_long_answers_that_were_not_waited_for_are_not_left_out():
    """Half of the answers are of 10 tokens, half of 200, and nobody waits for those: FITS is no promise to give."""
    times = ServedTimes()
    for _ in range(150):
        times.first_token(100, 1.0, 0.1)
        times.tokens(10, 0.9)
        times.complete(10, 1.0, at_limit=False)
        times.first_token(100, 1.0, 0.1)
        times.cut_off(20, 1.9, 0.05)
    known = times.expect(100, 1.0, 500, 0.1)
    assert known.wcet_s == pytest.approx(0.1 + 499 * 0.1) and known.expected_s == pytest.approx(0.1 + 9 * 0.1)


def test_a_pause_that_has_not_ended_counts_where_it_is_long():
    def usual_s(*cut):
        times, _ = served(100, noise=0.0)
        times.complete(11, 1.0, at_limit=False)
        before = times.state()['per_token']
        times.cut_off(*cut)
        return times.state()['per_token'][len(before):]

    assert usual_s(11, 0.2, 0.01) == [pytest.approx(0.02)] and usual_s(11, 0.2, 9.8) == [pytest.approx(10 / 11)]
    assert usual_s(1, 0.0, 0.01) == [] and usual_s(1, 0.0, 3.0) == [3.0]


def test_a_wait_that_is_usual_after_a_long_silence_says_nothing():
    times, _ = served(100)
    for _ in range(9):
        times.first_token(100, 7200.0, 20.0)
    before = times.state()
    times.none_came(100, 7200.0, 5.0)
    assert times.state() == before
