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

"""What conftest.py does for every test run, tried on small runs of their own."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from node_client import wait_until
from node_process import process_exists

SCRIPT = """
import os
import subprocess
import pytest

def start(**options):
    process = subprocess.Popen(['sleep', '1000'], **options)
    print('started', process.pid, flush=True)
    return process

@pytest.fixture
def held():
    process = start(start_new_session=True)
    yield process
    process.kill()
    process.wait()

def test_leaves_one():
    start()

def test_leaves_a_group():
    start(start_new_session=True)

def test_waits(held):
    held.wait()

def test_signals():
    code = 'import signal; print(*(signal.getsignal(n) is not signal.SIG_IGN for n in (signal.SIGINT, signal.SIGHUP)))'
    subprocess.run(['python3', '-c', code], check=True)

class TestGraph:
    domains = []

    def test_a_command_keeps_to_itself(self):
        from timebill_ros.cli.isolation import isolate
        self.domains.append(os.environ['ROS_DOMAIN_ID'])
        os.environ['ROS_DOMAIN_ID'] = '0'
        isolate()
        assert os.environ['ROS_DOMAIN_ID'] != '0'

    def test_the_next_one(self):
        print('same domain:', [os.environ['ROS_DOMAIN_ID']] == self.domains)
"""


def run(folder: Path, name: str, ignored: str = '') -> subprocess.Popen:
    """Start a run of one test of SCRIPT by a shell that ignores signals."""
    (folder / 'test_small.py').write_text(SCRIPT)
    here = Path(__file__).parent
    program = f"""{f"trap '' {ignored};" if ignored else ''} exec "$@" """
    return subprocess.Popen(
        ['sh', '-c', program, 'sh', sys.executable, '-m', 'pytest', '-sq', '-p', 'no:cacheprovider', '-p', 'conftest',
         f'{folder}/test_small.py::{name}'], cwd=folder, stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': f'{here}:{here.parent}', 'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1'})


def rest(process: subprocess.Popen) -> str:
    """Return what the run still prints, when it has ended."""
    with process:
        return process.stdout.read()


def started(process: subprocess.Popen) -> int:
    """Return the number of the process that the run has started."""
    return next(int(line.split()[-1]) for line in process.stdout if 'started' in line)


def test_a_command_that_keeps_to_itself_moves_no_later_test_to_its_domain(tmp_path):
    assert 'same domain: True' in rest(run(tmp_path, 'TestGraph'))


def test_what_tests_start_hears_signals_that_the_run_ignores(tmp_path):
    process = run(tmp_path, 'test_signals', 'INT HUP')
    assert 'True True' in rest(process)


def test_a_run_that_ignores_ctrl_c_goes_on_ignoring_it(tmp_path):
    process = run(tmp_path, 'test_waits', 'INT')
    pid = started(process)
    process.send_signal(signal.SIGINT)
    os.kill(pid, signal.SIGTERM)  # what the test waits for
    assert '1 passed' in rest(process)


@pytest.mark.parametrize('name', ['test_leaves_one', 'test_leaves_a_group'])
def test_what_tests_have_left_is_ended(tmp_path, name):
    process = run(tmp_path, name)
    pid = started(process)
    assert '1 passed' in (told := rest(process)) and 'left a process behind' in told
    wait_until(lambda: not process_exists(pid))


def test_a_run_that_is_told_to_end_ends_what_its_fixtures_started(tmp_path):
    process = run(tmp_path, 'test_waits')
    pid = started(process)
    process.send_signal(signal.SIGTERM)
    rest(process)
    wait_until(lambda: not process_exists(pid))
