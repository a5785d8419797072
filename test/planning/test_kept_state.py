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

"""The file of what requests taught: an earlier version's is told, a broken one set aside, and names may be added."""
import json

import pytest

from timebill_ros.planning import kept_state


def test_what_is_saved_is_handed_on(tmp_path):
    seen, path = [], tmp_path / 'state' / 'x.json'
    assert not kept_state.load(path, seen.append)
    kept_state.save(path, {'policy': 'adaptive', 'a later name': [1]})
    assert kept_state.load(path, lambda state: seen.append(state) or True)
    assert seen == [{'format': kept_state.FORMAT, 'policy': 'adaptive', 'a later name': [1]}]
    assert not kept_state.load(path, lambda state: False), 'a state for another promise'


def test_an_earlier_versions_state_is_told_in_a_sentence_and_left(tmp_path, caplog):
    path = tmp_path / 'x.json'
    path.write_text('{"format": 1, "policy": "adaptive", "steps": [1.0]}')
    assert not kept_state.load(path, lambda state: pytest.fail('it was handed on'))
    told, = caplog.records
    assert str(path) in told.getMessage() and 'earlier version' in told.getMessage()
    kept_state.save(path, {})  # and the next one takes its place
    assert json.loads(path.read_text()) == {'format': kept_state.FORMAT}


@pytest.mark.parametrize('error', [ValueError, KeyError, TypeError, AttributeError, OverflowError])
def test_a_state_that_is_refused_is_set_aside(error, tmp_path, caplog):
    def refuse(state):
        raise error('bad')

    path = tmp_path / 'x.json'
    kept_state.save(path, {})
    assert not kept_state.load(path, refuse)
    assert 'set aside as x.json.corrupt' in caplog.text and [p.name for p in tmp_path.iterdir()] == ['x.json.corrupt']
