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

"""The shell commands that the documentation prints: blocks marked `sh run` run here as they are printed.

Of every other command, programs, options, parameters and files have to exist: many are for a robot with an installed
ROS 2, which is not there where the tests run.
"""
import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from timebill_ros import settings
from timebill_ros.cli.main import parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'resource' / 'demo' / 'README.md',
         *sorted((ROOT / 'docs').glob('*.md'))]
BLOCK = re.compile(r'^```sh( run)?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
# Programs of the system, which the documentation may use without a check of their arguments.
OF_THE_SYSTEM = {'cd', 'git', 'rosdep', 'colcon', 'source', 'export', 'kill', 'nsys', 'curl'}
ROS2_COMMANDS = {'security', 'service', 'lifecycle', 'topic', 'param', 'action'}
KNOWN = {parameter.name for parameter in settings.PARAMETERS}
HOLE, SHARE = 'PLACEHOLDER', '/SHARE'
SCRIPTS = {'timebill_ros.training.train_target': 'timebill_ros/training/train_target.py'}


def blocks(runs: bool | None = None) -> list[tuple[str, str]]:
    """Return (page, text) of the shell blocks; `runs`: only those that are marked as run, or only the others."""
    return [(page.name, text) for page in PAGES for mark, text in BLOCK.findall(page.read_text())
            if runs is None or bool(mark) is runs]


def commands(text: str) -> list[list[str]]:
    """Split a shell text into commands of words: no comments, no assignments, placeholders and shares by name."""
    text = text.replace('\\\n', ' ').replace('$(ros2 pkg prefix --share timebill_ros)', SHARE)
    text = re.sub(r'<[^<>\n]+>', HOLE, text)
    found = []
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars='&;|')
        lexer.whitespace_split, words = True, []
        for word in [*lexer, ';']:
            if set(word) <= set('&;|'):
                while words and re.match(r'\w+=', words[0]):
                    check_files(words.pop(0))
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return found


def check_files(word: str) -> None:
    """Fail for a file of this package's share that is not among those that are installed there."""
    if SHARE in word:
        path = word.split(SHARE + '/')[1]
        assert (ROOT / path).is_file() and path.startswith('config/'), f'{path} is not installed'


def check(words: list[str]) -> None:
    """Fail for a command that cannot work as it is printed."""
    program, *rest = words
    for word in words:
        check_files(word)
    name = program.rpartition('/')[2]
    if program in OF_THE_SYSTEM or name in ('pip', 'ruff'):
        return
    if program == 'make':
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        asked = {word for word in rest if not re.match(r'\w+=', word)}  # without variables
        assert asked and asked <= set(targets), words
    elif program == 'ros2':
        check_ros2(*rest)
    elif name.startswith('python'):
        check_python(*rest)
    else:
        assert program in ('.venv/bin/timebill', '.venv/bin/timebill_node'), f'{program} is on no path: {words}'
        assert f"'{name} = " in (ROOT / 'setup.py').read_text()  # pip makes it from this
        check_ours(name, rest)


def check_python(*rest: str) -> None:
    if rest[0].endswith('.py'):
        assert (ROOT / rest[0]).is_file(), rest
        return
    assert rest[0] == '-m', rest
    if rest[1] == 'timebill_ros.cli':
        check_ours('timebill', rest[2:])
    elif rest[1] == 'timebill_ros.node.main':
        check_ours('timebill_node', rest[2:])
    elif rest[1].startswith('timebill_ros'):
        check_options(SCRIPTS[rest[1]], rest[2:])
    else:
        assert rest[1] in ('venv', 'pip', 'pytest'), rest


def check_options(script: str, words) -> None:
    """Fail for an option that does not stand in the script that parses it."""
    source = (ROOT / script).read_text()
    assert [word for word in words if word.startswith('--') and f"'{word}'" not in source] == [], script


def check_ours(name: str, words) -> None:
    """Check the arguments of `timebill` and `timebill_node`."""
    if name == 'timebill_node':
        check_node(list(words))
    else:
        # Prompts are a file that the reader brings; a command that looks for it at once finds this one.
        found = [__file__ if word.endswith('.jsonl') else word for word in words]
        parser().parse_args(found)  # SystemExit for wrong ones


def check_node(words: list[str]) -> None:
    """Check what follows --ros-args: parameters that exist, in files that exist."""
    assert not words or words.pop(0) == '--ros-args', words
    while words and words != ['...']:
        option, value = words.pop(0), words.pop(0)
        if option == '-p':
            assert value.split(':=')[0] in {*KNOWN, 'autostart', 'use_sim_time'}, value
        elif option == '--params-file':
            assert value.startswith((SHARE, HOLE)) or (ROOT / value).is_file(), value
        else:
            assert option in ('-r', '--enclave', '--log-level'), option


