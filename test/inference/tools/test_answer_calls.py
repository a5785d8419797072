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

"""An answer taken apart: half a call is never passed on."""
import pytest
from chat_templates import TOOLS_TEXT

from timebill_ros.codes import FinishReason
from timebill_ros.inference.tools.answer_calls import ID_CHARACTERS, as_records, names_of, taken_apart
from timebill_ros.inference.tools.call_format import Call, CallFormat

QWEN = CallFormat('<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "',
                  '}\n</tool_call>')
CALL = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
HALF = '<tool_call>\n{"name": "drive_to", "arguments": {"place": "kit'
NAMES = names_of(TOOLS_TEXT)
CUTS = (FinishReason.DEADLINE, FinishReason.LENGTH, FinishReason.CAPPED)


def test_names():
    assert NAMES == ['drive_to', 'drive', 'stop']


@pytest.mark.parametrize('reason', [FinishReason.EOS, *CUTS])
def test_calls_and_text(reason):
    assert taken_apart(f'I stop.\n{CALL}', QWEN, NAMES, reason) == ('I stop.', [Call('stop', '{}')])


@pytest.mark.parametrize('reason', [*CUTS, FinishReason.CANCELED])
def test_half_a_call_is_dropped(reason):
    assert taken_apart(f'I go. {HALF}', QWEN, NAMES, reason) == ('I go. ', [])


@pytest.mark.parametrize('reason', CUTS)
def test_whole_calls_before_half_a_one_stay(reason):
    assert taken_apart(f'{CALL}\n{HALF}', QWEN, NAMES, reason) == ('', [Call('stop', '{}')])


@pytest.mark.parametrize('n', range(2, len('<tool_call>')))
def test_half_a_marker_is_dropped_too(n):
    assert taken_apart('I go. <tool_call>'[:6 + n], QWEN, NAMES, FinishReason.DEADLINE).text == 'I go. '


def test_one_sign_that_a_marker_begins_with_is_text():
    assert taken_apart('a <', QWEN, NAMES, FinishReason.DEADLINE).text == 'a <'


def test_a_call_of_an_answer_that_ended_by_itself_and_is_none_stays_text():
    text = '<tool_call>\n{"name": "fly", "arguments": {}}\n</tool_call>'
    assert taken_apart(text, QWEN, NAMES, FinishReason.EOS) == (text, [])


def test_a_canceled_answer_calls_nothing():
    assert taken_apart(CALL, QWEN, NAMES, FinishReason.CANCELED) == ('', [])


def test_every_call_has_an_id_of_its_own():
    made = as_records([Call('stop', '{}'), Call('stop', '{}')])
    assert all(len(call['id']) == ID_CHARACTERS and call['id'].isalnum() for call in made)
    assert made[0]['id'] != made[1]['id'] and made[0]['name'] == 'stop' and made[0]['arguments'] == '{}'
