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

"""The head on hidden states: against plain ridge regression, with cut answers, and where states say nothing."""
import numpy as np
import pytest

from timebill_ros.length import hidden_state_head as heads
from timebill_ros.length.hidden_state_head import HiddenStateHead, fit, normalised
from timebill_ros.length.label_grid import EDGES, Labels, bucket_size_for, proper
from timebill_ros.length.length_distribution import LengthDistribution

WIDTH, LIMIT = 24, 256


def answers(n, seed=0, *, tells=1.0, limit=10_000, width=WIDTH):
    """States [n, width], lengths that were cut at `limit`, whether each is whole, and the true lengths."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(n, width)).astype(np.float32)
    logs = 4.2 + tells * (0.6 * states[:, 0] - 0.4 * states[:, 1]) + 0.3 * draw.normal(size=n)
    lengths = np.clip(np.exp(logs), 1, 2000).astype(int)
    return normalised(states), np.minimum(lengths, limit), lengths <= limit, lengths


def fitted(states, lengths, whole, **options):
    return fit(states, Labels(lengths, whole, bucket_size_for(lengths), **options))


def brute_force(states, targets, weights, penalty):
    """Ridge in its primal form, with an intercept that is not penalised, on standardised features: the fitted values.

    Returns (scale, function from states to predictions).
    """
    part = weights / weights.sum()
    mean = part @ states
    scale = np.sqrt(part @ (states - mean) ** 2)
    design = np.hstack([np.ones((len(states), 1)), (states - mean) / scale])
    free = np.diag([0.0] + [penalty * states.shape[1]] * states.shape[1])
    beta = np.linalg.solve(design.T @ (weights[:, None] * design) + free, design.T @ (weights[:, None] * targets))
    return scale, lambda other: np.hstack([np.ones((len(other), 1)), (other - mean) / scale]) @ beta


@pytest.mark.parametrize('aged', [False, True])
@pytest.mark.parametrize('n', [12, 60])
def test_the_cdf_is_that_of_plain_ridge_regression_on_whether_answers_have_ended(n, aged):
    states, lengths, whole, _ = answers(n, width=8)
    weights = 0.5 ** (np.arange(n)[::-1] / 10) if aged else np.ones(n)
    head = fitted(states, lengths, whole, weights=weights)
    edges = np.arange(1, EDGES + 1) * head.bucket_size
    targets = (lengths[:, None] <= edges).astype(float)
    _, predict = brute_force(states.astype(float), targets, weights, head.penalty)
    others = answers(5, seed=9, width=8)[0]
    for state, expected in zip(others, predict(others.astype(float)), strict=True):
        np.testing.assert_allclose(head.cdf(state), proper(expected) @ head.kernel, atol=2e-4)


def test_leaving_a_label_out_is_a_fit_to_the_others():
    states, lengths, whole, _ = answers(30, width=6)
    labels = Labels(lengths, whole, bucket_size_for(lengths), 0.5 ** (np.arange(30)[::-1] / 20))
    targets, weights = labels.filled(np.zeros((30, EDGES))), labels.weights
    part = weights / weights.sum()
    mean = part @ states
    features = (states - mean) / np.sqrt(part @ (states - mean) ** 2)
    root = np.sqrt(weights)
    weighted = root[:, None] * features
    for penalty in (0.03, 3.0):
        left_out = heads._Ridge(weighted @ weighted.T / 6, root, penalty).left_out(targets)
        for i in (0, 7, 29):
            rest = np.arange(30) != i
            design = np.hstack([np.ones((30, 1)), features])
            free = np.diag([0.0] + [penalty * 6] * 6)
            w = weights[rest, None]
            beta = np.linalg.solve(design[rest].T @ (w * design[rest]) + free, design[rest].T @ (w * targets[rest]))
            np.testing.assert_allclose(left_out[i], design[i] @ beta, atol=1e-6)


@pytest.mark.parametrize('n', [heads.FEWEST, 40])
def test_the_penalty_is_that_with_the_least_error_of_labels_that_were_left_out(n):
    states, lengths, whole, _ = answers(n, width=6)
    head = fitted(states, lengths, whole)
    labels = Labels(lengths, whole, head.bucket_size)
    targets = labels.filled(np.tile(labels.marginal(), (n, 1)))

    def loss(penalty):
        total, design = 0.0, np.hstack([np.ones((n, 1)), (states - states.mean(0)) / states.std(0)])
        free = np.diag([0.0] + [penalty * 6] * 6)
        for i in range(n):
            rest = np.arange(n) != i
            beta = np.linalg.solve(design[rest].T @ design[rest] + free, design[rest].T @ targets[rest])
            total += np.square(proper(design[i] @ beta) - targets[i]).sum()
        return total

    assert loss(head.penalty) <= min(map(loss, heads.PENALTIES)) * (1 + 1e-6)


def test_of_many_labels_the_newest_choose_the_penalty():
    """First states said nothing, then they tell; the other way round, what is best is the largest penalty."""
    silent, telling = answers(256, seed=3, tells=0.0), answers(256, seed=4)
    penalties = [fitted(*(np.concatenate(pair) for pair in list(zip(*order, strict=True))[:3])).penalty
                 for order in ((silent, telling), (telling, silent))]
    assert penalties[0] < 0.1 * penalties[1]


def test_a_prediction_is_a_distribution_and_follows_the_state():
    states, lengths, whole, _ = answers(300)
    head = fitted(states, lengths, whole)
    marginal = LengthDistribution.from_lengths(lengths, head.bucket_size, EDGES + 1)
    test_states, _, _, truth = answers(200, seed=1)
    predicted = [head.predict(state, marginal) for state in test_states]
    assert all((found.probabilities >= 0).all() for found in predicted) and head.is_better
    medians = np.array([found.median() for found in predicted])
    error, constant = abs(medians - truth).mean(), abs(np.median(lengths) - truth).mean()
    assert error < 0.75 * constant, (error, constant)


@pytest.mark.parametrize('n', [20, 60, 300])
def test_states_that_say_nothing_lose_nothing(n):
    """The mixture is at most a little worse than the marginal on new goals, and seldom takes itself for better."""
    better, loss = 0, []
    for seed in range(8):
        states, lengths, whole, _ = answers(n, seed, tells=0.0)
        head = fitted(states, lengths, whole)
        better += head.is_better
        test_states, truth, known, _ = answers(200, seed + 100, tells=0.0)
        labels = Labels(truth, known, head.bucket_size)
        marginal = Labels(lengths, whole, head.bucket_size).marginal()
        mixed = np.array([head.mixed(state, marginal) for state in test_states])
        alone = labels.crps(np.tile(marginal, (200, 1))).mean()
        loss.append(labels.crps(mixed).mean() / alone - 1)
    assert better <= 3 and np.mean(loss) < 0.05, (better, loss)


def test_few_labels_are_blended_towards_the_marginal():
    shares = []
    for n in (8, 20, 80, 400):
        states, lengths, whole, _ = answers(n)
        head = fitted(states, lengths, whole)
        assert head.share <= n / (n + heads.FEW)
        shares.append(head.share)
    assert shares[0] <= 0.5 and shares[-1] > shares[0]
    marginal = np.linspace(0.03, 1.0, EDGES)
    state = answers(1, seed=3)[0][0]
    expected = head.share * head.cdf(state) + (1 - head.share) * marginal
    np.testing.assert_allclose(head.mixed(state, marginal), expected)


def test_cut_answers_are_longer_than_they_came_and_not_of_that_length():
    """A third is cut. Below the limit, it is as good as one that knows the truth, and better than without them."""
    limit = 90
    states, lengths, whole, truth = answers(400, limit=limit)
    assert 0.2 < 1 - whole.mean() < 0.5
    size = bucket_size_for(lengths)
    ways = {'cut': Labels(lengths, whole, size), 'truth': Labels(truth, np.ones(400, bool), size),
            'taken for whole': Labels(lengths, np.ones(400, bool), size)}
    test_states, _, _, later = answers(300, seed=5)
    told = Labels(np.minimum(later, limit), later <= limit, size)
    tail = Labels(later, np.ones(300, bool), size)
    below, beyond = {}, {}
    for name, labels in ways.items():
        head = fit(states, labels)
        cdf = np.array([head.mixed(state, labels.marginal()) for state in test_states])
        below[name], beyond[name] = told.crps(cdf).mean(), tail.crps(cdf).mean()
    only = fit(states[whole], Labels(lengths[whole], np.ones(whole.sum(), bool), size))
    marginal = Labels(lengths[whole], np.ones(whole.sum(), bool), size).marginal()
    without_them = told.crps(np.array([only.mixed(state, marginal) for state in test_states])).mean()
    assert below['cut'] < 1.05 * below['truth'], below
    assert below['cut'] < 0.9 * without_them, (below, without_them)
    assert beyond['cut'] < beyond['taken for whole'], beyond


def test_too_few_labels_are_refused():
    states, lengths, whole, _ = answers(heads.FEWEST - 1)
    with pytest.raises(ValueError, match='7 states'):
        fitted(states, lengths, whole)


def test_equal_states_and_equal_lengths_are_no_trouble():
    states = normalised(np.ones((20, 4)))
    head = fitted(states, np.full(20, 30), np.ones(20, bool))
    assert np.isfinite(head.weights).all() and not head.is_better
    cdf = head.cdf(states[0])
    assert cdf[0] == pytest.approx(0, abs=1e-6) and cdf[-1] == pytest.approx(1, abs=1e-6)


def test_large_states_are_normalised_to_what_float16_holds():
    state = normalised(np.array([1e6, -3e5, 2.0]))
    assert np.isfinite(state.astype(np.float16)).all()
    assert np.sqrt((state ** 2).mean()) == pytest.approx(1.0, rel=1e-5)
    assert (normalised(np.zeros(3)) == 0).all()


def test_a_head_is_small():
    states, lengths, whole, _ = answers(50)
    head = fitted(states, lengths, whole)
    assert isinstance(head, HiddenStateHead) and head.weights.shape == (WIDTH, EDGES)
    assert head.weights.dtype == np.float32


def test_features_that_are_not_standardised_count_as_much_as_they_vary():
    """Two features tell, and 400 vary a hundredth as much and tell nothing: standardised, these drown the two."""
    draw = np.random.default_rng(0)
    states, lengths, whole, _ = answers(80, width=2)
    noise = 0.01 * draw.normal(size=(80, 400)).astype(np.float32)
    labels = Labels(lengths, whole, bucket_size_for(lengths))
    one, other = (fit(np.hstack([states, noise]), labels, standardised=chosen).gain for chosen in (False, True))
    assert one[0] > 2 * other[0] and one[0] > 3 * one[1], (one, other)
