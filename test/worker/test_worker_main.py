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

"""The inference process without a node: what it streams, and what it says when something is wrong."""
from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from mock_model import ByteTokenizer
from node_client import WAIT_S, wait_until
from node_process import process_exists
from scripted_model import LONG, ROOT, parameters
from worker_listener import Listener

from timebill_ros import settings
from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.deadline import Deadline
from timebill_ros.dispatch.channel import Channel
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.inference.chat_facts import NO_CHAT
from timebill_ros.inference.control import Control
from timebill_ros.planning.length_source import LengthSource
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Outcome, Request, Timing, to_dict
from timebill_ros.worker.main import SAVE_EVERY, Worker


@pytest.fixture(scope='module')
def worker():
    """A configured worker and its listener."""
    listener = Listener()
    process = WorkerProcess('', listener)
    # Reports of the start come three times in this limit, which only a node enforces.
    process.send({'op': 'configure', 'settings': {**_settings(), 'worker_start_timeout_s': 1.0}})
    listener.wait('ready')
    yield process, listener
    process.close()
    assert not process_exists(process.pid)


def _settings():
    return settings.check(parameters())


def test_a_start_tells_what_it_does_until_it_is_ready(worker):
    _, listener = worker
    kinds = [event['event'] for event in listener.events]
    started = kinds.index('ready')
    assert kinds[:started].count('progress') >= 1 and 'progress' not in kinds[started:]
    told = [event for event in listener.events if event['event'] == 'progress']
    assert [event['part'] for event in told] == sorted(event['part'] for event in told)
    assert told[0]['what'].startswith('loading PyTorch') and told[0]['advanced'], 'importing is getting on'
    sampling = listener.wait('ready')['sampling']
    assert sampling['temperature'] == 0.0 and sampling['repetition_penalty'] == 1.0


def run(worker, name, **fields):
    process, listener = worker
    now = time.monotonic()
    process.send({'op': 'run', 'request': to_dict(Request(name, now, now + WAIT_S, **fields))})
    return listener


def done(listener, name):
    return wait_until(lambda: next((event for event in listener.events
                                    if event['event'] == 'done' and event['id'] == name), None))


def test_streamed_text_is_the_beginning_of_the_outcomes(worker):
    listener = run(worker, 'stream', prompt='w1', max_new_tokens=2000)
    outcome = done(listener, 'stream')['outcome']
    text = ''.join(event['delta'] for event in listener.events if event.get('id') == 'stream' and 'delta' in event)
    assert text and outcome['text'].startswith(text)


def test_no_text_of_a_stop_string_is_streamed(worker):
    listener = run(worker, 'whole', prompt='w1', max_new_tokens=30)
    words = done(listener, 'whole')['outcome']['text'].split(' ')
    stop = ' '.join(words[10:13])
    request = Request('stop', time.monotonic(), time.monotonic() + WAIT_S, prompt='w1', max_new_tokens=30)
    request.sampling.stop = [stop]
    worker[0].send({'op': 'run', 'request': to_dict(request)})
    outcome = done(listener, 'stop')['outcome']
    text = ''.join(event['delta'] for event in listener.events if event.get('id') == 'stop' and 'delta' in event)
    assert stop not in outcome['text'] and outcome['text'].startswith(text)


def test_a_cancel_that_overtakes_its_request_counts(worker):
    """One thread reads, another runs: a cancel may be heard before its request is looked at."""
    process, listener = worker
    process.send({'op': 'cancel', 'id': 'canceled'})
    run(worker, 'canceled', prompt='w1', max_new_tokens=LONG)
    outcome = done(listener, 'canceled')['outcome']
    assert (outcome['error_code'], outcome['timing']['generated_tokens']) == (ErrorCode.CANCELED, 0)


def test_a_failed_estimate_names_its_code(worker):
    process, listener = worker
    process.send({'op': 'estimate', 'tag': 1, 'request': to_dict(Request('e', 0.0, 1e9, prompt='w1 ' * 20000))})
    event = listener.wait('estimate')
    assert (event['tag'], event['error_code']) == (1, ErrorCode.PROMPT_TOO_LONG)


def test_an_idle_worker_answers_that_it_lives(worker):
    process, listener = worker
    process.send({'op': 'ping'})
    assert listener.wait('pong')


