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

"""The node's end of the worker: its environment, its temporary files, and how its end is told."""
from __future__ import annotations

import sys
import tempfile

import pytest
from node_client import wait_until
from scripted_model import ROOT
from worker_listener import Listener

from timebill_ros.dispatch.worker_process import WorkerProcess, worker_environment
from timebill_ros.resources import PACKAGE_PARENT


def test_the_environment_of_a_worker_on_the_same_interpreter(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('KEPT', 'x')
    env = worker_environment(sys.executable)
    assert env['PYTHONPATH'] == str(PACKAGE_PARENT) == str(ROOT)
    assert (env['LD_LIBRARY_PATH'], env['KEPT']) == ('/ros/lib', 'x')


def test_the_environment_of_a_worker_on_another_interpreter(monkeypatch, tmp_path):
    """A virtual environment's python is a link to the same file, and yet another interpreter."""
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('_ROS_WHEELS_BOOTSTRAP_COMPLETE', '1')
    link = tmp_path / 'bin' / 'python'
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    for python in (str(link), '/usr/bin/python3.99'):
        env = worker_environment(python)
        assert env['PYTHONPATH'] == str(PACKAGE_PARENT)
        assert 'LD_LIBRARY_PATH' not in env and '_ROS_WHEELS_BOOTSTRAP_COMPLETE' not in env


def test_a_lost_worker_is_reported_with_its_reason():
    listener = Listener()
    process = WorkerProcess('', listener)
    process.kill()
    assert 'SIGKILL' in listener.wait('lost')['reason']
    process.send({'op': 'set', 'settings': {}})  # nobody hears it, and nothing happens
    process.close()


@pytest.mark.parametrize('end', ['closed', 'worker killed', 'node killed'])
def test_its_temporary_files_go_with_it_however_it_ends(end, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    process = WorkerProcess('', Listener())
    folder, = tmp_path.iterdir()
    (folder / 'unpacked').touch()
    if end == 'node killed':
        process._scratch._finalizer.detach()  # this process does nothing more
        process._scratch.cleanup = lambda: None
        process._channel.close()
    elif end == 'worker killed':
        process.kill()
    else:
        process.close()
    wait_until(lambda: not list(tmp_path.iterdir()), message='files are left')
    process.close()


def test_an_interpreter_that_does_not_exist():
    with pytest.raises(OSError):
        WorkerProcess('/nowhere/python', print)
