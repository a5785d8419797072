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

"""What the server is asked, and for which goals."""
import pytest

from timebill_ros.codes import Thinking
from timebill_ros.dispatch.offboard.question import question, suits
from timebill_ros.request import Request, Sampling

TURN = {'role': 'user', 'content': 'hi'}


def request(**fields):
    return Request('id', 0.0, 1.0, **{'prompt': 'hi', 'allow_offboard': True, **fields})


@pytest.mark.parametrize(('fields', 'asked'), [
    ({}, True), ({'allow_offboard': False}, False), ({'regex': 'a+'}, False), ({'choices': ['a']}, False),
    ({'response_schema': '{}'}, False), ({'tools': '[]'}, False), ({'thinking': Thinking.ON}, False),
    ({'thinking': Thinking.OFF}, True), ({'prompt': '', 'messages': [TURN]}, True),
    ({'prompt': '', 'messages': [TURN, {'role': 'assistant', 'content': 'The way'}]}, False),
])
def test_which_goals_it_is_asked_for(fields, asked):
    assert suits(request(**fields)) is asked


def test_a_goal_says_nothing_of_leaving_by_itself():
    assert not Request('id', 0.0, 1.0, prompt='hi').allow_offboard


def test_a_prompt_and_what_the_goal_leaves_open_is_not_sent():
    assert question(request(max_new_tokens=9), 'large') == ('completions', {
        'model': 'large', 'stream': True, 'max_tokens': 9, 'temperature': 0.0, 'prompt': 'hi'})


def test_sampling_that_the_goal_sets():
    sampling = Sampling(0.5, 0.9, 40, 7, ['END'], 0.1, 1.1)
    _, body = question(request(sampling=sampling), 'large')
    assert {name: body[name] for name in ('temperature', 'top_p', 'top_k', 'seed', 'stop', 'min_p',
                                          'repetition_penalty')} == {
        'temperature': 0.5, 'top_p': 0.9, 'top_k': 40, 'seed': 7, 'stop': ['END'], 'min_p': 0.1,
        'repetition_penalty': 1.1}


def test_greedy_leaves_out_what_has_no_effect_and_a_seed_fits_its_type():
    _, body = question(request(sampling=Sampling(0.0, 0.9, 40, 7)), 'large')
    assert not {'top_p', 'top_k', 'seed'} & set(body)
    assert question(request(sampling=Sampling(1.0, seed=2 ** 64 - 1)), 'large')[1]['seed'] == 2 ** 63 - 1


def test_a_conversation_with_calls_in_openais_form():
    call = {'id': 'call_1', 'name': 'drive', 'arguments': '{"to": "dock"}'}
    path, body = question(request(prompt='', messages=[
        TURN, {'role': 'assistant', 'content': '', 'tool_calls': [call]},
        {'role': 'tool', 'content': 'done', 'tool_call_id': 'call_1'}]), 'large')
    assert path == 'chat/completions' and 'prompt' not in body
    assert body['messages'] == [
        TURN, {'role': 'assistant', 'content': '', 'tool_calls': [
            {'id': 'call_1', 'type': 'function', 'function': {'name': 'drive', 'arguments': '{"to": "dock"}'}}]},
        {'role': 'tool', 'content': 'done', 'tool_call_id': 'call_1'}]
