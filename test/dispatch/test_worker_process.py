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

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import venv

import pytest
from node_client import wait_until
from scripted_model import ROOT
from worker_listener import Listener

from timebill_ros import settings
from timebill_ros.dispatch import worker_process
from timebill_ros.dispatch.worker_process import WorkerProcess, this_package_alone, worker_environment


def test_the_environment_of_a_worker_on_the_same_interpreter(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('KEPT', 'x')
    env = worker_environment(sys.executable, '/alone')
    assert env['PYTHONPATH'] == '/alone'
    assert (env['LD_LIBRARY_PATH'], env['KEPT'], env['OPENBLAS_NUM_THREADS']) == ('/ros/lib', 'x', '1')
    monkeypatch.setenv('OPENBLAS_NUM_THREADS', '3')
    assert worker_environment(sys.executable, '/alone')['OPENBLAS_NUM_THREADS'] == '3', 'what a user sets stays'


def test_the_environment_of_a_worker_on_another_interpreter(monkeypatch, tmp_path):
    """A virtual environment's python is a link to the same file, and yet another interpreter."""
    monkeypatch.setenv('PYTHONPATH', '/somewhere:/else')
    monkeypatch.setenv('LD_LIBRARY_PATH', '/ros/lib')
    monkeypatch.setenv('_ROS_WHEELS_BOOTSTRAP_COMPLETE', '1')
    link = tmp_path / 'bin' / 'python'
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    for python in (str(link), '/usr/bin/python3.99'):
        env = worker_environment(python, '/alone')
        assert env['PYTHONPATH'] == '/alone'
        assert 'LD_LIBRARY_PATH' not in env and '_ROS_WHEELS_BOOTSTRAP_COMPLETE' not in env


def test_a_lost_worker_is_reported_with_its_reason():
    listener = Listener()
    process = WorkerProcess('', listener)
    process.kill()
    assert 'SIGKILL' in listener.wait('lost')['reason']
    process.send({'op': 'set', 'settings': {}})  # nobody hears it, and nothing happens
    process.close()


def test_a_process_that_does_not_end_although_it_was_killed_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(worker_process, 'CLOSE_S', 0.05)
    monkeypatch.setattr(worker_process, 'END_S', 0.05)
    process = WorkerProcess('', Listener())
    os.kill(process.pid, signal.SIGSTOP)
    closing = threading.Thread(target=process.close, daemon=True)
    with monkeypatch.context() as context:
        context.setattr(process, 'kill', lambda: None)  # as where it is stuck in a driver
        closing.start()
        closing.join(10.0)
        assert not closing.is_alive()
    process.kill()


def test_a_process_without_threads_to_hear_it_is_ended(monkeypatch, tmp_path):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    made, popen = [], subprocess.Popen
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(subprocess, 'Popen', lambda *args, **fields: made.append(popen(*args, **fields)) or made[-1])
    monkeypatch.setattr(threading.Thread, 'start', refuse)
    with pytest.raises(RuntimeError, match='new thread'):
        WorkerProcess('', Listener())
    assert made[0].returncode is not None and not list(tmp_path.iterdir())


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


def test_a_workers_lines_are_logged_here_at_its_level(caplog):
    with caplog.at_level(logging.DEBUG, 'timebill_ros'):
        listener = Listener()
        process = WorkerProcess('', listener)
        process.send({'op': 'configure', 'settings': settings.check({'model': '/nowhere'})})
        listener.wait('failed')
        process.close()
    line, = [record for record in caplog.records if 'configure failed' in record.message]
    assert line.levelno == logging.DEBUG and line.message.startswith('worker: ') and '/nowhere' in line.message
    assert not [event for event in listener.events if event['event'] == 'log']


@pytest.mark.parametrize('worker', ['model', 'scripted'])
def test_an_interpreter_without_libraries_is_named_with_what_to_install(bare_python, worker):
    listener = Listener()
    process = WorkerProcess(bare_python, listener)
    process.send({'op': 'configure', 'settings': settings.check({'worker_python': bare_python, 'worker': worker})})
    message = listener.wait('failed')['message']
    process.close()
    assert f"worker_python '{bare_python}' lacks the library" in message
    assert f'{bare_python} -m pip install' in message and listener.events[0] == {'event': 'alive'}


def test_an_interpreter_that_does_not_exist():
    with pytest.raises(OSError):
        WorkerProcess('/nowhere/python', print)


@pytest.fixture(scope='module')
def bare_python(tmp_path_factory):
    """The Python of an environment without any library."""
    folder = tmp_path_factory.mktemp('bare')
    venv.create(folder, symlinks=True)
    return str(folder / 'bin' / 'python')


def test_nothing_but_this_package_is_on_a_workers_path(bare_python, tmp_path, monkeypatch):
    (tmp_path / 'present').mkdir()
    (tmp_path / 'present' / 'numpy.py').touch()
    monkeypatch.chdir(tmp_path / 'present')
    path = this_package_alone(tmp_path)
    code = 'import json, sys, timebill_ros.resources as r; print(json.dumps([sys.path, r.__file__]))'
    done = subprocess.run([bare_python, '-c', code], env=worker_environment(bare_python, path), capture_output=True,
                          text=True)
    folders, package = json.loads(done.stdout)
    library = os.path.dirname(os.path.dirname(bare_python)) + os.sep
    assert [folder for folder in folders if not folder.startswith((library, os.path.realpath(sys.base_prefix)))] == \
        [path]
    assert os.listdir(path) == ['timebill_ros'] and os.path.realpath(package).startswith(str(ROOT))


def test_a_worker_of_another_environment_gets_none_of_the_nodes_libraries(bare_python, tmp_path, monkeypatch):
    """The node's package may lie in its site-packages, as pip puts it there."""
    site = tmp_path / 'site-packages'
    site.mkdir()
    for library in ('torch', 'transformers', 'numpy', 'yaml'):
        (site / f'{library}.py').write_text('raise ImportError("this is the library of the node")\n')
    shutil.copytree(ROOT / 'timebill_ros', site / 'timebill_ros', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.setattr(worker_process, 'PACKAGE', site / 'timebill_ros')
    listener = Listener()
    process = WorkerProcess(bare_python, listener)
    process.send({'op': 'configure', 'settings': settings.check({})})
    message = listener.wait('failed')['message']
    process.close()
    assert 'this is the library of the node' not in message and 'lacks the library' in message


def test_what_is_installed_beside_the_package_is_found_through_the_link(tmp_path):
    """resources.py looks for the embedded model and package.xml above itself."""
    prefix = tmp_path / 'prefix'
    package, share = prefix / 'lib' / 'python3' / 'site-packages' / 'timebill_ros', prefix / 'share' / 'timebill_ros'
    package.mkdir(parents=True)
    (share / 'demo' / 'model').mkdir(parents=True)
    (share / 'demo' / 'model' / 'config.json').touch()
    (share / 'package.xml').write_text('<version>9.8.7</version>')
    for name in ('__init__.py', 'resources.py'):
        shutil.copy(ROOT / 'timebill_ros' / name, package / name)
    (tmp_path / 'link').mkdir()
    (tmp_path / 'link' / 'timebill_ros').symlink_to(package)
    code = 'from timebill_ros import resources; print(resources.version(), resources.embedded_directory())'
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(tmp_path / 'link')})
    assert done.stdout.split() == ['9.8.7', str(share / 'demo')], done.stderr
