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

"""`timebill ask` and `timebill monitor` as programs, against a running node."""
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from node_client import make_goal, wait_until
from node_process import NodeProcess
from scripted_model import ROOT
from terminal import Terminal

from timebill_ros.cli.ask import unshown
from timebill_ros.codes import ErrorCode


@pytest.fixture(scope='module')
def node():
    with NodeProcess() as node:
        yield node.start()


def start(node, *arguments: str) -> subprocess.Popen:
    command, *rest = arguments
    return subprocess.Popen([sys.executable, '-u', '-m', 'timebill_ros.cli', command, '--server', node.server, *rest],
                            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert 'Traceback' not in err
    return process.returncode, out, err


@pytest.mark.parametrize(('arguments', 'code', 'out', 'err'), [
    (['one', '--raw', '--budget', '30'], 0, 'two three\n', '3 tokens'),
    (['one', '--budget', '30', '--max-new-tokens', '4'], 0, '\n', '4 tokens'),
    (['one', '--raw', '--budget', '0.01', '--strategy', 'kill'], 1, '', f'error 7005 {ErrorCode(7005).name}'),
    (['one', '--raw', '--budget', '30'], 0, 'two three', 'verdict FITS, finish EOS, promise kept'),
    (['w1', '--budget', '-1'], 1, '', '-1.0 s'),
])
def test_ask(node, arguments, code, out, err):
    got_code, got_out, got_err = finish(start(node, 'ask', *arguments, '--wait', '60'))
    assert (got_code, out in got_out, err in got_err) == (code, True, True), (got_code, got_out, got_err)


@pytest.mark.parametrize(('shown', 'text', 'rest'), [
    ('two three', 'two three', ''), ('', 'two three', 'two three'), ('two', 'two three', ' three'),
    ('three', 'two three', '\ntwo three'), ('two three', '', ''), ('', '', '')])
def test_ask_prints_what_feedback_did_not_bring(shown, text, rest):
    assert unshown(shown, text) == rest


def test_ask_prints_one_json_object(node):
    code, out, err = finish(start(node, 'ask', 'one', '--raw', '--budget', '30', '--json', '--wait', '60'))
    answer = json.loads(out)
    assert (code, err) == (0, '')
    assert (answer['text'], answer['error'], answer['finish_reason'], answer['promise']) == (
        'two three', 'NONE', 'EOS', 'kept')
    assert 0 < answer['timing']['response_time_s'] <= answer['received_s']


def test_an_answer_is_drawn_again_with_the_seed_that_ask_printed(node):
    def ask(*options: str) -> dict:
        code, out, err = finish(start(
            node, 'ask', 'w1 w2', '--raw', '--budget', '50', '--max-new-tokens', '30', '--json', '--temperature', '20',
            '--repetition-penalty', '1.5', *options, '--wait', '60'))
        assert (code, err) == (0, '')
        return json.loads(out)

    drawn, other = ask(), ask()
    assert drawn['text'] != other['text'] and 0 < drawn['timing']['seed'] != other['timing']['seed']
    assert ask('--seed', str(drawn['timing']['seed']))['text'] == drawn['text']


@pytest.mark.slow
def test_ask_says_that_a_node_is_not_configured():
    with NodeProcess() as unconfigured:
        wait_until(lambda: unconfigured.diagnostics)  # it is there
        code, out, err = finish(start(unconfigured, 'ask', 'one', '--budget', '1', '--wait', '4'))
    assert (code, out) == (1, '')
    assert 'is unconfigured: configure and activate it' in err and 'autostart' in err and 'no node' not in err


def test_ctrl_c_cancels_what_was_asked(node):
    process = start(node, 'ask', 'w1 w2', '--raw', '--budget', '50', '--max-new-tokens', '15000')
    assert process.stdout.read(1)  # it decodes
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 1 and 'error 7009' in err


def test_monitor_draws_the_node_in_a_terminal_until_ctrl_c(node):
    with Terminal() as terminal:
        process = subprocess.Popen([sys.executable, '-m', 'timebill_ros.cli', 'monitor', '--server', node.server],
                                   cwd=ROOT, stdout=terminal.output, stderr=subprocess.PIPE, text=True,
                                   env={**os.environ, 'TERM': 'xterm-256color'})
        try:
            wait_until(lambda: node.ask(make_goal('one')) and all(words in terminal.text for words in (
                node.server, 'active', ' accepted', 'promised goals', 'as long as profiled', 'GiB used', ' EOS ')))
        finally:
            process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (0, '')
    assert terminal.text.endswith('\x1b[?25h\x1b[?1049l'), 'the cursor and the screen before are there again'


def test_monitor_shows_each_request_until_ctrl_c(node):
    process = start(node, 'monitor')
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    try:
        # It hears of goals only once it has discovered the node.
        wait_until(lambda: node.ask(make_goal('one')) and all(
            any(phase in line for line in list(lines)) for phase in ('QUEUED', 'DONE')))
    finally:
        process.send_signal(signal.SIGINT)
    reader.join(60)
    told = process.stderr.read()
    assert process.wait(60) == 0 and 'Traceback' not in told
    assert told.startswith((f'waiting for {node.server}: ', f'{node.server} is there; waiting for requests'))
    assert lines[0].split()[:4] == ['time', 'request', 'phase', 'verdict']
    assert any('QUEUED' in line for line in lines)
    assert any('DONE' in line and 'EOS NONE' in line for line in lines)
    process.stdout.close()
    process.stderr.close()
