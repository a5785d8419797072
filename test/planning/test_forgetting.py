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

"""Forgetting: what is removed, what is said of it, and that a running worker notices."""
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from timebill_ros.forgotten import Forgetting
from timebill_ros.length.state_labels import StateLabels
from timebill_ros.planning.forgetting import NotToldError, forget
from timebill_ros.planning.tracker import Tracker


def kept(cache, name='a', **options):
    path = cache / 'state' / f'{name}.json'
    profile = {'date': '2026-01-02', 'identity': {'device': 'a CPU', 'model': '12ab'}}
    Tracker(profile=profile, **options).save(path, 'tiny')
    return path


def test_every_state_is_removed_and_told_with_its_model_and_profile(tmp_path):
    first, second = kept(tmp_path), kept(tmp_path, 'b', miss_rate=0.2)
    aside = first.with_name('c.json.corrupt')
    aside.write_text('{')
    (tmp_path / 'profiles').mkdir()
    (tmp_path / 'profiles' / 'a.yaml').write_text('kept')
    removed = {one.path: one.content for one in forget(tmp_path)}
    assert removed == {first: 'tiny on a CPU (profile of 2026-01-02; adaptive, miss rate 0.05)',
                       second: 'tiny on a CPU (profile of 2026-01-02; adaptive, miss rate 0.2)',
                       aside: 'of an earlier version, or damaged'}
    assert not list((tmp_path / 'state').iterdir()) and (tmp_path / 'profiles' / 'a.yaml').exists()
    assert forget(tmp_path) == []


def test_a_state_without_the_models_name_is_told_by_what_identifies_it(tmp_path):
    path = kept(tmp_path)
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, 'model': ''}))
    assert [one.content.split(' (')[0] for one in forget(tmp_path)] == ['model 12ab on a CPU']


def test_a_worker_notices_each_time_once(tmp_path):
    forgetting = Forgetting(tmp_path)
    assert not forgetting.asked()
    for second in (1, 2):
        forget(tmp_path)
        os.utime(tmp_path / 'forgotten', (second, second))  # file systems may keep whole seconds
        assert forgetting.asked() and not forgetting.asked()
    assert not Forgetting(tmp_path).asked(), 'it starts after that'


def test_where_there_is_no_cache_none_is_made(tmp_path):
    assert forget(tmp_path / 'none') == [] and not (tmp_path / 'none').exists()
    assert not Forgetting(tmp_path / 'none').asked()


def full(errors):
    """Return a stand-in for Path.touch and Path.write_text that fails as long as there are `errors`, one at a call."""
    def write(path, *arguments):
        if errors:
            raise OSError(errors.pop(), 'No space left on device')
    return write


def test_on_a_full_disk_states_are_removed_and_the_mark_needs_no_room(tmp_path, monkeypatch):
    path, forgetting = kept(tmp_path), Forgetting(tmp_path)
    monkeypatch.setattr(Path, 'write_text', full([errno.ENOSPC] * 9))
    assert [one.path for one in forget(tmp_path)] == [path] and not path.exists()
    assert forgetting.asked()


def test_the_mark_is_tried_again_in_the_room_that_is_left(tmp_path, monkeypatch):
    path = kept(tmp_path)
    monkeypatch.setattr(Path, 'touch', full([errno.ENOSPC]))
    assert [one.path for one in forget(tmp_path)] == [path]


def test_what_was_removed_without_a_mark_is_told_with_what_to_do(tmp_path, monkeypatch):
    path = kept(tmp_path)
    monkeypatch.setattr(Path, 'touch', full([errno.ENOSPC] * 2))
    with pytest.raises(NotToldError, match=f'^{tmp_path} cannot be written to .No space.*Make room there') as caught:
        forget(tmp_path)
    assert [one.path for one in caught.value.removed] == [path] and not path.exists()


def test_a_state_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    path = kept(tmp_path)

    def refuse(path, missing_ok):
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr(Path, 'unlink', refuse)
    with pytest.raises(OSError, match=f'^{path} cannot be removed .Permission denied.: run this as a user'):
        forget(tmp_path)


def test_hidden_states_are_removed_and_told_too(tmp_path):
    path = kept(tmp_path).with_suffix('.safetensors')
    labels = StateLabels(4, 2)
    labels.add(np.ones(4), 7, whole=True)
    labels.save(path, 'tiny')
    aside = path.with_name(path.name + '.corrupt')
    aside.write_bytes(b'no safetensors')
    removed = {one.path: one.content for one in forget(tmp_path)}
    assert removed[path] == 'hidden states of prompts of tiny, with the lengths of answers'
    assert removed[aside] == 'of an earlier version, or damaged' and len(removed) == 3
    assert not list((tmp_path / 'state').iterdir())
