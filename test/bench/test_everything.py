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

"""`timebill bench all`: what runs, what is left out after a stop, and that every command line is one."""
import json

import pytest

from timebill_ros.bench.everything import FINISHED, ON_TEXT, STEPS, arguments, run
from timebill_ros.cli import bench_evaluation
from timebill_ros.cli.main import main, parser


class Runner:
    """Stands for the processes; fails for the benches in `failing`."""

    def __init__(self, *failing):
        self.failing, self.ran = failing, []

    def __call__(self, command):
        self.ran.append(command[0])
        return int(command[0] in self.failing)


@pytest.mark.parametrize('quick', [False, True])
@pytest.mark.parametrize('step', [*STEPS, *ON_TEXT], ids=lambda step: step.stem)
def test_every_step_is_a_command(step, quick, tmp_path):
    command = arguments(step, tmp_path, quick=quick, model='embedded', tasks=tmp_path / 'tasks.jsonl')
    options = parser().parse_args(['bench', *command])
    assert options.bench == step.bench and options.out == tmp_path / f'{step.stem}.json'


def test_all_run_once_and_a_second_command_runs_what_failed(tmp_path, capsys):
    first = Runner('wcet')
    assert run(tmp_path, first, quick=True) == 1
    assert first.ran == [step.bench for step in STEPS]
    assert f'1 of {len(STEPS)} failed: wcet' in ' '.join(capsys.readouterr().out.split())
    again = Runner()
    assert run(tmp_path, again, quick=True) == 0 and again.ran == ['wcet']
    assert json.loads((tmp_path / FINISHED).read_text())['seconds'].keys() == {step.stem for step in STEPS}


def test_a_stop_keeps_what_has_finished(tmp_path):
    def stopped(command):
        if command[0] == 'execution-time':
            raise KeyboardInterrupt
        return 0
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped, quick=False)
    again = Runner()
    assert run(tmp_path, again, quick=False) == 0
    assert again.ran == [step.bench for step in STEPS[2:]]


def test_some_and_those_on_real_text(tmp_path):
    runner = Runner()
    assert run(tmp_path, runner, quick=True, only=['wcet'], model='m', tasks=tmp_path / 't.jsonl') == 0
    assert runner.ran == ['wcet', 'wcet']
    with pytest.raises(ValueError, match="'speed' is none of decode, parallel"):
        run(tmp_path, runner, quick=True, only=['wcet', 'speed'])
    with pytest.raises(ValueError, match='--tasks needs --model'):
        run(tmp_path, runner, quick=True, tasks=tmp_path / 't.jsonl')


@pytest.mark.parametrize('text', ['{', '[]', '{"quick": true, "seconds": 3}'])
def test_a_damaged_note_and_results_of_the_other_kind_are_told(tmp_path, text):
    (tmp_path / FINISHED).write_text(text)
    with pytest.raises(ValueError, match='delete it'):
        run(tmp_path, Runner(), quick=True)
    (tmp_path / FINISHED).write_text('{"quick": false, "seconds": {}}')
    with pytest.raises(ValueError, match='without --quick'):
        run(tmp_path, Runner(), quick=True)


@pytest.mark.slow
def test_two_of_them_in_earnest(tmp_path, monkeypatch, capsys):
    assert main(['bench', 'all', '--quick', '--only', 'decode', 'parallel', '--out', str(tmp_path)]) == 0
    assert {'decode.json', 'parallel.json', FINISHED} <= {path.name for path in (tmp_path / 'quick').iterdir()}
    monkeypatch.setattr(bench_evaluation, 'run_in_a_process', lambda command: pytest.fail('it has finished'))
    assert main(['bench', 'all', '--quick', '--only', 'decode', 'parallel', '--out', str(tmp_path)]) == 0
    assert 'FAILED' not in capsys.readouterr().out
