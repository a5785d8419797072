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

"""The rules for the pessimistic length N_W keep their miss rate, on sequences of lengths that try to break them."""
import json
import math
import random

import numpy as np
import pytest

from timebill_ros.length.calibration import MOST_SURPRISE, surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import Adaptive, Conformal, FixedFactor, expected
from timebill_ros.length.promise_level import PromiseLevel

SCORES = [-math.log((i + 0.5) / 200) for i in range(200)]  # those of a predictor whose distributions are right


def adaptive(scores=SCORES, miss_rate=0.05):
    return Adaptive(scores, PromiseLevel(miss_rate))


# Every rule for the pessimistic length; a new one is a row here.
PESSIMISTIC = [FixedFactor(1), FixedFactor(5), FixedFactor(2.5), Conformal(SCORES, 0.05), Conformal((), 0.05),
               adaptive(), adaptive(())]

DISTRIBUTIONS = [
    LengthDistribution.point(1),
    LengthDistribution.point(17, 16),
    LengthDistribution(4, [0.2, 0.3, 0.5]),
    LengthDistribution(16, np.full(512, 1 / 512)),
]
GEOMETRIC = LengthDistribution(1, [0.9 ** i * 0.1 for i in range(200)] + [0.9 ** 200])


@pytest.mark.parametrize('rule', PESSIMISTIC, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize('distribution', DISTRIBUTIONS, ids=lambda d: f'B{d.bucket_size}x{d.n_buckets}')
@pytest.mark.parametrize('n_max', [1, 20, 100_000])
def test_pessimistic_length_is_between_the_prediction_and_the_limit(rule, distribution, n_max):
    n_w = rule.pessimistic(distribution, n_max)
    assert isinstance(n_w, int)
    assert min(distribution.median(), n_max) <= n_w <= n_max


@pytest.mark.parametrize('rule', PESSIMISTIC, ids=lambda rule: type(rule).__name__)
def test_pessimistic_length_refuses_a_limit_below_one_token(rule):
    with pytest.raises(ValueError, match='-3'):
        rule.pessimistic(DISTRIBUTIONS[0], -3)


@pytest.mark.parametrize('rule', PESSIMISTIC, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize('distribution', DISTRIBUTIONS, ids=lambda d: f'B{d.bucket_size}x{d.n_buckets}')
def test_what_was_generated_only_raises_the_pessimistic_length(rule, distribution):
    bounds = [rule.pessimistic(distribution, 500, generated) for generated in range(0, 500, 7)]
    assert bounds == sorted(bounds)
    assert all(n_w > generated for n_w, generated in zip(bounds, range(0, 500, 7), strict=True))


@pytest.mark.parametrize(('k', 'n_max', 'n_w'), [(5, 1000, 160), (1, 1000, 32), (5, 100, 100), (1.03, 1000, 33)])
def test_fixed_factor_is_the_papers_rule(k, n_max, n_w):
    assert FixedFactor(k).pessimistic(LengthDistribution.point(20, 16), n_max) == n_w


@pytest.mark.parametrize('k', [0.99, 0, -1, math.nan, math.inf])
def test_fixed_factor_refuses_other_factors(k):
    with pytest.raises(ValueError, match=str(k)):
        FixedFactor(k)


@pytest.mark.parametrize('make', [lambda e: Conformal(SCORES, e), lambda e: adaptive(SCORES, e)])
@pytest.mark.parametrize('miss_rate', [0, 1, -0.1, math.nan])
def test_a_miss_rate_is_between_0_and_1(make, miss_rate):
    with pytest.raises(ValueError, match=str(miss_rate)):
        make(miss_rate)


# -- conformal -------------------------------------------------------------------------------------------------------

def draw(rng, distribution):
    return 1 + rng.choices(range(distribution.n_buckets), distribution.probabilities)[0] * distribution.bucket_size


@pytest.mark.parametrize('stretch', [1.0, 1.7])
def test_conformal_keeps_its_rate_with_a_wrong_predictor_too(stretch):
    """Responses are `stretch` times as long as the predictor says, in calibration and afterwards."""
    rng = random.Random(1)
    lengths = [math.ceil(stretch * draw(rng, GEOMETRIC)) for _ in range(6000)]
    rule = Conformal([surprise(GEOMETRIC, n) for n in lengths[:2000]], 0.05)
    missed = np.mean([n > rule.pessimistic(GEOMETRIC, 10_000) for n in lengths[2000:]])
    assert 0.03 < missed < 0.062
    if stretch > 1:
        trusting = GEOMETRIC.quantile(0.95)
        assert np.mean([n > trusting for n in lengths]) > 0.1, 'the predicted quantile alone would not do'


def test_a_length_is_covered_exactly_where_its_score_is_within_the_bound():
    for n in range(1, 150):
        rule = Conformal([surprise(GEOMETRIC, n)] * 40, 0.05)
        assert rule.pessimistic(GEOMETRIC, 10_000) == n


def test_a_length_that_the_predictor_gave_no_chance_is_planned_for_as_long_as_allowed():
    certain = LengthDistribution(1, [0.0, 1.0, 0.0, 0.0])
    assert surprise(certain, 3) == MOST_SURPRISE and surprise(certain, 2) == 0.0
    assert Conformal([MOST_SURPRISE] * 40, 0.05).pessimistic(certain, 99) == 99
    assert Conformal([0.0] * 40, 0.05).pessimistic(certain, 99) == 2


def test_the_expected_length_given_what_came_is_the_median_of_the_rest():
    assert expected(GEOMETRIC, 1000) == pytest.approx(GEOMETRIC.median(), abs=1)
    # A geometric distribution has no memory.
    assert expected(GEOMETRIC, 1000, 50) == pytest.approx(50 + GEOMETRIC.median(), abs=1)
    assert expected(GEOMETRIC, 52, 50) == 52 and expected(GEOMETRIC, 1000, 400) == 1000
    assert expected(LengthDistribution.point(40), 256, 16) == 40


# -- adaptive --------------------------------------------------------------------------------------------------------

def replay(rule, lengths, distribution=GEOMETRIC, n_max=10_000):
    """Which lengths exceeded their N_W, where the deadline cuts every response at N_W and the rule observes that."""
    return [meet(rule, n, distribution, n_max) for n in lengths]


def meet(rule, n, distribution=GEOMETRIC, n_max=10_000, promised=True):
    n_w = rule.pessimistic(distribution, n_max)
    rule.observe(distribution, min(n, n_w), n_max=n_max, ended=n <= n_w)
    if isinstance(rule, Adaptive):
        rule.level.observe((n <= n_w) if promised else None)
    return n > n_w


@pytest.mark.parametrize('miss_rate', [0.05, 0.2])
@pytest.mark.parametrize('stretches', [(1.0,), (1.0, 2.5), (3.0, 1.0), (1.0, 1.5, 2.0, 4.0)])
def test_adaptive_keeps_its_rate_whatever_the_lengths_do(miss_rate, stretches):
    rng = random.Random(2)
    each = 2000 // len(stretches)
    lengths = [math.ceil(stretch * draw(rng, GEOMETRIC)) for stretch in stretches for _ in range(each)]
    missed = replay(adaptive(SCORES, miss_rate), lengths)
    assert miss_rate / 2 < np.mean(missed) <= miss_rate + 8 / len(lengths)


def test_adaptive_follows_a_change_where_the_fixed_quantile_does_not():
    rng = random.Random(3)
    lengths = [math.ceil(3 * draw(rng, GEOMETRIC)) for _ in range(150)]
    assert np.mean(replay(Conformal(SCORES, 0.025), lengths)) > 0.2
    assert np.mean(replay(adaptive(), lengths)[50:]) <= 0.1


@pytest.mark.parametrize(('n', 'ended', 'at_least'), [
    (50, True, None), (75, True, None), (999, True, None), (60, False, 61), (7, False, 8)])
def test_what_is_known_of_the_length(n, ended, at_least):
    """A cut answer has at least one token more. The level follows promises, not lengths."""
    rule = adaptive()
    for _ in range(3):  # the kind of prompt is known to have answers that end
        rule.observe(GEOMETRIC, 5, n_max=1000, ended=True)
    before, level = rule.state(), rule.level.value
    rule.observe(GEOMETRIC, n, n_max=1000, ended=ended)
    now = rule.state()
    assert now['scores'] == [*before['scores'], surprise(GEOMETRIC, at_least or n)]
    assert now['cut'] == ([len(SCORES) + 3] if at_least else []) and rule.level.value == level


def test_a_higher_level_makes_the_length_shorter():
    rule = adaptive()
    rule.level = PromiseLevel(0.05, level_for=lambda aim: 20 * aim * aim)
    lengths = [rule.pessimistic(GEOMETRIC, 10_000)]
    for _ in range(60):
        rule.level.observe(True)
        lengths.append(rule.pessimistic(GEOMETRIC, 10_000))
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < 0.6 * lengths[0]
    rule.level.length_share = 0.1
    assert rule.pessimistic(GEOMETRIC, 10_000) > lengths[-1]


def test_an_answer_that_ran_to_a_limit_within_its_bound_says_that_it_is_longer():
    rule = adaptive()
    before = rule.state()
    rule.observe(GEOMETRIC, 16, n_max=16, ended=True)
    now = rule.state()
    assert now['cut'] == [len(SCORES)] and now['run_ons'] == {}
    assert now['scores'] == [*before['scores'], surprise(GEOMETRIC, 17)]
    # Left out, as many short answers as there are goals with a small limit would make the bound smaller.
    bound = rule.scores.bound(0.025)
    for _ in range(200):
        rule.observe(GEOMETRIC, 16, n_max=16, ended=True)
    assert rule.scores.bound(0.025) >= bound


# -- answers that run on -----------------------------------------------------------------------------------------------

LONG_PROMPT, HELLO = 1500, 4  # prompt tokens


@pytest.mark.parametrize(('n', 'ended', 'n_max'), [(256, True, 256), (256, False, 1000)],
                         ids=['its own limit', 'context'])
def test_answers_that_ran_to_their_cap_teach_only_prompts_of_their_kind(n, ended, n_max):
    rule = adaptive()
    before, n_w = rule.scores.state(), rule.pessimistic(GEOMETRIC, 256, prompt_tokens=LONG_PROMPT)
    assert n_w < 60
    for _ in range(4):
        rule.observe(GEOMETRIC, n, n_max=n_max, ended=ended, capped=True, prompt_tokens=HELLO)
    assert rule.pessimistic(GEOMETRIC, 256, prompt_tokens=HELLO) == 256
    after = adaptive(())
    after.restore(json.loads(json.dumps(rule.state())))
    for now in (rule, after):
        assert now.pessimistic(GEOMETRIC, 256, prompt_tokens=LONG_PROMPT) <= n_w
        assert now.scores.state() == before
        assert now.pessimistic(GEOMETRIC, 256, prompt_tokens=HELLO) == 256


def test_answers_that_run_on_until_the_deadline_are_missed_once():
    """The first one was promised. From then on its kind is promised only what may run to its limit."""
    rule = adaptive()
    missed = 0
    for _ in range(4):
        n_w = rule.pessimistic(GEOMETRIC, 256, prompt_tokens=HELLO)
        promised = n_w <= 100
        missed += promised
        rule.observe(GEOMETRIC, 100, n_max=256, ended=False, prompt_tokens=HELLO)
        rule.level.observe(False if promised else None)
    assert missed == 1
    assert rule.pessimistic(GEOMETRIC, 256, prompt_tokens=LONG_PROMPT) < 60
    assert sum(rule.state()['run_ons'].popitem()[1]) == 4 and len(rule.state()['cut']) == 0


def test_prompts_whose_answers_end_again_are_promised_again():
    rule = adaptive()
    rule.observe(GEOMETRIC, 256, n_max=256, ended=True, prompt_tokens=HELLO)
    waits = 0
    while rule.pessimistic(GEOMETRIC, 256, prompt_tokens=HELLO) == 256:
        rule.observe(GEOMETRIC, 5, n_max=256, ended=True, prompt_tokens=HELLO)
        waits += 1
    assert waits == 2, 'one of three answers'


def test_an_answer_that_runs_on_among_many_that_end_counts_for_all_prompts():
    rule = adaptive()
    for n in (5, 5, 5):
        rule.observe(GEOMETRIC, n, n_max=256, ended=True, prompt_tokens=HELLO)
    rule.observe(GEOMETRIC, 256, n_max=256, ended=True, prompt_tokens=HELLO)
    assert rule.pessimistic(GEOMETRIC, 256, prompt_tokens=HELLO) < 256
    assert rule.state()['cut'] == [len(SCORES) + 3] and rule.state()['scores'][-1] == surprise(GEOMETRIC, 257)


# -- promises ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('share', [0.1, 0.3])
def test_the_miss_rate_holds_under_tight_budgets(share):
    """Only `share` of the goals have a budget for N_W, and goals without such a budget are cut where theirs ends."""
    rng, rule, missed = random.Random(9), adaptive(), []
    for _ in range(int(600 / share)):
        n_w, n = rule.pessimistic(GEOMETRIC, 10_000), draw(rng, GEOMETRIC)
        promised = rng.random() < share and n_w < 1000
        end = n_w if promised else rng.randint(1, min(n_w, 100))
        rule.observe(GEOMETRIC, min(n, end), n_max=10_000, ended=n <= end)
        rule.level.observe((n <= end) if promised else None)
        if promised:
            missed.append(n > end)
    assert len(missed) > 500 and 0.03 <= np.mean(missed) <= 0.06


def test_easy_answers_that_were_not_promised_do_not_pay_for_missed_promises():
    rng, rule, missed = random.Random(8), adaptive(), []
    for i in range(3000):
        promised = i % 3 == 0  # these have answers twice as long as predicted
        is_missed = meet(rule, 2 * draw(rng, GEOMETRIC) if promised else 1, promised=promised)
        if promised:
            missed.append(is_missed)
    assert np.mean(missed) <= 0.06, 'those made while learning included'


def test_state_round_trip():
    rule = adaptive()
    other = Adaptive((), rule.level)
    replay(rule, [draw(random.Random(i), GEOMETRIC) for i in range(100)])
    other.restore(json.loads(json.dumps(rule.state())))
    assert other.pessimistic(GEOMETRIC, 500) == rule.pessimistic(GEOMETRIC, 500)
    assert other.state() == rule.state()


@pytest.mark.parametrize('state', [{}, {'cut': []}, {'scores': [math.nan]}, {'scores': ['x']}, {'scores': 3}])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises((ValueError, KeyError, TypeError)):
        adaptive().restore(state)
