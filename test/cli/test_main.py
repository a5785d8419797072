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
import argparse
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from timebill_ros.cli.main import main, parser

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'timebill_ros.cli', *arguments], cwd=ROOT, capture_output=True,
                          text=True, timeout=60, env={**os.environ, **environment})


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of a subcommand, such as 'ask' or 'bench load'."""
    found = parser()
    for part in name.split():
        choices, = (action.choices for action in found._actions if isinstance(action, argparse._SubParsersAction))
        found = choices[part]
    return found


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


@pytest.mark.parametrize(('option', 'value'), [
    ('--budget', '-1'), ('--budget', '0'), ('--budget', 'inf'), ('--budget', '-inf'), ('--budget', 'nan'),
    ('--budget', '1e12'), ('--max-new-tokens', '-3'), ('--max-new-tokens', '99999999999'), ('--wait', 'nan'),
    ('--wait', '-1'), ('--wait', 'inf'), ('--temperature', 'nan'), ('--min-p', 'inf'), ('--top-k', '-1'),
    ('--top-k', '4294967296'), ('--seed', '-1'), ('--seed', '18446744073709551616')])
def test_a_number_that_no_goal_can_carry_gets_one_sentence(option, value, capsys):
    assert run('ask', 'hello', '--budget=1', f'{option}={value}') == 1
    out, error = capsys.readouterr()
    assert error.startswith(f'timebill ask: {option} {value.removesuffix("e12")}') and error.count('\n') == 1
    assert out == ''


@pytest.mark.parametrize(('option', 'value', 'bounds'), [
    ('--seed', '-1', 'a whole number from 0 to 18446744073709551615'), ('--top-k', '-1', 'from 0 to 4294967295'),
    ('--temperature', 'nan', 'a number from -3.403e+38 to 3.403e+38')])
def test_both_bounds_of_a_number_are_told(option, value, bounds, capsys):
    assert run('ask', 'hello', '--budget=1', f'{option}={value}') == 1
    assert f'{option} {value} cannot be sent: give ' in (error := capsys.readouterr().err) and bounds in error


@pytest.mark.parametrize(('text', 'typed', 'told'), [
    ('-', b'\xff\xfe', 'standard input is not UTF-8, from position 0 on: convert it first'),
    ('caf\udce9', b'', 'the text is not UTF-8, from position 3 on: convert it first'),
    ('one\0two', b'', 'messages[0].content holds a NUL at character 3'),
], ids=['standard input', 'argument', 'NUL'])
def test_a_text_that_no_goal_can_carry_gets_one_sentence(text, typed, told, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(typed), 'utf-8'))
    assert run('ask', text, '--budget', '1', '--server', '/nobody') == 1
    out, error = capsys.readouterr()
    assert error.startswith(f'timebill ask: {told}') and error.count('\n') == 1 and out == ''


@pytest.mark.parametrize('name', ['', 'bad name'])
def test_a_name_that_no_node_can_have_gets_one_sentence(name, capfd):
    assert run('ask', 'hello', '--budget', '1', '--server', name) == 1
    error = capfd.readouterr().err
    assert error.startswith(f'timebill ask: server {name!r} is no name of a node') and error.count('\n') == 1


def test_a_security_directory_that_is_not_there_is_a_sentence(tmp_path):
    done = command('ask', 'hello', '--budget', '1', ROS_SECURITY_ENABLE='true', ROS_SECURITY_STRATEGY='Enforce',
                   ROS_SECURITY_KEYSTORE=str(tmp_path / 'none'))
    assert done.returncode == 1
    assert str(tmp_path / 'none') in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize(('arguments', 'library', 'advice'), [
    (['ask', 'hello', '--budget', '1'], 'rclpy', 'source the ROS 2 installation'),
    (['monitor'], 'rclpy', 'source the ROS 2 installation'),
    (['profile', '--out', 'OUT'], 'transformers', 'worker_python'),
    (['ask', 'hello', '--budget', '1'], 'timebill_ros.action', 'not built'),
])
def test_a_missing_library_is_a_sentence(arguments, library, advice, tmp_path):
    # None in sys.modules makes an import fail as that of a library that is not installed does.
    code = (f'import sys; sys.modules[{library!r}] = None; from timebill_ros.cli.main import main; '
            f'sys.exit(main({[str(tmp_path / "p") if a == "OUT" else a for a in arguments]!r}))')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert f'has no {library}' in done.stderr and advice in done.stderr and 'Traceback' not in done.stderr


def test_the_version_is_that_of_the_package():
    done = command('--version')
    declared = re.search('<version>(.+)</version>', (ROOT / 'package.xml').read_text())[1]
    assert (done.returncode, done.stdout) == (0, f'timebill_ros {declared}\n')


def test_help_shows_the_default_of_every_option_that_has_one():
    for name in ('ask', 'monitor', 'profile', 'demo', 'bench decode', 'bench load', 'bench miss-rate', 'bench device'):
        for action in parser_of(name)._actions:
            if action.option_strings and action.nargs != 0 and action.default not in (None, '', '==SUPPRESS=='):
                assert 'default' in action.help, (name, action.option_strings)
        assert 'None' not in parser_of(name).format_help()


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
