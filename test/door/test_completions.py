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

"""A request's way through the door, over HTTP, to a node of the test's own that does what the first word says."""
import concurrent.futures
import json
import time

import httpx
import pytest
from answering_node import AnsweringNode, words_of
from door_program import door_in_a_thread
from node_client import WAIT_S, wait_until

from timebill_ros.action import Generate
from timebill_ros.codes import Part, Phase
from timebill_ros.door.completions import Completions
from timebill_ros.door.goal_events import CLOSED
from timebill_ros.door.refusal import Refusal
from timebill_ros.msg import Timing, ToolCall

CHAT, COMPLETION = '/v1/chat/completions', '/v1/completions'
TOOLS = [{'type': 'function', 'function': {'name': 'look', 'parameters': {'type': 'object', 'properties': {}}}}]


class CallingNode(AnsweringNode):
    """Calls the tool `look` where the first word is "call", after some thinking."""

    goal = None  # the last one of these

    def _execute(self, handle) -> Generate.Result:
        if words_of(handle.request)[0] != 'call':
            return super()._execute(handle)
        self.goal = handle.request
        for part, text in ((Part.REASONING, 'h'), (Part.TOOL_CALL, '<tool_call>')):
            handle.publish_feedback(Generate.Feedback(phase=int(Phase.DECODE), text_delta=text, part=int(part)))
        handle.succeed()
        return Generate.Result(finish_reason=Generate.Result.FINISH_EOS, timing=Timing(), reasoning='hm',
                               tool_calls=[ToolCall(id='call_1', name='look', arguments='{}')])


@pytest.fixture(scope='module')
def node():
    with CallingNode() as node:
        yield node


@pytest.fixture(scope='module')
def door(node):
    with door_in_a_thread(node.server) as (url, client):
        client.wait_until_active(WAIT_S)
        with httpx.Client(base_url=url, timeout=WAIT_S) as http:
            yield http


def body(prompt: str, **fields) -> dict:
    return {'model': 'timebill', 'messages': [{'role': 'user', 'content': prompt}], 'deadline_ms': 30000, **fields}


def pieces(answer: httpx.Response) -> list[dict]:
    """Return the JSON of the events of a stream, which has come whole."""
    lines = [line for line in answer.text.split('\n\n') if line]
    assert all(line.startswith('data: ') for line in lines)
    if lines[-1] == 'data: [DONE]':
        lines.pop()
    return [json.loads(line.removeprefix('data: ')) for line in lines]


def test_an_answer(door):
    answer = door.post(CHAT, json=body('say two three'))
    assert answer.status_code == 200 and answer.headers['x-timebill-deadline-ms'] == '30000'
    found = answer.json()
    assert found['choices'][0]['message']['content'] == 'two three end'
    assert found['choices'][0]['finish_reason'] == 'stop' and found['timebill']['deadline_from'] == 'request'
    assert found['id'] == 'chatcmpl-' + answer.headers['x-request-id']


def test_a_completion_with_its_deadline_in_a_header(door):
    answer = door.post(COMPLETION, json={'prompt': 'cut two'}, headers={'x-timebill-deadline-ms': '20000'}).json()
    assert (answer['choices'][0]['text'], answer['choices'][0]['finish_reason']) == ('two end', 'length')
    assert answer['timebill']['finish_reason'] == 'DEADLINE' and answer['timebill']['deadline_ms'] == 20000


