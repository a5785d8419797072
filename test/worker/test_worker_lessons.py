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

"""What requests taught, over restarts of the inference process: kept, forgotten, and under other promises."""
from __future__ import annotations

import json
import time

import pytest
from node_client import WAIT_S, wait_until
from scripted_model import parameters
from worker_listener import Listener

from timebill_ros import settings
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.planning.forgetting import forget
from timebill_ros.request import Request, to_dict


def run(process, listener, name):
    """Have the worker run a request to its end."""
    now = time.monotonic()
    request = Request(name, now, now + WAIT_S, prompt='w1', max_new_tokens=200)
    process.send({'op': 'run', 'request': to_dict(request)})
    wait_until(lambda: any(event['event'] == 'done' and event['id'] == name for event in listener.events))


def learning(cache_dir):
    return {**settings.check(parameters()), 'cache_dir': str(cache_dir), 'pessimistic_length': 'adaptive',
            'track_timing': True, 'keep_state': True}


def learn(values, n, **changed):
    """A worker that serves `n` requests and ends; its listener."""
    listener = Listener()
    process = WorkerProcess('', listener)
    process.send({'op': 'configure', 'settings': values})
    listener.wait('ready')
    if changed:
        process.send({'op': 'set', 'settings': changed})
    for i in range(n):
        run(process, listener, f'{i}')
    process.close()
    return listener


@pytest.mark.slow
def test_what_requests_taught_survives_a_restart(tmp_path):
    values = learning(tmp_path)
    first = learn(values, 3)
    assert 'earlier requests' not in first.wait('ready')['description']
    assert {'timing_factor', 'prefill_factor', 'time_bound', 'unusual'} <= first.wait('done')['tracked'].keys()
    path, = (tmp_path / 'state').glob('*.json')
    state = json.loads(path.read_text())
    assert len(state['factors']['prefill']) == 3
    assert 'with what earlier requests taught' in learn(values, 1).wait('ready')['description']
    assert len(json.loads(path.read_text())['factors']['prefill']) == 4, 'it went on from there'
    path.write_text('{')
    assert 'earlier requests' not in learn(values, 1).wait('ready')['description']
    assert len(json.loads(path.read_text())['factors']['prefill']) == 1
    assert path.with_name(path.name + '.corrupt').read_text() == '{'


@pytest.mark.slow
def test_a_running_worker_forgets_before_its_next_request(tmp_path):
    values = learning(tmp_path)
    learn(values, 3)
    listener = Listener()
    process = WorkerProcess('', listener)
    process.send({'op': 'configure', 'settings': values})
    assert 'with what earlier requests taught' in listener.wait('ready')['description']
    path, = (tmp_path / 'state').glob('*.json')
    assert path in [one.path for one in forget(tmp_path)] and not any((tmp_path / 'state').iterdir())
    run(process, listener, 'next')
    process.close()
    assert len(json.loads(path.read_text())['factors']['prefill']) == 1, 'it knows the request after that alone'


def test_a_node_that_is_to_keep_nothing_keeps_nothing(tmp_path):
    learn({**learning(tmp_path), 'keep_state': False}, 1)
    assert not (tmp_path / 'state').exists()


@pytest.mark.slow
def test_another_promise_takes_effect_at_once_and_keeps_what_is_known_of_the_device(tmp_path):
    values = learning(tmp_path)
    learn(values, 2)
    learn(values, 1, miss_rate=0.2)
    path, = (tmp_path / 'state').glob('*.json')
    state = json.loads(path.read_text())
    assert state['miss_rate'] == 0.2 and len(state['factors']['prefill']) == 3