def test_it_ends_with_its_pipe():
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, '-m', 'timebill_ros.worker.main', '--fd', str(theirs.fileno())],
                                   pass_fds=[theirs.fileno()], cwd=ROOT)
    Channel(ours).close()
    assert process.wait(WAIT_S) == 0


def test_an_interpreter_without_torch_says_so():
    """-S: no site-packages."""
    listener = Listener()
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, '-S', '-m', 'timebill_ros.worker.main', '--fd',
                                    str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=ROOT)
    channel = Channel(ours)
    threading.Thread(target=lambda: [listener(event) for event in channel.receive()], daemon=True).start()
    channel.send({'op': 'configure', 'settings': _settings()})
    assert 'lacks the library' in listener.wait('failed')['message']
    channel.close()
    assert process.wait(WAIT_S) == 0


# -- in this process, on an engine that a test makes up ---------------------------------------------------------------

class Sent(list):
    """In the place of a Channel: the messages that were sent."""

    def send(self, message):
        self.append(json.loads(json.dumps(message)))
        return True


def answered(run, check=lambda: None, worker=None, **request):
    """The 'done' event of a worker whose engine does `run(request, control)`, and the worker."""
    worker = worker or Worker(Sent())
    model = SimpleNamespace(tokenizer=ByteTokenizer(), check=check, reset=lambda: None, synchronize=lambda: None,
                            chat=NO_CHAT)
    worker.engine = SimpleNamespace(run=run, model=model, tracker=Tracker('fixed'), lengths=LengthSource())
    data = {**to_dict(Request('r', 0.0, 1e9, prompt='w1')), **request}
    worker._run({'op': 'run', 'request': data})
    *_, event, after = worker.channel
    assert (event['event'], event['id']) == ('done', data['request_id'])
    assert after['event'] == 'learned', 'the result waits for nothing'
    return event, worker


def good(request, control):
    return Outcome(text='text', finish_reason=FinishReason.EOS, timing=Timing(prompt_tokens=9, kept_tokens=9))


def bad_account(request, control):
    outcome = good(request, control)
    outcome.timing.kept_tokens = 10
    return outcome


def bad_outcome(request, control):
    return Outcome(ErrorCode.NONE, 'and yet a sentence', 'text', FinishReason.EOS)


def test_an_outcome_is_sent_with_what_the_tracker_has_learned():
    event, _ = answered(good)
    outcome = Outcome.from_dict(event['outcome'])
    assert repr(outcome) == repr(good(None, None)) and event['tracked']['timing_factor'] == 1.0


@pytest.mark.parametrize(('aside', 'saves'), [(False, 1), (True, 0)])
def test_a_goal_that_gave_way_does_not_wait_for_the_disk(aside, saves, monkeypatch):
    saved, worker = [], Worker(Sent())
    monkeypatch.setattr(worker, '_save_state', lambda: saved.append(worker._unsaved))
    with worker._steering.running('aside', Control(Deadline(1e9))) if aside else contextlib.nullcontext():
        for _ in range(SAVE_EVERY):
            answered(good, worker=worker)
    assert len(saved) == saves
    answered(good, worker=worker)
    assert saved[saves:] == [SAVE_EVERY + 1]


def test_an_account_that_contradicts_itself_costs_no_answer(caplog):
    event, _ = answered(bad_account)
    outcome = Outcome.from_dict(event['outcome'])
    assert (outcome.error_code, outcome.text) == (ErrorCode.NONE, 'text') and outcome.timing.prompt_tokens == 0
    assert 'kept_tokens must be at most prompt_tokens (9), got 10' in caplog.text


def test_a_cache_that_contradicts_itself_is_emptied_between_goals_and_costs_no_answer(caplog):
    def check():
        raise ValueError('layer 1 holds -1 entries')

    event, _ = answered(good, check)
    assert Outcome.from_dict(event['outcome']).text == 'text'
    assert 'the cache contradicts itself and is emptied: layer 1 holds -1 entries' in caplog.text


