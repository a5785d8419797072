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

"""Lengths where nothing predicts them: the prior, what replaces it, and answers that were cut."""
import numpy as np
import pytest

from timebill_ros.length.observed_lengths import ENOUGH, KEPT, MOST_TOKENS, ObservedLengths


def observed(*lengths, n_x=500, n_goal=256, whole=True):
    found = ObservedLengths()
    for n in lengths:
        found.observe(n_x, n_goal, n, whole=whole)
    return found


@pytest.mark.parametrize('n_goal', [1, 2, 63, 64, 65, 256, 1000])
def test_before_anything_was_seen_every_length_is_as_likely(n_goal):
    found = ObservedLengths().distribution(300, n_goal)
    assert found.bucket_size * found.n_buckets >= n_goal > found.bucket_size * (found.n_buckets - 1)
    assert np.ptp(found.probabilities) < 1e-12
    assert abs(found.median() - n_goal / 2) <= max(found.bucket_size, 1)
    assert not ObservedLengths().are_known(300, n_goal)


def test_what_was_seen_replaces_the_prior():
    found = observed(*[40] * 30)
    assert found.are_known(500, 256) and found.distribution(500, 256).median() == 40
    assert observed(40).distribution(500, 256).quantile(0.9) > 200, 'one answer says little'
    assert found.distribution(500, 256).tail(200) > 0, 'and nothing is ever impossible'


@pytest.mark.parametrize(('n_x', 'n_goal', 'similar'), [
    (500, 256, True), (700, 256, True), (500, 300, True), (8000, 256, False), (20, 256, False), (500, 16, False)])
def test_only_similar_goals_count(n_x, n_goal, similar):
    assert observed(*[12] * 30).are_known(n_x, n_goal) == similar


def test_a_cut_answer_says_only_that_it_was_longer():
    """Half end after 20 tokens, half are cut there: these are taken for as long as the others that went on."""
    found = observed(*[20] * 20)
    for _ in range(20):
        found.observe(500, 256, 20, whole=False)
    for _ in range(20):
        found.observe(500, 256, 100, whole=True)
    lengths = found.distribution(500, 256)
    assert lengths.tail(97) > 0.6 and lengths.probabilities.sum() == pytest.approx(1.0)
    assert observed(*[20] * 50, whole=False).distribution(500, 256).median() > 100


def test_answers_that_were_all_cut_early_leave_the_length_unknown():
    """Or goals with more time would be refused for the middle of the prior, and nothing would ever correct that."""
    found, known = observed(*[5] * 30, whole=False), []
    assert found.distribution(500, 256).median() > 100 and not found.are_known(500, 256)
    for _ in range(5):
        found.observe(500, 256, 10, whole=True)
        known.append(found.are_known(500, 256))
    assert known == [False, False, True, True, True] and found.distribution(500, 256).median() <= 12
    for _ in range(10):
        found.observe(500, 256, 20, whole=False)
    assert not found.are_known(500, 256), 'most go on after 10 tokens, for nobody knows how long'
    found.observe(500, 256, 100, whole=True)
    assert not found.are_known(500, 256), 'a single one tells little of all those that were cut at 20'
    assert observed(*[256] * 30, whole=False).are_known(500, 256), 'these came to the limit'


def test_an_answer_to_another_kind_of_goal_may_weigh_nothing_at_all():
    found = observed(*[1] * 30, n_x=1, n_goal=1)
    found.observe(MOST_TOKENS, MOST_TOKENS, 500, whole=True)
    with np.errstate(all='raise', under='ignore'):
        assert found._weights(1, 1)[-1] == 0.0 and found.are_known(1, 1)
        assert found.distribution(1, 1).median() == 1


def test_where_none_was_cut_the_weight_of_similar_goals_decides():
    draw = np.random.default_rng(1)
    for n in (4, 5, 6, 12, 256):
        found = observed(*draw.integers(1, 256, n).tolist())
        assert found.are_known(500, 256) == (found._weights(500, 256).sum() >= ENOUGH) == (n > 5)


def test_an_answer_that_ran_to_this_goals_limit_is_as_long_as_that_and_no_longer():
    found = observed(*[256] * 30, whole=False)
    assert found.distribution(500, 256).median() == 256
    assert found.distribution(500, 200).median() >= 200
    longer = found.distribution(500, 400)
    assert longer.median() > 256


def test_old_answers_fade():
    found = observed(*[200] * 100, *[20] * 100)
    assert found.distribution(500, 256).median() == 20


def test_memory_is_bounded_and_a_state_restores_it():
    found = observed(*[10 + i % 50 for i in range(3 * KEPT)])
    assert len(found.state()) == KEPT
    again = ObservedLengths()
    again.restore(found.state())
    assert again.state() == found.state()
    assert (again.distribution(400, 128).probabilities == found.distribution(400, 128).probabilities).all()


@pytest.mark.parametrize('state', [3, [[1, 2, 3]], [[0, 1, 1, 1]], [['x', 1, 1, 1]], [None], [[1, 1, -1, 0]],
                                   [[1, 1, 10 ** 30, 0]]])
def test_a_damaged_state_is_refused_and_changes_nothing(state):
    found = observed(5, 6)
    before = found.state()
    with pytest.raises((ValueError, TypeError)):
        found.restore(state)
    assert found.state() == before


def test_an_empty_prompt_or_answer_teaches_nothing():
    found = ObservedLengths()
    found.observe(0, 256, 5, whole=True)
    found.observe(10, 256, 0, whole=False)
    assert found.state() == [] and ENOUGH > 1


def test_the_distribution_is_that_of_weights_handed_on_to_longer_answers():
    """Each answer that was cut hands its weight on to those beyond, in proportion to their own (Efron, 1967)."""
    draw = np.random.default_rng(3)
    found = ObservedLengths()
    rows = [(int(draw.integers(100, 900)), int(draw.integers(100, 400)), int(draw.integers(1, 300)), bool(whole))
            for whole in draw.integers(0, 2, 200)]
    for n_x, n_goal, n, whole in rows:
        found.observe(n_x, n_goal, n, whole=whole)
    n_goal, size = 250, 4
    edges = [size * (bucket + 1) for bucket in range(63)]
    came = [[min(n, n_goal), not (whole or n >= n_goal), weight]
            for (_, _, n, whole), weight in zip(rows, found._weights(300, n_goal), strict=True)]
    came = sorted(came + [[edge, False, 3.0 / 63] for edge in edges])  # of equal lengths, the cut ones last
    for i, (_, is_cut, weight) in enumerate(came):
        if is_cut:
            beyond = sum(later for _, _, later in came[i + 1:])
            for later in came[i + 1:]:
                later[2] *= 1 + weight / beyond
    ended = [sum(weight for n, is_cut, weight in came if not is_cut and edge - size < n <= edge) for edge in edges]
    distribution = found.distribution(300, n_goal)
    assert (distribution.bucket_size, distribution.n_buckets) == (size, 63)
    np.testing.assert_allclose(distribution.probabilities, np.array(ended) / sum(ended), atol=1e-12)


def test_an_answer_that_was_cut_early_says_little_of_a_wide_bucket():
    """Nine of ten are cut after 10 tokens, the others end after 30: most of all end in the first bucket, by 64."""
    found = ObservedLengths()
    for i in range(200):
        found.observe(500, 4096, 30 if i % 10 == 0 else 10, whole=i % 10 == 0)
    assert found.distribution(500, 4096).probabilities[0] > 0.7
