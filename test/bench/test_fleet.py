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

"""`timebill bench fleet`, small: its files, its rows and its picture."""
import json
from pathlib import Path

import pytest

from timebill_ros.bench.fleet import kinds_of, run, server_times
from timebill_ros.bench.fleet_queue import POLICIES
from timebill_ros.cli.main import main
from timebill_ros.timing.execution_time import ExecutionTimes

RECORDED = Path(__file__).resolve().parents[2] / 'results'
TIMING = {'prompt_tokens': 100, 'generated_tokens': 11, 'prefill_s': 0.5, 'eviction_s': None, 'decode_s': 0.7}


@pytest.fixture
def files(tmp_path):
    onboard, server = tmp_path / 'results.json', tmp_path / 'device.json'
    onboard.write_text(json.dumps([
        {'kind': 'unhurried', 'error_code': 'NONE', 'timing': TIMING},
        {'kind': 'tight', 'error_code': 'NONE', 'timing': TIMING},
        {'kind': 'unhurried', 'error_code': 'INFEASIBLE', 'timing': TIMING}]))
    server.write_text(json.dumps({'shapes': [{'shape': 'big', 'times': {'a': 0.0, 'b': 0.001, 'c': 0.0, 'p': 0.0,
                                                                       'q': 0.01}}, {'shape': 'failed'}]}))
    return onboard, server


def test_a_question_takes_what_was_recorded_and_what_the_profile_says(files):
    onboard, server = files
    (kind,) = kinds_of(onboard, server_times(server, 'big'))
    assert kind.server_s == pytest.approx(0.1 + 10 * 0.01) and kind.onboard_s == pytest.approx(1.2)
    assert kind.read_s == 0.5


def test_the_files_that_the_results_come_from_can_be_read():
    times = server_times(RECORDED / 'device_h100.json', 'Qwen2.5-7B')
    assert 0.005 < times.step(500) < 0.02 and isinstance(times, ExecutionTimes)
    assert kinds_of(RECORDED / 'demo_h100' / 'results.json', times)


def test_rows_and_picture(files, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    out = tmp_path / 'fleet.json'
    assert main(['bench', 'fleet', '--onboard', str(files[0]), '--server', str(files[1]), '--shape', 'big', '--robots',
                 '5', '500', '--seconds', '100', '--places', '2', '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    assert len(result['rows']) == 2 * len(POLICIES) and result['full_at_robots'] == pytest.approx(100.0)
    on_time = {(row['robots'], row['policy']): row['on_time'] for row in result['rows']}
    assert on_time[5, POLICIES[0].name] > 0.95 > 0.5 > on_time[500, POLICIES[0].name]
    assert out.with_suffix('.png').is_file() and 'full at 100 robots' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(('change', 'told'), [
    (lambda onboard, server: server.write_text('{}'), 'has no times of any model'),
    (lambda onboard, server: server.write_text(server.read_text().replace('big', 'small')),
     "has no times of --shape 'big', only of small"),
    (lambda onboard, server: server.unlink(), r'--server \S+device\.json cannot be read: No such file'),
    (lambda onboard, server: onboard.unlink(), r'--onboard \S+results\.json cannot be read: No such file'),
    (lambda onboard, server: onboard.write_text('[]'), 'no goals without hurry'),
    (lambda onboard, server: onboard.write_text('{}'), 'no result of "timebill demo"'),
    (lambda onboard, server: onboard.write_text('[5]'), 'no result of "timebill demo"'),
    (lambda onboard, server: server.write_text('{"shapes": [5]}'), 'no result of "timebill bench device"'),
    (lambda onboard, server: server.write_text('{'), 'is no JSON')])
def test_files_that_do_not_fit_are_told(files, tmp_path, change, told):
    change(*files)
    with pytest.raises(ValueError, match=told):
        run(*files, tmp_path / 'out.json', shape='big', robots=[5], places=1, deadline_s=1.0, period_s=1.0,
            network_s=0.0, seconds=10.0)


@pytest.mark.parametrize('missing', ['--onboard', '--server'])
def test_recorded_times_have_to_be_given(capsys, missing):
    given = {'--onboard': 'a', '--server': 'b'}
    del given[missing]
    with pytest.raises(SystemExit):
        main(['bench', 'fleet', *(part for pair in given.items() for part in pair)])
    assert f'the following arguments are required: {missing}' in capsys.readouterr().err


def test_where_no_question_came_there_is_no_share(files, tmp_path, capsys):
    out = tmp_path / 'fleet.json'
    assert run(*files, out, shape='big', robots=[1], places=1, deadline_s=1.0, period_s=1e6, network_s=0.0,
               seconds=10.0) == 0
    row = json.loads(out.read_text())['rows'][0]
    assert (row['questions'], row['on_time'], row['server']) == (0, None, None)
    assert ' - ' in capsys.readouterr().out
