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

"""The fields of a goal: what each does, and that any goal a client can write ends in a result that makes sense."""
from __future__ import annotations

import json
import math
import socket
import threading

import pytest
from builtin_interfaces.msg import Duration, Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node_client import ABORTED, SUCCEEDED, Result, hot, make_goal, wait_until
from node_process import NodeProcess

from timebill_ros import admission
from timebill_ros.action import Generate
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Strategy
from timebill_ros.dispatch.channel import Channel
from timebill_ros.msg import ChatMessage, SamplingConfig
from timebill_ros.node import translation
from timebill_ros.request import Request, to_dict
from timebill_ros.settings import check

SETTINGS = check({})
INT32, UINT32 = st.integers(-2 ** 31, 2 ** 31 - 1), st.integers(0, 2 ** 32 - 1)
FLOAT32 = st.floats(width=32)
# No surrogates: they are no UTF-8; no NUL: it ends a string in DDS.
TEXT = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0'), max_size=60) | st.sampled_from(
    ['<|im_end|>', '\u202e\u200b', '{{ x }}', '"}\n{"op": "cancel"}', '\x1b[31m\r\n\t', 'w1 ' * 300])
TIMES = st.tuples(INT32 | st.integers(-2, 5), st.integers(0, 10 ** 9 - 1) | UINT32)
ROLES = st.sampled_from([*admission.ROLES, 'wizard', '']) | TEXT


@st.composite
def goals(draw):
    """Over every field, its usual values often."""
    sec, nanosec = draw(TIMES)
    goal = Generate.Goal(prompt=draw(TEXT), time_budget=Duration(sec=sec, nanosec=nanosec))
    if draw(st.booleans()):
        goal.messages = [ChatMessage(role=role, content=content) for role, content in draw(
            st.lists(st.tuples(ROLES, TEXT), max_size=4))]
    if draw(st.booleans()):
        sec, nanosec = draw(TIMES)
        goal.deadline = Time(sec=sec, nanosec=nanosec)
    goal.overrun_strategy = draw(st.integers(0, 3) | st.integers(0, 255))
    goal.max_new_tokens = draw(st.just(0) | UINT32)
    goal.max_eviction_ratio = draw(st.just(-1.0) | FLOAT32)
    goal.priority = draw(st.integers(0, 255))
    goal.closing_text = draw(st.just('') | TEXT)
    goal.stop_at_line_end = draw(st.booleans())
    if draw(st.booleans()):
        goal.sampling = SamplingConfig(
            temperature=draw(FLOAT32), top_p=draw(st.just(1.0) | FLOAT32), top_k=draw(UINT32),
            min_p=draw(st.just(0.0) | FLOAT32), repetition_penalty=draw(st.just(1.0) | st.just(1.5) | FLOAT32),
            seed=draw(st.integers(0, 2 ** 64 - 1)), stop=draw(st.lists(TEXT, max_size=3)))
    return goal


@given(goals(), st.floats(0, 1e9), st.none() | st.floats(-2.0 ** 32, 2.0 ** 32))
@settings(max_examples=500, deadline=None)
def test_a_goal_becomes_a_request_that_can_be_tried_or_a_sentence(goal, release_s, deadline_in_s):
    try:
        request = translation.to_request(goal, 'ab' * 16, release_s=release_s, deadline_in_s=deadline_in_s,
                                         settings=SETTINGS, margin_s=0.03, model_sampling={})
    except GoalError as error:
        assert error.code in (ErrorCode.INVALID_GOAL, ErrorCode.PROMPT_TOO_LONG, ErrorCode.INFEASIBLE)
        assert 10 < len(str(error)) < 500
        return
    assert math.isfinite(request.deadline_s) and request.deadline_s >= request.release_s == release_s
    assert request.strategy is not Strategy.DEFAULT
    assert (request.max_overrun_s > 0) == (request.strategy is Strategy.SKIP_NEXT)
    assert 0 <= request.max_eviction_ratio < 1 and request.max_new_tokens >= 1 and 0 <= request.priority <= 255
    assert bool(request.prompt) != bool(request.messages)
    assert 0 <= request.sampling.temperature < math.inf and 0 < request.sampling.top_p <= 1
    assert 0 <= request.sampling.min_p <= 1 and 0.009 < request.sampling.repetition_penalty <= 100
    assert request.sampling.seed > 0


