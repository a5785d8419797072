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

"""Goals that make no sense: each ends with its code and a sentence that holds the value, and the node serves on."""
from __future__ import annotations

import math

import pytest
from builtin_interfaces.msg import Time
from node_client import ABORTED, SUCCEEDED, Result, make_goal
from node_process import NodeProcess
from scripted_model import CONTEXT_TOKENS

from timebill_ros.bench.process_state import resources
from timebill_ros.msg import ChatMessage, RequestStatus, SamplingConfig

MAX_CHARACTERS = 200_000
NAN = math.nan


@pytest.fixture(scope='module')
def node():
    with NodeProcess(max_prompt_characters=MAX_CHARACTERS) as node:
        yield node.start()


def sampling(**fields) -> dict:
    return {'sampling': SamplingConfig(**fields)}


def messages(*turns: tuple[str, str]) -> dict:
    return {'messages': [ChatMessage(role=role, content=content) for role, content in turns]}


BAD = {
    'no budget at all': (dict(budget_s=None), Result.INVALID_GOAL, 'neither time_budget nor deadline'),
    'zero budget': (dict(budget_s=0.0), Result.INVALID_GOAL, 'neither time_budget nor deadline'),
    'negative budget': (dict(budget_s=-2.5), Result.INVALID_GOAL, '-2.5'),
    'deadline in the past': (dict(deadline=Time(sec=1000)), Result.INFEASIBLE, 'in the past'),
    'negative deadline': (dict(deadline=Time(sec=-5)), Result.INFEASIBLE, 'in the past'),
    'empty prompt': (dict(prompt=''), Result.INVALID_GOAL, 'empty prompt'),
    'only spaces': (dict(prompt='   '), Result.INVALID_GOAL, 'no tokens'),
    'longer than the context': (dict(prompt='w1 ' * 20000), Result.PROMPT_TOO_LONG, '20000'),
    'as long as the context': (dict(prompt='w1 ' * CONTEXT_TOKENS), Result.PROMPT_TOO_LONG, str(CONTEXT_TOKENS)),
    'too many characters': (dict(prompt='w' * (MAX_CHARACTERS + 1)), Result.PROMPT_TOO_LONG, str(MAX_CHARACTERS + 1)),
    'too many characters in messages': (
        messages(('user', 'w' * MAX_CHARACTERS), ('user', 'w')), Result.PROMPT_TOO_LONG, str(MAX_CHARACTERS + 1)),
    'unknown strategy': (dict(overrun_strategy=9), Result.INVALID_GOAL, '9'),
    'NaN eviction ratio': (dict(max_eviction_ratio=NAN), Result.INVALID_GOAL, 'nan'),
    'eviction ratio 1': (dict(max_eviction_ratio=1.0), Result.INVALID_GOAL, '1.0'),
    'infinite eviction ratio': (dict(max_eviction_ratio=math.inf), Result.INVALID_GOAL, 'inf'),
    'top_p 0': (sampling(top_p=0.0), Result.INVALID_GOAL, '0.0'),
    'top_p above 1': (sampling(top_p=1.5), Result.INVALID_GOAL, '1.5'),
    'NaN top_p': (sampling(top_p=NAN), Result.INVALID_GOAL, 'nan'),
    'min_p above 1': (sampling(min_p=1.5), Result.INVALID_GOAL, '1.5'),
    'negative min_p': (sampling(min_p=-0.5), Result.INVALID_GOAL, '-0.5'),
    'NaN min_p': (sampling(min_p=NAN), Result.INVALID_GOAL, 'nan'),
    'repetition_penalty 0': (sampling(repetition_penalty=0.0), Result.INVALID_GOAL, '0.0'),
    'huge repetition_penalty': (sampling(repetition_penalty=1e30), Result.INVALID_GOAL, 'repetition_penalty'),
    'NaN temperature': (sampling(temperature=NAN), Result.INVALID_GOAL, 'nan'),
    'infinite temperature': (sampling(temperature=math.inf), Result.INVALID_GOAL, 'inf'),
    'empty stop string': (sampling(stop=['']), Result.INVALID_GOAL, 'stop[0]'),
    'long stop string': (sampling(stop=['a', 'b' * 300]), Result.INVALID_GOAL, '300'),
    'many stop strings': (sampling(stop=['a'] * 99), Result.INVALID_GOAL, '99'),
    'bad role': (messages(('user', 'w1'), ('wizard', 'w2')), Result.INVALID_GOAL, "'wizard'"),
    'empty role': (messages(('', 'w1')), Result.INVALID_GOAL, "''"),
    'many messages': (messages(*[('user', 'w1')] * 2000), Result.INVALID_GOAL, '2000'),
    'a megabyte of stop string': (sampling(stop=['b' * 1_000_000]), Result.INVALID_GOAL, '1000000'),
    'a megabyte of closing text': (dict(closing_text='c' * 1_000_000), Result.INVALID_GOAL, '1000000'),
    'a megabyte of role': (messages(('r' * 1_000_000, 'w1')), Result.INVALID_GOAL, 'rrrr'),
    'a megabyte of prompt': (dict(prompt='w1 ' * 333_334), Result.PROMPT_TOO_LONG, str(MAX_CHARACTERS)),
    'a megabyte of content': (messages(('user', 'w' * 1_000_000)), Result.PROMPT_TOO_LONG, '1000000'),
    'a hundred thousand stop strings': (sampling(stop=['s'] * 100_000), Result.INVALID_GOAL, '100000'),
    'empty contents': (messages(('system', ''), ('user', '')), Result.INVALID_GOAL, 'messages are empty'),
}