@pytest.mark.parametrize('usage', [False, True])
def test_a_stream(door, usage):
    answer = door.post(CHAT, json=body('say two three', stream=True, stream_options={'include_usage': usage}))
    assert answer.headers['content-type'].startswith('text/event-stream') and answer.text.endswith('data: [DONE]\n\n')
    first, *rest = pieces(answer)
    assert first['choices'][0]['delta'] == {'role': 'assistant', 'content': ''}
    if usage:
        assert rest.pop()['usage']['total_tokens'] == 0
    *texts, last = rest
    assert ''.join(text['choices'][0]['delta'].get('content', '') for text in texts) == 'two three end'
    assert len(texts) > 1, 'it comes in pieces'
    # The node of this test says all at once, so ROS may bring its first text before its plan.
    verdicts = [piece['timebill'].get('verdict') for piece in [first, *texts] if 'timebill' in piece]
    assert [verdict for verdict in verdicts if verdict] == ['FITS']
    assert (last['choices'][0]['finish_reason'], last['timebill']['finish_reason']) == ('stop', 'EOS')


def test_a_stream_of_what_a_cut_may_take_back_comes_at_once(door):
    found = pieces(door.post(CHAT, json=body('say two three', stream=True, stop_at_line_end=True)))
    texts = [piece['choices'][0]['delta'].get('content') for piece in found]
    assert [text for text in texts if text] == ['two three end']


@pytest.mark.parametrize('stream', [False, True])
def test_calls_of_tools_go_round(node, door, stream):
    call = {'id': 'call_0', 'type': 'function', 'function': {'name': 'look', 'arguments': '{}'}}
    asked = body('', tools=TOOLS, stream=stream, messages=[
        {'role': 'user', 'content': 'what is there?'}, {'role': 'assistant', 'content': None, 'tool_calls': [call]},
        {'role': 'tool', 'tool_call_id': 'call_0', 'content': 'call again'}])
    answer = door.post(CHAT, json=asked)
    assert json.loads(node.goal.tools) == TOOLS and node.goal.messages[2].tool_call_id == 'call_0'
    assert node.goal.messages[1].tool_calls[0].name == 'look'
    if stream:
        assert '<tool_call>' not in answer.text, 'as the model spells it'
        *pieces_before, called, last = pieces(answer)
        thought = [piece['choices'][0]['delta'].get('reasoning_content', '') for piece in pieces_before]
        (choice,), reasoning = last['choices'], ''.join(thought)
        message = called['choices'][0]['delta']
        assert message['tool_calls'][0].pop('index') == 0
    else:
        (choice,) = answer.json()['choices']
        message = choice['message']
        reasoning = message['reasoning_content']
        assert message['content'] is None
    assert message['tool_calls'] == [{**call, 'id': 'call_1'}]
    assert (choice['finish_reason'], reasoning) == ('tool_calls', 'hm')


def test_a_stream_that_is_no_chat(door):
    found = pieces(door.post(COMPLETION, json={'prompt': 'say two three', 'stream': True}))
    assert ''.join(piece['choices'][0]['text'] for piece in found) == 'two three end'


@pytest.mark.parametrize('stream', [False, True])
def test_a_goal_that_fails_is_an_error_with_the_nodes_sentence(door, stream):
    answer = door.post(CHAT, json=body('fail', stream=stream))
    error = answer.json()['error']
    assert (answer.status_code, error['message'], error['code']) == (429, '32 goals wait already', 'busy')
    assert error['timebill']['error'] == 'BUSY' and answer.headers['retry-after'] == '1'


@pytest.mark.parametrize(('path', 'given', 'status', 'code'), [
    (CHAT, {'content': b'{"messages": ', 'headers': {'content-type': 'application/json'}}, 400, 'invalid_json'),
    (CHAT, {'content': b'{}'}, 415, None), (CHAT, {'json': {'messages': []}}, 400, 'invalid_value'),
    (CHAT, {'json': body('say', misspelt=1)}, 400, 'unknown_parameter'),
    (CHAT, {'json': body('say', deadline_ms=1e-6)}, 504, 'deadline_missed'),
    (CHAT, {'json': body('say ' + 'x' * 3 * 2 ** 20)}, 413, 'body_too_large'),
    (CHAT, {'json': body('say a\0b')}, 400, 'invalid_value'), ('/v1/embeddings', {'json': {}}, 404, 'unknown_url')])
