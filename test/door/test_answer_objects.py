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

"""Answers in OpenAI's form: what clients read, and the truth beside it."""
import json
import math
from types import SimpleNamespace

import pytest

from timebill_ros.action import Generate
from timebill_ros.asking.pending_goal import Answer
from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.door.answer_objects import Writer, as_text, check, finish_reason, usage
from timebill_ros.door.fields import Question
from timebill_ros.door.refusal import Refusal
from timebill_ros.msg import RequestStatus, Timing, ToolCall

CALL = ToolCall(id='call_1', name='drive', arguments='{}')


def result(text='two three', finish=FinishReason.EOS, **fields):
    timing = Timing(prompt_tokens=5, generated_tokens=3, reused_tokens=2, verdict=int(Verdict.FITS), queue_s=0.5,
                    prefill_s=math.nan, decode_s=0.25, response_time_s=1.0, eviction_ratio=math.nan)
    return Generate.Result(text=text, finish_reason=int(finish), timing=timing, **fields)


def writer(is_chat=True, **changed):
    fields = {'is_default_deadline': True, 'ignored': ['user'], **changed}
    return Writer(Question(SimpleNamespace(), is_chat, 1.5, **fields), 'ab', 'm')


@pytest.mark.parametrize(('finish', 'told'), [
    (FinishReason.EOS, 'stop'), (FinishReason.STOP, 'stop'), (FinishReason.LENGTH, 'length'),
    (FinishReason.CAPPED, 'length'), (FinishReason.DEADLINE, 'length')])
def test_how_an_answer_ended_in_the_words_that_clients_know(finish, told):
    assert finish_reason(result(finish=finish)) == told
    with_calls = finish_reason(result(finish=finish, tool_calls=[CALL]))
    assert with_calls == ('tool_calls' if told == 'stop' else told)


def test_the_whole_answer_of_a_chat():
    answer = writer().whole(Answer(result(finish=FinishReason.DEADLINE), 4, 0.1, 1.2))
    assert json.loads(as_text(answer)) == answer, 'it is JSON, without NaN'
    assert (answer['id'], answer['object'], answer['model']) == ('chatcmpl-ab', 'chat.completion', 'm')
    (choice,) = answer['choices']
    assert choice['message'] == {'role': 'assistant', 'content': 'two three'} and choice['finish_reason'] == 'length'
    facts = answer['timebill']
    assert (facts['finish_reason'], facts['verdict'], facts['promise']) == ('DEADLINE', 'FITS', 'missed')
    assert (facts['deadline_ms'], facts['deadline_from'], facts['ignored']) == (1500, 'default', ['user'])
    assert facts['timing']['response_time_s'] == 1.0


def test_the_whole_answer_of_a_completion():
    answer = writer(is_chat=False, is_default_deadline=False).whole(Answer(result(), 4, 0.1, 1.2))
    assert (answer['id'], answer['object'], answer['choices'][0]['text']) == ('cmpl-ab', 'text_completion', 'two three')
    assert 'message' not in answer['choices'][0] and answer['timebill']['deadline_from'] == 'request'


def test_usage_has_tokens_and_times():
    assert usage(result()) == {
        'prompt_tokens': 5, 'completion_tokens': 3, 'total_tokens': 8, 'prompt_tokens_details': {'cached_tokens': 2},
        'completion_tokens_details': {'reasoning_tokens': 0}, 'queue_time': 0.5, 'prompt_time': None,
        'completion_time': 0.25, 'total_time': 1.0}


def test_times_without_an_end_are_null_too():
    endless = result()
    endless.timing.queue_s = math.inf
    status = RequestStatus(verdict=int(Verdict.AT_RISK), slack_s=-math.inf, wcet_s=math.inf)
    assert usage(endless)['queue_time'] is None
    plan = writer().first(status)['timebill']
    assert (plan['slack_s'], plan['wcet_s']) == (None, None)


def test_calls_of_tools_and_reasoning_stand_beside_the_text():
    answer = writer().whole(Answer(result('', tool_calls=[CALL], reasoning='hm'), 4, 0.1, 1.2))
    calls = [{'id': 'call_1', 'type': 'function', 'function': {'name': 'drive', 'arguments': '{}'}}]
    assert answer['choices'][0]['message'] == {'role': 'assistant', 'content': None, 'reasoning_content': 'hm',
                                               'tool_calls': calls}


@pytest.mark.parametrize('code', [ErrorCode.INFEASIBLE, ErrorCode.BUSY])
def test_a_goal_without_enough_time_is_told_with_what_it_had_of_the_deadline(code):
    question = Question(SimpleNamespace(), True, 0.001, False, budget_s=0.0005)
    ended = result('', FinishReason.ERROR, error_code=int(code), error_msg='nothing is left')
    with pytest.raises(Refusal) as error:
        check(question, Answer(ended, 6, 0.1, 0.1))
    told = '; of the deadline of 1 ms the goal had 0.5 ms, because the way through HTTP takes time too'
    assert str(error.value) == 'nothing is left' + (told if code is ErrorCode.INFEASIBLE else '')
    assert error.value.facts['error_msg'] == 'nothing is left'


def test_the_pieces_of_a_stream():
    status = RequestStatus(verdict=int(Verdict.AT_RISK), slack_s=0.5, eviction_ratio=math.nan, predicted_tokens=7)
    pieces, answer = writer(include_usage=True), Answer(result(tool_calls=[CALL]), 4, 0.1, 1.2)
    made = [pieces.first(status), pieces.text('two'), pieces.reasoning('hm'), pieces.calls(answer.result),
            pieces.last(answer), pieces.spent(answer)]
    assert all(json.loads(as_text(piece)) == piece and piece['object'] == 'chat.completion.chunk' for piece in made)
    first, text, reasoning, calls, last, spent = made
    assert first['choices'][0]['delta'] == {'role': 'assistant', 'content': ''}
    assert (first['timebill']['verdict'], first['timebill']['eviction_ratio']) == ('AT_RISK', None)
    assert text['choices'][0]['delta'] == {'content': 'two'} and text['usage'] is None
    assert reasoning['choices'][0]['delta'] == {'reasoning_content': 'hm'}
    assert calls['choices'][0]['delta']['tool_calls'][0]['index'] == 0
    assert (last['choices'][0]['finish_reason'], last['timebill']['promise']) == ('tool_calls', 'kept')
    assert spent['choices'] == [] and spent['usage']['total_tokens'] == 8


def test_no_client_finds_the_end_of_a_line_within_a_piece():
    piece = writer().text('Gr\u00fc\u00dfe\u0085one\u2028two\u2029three \U0001f916')
    assert json.loads(as_text(piece)) == piece and len(as_text(piece).splitlines()) == 1


def test_the_pieces_of_a_completions_stream():
    pieces = writer(is_chat=False)
    assert pieces.text('two')['choices'][0] == {'index': 0, 'finish_reason': None, 'logprobs': None, 'text': 'two'}
    assert 'usage' not in pieces.text('two')
    assert pieces.first(None)['timebill']['deadline_ms'] == 1500
