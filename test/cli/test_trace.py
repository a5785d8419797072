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

"""Traces of goals: what is where on the time axis, and that it adds up, from a made-up account and from a node."""
from __future__ import annotations

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from node_process import NodeProcess
from scripted_model import ROOT

from timebill_ros.cli.main import main
from timebill_ros.cli.trace import TRACKS, Seen, released_s, trace
from timebill_ros.codes import FinishReason, Phase, Verdict
from timebill_ros.request import Timing

NAN = math.nan


def stamp(seconds):
    return SimpleNamespace(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))


def status(at, phase, verdict=Verdict.UNKNOWN, pessimistic=0, release=100.02):
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp(at)), release=stamp(release), phase=int(phase),
                           verdict=int(verdict), pessimistic_tokens=pessimistic, slack_s=NAN, wcet_s=1.0,
                           generated_tokens=0)


def result(**changed):
    """A goal that was released 0.02 s after it was sent, waited 0.1 s, and was answered 1.5 s after its release."""
    timing = {'verdict': Verdict.FITS_WITH_EVICTION, 'prompt_tokens': 100, 'kept_tokens': 50, 'eviction_ratio': 0.5,
              'generated_tokens': 10, 'predicted_tokens': 9, 'pessimistic_tokens': 20, 'length_cap': 20,
              'time_budget_s': 2.0, 'wcet_s': 1.8, 'queue_s': 0.1, 'prefill_s': 0.3, 'prediction_s': 0.4,
              'hidden_prediction_s': 0.3, 'eviction_s': 0.05, 'time_to_first_token_s': 0.6, 'decode_s': 0.8,
              'response_time_s': 1.5, 'tardiness_s': 0.0}
    return SimpleNamespace(text='text', error_msg='', error_code=0, finish_reason=FinishReason.EOS,
                           timing=Timing(**{**timing, **changed}))


def seen(**changed):
    return Seen(**{'sent_ros_s': 100.0, 'accepted_s': 0.03, 'received_s': 1.53, 'texts': [(0.8, 2), (0.9, 2), (1.2, 9)],
                   'statuses': [status(100.02, Phase.QUEUED)], **changed})


def spans(account, watched):
    """Return {(track, name): (start, end)} in seconds of the spans that take time."""
    events = json.loads(json.dumps(trace(account, watched), allow_nan=False))['traceEvents']
    assert all(event['ts'] >= 0 and event.get('dur', 0) >= 0 for event in events if event['ph'] != 'M')
    return {(TRACKS[event['tid']], event['name']): (event['ts'] / 1e6, (event['ts'] + event['dur']) / 1e6)
            for event in events if event['ph'] == 'X' and event['dur'] > 0}


def test_the_account_of_a_goal_on_the_axis():
    found = spans(result(), seen())
    assert found == {key: pytest.approx(value) for key, value in {
        ('client', 'goal'): (0.0, 1.53), ('client', 'sending'): (0.0, 0.02), ('node', 'queue'): (0.02, 0.12),
        # 0.05 s between queue and first token that the account does not name: before prefill, where no status says when
        # the plan was made.
        ('inference', 'tokenize'): (0.12, 0.17), ('inference', 'prefill'): (0.17, 0.47),
        ('length prediction', 'prediction'): (0.17, 0.57), ('inference', 'wait for the prediction'): (0.47, 0.57),
        ('inference', 'eviction'): (0.57, 0.62), ('inference', 'decode'): (0.62, 1.42),
        ('tokens', 'tokens 1 to 2'): (0.62, 0.8), ('tokens', 'tokens 3 to 9'): (0.8, 1.2),
        ('node', 'result'): (1.42, 1.52), ('client', 'delivery'): (1.52, 1.53)}.items()}


def test_a_status_says_when_the_plan_was_made():
    planned = status(100.02 + 0.52, Phase.PREFILL, Verdict.FITS_WITH_EVICTION, 20)
    waited = status(100.02 + 0.2, Phase.PREFILL, Verdict.AT_RISK)  # a verdict of the time in the queue
    found = spans(result(), seen(statuses=[status(100.02, Phase.QUEUED), waited, planned]))
    assert found['inference', 'prefill'] == pytest.approx((0.14, 0.44))
    assert found['inference', 'wait for the prediction'] == pytest.approx((0.44, 0.54))
    assert found['inference', 'plan'] == pytest.approx((0.54, 0.57))


def test_a_goal_that_gave_way_is_drawn_in_pieces():
    told = [status(100.02, Phase.QUEUED), status(100.12, Phase.PREFILL), status(100.64, Phase.DECODE),
            status(101.02, Phase.QUEUED), status(101.52, Phase.DECODE)]
    account = result(preemptions=1, paused_s=0.5, response_time_s=2.0)
    events = trace(account, seen(statuses=told, received_s=2.03, texts=[(0.8, 2), (1.7, 9)]))['traceEvents']
    found = [(event['name'], event['ts'] / 1e6, (event['ts'] + event['dur']) / 1e6)
             for event in events if event.get('dur', 0) > 0]
    drawn = {name: [pytest.approx(span) for called, *span in found if called == name]
             for name in ('gave way', 'decode', 'tokens 3 to 9', 'result', 'prefill')}
    assert drawn == {'gave way': [[1.02, 1.52]], 'decode': [[0.62, 1.02], [1.52, 1.92]],
                     'tokens 3 to 9': [[0.8, 1.02], [1.52, 1.7]], 'result': [[1.92, 2.02]], 'prefill': [[0.17, 0.47]]}
    tokens = [event for event in events if event['name'] == 'tokens 3 to 9']
    assert tokens[0]['args']['per_token_ms'] == pytest.approx(400 / 7), 'without the time of the pause'