def check_ros2(command: str, package: str = '', program: str = '', *rest: str) -> None:
    if command in ROS2_COMMANDS or package != 'timebill_ros':
        assert command in {*ROS2_COMMANDS, 'run', 'launch'}, command
    elif command == 'run':
        assert f'scripts/{program}' in (ROOT / 'CMakeLists.txt').read_text() and (ROOT / 'scripts' / program).is_file()
        check_ours(program, rest)
    else:
        assert command == 'launch', command
        if program == 'FILE':
            return  # any of those that the page lists
        source = (ROOT / 'launch' / program).read_text()
        if 'IncludeLaunchDescription' in source:  # takes the arguments of what it includes, too
            source += (ROOT / 'launch' / 'timebill.launch.py').read_text()
        names = [word.split(':=')[0] for word in rest]
        # Those of two robots are numbered: cores1 stands as 'cores{number}' in its file.
        assert [name for name in names if f"'{name}'" not in source and
                f"'{re.sub('[0-9]$', '{number}', name)}'" not in source] == [], rest


def inline(page: Path) -> list[list[str]]:
    """Return the commands that stand in a page's sentences; their arguments may be incomplete."""
    text = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [command for code in re.findall(r'`((?:timebill|timebill_node|ros2|make|\.venv/bin/\S+) [^`]+)`', text)
            for command in commands(' '.join(code.split()))]


def check_inline(words: list[str]) -> None:
    """Fail for a subcommand or an option that does not exist."""
    if words[0] == 'timebill':
        words = ['.venv/bin/timebill', *words[1:]]  # README.md says what it stands for
    if words[0] != '.venv/bin/timebill':
        check(words)
        return
    found = parser()
    for word in words[1:]:
        nested = [action.choices for action in found._actions if isinstance(action, argparse._SubParsersAction)]
        if nested and word != HOLE:
            assert word in nested[0], f'no subcommand {word}'
            found = nested[0][word]
        elif word.startswith('--'):
            assert word in found._option_string_actions, f'no option {word}: {words}'


@pytest.mark.parametrize(('page', 'text'), blocks(), ids=[f'{page}-{n}' for n, (page, _) in enumerate(blocks())])
def test_programs_options_and_files_of_a_block_exist(page, text):
    assert commands(text), page
    for command in commands(text):
        check(command)


@pytest.mark.parametrize('page', PAGES, ids=[page.name for page in PAGES])
def test_commands_in_sentences_exist(page):
    for command in inline(page):
        check_inline(command)


@pytest.mark.parametrize('page', PAGES, ids=[page.name for page in PAGES])
def test_no_command_stands_outside_a_marked_block(page):
    text = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    programs = '|'.join(['make', 'ros2', 'timebill', 'timebill_node', 'python3?', 'pip', 'export', r'\S+/bin/\S+'])
    assert re.findall(rf'^    (?:{programs}) .*$', text, re.MULTILINE) == []


@pytest.mark.parametrize('text', [
    'timebill ask "..." --budget 2', 'timebill_node', 'make demonstrate', '.venv/bin/timebill ask hello',
    '.venv/bin/timebill profile --no-such', 'ros2 run timebill_ros timebill_nod', 'frobnicate',
    'ros2 launch timebill_ros timebill.launch.py no_such:=1', 'ros2 launch timebill_ros no_such.launch.py',
    '.venv/bin/timebill_node --ros-args -p no_such:=1', '.venv/bin/python -m timebill_ros.no_such',
    '.venv/bin/timebill_node --ros-args --params-file no_such.yaml', 'true=1; ros2 frobnicate',
    'x=$(ros2 pkg prefix --share timebill_ros)/config/no_such.xml',
    '.venv/bin/timebill train-length-predictor --no-such 1'])
def test_a_command_that_cannot_work_is_found(text):
    with pytest.raises((AssertionError, SystemExit, KeyError, OSError)):
        for command in commands(text):
            check(command)


def test_the_readme_and_the_page_on_profiling_have_a_block_that_runs():
    assert {'README.md', 'profiling.md'} <= {page for page, _ in blocks(runs=True)}


@pytest.mark.slow
@pytest.mark.skipif(not (Path(sys.prefix) / 'bin' / 'timebill').exists(), reason='not installed with pip')
@pytest.mark.parametrize(('page', 'text'), blocks(runs=True), ids=[page for page, _ in blocks(runs=True)])
def test_a_block_works_as_printed(page, text, tmp_path):
    """Run in a copy of the checkout made of links, so that build/ is not written to, on this environment as .venv."""
    for path in ROOT.iterdir():
        if path.name not in ('build', '.venv'):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / '.venv').symlink_to(sys.prefix)
    output = tmp_path / 'output'
    with output.open('w') as out:
        # PYTHONPATH: the files as they are, where the installed package is older.
        shell = subprocess.Popen(['bash', '-e', '-c', text], cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT,
                                 start_new_session=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    try:
        code = shell.wait(400)
    finally:
        left = not ended(shell.pid, 20.0)
        if left:
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert code == 0 and 'Traceback' not in output.read_text(), output.read_text()
    assert not left, 'a process was left behind'


def ended(group: int, timeout_s: float) -> bool:
    """Whether every process of the group ends in time."""
    until = time.monotonic() + timeout_s
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.1)
        return False
    return True
