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

"""Labels of hidden states: the last ones are kept, their file is bounded, and a bad one is set aside."""
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from timebill_ros.length.state_file import facts_of
from timebill_ros.length.state_labels import CAPACITY, HALF_LIFE, StateLabels, for_fitting

WIDTH = 6


def labels(n, width=WIDTH, depth=2, first=1):
    found = StateLabels(width, depth)
    for i in range(first, first + n):
        found.add(np.full(width, i / 4096), i, whole=i % 3 != 0)
    return found


def test_the_oldest_label_makes_room():
    found = labels(CAPACITY + 5)
    states, lengths, whole = found.snapshot()
    assert len(found) == CAPACITY and found.seen == CAPACITY + 5
    assert lengths.tolist() == list(range(6, CAPACITY + 6))
    assert whole.tolist() == [n % 3 != 0 for n in lengths]
    np.testing.assert_allclose(states[:, 0], lengths / 4096, rtol=1e-3)


def test_a_snapshot_does_not_change_with_what_is_added():
    found = labels(3)
    states, lengths, _ = found.snapshot()
    found.add(np.ones(WIDTH), 99, whole=True)
    assert lengths.tolist() == [1, 2, 3] and states.max() < 0.01


@pytest.mark.parametrize('n', [0, 1, 7, CAPACITY, CAPACITY + 3])
def test_a_file_restores_the_labels_and_is_no_larger_than_stated(n, tmp_path):
    found, path = labels(n), tmp_path / 'deep' / 'a.safetensors'
    found.save(path, 'a model with ü and a name of any length ' * 50)
    assert path.stat().st_size <= found.longest_file <= CAPACITY * (2 * WIDTH + 5) + 4096
    assert not list(path.parent.glob('*.partial'))
    again = StateLabels(WIDTH, 2)
    assert again.load(path) and len(again) == len(found)
    for one, other in zip(again.snapshot(), found.snapshot(), strict=True):
        assert (one == other).all()
    again.add(np.zeros(WIDTH), 7, whole=True)
    assert again.snapshot()[1].tolist() == [*found.snapshot()[1], 7][-CAPACITY:]
    facts = facts_of(path)
    assert facts['model'].startswith('a model with ü') and facts['depth'] == '2'


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path):
    assert not StateLabels(WIDTH, 2).load(tmp_path / 'none.safetensors')


def test_states_of_another_layer_are_not_used_and_stay(tmp_path, caplog):
    path = tmp_path / 'a.safetensors'
    labels(4).save(path)
    with caplog.at_level(logging.WARNING):
        assert not StateLabels(WIDTH, 3).load(path)
    assert 'behind layer 2, not 3' in caplog.text and path.is_file()


def damaged(path, what):
    tensors = load_file(path)
    facts = facts_of(path)
    if what == 'no safetensors':
        path.write_text('{')
    elif what == 'nested':
        path.write_bytes((4000).to_bytes(8, 'little') + b'[' * 4000)
    elif what == 'cut':
        path.write_bytes(path.read_bytes()[:-9])
    elif what == 'too large':
        path.write_bytes(path.read_bytes() + bytes(CAPACITY * 2 * WIDTH * 2))
    elif what == 'another format':
        save_file(tensors, path, {**facts, 'format': '9'})
    elif what == 'no facts':
        save_file(tensors, path)
    elif what == 'not finite':
        tensors['states'][1, 2] = np.inf
        save_file(tensors, path, facts)
    elif what == 'another width':
        save_file({**tensors, 'states': tensors['states'][:, :-1].copy()}, path, facts)
    elif what == 'too many':
        n = CAPACITY + 1
        save_file({'states': np.zeros((n, 1), np.float16), 'lengths': np.ones(n, np.int32),
                   'whole': np.ones(n, np.uint8)}, path, facts)
    elif what == 'no length':
        tensors['lengths'][0] = 0
        save_file(tensors, path, facts)
    elif what == 'another type':
        save_file({**tensors, 'lengths': tensors['lengths'].astype(np.float64)}, path, facts)
    elif what == 'a tensor short':
        save_file({'states': tensors['states'], 'whole': tensors['whole']}, path, facts)


