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

"""The node as a program: its help, what it waits for, and an autostart that fails."""
import subprocess
import sys

import pytest
from node_client import WAIT_S, wait_until
from node_process import NodeProcess, worker_program
from rclpy.action import ActionServer
from scripted_model import ROOT

from timebill_ros.action import Generate


def program(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'timebill_ros.node.main', *arguments], cwd=ROOT, timeout=WAIT_S,
                          capture_output=True, text=True)


@pytest.mark.parametrize('option', ['--help', '-h'])
def test_help_is_printed_and_no_node_starts(option):
    done = program(option)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.startswith('usage: timebill_node') and 'autostart:=true' in done.stdout


def test_arguments_that_are_not_understood_end_the_program():
    done = program('-p', 'model:=/somewhere')
    assert done.returncode == 2
    assert 'model:=/somewhere' in done.stderr and '--help' in done.stderr and 'Traceback' not in done.stderr


def test_an_argument_that_ros_does_not_know_is_named():
    done = program('--ros-args', '--nosuch')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert "timebill_node: ROS 2 does not know ['--nosuch'] among the arguments after --ros-args; see --help" in \
        done.stderr


@pytest.mark.parametrize('library', ['rclpy', 'timebill_ros.msg'])
def test_a_shell_without_ros_gets_one_sentence(library):
    # None in sys.modules makes an import fail as that of a library that is not installed does.
    code = f'import sys; sys.modules[{library!r}] = None; from timebill_ros.node.main import main; sys.exit(main([]))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 1 and done.stderr.count('\n') == 1
    assert f'has no {library}' in done.stderr and 'source the ROS 2 installation' in done.stderr


def test_a_node_says_what_it_waits_for():
    with NodeProcess() as node:
        wait_until(lambda: f'{node.server} is unconfigured' in node.log)
        assert 'autostart:=true' in node.log and f'ros2 lifecycle set {node.server} configure' in node.log


def test_a_node_that_starts_itself_says_where_it_serves(tmp_path):
    with NodeProcess(autostart=True, worker_python=worker_program('stub_worker.py', tmp_path)) as node:
        wait_until(lambda: f'{node.server} is active and answers goals on {node.server}/generate' in node.log)
        assert 'unconfigured' not in node.log


def test_an_autostart_that_fails_ends_the_program_with_the_reason():
    with NodeProcess(autostart=True, worker_python='/nowhere/python') as node:
        assert node.process.wait(WAIT_S) == 1
        assert '/nowhere/python' in node.log and f'autostart of {node.server} failed' in node.log


def test_who_starts_the_second_node_of_a_name_is_told(tmp_path):
    with NodeProcess(worker_python=worker_program('stub_worker.py', tmp_path)) as node:
        first = ActionServer(node._node, Generate, f'{node.server}/generate', lambda handle: Generate.Result())
        assert node.configure()
        wait_until(lambda: f'1 more of the name serve {node.server}/generate' in node.log)
        first.destroy()
