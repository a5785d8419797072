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

"""The scripted worker as the node starts it: a process without torch, ready within a second, with every fault."""
from __future__ import annotations

import time
from pathlib import Path

import pytest
from node_client import WAIT_S, wait_until
from worker_listener import Listener

from timebill_ros import settings
from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.request import Outcome, Request, to_dict
from timebill_ros.worker import scripted
from timebill_ros.worker.scripted_faults import FAULTS

HEAD = 'format: 1\ntimes: {prompt_s: 0, prompt_token_s: 0, token_s: 0.01}\n'
ENDLESS = HEAD + 'answers: [{text: on and, ends: false}]'


class Worker:
    """A worker process and what it has said."""

    def __init__(self, folder: Path, text: str, restarts: int = 0, **changed):
        (folder / 's.yaml').write_text(text)
        self.listener = Listener()
        self.process = WorkerProcess('', self.listener)
        self.process.send({'op': 'configure', 'restarts': restarts, 'settings': settings.check(
            {'worker': 'scripted', 'script': str(folder / 's.yaml'), 'cache_dir': str(folder / 'cache'),
             **changed})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.close()

    def send(self, name: str, prompt: str = 'hello', budget_s: float = WAIT_S, **fields) -> None:
        now = time.monotonic()
        request = Request(name, now, now + budget_s, prompt=prompt, **fields)
        self.process.send({'op': 'run', 'request': to_dict(request)})

    def heard(self, kind: str, name: str) -> list[dict]:
        return [event for event in list(self.listener.events) if event['event'] == kind and event.get('id') == name]

    def outcome(self, name: str) -> Outcome:
        done, = wait_until(lambda: self.heard('done', name))
        return Outcome.from_dict(done['outcome'])

    def streamed(self, name: str) -> str:
        return ''.join(event['delta'] for event in self.heard('text', name))


def test_a_goal_and_an_estimate_without_torch(tmp_path):
    with Worker(tmp_path, HEAD + 'answers: [{text: one two three}]') as worker:
        ready = worker.listener.wait('ready')
        assert 's.yaml' in ready['description'] and ready['costs']['max_context'] == 8192
        worker.send('r')
        outcome = worker.outcome('r')
        assert (outcome.text, outcome.finish_reason) == ('one two three', FinishReason.EOS)
        assert [event['phase'] for event in worker.heard('phase', 'r')] == [2, 3]
        plan, = worker.heard('plan', 'r')
        assert plan['plan']['verdict'] == Verdict.FITS
        assert 'one two three'.startswith(worker.streamed('r'))
        worker.process.send({'op': 'estimate', 'tag': 7, 'request': to_dict(Request('e', 0.0, 1.0, prompt='hi'))})
        estimate = worker.listener.wait('estimate')
        assert (estimate['tag'], estimate['plan']['predicted_tokens'], estimate['prompt_tokens']) == (7, 4, 1)
        worker.process.send({'op': 'ping'})
        assert worker.listener.wait('pong')['learned']['predicted_tokens'] == 4
        mapped = Path(f'/proc/{worker.process.pid}/maps').read_text()
        assert 'torch' not in mapped and 'tokenizers' not in mapped


def test_a_running_goal_can_be_canceled_and_its_deadline_moved(tmp_path):
    with Worker(tmp_path, ENDLESS) as worker:
        for name, message in [('cancel', {'op': 'cancel'}), ('move', {'op': 'deadline', 'deadline_s': 0.0})]:
            worker.send(name, max_new_tokens=8000)
            wait_until(lambda name=name: worker.streamed(name).startswith('on and'))
            worker.process.send({**message, 'id': name})
        assert worker.outcome('cancel').finish_reason is FinishReason.CANCELED
        assert worker.outcome('move').finish_reason is FinishReason.DEADLINE
        worker.process.send({'op': 'set', 'settings': {'miss_rate': 0.2, 'pessimistic_length': 'conformal'}})
        worker.send('after', max_new_tokens=3)
        assert worker.outcome('after').finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(('mib', 'keeps'), [(-1, True), (0, False)])
def test_a_goal_that_gives_way_is_kept_unless_no_prompt_is(tmp_path, mib, keeps):
    with Worker(tmp_path, ENDLESS, prefix_cache_mib=mib) as worker:
        assert bool(worker.listener.wait('ready')['pauses']) == keeps
        worker.send('r', max_new_tokens=8000)
        wait_until(lambda: worker.streamed('r').startswith('on and'))
        worker.process.send({'op': 'pause', 'id': 'r'})
        if keeps:
            wait_until(lambda: worker.heard('paused', 'r'))
        else:
            refused, = wait_until(lambda: worker.heard('refused', 'r'))
            assert 'prefix_cache_mib is 0' in refused['why']
            assert worker.outcome('r').finish_reason is FinishReason.CANCELED


@pytest.mark.parametrize('kind', FAULTS)
def test_every_fault_after_the_text_before_it_was_streamed(tmp_path, kind):
    answer = f'{{text: one two three, fault: {{kind: {kind}, after_tokens: 2}}}}'
    with Worker(tmp_path, f'{HEAD}answers: [{answer}]') as worker:
        worker.send('r')
        wait_until(lambda: worker.streamed('r') == 'one two')
        if kind == 'crash':
            assert worker.listener.wait('lost')['reason'] == 'signal SIGKILL'
        elif kind == 'hang':
            worker.process.send({'op': 'ping'})
            time.sleep(0.3)
            assert not {'done', 'pong', 'lost'} & {event['event'] for event in worker.listener.events}
        else:
            code = {'error': ErrorCode.UNKNOWN, 'out_of_memory': ErrorCode.OUT_OF_MEMORY}[kind]
            assert worker.outcome('r').error_code is code
            assert not worker.listener.wait('done')['fatal']


def test_uses_go_on_where_a_process_was_replaced_and_begin_anew_at_configure(tmp_path):
    text = HEAD + 'answers: [{text: a, uses: 1, fault: {kind: crash}}, {text: b}]'
    for restarts, crashes in [(0, True), (1, False), (0, True), (1, False)]:
        with Worker(tmp_path, text, restarts) as worker:
            worker.send('r')
            if crashes:
                worker.listener.wait('lost')
            else:
                assert worker.outcome('r').text == 'b'


@pytest.mark.parametrize('text, words', [
    (HEAD + 'answers: [{txt: a}]', 's.yaml, line 3: answers[0].txt is not known; here may be when, text'),
    (HEAD + 'start: {error: the battery is empty}\nanswers: [{}]', 'the battery is empty (start.error of the script')])
def test_a_script_that_cannot_be_used_fails_to_configure_with_a_sentence(tmp_path, text, words):
    with Worker(tmp_path, text) as worker:
        assert words in worker.listener.wait('failed')['message']


def test_a_start_takes_as_long_as_the_script_says(tmp_path):
    started = time.monotonic()
    with Worker(tmp_path, HEAD + 'start: {seconds: 1.5}\nanswers: [{}]') as worker:
        worker.listener.wait('ready')
        assert time.monotonic() - started > 1.5


def test_the_example_is_what_an_empty_parameter_means(tmp_path):
    values = settings.check({'worker': 'scripted', 'cache_dir': str(tmp_path)})
    loaded = scripted.load_engine(values, anew=True)
    assert 'config/script.yaml' in loaded.description and loaded.state is None and loaded.profile_check is None
    assert loaded.new_tracker({**values, 'pessimistic_length': 'adaptive'}).policy == 'fixed', 'nothing is learned'