def test_what_is_refused_reaches_no_node(node, door, path, given, status, code):
    asked = len(node.asked)
    answer = door.post(path, **given)
    assert (answer.status_code, answer.json()['error']['code']) == (status, code)
    assert answer.json()['error']['message'] and len(node.asked) == asked


def test_a_body_that_is_nested_too_deeply_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Refusal, match='nested too deeply'):
        Completions(None, is_chat=True, model='m', default_deadline_s=1.0, most_bytes=1)._read({'messages': [deep]}, {})


def test_a_method_that_is_not_served_is_told_in_the_same_form(door):
    answer = door.get(CHAT)
    assert (answer.status_code, answer.json()['error']['code']) == (405, 'unknown_url')


@pytest.mark.parametrize(('word', 'stream'), [('hang', False), ('hang', True), ('hopeless', True)])
def test_a_connection_that_is_closed_cancels_its_goal(node, door, word, stream):
    node.canceled.clear()
    asked = len(node.asked)
    with pytest.raises(httpx.ReadTimeout):
        door.post(CHAT, json=body(word, stream=stream), timeout=httpx.Timeout(WAIT_S, read=1.0))
    assert node.canceled.wait(WAIT_S) and node.asked[asked:] == [word]


def test_two_clients_at_once(door):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(door.post, CHAT, json=body(f'say {word}')) for word in ('two', 'three')]
        answers = [one.result(WAIT_S).json()['choices'][0]['message']['content'] for one in asked]
    assert answers == ['two end', 'three end']


def test_models_and_health(door):
    assert door.get('/health').json()['status'] == 'ok'
    (model,) = door.get('/v1/models').json()['data']
    assert (model['id'], door.get('/v1/models/timebill').json()) == ('timebill', model)
    missing = door.get('/v1/models/gpt')
    assert (missing.status_code, missing.json()['error']['code']) == (404, 'model_not_found')


def test_without_a_node_it_is_said_what_to_do_and_the_loop_waits_for_nothing():
    with door_in_a_thread('/nowhere') as (url, _), httpx.Client(base_url=url, timeout=WAIT_S) as http:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(http.post, CHAT, json=body('say')) for _ in range(3)]
            began_s = time.monotonic()
            assert http.get('/v1/models/timebill').status_code == 200  # meanwhile
            at_once_s = time.monotonic() - began_s
            answers = [one.result(WAIT_S) for one in asked]
        took_s = time.monotonic() - began_s
        assert at_once_s < took_s / 2
    for answer in answers:
        assert answer.status_code == 503 and answer.headers['x-should-retry'] == 'true'
        assert 'no node /nowhere was found: is it running' in answer.json()['error']['message']


def test_a_node_that_is_not_found_by_the_deadline_is_told_at_the_deadline():
    with door_in_a_thread('/nowhere') as (url, _):
        began_s = time.monotonic()
        answer = httpx.post(url + CHAT, json=body('say', deadline_ms=100), timeout=WAIT_S)
        assert time.monotonic() - began_s < 1.5, 'a node that no deadline presses is looked for longer'
    assert answer.status_code == 503
    assert '/nowhere was not found active by the deadline of 100 ms: GET /health says' in answer.text


@pytest.mark.parametrize('stream', [False, True])
def test_a_door_that_is_closed_ends_its_goals_and_says_so(node, stream):
    node.canceled.clear()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with door_in_a_thread(node.server) as (url, client):
            client.wait_until_active(WAIT_S)
            before = len(node.asked)
            asked = pool.submit(httpx.post, url + CHAT, json=body('hang', stream=stream), timeout=WAIT_S)
            wait_until(lambda: node.asked[before:] == ['hang'])
        answer = asked.result(WAIT_S)
    assert (answer.status_code, answer.json()['error']['code']) == (503, 'canceled') and node.canceled.is_set()
    assert answer.json()['error']['message'] == CLOSED