@given(goals())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_request_reaches_the_worker_as_it_is(goal):
    try:
        request = translation.to_request(goal, 'ab' * 16, release_s=1.0, deadline_in_s=2.0, settings=SETTINGS,
                                         margin_s=0.03, model_sampling={})
    except GoalError:
        return
    ours, theirs = socket.socketpair()
    sender, received = Channel(ours), []
    reader = threading.Thread(target=lambda: received.extend(Channel(theirs).receive()))
    reader.start()
    assert sender.send({'op': 'run', 'request': to_dict(request)})
    sender.close()
    reader.join(10.0)
    theirs.close()
    assert len(received) == 1, 'a newline in a text must not end the message'
    assert Request.from_dict(received[0]['request']) == request
    assert json.loads(json.dumps(to_dict(request))) == to_dict(request)


@pytest.fixture(scope='module')
def node():
    with NodeProcess(max_overrun_s=0.2) as node:
        yield node.start()


@given(goals(), st.floats(0.0, 0.3))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_goal_ends_in_one_result_that_makes_sense(node, goal, budget_s):
    if goal.time_budget.sec >= 0:  # otherwise it is refused anyway; so that the test is quick
        goal.time_budget = Duration(nanosec=int(budget_s * 1e9))
    if goal.time_budget.sec == 0 and goal.time_budget.nanosec == 0:
        goal.deadline = Time()
    sent = node.send(goal)
    status, result = sent.result()
    code = ErrorCode(result.error_code)
    assert status == (SUCCEEDED if code is ErrorCode.NONE else ABORTED)
    assert bool(result.error_msg) == (code is not ErrorCode.NONE) and len(result.error_msg) < 1000
    assert FinishReason(result.finish_reason) is not FinishReason.UNKNOWN
    assert code in (ErrorCode.NONE, ErrorCode.INVALID_GOAL, ErrorCode.INFEASIBLE, ErrorCode.DEADLINE_MISSED,
                    ErrorCode.PROMPT_TOO_LONG), result.error_msg
    wait_until(lambda: sent.text == result.text or not result.text.startswith(sent.text))


def test_the_node_serves_after_all_that(node):
    assert node.ask(make_goal('one'))[1].text == 'two three'


def test_messages_go_through_the_chat_template(node):
    # <|im_start|> user w1 w2 <|im_end|> <|im_start|> assistant
    _, result = node.ask(make_goal('', messages=[ChatMessage(role='user', content='w1 w2')], max_new_tokens=3))
    assert (result.error_code, result.timing.prompt_tokens) == (Result.NONE, 7)


def test_messages_are_used_instead_of_the_prompt(node):
    _, result = node.ask(make_goal('w1 ' * 100, messages=[ChatMessage(role='user', content='w1')], max_new_tokens=3))
    assert (result.error_code, result.timing.prompt_tokens) == (Result.NONE, 6)


def test_the_same_seed_gives_the_same_text(node):
    texts = [node.ask(make_goal(max_new_tokens=40, sampling=hot(seed)))[1].text for seed in (7, 7, 8, 2 ** 64 - 1)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3]


def test_a_stop_string_ends_the_text_and_is_left_out(node):
    _, whole = node.ask(make_goal(max_new_tokens=40, sampling=hot()))
    word = next(word for word in whole.text.split(' ') if word.startswith('w') and not whole.text.startswith(word))
    sent = node.send(make_goal(max_new_tokens=40, sampling=hot(stop=['never', word])))
    status, result = sent.result()
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_STOP)
    assert result.text == whole.text[:whole.text.index(word)]
    wait_until(lambda: sent.text == result.text, 5.0, 'the deltas do not make up the text')


def test_max_new_tokens_is_a_natural_end(node):
    status, result = node.ask(make_goal(max_new_tokens=7))
    assert (status, result.finish_reason, result.timing.generated_tokens) == (SUCCEEDED, Result.FINISH_LENGTH, 7)


def test_the_servers_length_applies_where_the_goal_has_none(node, changed):
    changed('default_max_new_tokens', 9, 256)
    assert node.ask(make_goal())[1].timing.generated_tokens == 9