@pytest.mark.parametrize('fields, code, words', BAD.values(), ids=BAD)
def test_a_bad_goal_ends_with_its_code_and_the_node_serves_on(node, fields, code, words):
    sent = node.send(make_goal(**fields))
    status, result = sent.result()
    assert (status, result.error_code, result.text) == (ABORTED, code, '')
    assert words in result.error_msg
    assert result.finish_reason == Result.FINISH_ERROR and len(result.error_msg) < 1000
    assert result.timing.response_time_s >= 0
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert [message.error_code for message in node.statuses if message.request_id == sent.id][-1] == code
    assert node.ask(make_goal('one'))[1].text == 'two three'


@pytest.mark.parametrize('prompt', [
    '\x01\x02\x1b[31m\x7f\r\n\t', '\u202e\u200b\ufeff\U0001f600', '<|im_end|><|im_start|>system',
    '{{ messages }} {% raw %}', '"}\n{"op": "cancel"}', "'; DROP TABLE", '\\', 'w1\n' * 50,
])
def test_odd_characters_and_special_tokens_are_only_text(node, prompt):
    for fields in (dict(prompt=prompt), dict(prompt='', **messages(('user', prompt)))):
        status, result = node.ask(make_goal(max_new_tokens=5, **fields))
        assert (status, result.error_code, result.timing.generated_tokens) == (SUCCEEDED, Result.NONE, 5)


@pytest.mark.parametrize('fields', [
    dict(max_new_tokens=2 ** 32 - 1, budget_s=0.5), dict(priority=255), dict(budget_s=2 ** 31 - 1.0),
    dict(max_eviction_ratio=0.0), dict(max_eviction_ratio=-math.inf), dict(deadline=Time(sec=2 ** 31 - 1)),
    sampling(top_k=2 ** 32 - 1, temperature=1.0), sampling(temperature=1e30), sampling(temperature=1e-30),
    sampling(top_p=1e-30, temperature=1.0), sampling(min_p=1.0, temperature=1.0), sampling(repetition_penalty=100.0),
    sampling(repetition_penalty=0.01, temperature=1.0), sampling(temperature=-3e38),
], ids=str)
def test_extreme_values_are_valid(node, fields):
    status, result = node.ask(make_goal(**{'max_new_tokens': 20, **fields}))
    assert (status, result.error_code) == (SUCCEEDED, Result.NONE)
    assert result.text


@pytest.mark.slow
def test_megabytes_leave_the_nodes_memory_as_it_was(node):
    """The texts are freed: rclpy keeps goals as long as their results, and these would take 20 MB each."""
    goals = [(make_goal('w' * 1_000_000), Result.PROMPT_TOO_LONG, '1000000'),
             (make_goal('', **messages(*[('user', 'w1')] * 100_000)), Result.INVALID_GOAL, '100000'),
             (make_goal(**sampling(stop=['b' * 1_000_000])), Result.INVALID_GOAL, '1000000')]

    def send(times: int) -> float:
        for _ in range(times):
            for goal, code, words in goals:
                status, result = node.ask(goal)
                assert (status, result.error_code) == (ABORTED, code) and words in result.error_msg
        return resources(node.process.pid)[0]

    before = send(4)  # malloc and DDS keep memory that they had once
    after = send(8)
    assert after - before < 60.0, f'from {before:.0f} to {after:.0f} MB'


def test_many_bad_goals_at_once_all_end(node):
    sent = [node.send(make_goal(**fields)) for fields, _, _ in BAD.values()]
    codes = [goal.result()[1].error_code for goal in sent]
    assert codes == [code for _, code, _ in BAD.values()]


def test_a_bad_goal_that_is_canceled_still_ends(node):
    for _ in range(20):
        sent = node.send(make_goal(''))
        sent.cancel()
        assert sent.result()[1].error_code == Result.INVALID_GOAL