def test_a_pause_that_no_status_tells_has_a_bar_of_its_length():
    events = trace(result(preemptions=2, paused_s=0.3), seen())['traceEvents']
    bar, = [event for event in events if event['name'] == 'gave way']
    assert bar['dur'] == pytest.approx(0.3e6) and bar['args'] == {'when': 'before: no status tells it'}


def test_moments_are_there_too():
    events = trace(result(), seen())['traceEvents']
    moments = {event['name']: event['ts'] / 1e6 for event in events if event['ph'] == 'i'}
    assert moments == pytest.approx({'deadline': 2.02, 'QUEUED': 0.02})
    assert [event['args'] for event in events if event['ph'] == 'C'] == [{'tokens': 2}, {'tokens': 9}]
    assert events[0]['args'] == {'name': 'client'} and events[0]['ph'] == 'M'
    assert [event['ts'] for event in events if 'ts' in event] == sorted(e['ts'] for e in events if 'ts' in e)


@pytest.mark.parametrize('changed, there, not_there', [
    ({'queue_s': NAN, 'prefill_s': NAN, 'prediction_s': NAN, 'hidden_prediction_s': NAN, 'eviction_s': NAN,
      'decode_s': NAN, 'time_to_first_token_s': NAN}, {('node', 'queue')}, {'prefill', 'decode', 'tokenize'}),
    ({'decode_s': NAN, 'time_to_first_token_s': NAN, 'eviction_s': NAN}, {('inference', 'prefill')},
     {'decode', 'plan', 'eviction', 'tokenize'}),
    ({'response_time_s': NAN}, {('inference', 'decode')}, {'delivery'}),
    ({'eviction_s': 0.4}, {('inference', 'eviction'), ('inference', 'decode')}, {'tokenize', 'plan'}),
    ({'eviction_s': 0.0, 'prediction_s': NAN, 'hidden_prediction_s': NAN}, {('inference', 'decode')},
     {'eviction', 'prediction', 'wait for the prediction'})])
def test_steps_that_were_not_reached_are_left_out(changed, there, not_there):
    found = spans(result(**changed), seen())
    assert there <= set(found) and not not_there & {name for _, name in found}


def test_eviction_while_decoding_is_not_placed_but_told():
    events = trace(result(eviction_s=0.4), seen())['traceEvents']
    decode, = [event for event in events if event['name'] == 'decode']
    assert decode['args']['evicted_meanwhile_s'] == pytest.approx(0.3)  # 0.1 s had room before the first token


@pytest.mark.parametrize('statuses, released', [
    ([status(100.02, Phase.QUEUED)], 0.02), ([status(100.02, Phase.QUEUED, release=99.0)], 0.0),
    ([status(3.0, Phase.QUEUED, release=3.0)], 0.0), ([status(1e6, Phase.QUEUED, release=1e6)], 0.03), ([], 0.03)])
def test_the_release_lies_between_sending_and_acceptance_whatever_the_clocks_say(statuses, released):
    assert released_s(seen(statuses=statuses)) == pytest.approx(released)
    spans(result(), seen(statuses=statuses))


def test_a_directory_is_no_file_for_a_trace(tmp_path, capsys):
    assert main(['ask', 'hello', '--budget', '1', '--trace', str(tmp_path)]) == 1
    assert f'--trace {tmp_path} is a directory: name a file in it' in capsys.readouterr().err


# -- with a node -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def node(tmp_path_factory):
    path = tmp_path_factory.mktemp('script') / 's.yaml'
    path.write_text('{format: 1, times: {prompt_s: 0.2, token_s: 0.1}, answers: [{text: one two three four}]}')
    with NodeProcess(worker='scripted', script=str(path)) as node:
        yield node.start()


def ask(node, *options):
    return subprocess.run([sys.executable, '-m', 'timebill_ros.cli', 'ask', 'hello', '--server', node.server, '--wait',
                           '60', *options], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_ask_writes_what_happened_when(node, tmp_path):
    done = ask(node, '--budget', '30', '--trace', str(tmp_path / 'trace.json'))
    assert (done.returncode, done.stdout) == (0, 'one two three four\n'), done.stderr
    data = json.loads((tmp_path / 'trace.json').read_text())
    events = {event['name']: event for event in data['traceEvents']}
    assert data['otherData']['verdict'] == 'FITS'
    prefill, decode, goal = events['prefill'], events['decode'], events['goal']
    assert prefill['dur'] > 0.19e6 and decode['dur'] > 0.39e6 and goal['dur'] > prefill['dur'] + decode['dur']
    assert prefill['ts'] + prefill['dur'] <= decode['ts'] and decode['ts'] + decode['dur'] <= goal['dur']
    assert {'DECODE', 'deadline', 'queue', 'delivery', 'prediction', 'tokens'} <= set(events)


def test_a_file_that_cannot_be_written_is_told_before_the_goal_is_sent(node, tmp_path):
    done = ask(node, '--budget', '30', '--trace', str(tmp_path / 'none' / 'trace.json'))
    assert done.returncode != 0 and 'its folder is missing' in done.stderr and not done.stdout
