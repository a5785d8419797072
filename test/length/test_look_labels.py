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


"""Looks at answers: the last ones are kept, by age, and what a file holds of them is checked."""
import numpy as np
import pytest

from timebill_ros.length import look_labels
from timebill_ros.length.look_labels import AGES, MOST_BYTES, MOST_LOOKS, LookLabels, age_at, joined

WIDTH = 6


def looks(n, width=WIDTH):
    """Looks at the first two ages by turns; the states tell their number."""
    found = LookLabels(width)
    for i in range(n):
        found.add(AGES[i % 2], np.full(width, i / 4096), i + 1, whole=i % 3 > 0)
    return found


@pytest.mark.parametrize(('n', 'age'), [(1, None), (15, None), (16, 16), (31, 16), (32, 32), (95, 64), (96, 96),
                                        (1023, 768), (100_000, 1024)])
def test_an_answer_has_reached_the_largest_age_below(n, age):
    assert age_at(n) == age


def test_looks_are_kept_by_age_and_the_oldest_makes_room(monkeypatch):
    monkeypatch.setattr(look_labels, 'MOST_LOOKS', 100)
    found = looks(151)
    assert len(found) == found.capacity == 100 and found.seen[16] == 76 and found.seen[32] == 75
    for age, first in ((16, 52), (32, 51)):
        states, left, whole = found.at(age)
        of_age = np.arange(first, 151, 2)
        assert len(left) == found.count(age) == 50
        assert (left == of_age + 1).all() and (whole == (of_age % 3 > 0)).all()
        np.testing.assert_allclose(states[:, 0], of_age / 4096, rtol=1e-3)
    assert found.count(64) == len(found.at(64)[1]) == 0


@pytest.mark.parametrize(('width', 'capacity'), [(3 * 576, MOST_LOOKS), (3 * 4096, 1364)])
def test_wide_models_have_fewer(width, capacity):
    found = LookLabels(width)
    assert found.capacity == capacity and found.most_bytes <= MOST_BYTES


def test_an_answer_gives_a_look_at_each_age_at_which_it_went_on():
    found = LookLabels(3 * 2)
    own = [(n, joined(np.array([n, 0.0]), np.array([0.0, n]))) for n in (16, 40, 64)]
    found.add_answer(np.array([1.0, 1.0]), own, 64, whole=True)
    assert [found.count(age) for age in (16, 32, 64)] == [1, 1, 0]
    states, left, whole = found.at(32)
    assert left.tolist() == [24] and whole.tolist() == [True]
    np.testing.assert_allclose(states[0], [1, 1, 2 ** 0.5, 0, 0, 2 ** 0.5], atol=1e-3)


def test_states_of_a_batch_are_joined_row_by_row():
    rows, others = np.random.default_rng(0).normal(size=(2, 5, 3))
    found = joined(rows, others)
    assert found.shape == (5, 6)
    np.testing.assert_allclose(found[2], joined(rows[2], others[2]))
    np.testing.assert_allclose(np.square(found[:, :3]).mean(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize('n', [0, 7, 103])
def test_what_a_file_holds_restores_them(n, monkeypatch):
    monkeypatch.setattr(look_labels, 'MOST_LOOKS', 100)
    found, again = looks(n), LookLabels(WIDTH)
    again.restore(again.checked(found.tensors()))
    assert len(again) == len(found)
    for age in AGES:
        assert again.seen[age] == found.count(age)
        for one, other in zip(again.at(age), found.at(age), strict=True):
            assert (one == other).all()
    again.add(16, np.ones(WIDTH), 99, whole=True)
    assert again.at(16)[1].tolist()[-1] == 99 and len(again) == min(n + 1, 100)


def test_a_file_may_hold_none():
    assert LookLabels(WIDTH).checked({'states': np.zeros((1, 2))}) is None


@pytest.mark.parametrize(('name', 'change', 'words'), [
    ('states', lambda x: x[:, :-1], 'shapes'), ('ages', lambda x: x[:-1], 'shapes'),
    ('lengths', lambda x: x.astype(np.int64), 'int64'), ('states', lambda x: x.astype(np.float32), 'float32'),
    ('lengths', lambda x: x * 0, 'nothing was left'), ('ages', lambda x: x + 1, 'none of those known'),
    ('states', lambda x: x + np.float16(np.inf), 'not finite')])
def test_what_is_no_look_is_refused(name, change, words):
    found = looks(5).tensors()
    found[f'look_{name}'] = change(found[f'look_{name}'])
    with pytest.raises(ValueError, match=words):
        LookLabels(WIDTH).checked(found)


def test_a_tensor_short_is_refused():
    found = looks(5).tensors()
    del found['look_whole']
    with pytest.raises(KeyError):
        LookLabels(WIDTH).checked(found)


def test_more_than_there_is_room_for_is_refused(monkeypatch):
    found = looks(5).tensors()
    monkeypatch.setattr(look_labels, 'MOST_LOOKS', 4)
    with pytest.raises(ValueError, match='shapes'):
        LookLabels(WIDTH).checked(found)