DAMAGES = ['no safetensors', 'nested', 'cut', 'too large', 'another format', 'no facts', 'not finite', 'another width',
           'too many', 'no length', 'another type', 'a tensor short']


@pytest.mark.parametrize('what', [*DAMAGES, 'missing', 'another layer'])
def test_a_users_file_that_cannot_be_used_stays_and_changes_nothing(what, tmp_path):
    path, found = tmp_path / 'a.safetensors', labels(3, first=40)
    if what != 'missing':
        labels(5, depth=3 if what == 'another layer' else 2).save(path)
        damaged(path, what)
    content = path.read_bytes() if path.exists() else None
    with pytest.raises(ValueError):
        found.begin_with(path)
    assert found.snapshot()[1].tolist() == [40, 41, 42]
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_users_file_is_begun_with(tmp_path):
    found = StateLabels(WIDTH, 2)
    labels(5).save(tmp_path / 'a.safetensors')
    found.begin_with(tmp_path / 'a.safetensors')
    assert found.snapshot()[1].tolist() == [1, 2, 3, 4, 5] and (tmp_path / 'a.safetensors').exists()


@pytest.mark.parametrize('what', DAMAGES)
def test_a_file_that_cannot_be_used_is_set_aside_and_changes_nothing(what, tmp_path, caplog):
    path = tmp_path / 'a.safetensors'
    labels(5).save(path)
    damaged(path, what)
    content = path.read_bytes()
    found = labels(3, first=40)
    with caplog.at_level(logging.WARNING):
        assert not found.load(path)
    assert found.snapshot()[1].tolist() == [40, 41, 42]
    assert str(path) in caplog.text and not path.exists()
    assert path.with_name('a.safetensors.corrupt').read_bytes() == content


def test_a_label_counts_half_after_the_stated_number_of_newer_ones():
    weights = for_fitting(np.full(HALF_LIFE + 1, 9), np.ones(HALF_LIFE + 1, bool)).weights
    assert weights[-1] == 1.0 and weights[0] == pytest.approx(0.5)


# -- looks at answers, which the file holds besides -------------------------------------------------------------------

def with_looks(n):
    found = StateLabels(WIDTH, 2, last_width=4)
    for i in range(1, n + 1):
        found.add(np.full(WIDTH, i / 4096), 40, whole=True)
        found.looks.add(32, np.full(WIDTH + 8, i / 4096), 8, whole=i % 2 > 0)
    return found


@pytest.mark.parametrize('n', [0, 5, 5000])
def test_a_file_restores_the_looks_and_is_no_larger_than_stated(n, tmp_path):
    found, path = with_looks(n), tmp_path / 'a.safetensors'
    found.save(path, 'a model')
    assert path.stat().st_size <= found.longest_file
    again = StateLabels(WIDTH, 2, last_width=4)
    assert again.load(path) and len(again) == len(found) and len(again.looks) == len(found.looks) == min(n, 4096)
    for one, other in zip(again.looks.at(32), found.looks.at(32), strict=True):
        assert (one == other).all()


def test_a_file_of_an_earlier_version_has_no_looks(tmp_path):
    path, found = tmp_path / 'a.safetensors', StateLabels(WIDTH, 2, last_width=4)
    labels(5).save(path)
    assert found.load(path) and len(found) == 5 and len(found.looks) == 0


def test_looks_that_cannot_be_used_change_nothing(tmp_path):
    path, found = tmp_path / 'a.safetensors', with_looks(3)
    with_looks(5).save(path)
    tensors = load_file(path)
    tensors['look_ages'] += 1
    save_file(tensors, path, facts_of(path))
    with pytest.raises(ValueError, match='none of those known'):
        found.begin_with(path)
    assert len(found) == 3 and len(found.looks) == 3
