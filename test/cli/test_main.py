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

"""The command as a whole: errors are sentences, wrong usage says how, and asking for help loads nothing."""
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from timebill_ros.cli.main import main, parser

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['profile', '--model', '/nonexistent'], '/nonexistent'),
    (['profile', '--model', 'EMPTY'], 'config.json'),
    (['bench', 'decode', '--model', 'MAMBA'], 'recurrent'),
    (['ask', 'hello', '--budget', '1', '--server', '/nobody'], '/nobody'),
])
def test_an_error_is_a_sentence_and_exit_status_1(arguments, sentence, tmp_path, capsys):
    places = {'EMPTY': tmp_path, 'MAMBA': tiny_models.directory('mamba')}
    assert run(*(places.get(argument, argument) for argument in arguments)) == 1
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error


@pytest.mark.parametrize('arguments', [[], ['bench'], ['ask', 'hello'], ['profile', '--dtype', 'int3'], ['no-such']])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert 'usage' in capsys.readouterr().err


def test_every_command_explains_itself(capsys):
    for command in ('ask', 'monitor', 'profile', 'bench', 'demo'):
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args([command, '--help'])
        assert stopped.value.code == 0
        assert command in capsys.readouterr().out


def test_help_imports_neither_torch_nor_rclpy():
    code = ('import sys; from timebill_ros.cli.main import parser; parser().format_help(); '
            'print(*sys.modules)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not {'torch', 'transformers', 'rclpy', 'numpy', 'rich', 'matplotlib'} & set(done.stdout.split())
