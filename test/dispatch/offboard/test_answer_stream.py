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

"""What a server streams is read whole or not at all; nothing of it is trusted."""
import json

import pytest

from timebill_ros.dispatch.offboard.answer_stream import (
    FEWEST_CHARACTERS,
    LONGEST_LINE,
    MOST_CHARACTERS,
    AnswerStream,
    Declined,
    Nonsense,
    Piece,
)


def line(delta=None, finish=None, **more):
    choice = {'index': 0, 'delta': {'content': delta} if isinstance(delta, str | None) else delta,
              'finish_reason': finish}
    return f'data: {json.dumps({"choices": [choice], **more})}\n\n'.encode()


def read(*parts, most_tokens=100):
    stream = AnswerStream(most_tokens)
    return [piece for part in parts for piece in stream.feed(part)]


STREAM = (b': a comment\r\nevent: message\n' + line({'role': 'assistant', 'content': ''}) + line('Grüß')
          + line({'content': None, 'reasoning_content': 'hm'}) + line(' Gott 🤖') + line(None, 'stop')
          + b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n')
PIECES = [Piece('Grüß'), Piece(), Piece(' Gott 🤖'), Piece('', 'stop')]


@pytest.mark.parametrize('size', [1, 2, 3, 7, 64, 10 ** 6])
def test_a_chat_however_it_is_cut_into_parts(size):
    assert read(*(STREAM[i:i + size] for i in range(0, len(STREAM), size))) == PIECES


def test_a_completion():
    data = b'data: {"choices": [{"text": "a b", "finish_reason": null}]}\n' \
           b'data:{"choices": [{"text": "", "finish_reason": "length"}]}\n'
    assert read(data) == [Piece('a b'), Piece('', 'length')]


def test_what_comes_behind_the_end_is_not_read():
    assert read(line('a', 'stop') + b'data: rubbish\n' + b'data: [DONE]\n') == [Piece('a', 'stop')]


def test_a_goal_without_a_limit_of_its_own_takes_no_endless_answer():
    piece = line('a' * (1 << 19))
    with pytest.raises(Nonsense, match='more text'):
        read(*[piece] * (MOST_CHARACTERS // (1 << 19) + 1), most_tokens=2 ** 32 - 1)


@pytest.mark.parametrize(('word', 'finish'), [('eos_token', 'stop'), ('stop_sequence', 'stop'), ('length', 'length')])
def test_other_words_for_the_end(word, finish):
    assert read(line('a', word)) == [Piece('a', finish)]


def test_a_mark_before_the_first_line_costs_no_text_nor_do_usage_and_filters_before_it():
    data = b'\xef\xbb\xbf' + line('a') + b'data: {"choices": null, "usage": {}}\n' \
        + b'data: {"choices": [], "prompt_filter_results": []}\n' + line('b', 'stop')
    for size in (1, 2, len(data)):
        assert read(*(data[i:i + size] for i in range(0, len(data), size))) == [Piece('a'), Piece('b', 'stop')]


@pytest.mark.parametrize(('data', 'declines'), [
    (line('a', 'content_filter'), True), (line(None, 'tool_calls'), True), (line('a', 'abort'), False),
    (b'data: {"error": {"message": "too long", "code": 400}}\n', True),
    (b'data: {"error": {"message": "broken", "code": 500}}\n', False), (b'data: {"error": "broken"}\n', False),
], ids=range(6))
def test_what_is_about_one_goal_is_told_apart(data, declines):
    with pytest.raises(Nonsense) as raised:
        read(data)
    assert isinstance(raised.value, Declined) is declines


def test_halves_of_a_character_are_put_together():
    assert read(line('a\ud83e'), line('\udd16b'), line('', 'stop')) == [Piece('a'), Piece('🤖b'), Piece('', 'stop')]


@pytest.mark.parametrize(('data', 'why'), [
    (b'data: <html>\n', 'no JSON'), (b'data: [1]\n', 'no JSON object'), (b'data: {}\n', 'no choices'),
    (b'data: {"choices": [3]}\n', 'no object'), (b'data: {"choices": [{"delta": 3}]}\n', 'no object'),
    (b'data: {"choices": [{"delta": {"content": 3}}]}\n', 'a text that is none'),
    (b'data: {"error": {"message": "out of memory"}}\n', 'out of memory'),
    (b'data: "' + b'\xc3' + b'"\n', 'no JSON'), (b'data: [DONE]\n', 'without a finish_reason'),
    (b'data: ' + b'[' * 100_000 + b'\n', 'no JSON'),
    (line('a\ud83e') + line('b'), 'half a character'), (line('\udd16'), 'half a character'),
    (line('a\ud83e', 'stop'), 'half a character at the end'), (line('a\0b'), 'character 0'),
    (line('a', 'content_filter'), 'content_filter'), (line('a', ['stop']), 'finish_reason'),
    (b'x' * (LONGEST_LINE + 1), 'a line of more'), (line('a' * (FEWEST_CHARACTERS + 1)), 'more text than'),
], ids=lambda value: value if isinstance(value, str) else '')
def test_nonsense_is_told_as_such(data, why):
    with pytest.raises(Nonsense, match=why):
        read(data, most_tokens=1)
