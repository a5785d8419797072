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

"""SIGTERM ends a command as Ctrl-C does: what it started ends with it."""
import signal
import subprocess
import sys

import pytest
from node_process import process_exists

from timebill_ros.cli import main as command_line
from timebill_ros.cli.termination import Terminated, termination_as_interrupt

PROGRAM = '''
import subprocess, sys, time
from types import SimpleNamespace
from timebill_ros.cli import main

def run(options):
    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
    try:
        print(child.pid, flush=True)
        time.sleep(60)
    finally:
        child.kill()
        child.wait()

main.SUBCOMMANDS = [SimpleNamespace(add=lambda commands: commands.add_parser('wait').set_defaults(run=run))]
sys.exit(main.main(['wait']))
'''


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_and_what_it_started(number, code):
    process = subprocess.Popen([sys.executable, '-c', PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    child = int(process.stdout.readline())
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (code, '')
    assert not process_exists(child)


def test_the_handler_before_is_back_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert command_line.CODE == 143