@pytest.mark.parametrize(('run', 'request_', 'sentence'), [
    (bad_outcome, {}, "error_msg must be empty for NONE, got 'and yet a sentence'"),
    (good, {'max_new_tokens': 0}, 'max_new_tokens must be 1 or more, got 0'),
    (good, {'surprise': 1}, 'surprise'),
    (lambda request, control: 1 / 0, {}, 'ZeroDivisionError'),
])
def test_a_bug_ends_the_goal_with_a_sentence_and_the_worker_serves_on(run, request_, sentence):
    event, worker = answered(run, **request_)
    outcome = Outcome.from_dict(event['outcome'])
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (ErrorCode.UNKNOWN, FinishReason.ERROR, '')
    assert sentence in outcome.error_msg
    worker.engine.run = good
    worker._run({'op': 'run', 'request': to_dict(Request('next', 0.0, 1e9, prompt='w1'))})
    assert worker.channel[-2]['id'] == 'next' and worker.channel[-2]['outcome']['text'] == 'text'


def test_an_error_that_the_device_does_not_recover_from_is_told():
    """After an illegal memory access each call of CUDA fails, until the process has ended."""
    def broken():
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    event, worker = answered(lambda request, control: 1 / 0)
    assert event['fatal'] == ''
    worker.engine.model.synchronize = broken
    worker.engine.run = good
    request = to_dict(Request('r', 0.0, 1e9, prompt='w1'))
    worker._run({'op': 'run', 'request': request})
    assert worker.channel[-2]['fatal'] == '', 'a goal that succeeds is not doubted'
    worker.engine.run = lambda request, control: broken()
    worker._run({'op': 'run', 'request': request})
    assert worker.channel[-2]['outcome']['error_code'] == ErrorCode.UNKNOWN
    assert 'an illegal memory access' in worker.channel[-2]['fatal']


def test_a_bad_request_for_an_estimate_is_answered():
    worker = Worker(Sent())
    worker.engine = SimpleNamespace(estimate=None)
    worker._estimate({'op': 'estimate', 'tag': 7, 'request': {**to_dict(Request('e', 0.0, 1.0)), 'max_new_tokens': 0}})
    answer, = worker.channel
    assert (answer['tag'], answer['error_code']) == (7, ErrorCode.UNKNOWN) and 'got 0' in answer['error_msg']


# -- memory that is short ---------------------------------------------------------------------------------------------

def test_a_goal_needs_no_new_thread(monkeypatch):
    """Where memory is short, no thread can be started; Python may even wait for one for good, and so would the goal."""
    def no_memory_for_its_stack(thread):
        raise RuntimeError("can't start new thread")

    def told(request, control):
        control.tokens, control.n_tokens = list(b'text'), 4
        wait_until(lambda: any(event['event'] == 'text' for event in channel))
        return good(request, control)

    channel = Sent()
    worker = Worker(channel)
    worker._streamer.start()
    monkeypatch.setattr(threading.Thread, 'start', no_memory_for_its_stack)
    for name in ('first', 'second'):
        channel.clear()
        event, _ = answered(told, worker=worker, request_id=name)
        assert event['outcome']['text'] == 'text' and channel[0]['delta'] == 'text'


def test_a_model_that_memory_is_too_short_for_fails_to_configure_with_numbers(monkeypatch):
    sent = Sent()
    worker = Worker(sent)
    loading = SimpleNamespace(load_engine=lambda settings, **options: [None] * 10 ** 18)
    monkeypatch.setitem(sys.modules, 'timebill_ros.worker.loading', loading)
    worker._configure({'op': 'configure', 'settings': _settings()})
    assert sent[-1]['event'] == 'failed'
    assert all(part in sent[-1]['message'] for part in ('OUT_OF_MEMORY', 'max_context_tokens', 'dtype', 'MemoryError'))


def no_memory(request, control):
    raise MemoryError


def test_a_goal_that_memory_is_too_short_for_ends_with_out_of_memory_and_the_worker_serves_on():
    event, worker = answered(no_memory)
    outcome = Outcome.from_dict(event['outcome'])
    assert (outcome.error_code, event['fatal']) == (ErrorCode.OUT_OF_MEMORY, '')
    assert 'memory is too short for this goal' in outcome.error_msg
    worker.engine.run = good
    worker._run({'op': 'run', 'request': to_dict(Request('next', 0.0, 1e9, prompt='w1'))})
    assert worker.channel[-2]['outcome']['text'] == 'text'
    worker.engine.estimate = lambda request: no_memory(request, None)
    worker._estimate({'op': 'estimate', 'tag': 7, 'request': to_dict(Request('e', 0.0, 1.0))})
    assert worker.channel[-1]['error_code'] == ErrorCode.OUT_OF_MEMORY
