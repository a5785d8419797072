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

"""What the node asks besides goals: answers and errors, and reading ahead that makes way for a goal."""
import threading
from types import SimpleNamespace

import pytest
import tiny_models

from timebill_ros.codes import ErrorCode
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prefix_store import PrefixStore
from timebill_ros.request import Request, to_dict
from timebill_ros.worker import questions
from timebill_ros.worker.steering import Steering
from timebill_ros.worker.streamer import Streamer

CHUNK = 16


class Sent(list):
    send = list.append


@pytest.fixture
def asked():
    """Ask a worker's model to read a prompt of 100 tokens ahead: steering -> its answer."""
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)
    model.prefixes = PrefixStore(model.cache, CHUNK, 20)
    engine = SimpleNamespace(model=model, prefill_chunk_tokens=CHUNK)
    sent = Sent()
    streamer = Streamer(sent)
    streamer.start()

    def ask(steering, **fields):
        request = Request('p', 0.0, 1e9, **(fields or {'prompt': 'w9 ' * 100}))
        message = {'op': 'prepare', 'tag': 7, 'request': to_dict(request)}
        return questions.prepare(engine, message, steering, streamer)

    ask.model = model
    return ask


def test_a_prompt_is_read_ahead(asked):
    assert asked(Steering()) == {'event': 'prepared', 'tag': 7, 'prompt_tokens': 100, 'ready_tokens': 96}


def test_a_goal_that_waits_already_comes_first(asked):
    steering = Steering()
    steering.goals_read = 1
    answer = asked(steering)
    assert (answer['error_code'], answer['error_msg']) == (ErrorCode.BUSY, 'a goal came: 0 of 100 tokens are kept')
    assert (answer['prompt_tokens'], answer['ready_tokens']) == (100, 0)


def test_a_goal_that_comes_stops_it_and_the_rest_is_read_when_asked_again(asked, monkeypatch):
    steering, prefill = Steering(), CausalLM.prefill

    def comes(self, ids, **options):
        steering.goals_read = len(ids) > 2 * CHUNK
        return prefill(self, ids, **options)

    with monkeypatch.context() as patch:
        patch.setattr(CausalLM, 'prefill', comes)
        answer = asked(steering)
    assert answer['error_code'] is ErrorCode.BUSY and '32 of 100' in answer['error_msg']
    assert (answer['prompt_tokens'], answer['ready_tokens']) == (100, 32)
    steering.goals_begun = 1
    assert asked(steering)['ready_tokens'] == 96


def test_a_goal_that_comes_once_all_was_read_changes_nothing(asked, monkeypatch):
    steering, held = Steering(), asked.model.prefixes.held

    def comes(ids):
        steering.goals_read = 1
        return held(ids)

    monkeypatch.setattr(asked.model.prefixes, 'held', comes)
    assert asked(steering) == {'event': 'prepared', 'tag': 7, 'prompt_tokens': 100, 'ready_tokens': 96}


@pytest.mark.parametrize(('fields', 'code', 'words'), [
    ({'prompt': 'w9 ' * 600}, ErrorCode.PROMPT_TOO_LONG, '600 tokens'),
    ({'messages': [{'role': 'tool', 'content': 'w9'}]}, ErrorCode.INVALID_GOAL, 'role tool')])
def test_a_prompt_that_cannot_be_read(asked, fields, code, words):
    answer = asked(Steering(), **fields)
    assert answer['error_code'] is code and words in answer['error_msg'] and answer['tag'] == 7


def test_a_bug_is_an_answer_too(asked, monkeypatch):
    monkeypatch.setattr(asked.model.prefixes, 'take', None)
    answer = asked(Steering())
    assert answer['error_code'] is ErrorCode.UNKNOWN and 'TypeError' in answer['error_msg']


def test_goals_are_counted_by_two_threads_without_a_lock():
    steering = Steering()

    def read():
        for _ in range(20_000):
            steering.goals_read += 1

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20_000):
        steering.goals_begun += 1
    reader.join()
    assert steering.goals_waiting == 0
