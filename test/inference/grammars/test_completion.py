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

"""Completing answers that were cut anywhere: they have their form then, and nothing is invented unless asked."""
import json
import random
import re

import jsonschema
import pytest
from answer_forms import SCHEMAS, TEXTS

llguidance = pytest.importorskip('llguidance')
from timebill_ros.inference.grammars.completion import (  # noqa: E402
    ByteMatcher,
    chosen,
    closed,
    dropped,
    shortest_end,
)
from timebill_ros.inference.grammars.form import JSON, REGEX, Form  # noqa: E402
from timebill_ros.inference.grammars.json_cuts import scan  # noqa: E402
from timebill_ros.inference.grammars.vocabulary import single_bytes  # noqa: E402

BYTES = single_bytes()


def matcher(form: Form) -> ByteMatcher:
    found = llguidance.LLMatcher(BYTES, form.grammar(llguidance), log_level=0)
    assert not found.is_error(), found.get_error()
    return ByteMatcher(found)


def json_form(schema) -> Form:
    return Form(JSON, json.dumps(schema))


def valid(text: bytes, schema) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return jsonschema.Draft202012Validator(schema or {'type': 'object'}).is_valid(value)


def walk(form: Form, n: int, seed: int) -> bytes:
    """Return at most `n` bytes that the grammar allows, drawn at random; brackets and quotes come more often."""
    draw, follow, text = random.Random(seed), matcher(form), b''
    while len(text) < n and (allowed := follow.next_bytes()):
        likely = [byte for byte in allowed if byte in b'",:[]{}\\u'] if draw.random() < 0.5 else None
        byte = bytes([draw.choice(likely or list(allowed))])
        assert follow.follow(byte) == 1
        text += byte
    return text


@pytest.mark.parametrize('name', SCHEMAS)
@pytest.mark.parametrize('seed', range(2))
def test_any_cut_of_any_answer_has_its_form_once_it_is_completed(name, seed):
    form, schema = Form(JSON, TEXTS[name]), SCHEMAS[name]
    text, follow = walk(form, 80, seed), matcher(form)
    for n in range(1, len(text) + 1):
        cut = text[:n]
        follow.back_to(0)
        ended = closed(follow, cut, is_json=True)
        assert ended is not None and valid(ended.text, schema), cut
        assert cut.startswith(ended.text[:ended.own]) and n - ended.own < 12  # half an escape of two goes at most
        follow.back_to(0)
        left = dropped(follow, cut, is_json=True)
        possible = [place for place in scan(cut).cuts if valid(cut[:place.end] + place.closers, schema)
                    and not (scan(cut).is_open and place.end == n)]
        if left is None:
            assert not possible, cut  # nothing that was complete would have done
            continue
        assert valid(left.text, schema) and cut.startswith(left.text[:left.own]), cut
        assert left.own >= max((place.end for place in possible), default=0), cut
        assert set(left.text[left.own:]) <= set(b']}') or left.own == n, cut  # what the grammar forces may follow all


def test_half_a_number_is_dropped_and_a_whole_one_is_kept():
    form = json_form({'type': 'array', 'items': {'type': 'integer', 'minimum': 0, 'maximum': 120}})
    for cut, left in ((b'[7, 12', b'[7]'), (b'[7, 12,', b'[7, 12]'), (b'[7, 12 ', b'[7, 12]'), (b'[', b'[]'),
                      (b'[7', b'[]'), (b'[7, 120', b'[7, 120]')):
        assert dropped(matcher(form), cut, is_json=True).text == left
    assert closed(matcher(form), b'[7, 12', is_json=True).text == b'[7, 12]'


def test_what_the_grammar_forces_is_no_invention():
    form = Form(JSON, TEXTS['enums'])
    assert dropped(matcher(form), b'{"action":"gr', is_json=True) is None  # the room is open
    cut = b'{"action":"grasp","room":"k'
    left = dropped(matcher(form), cut, is_json=True)
    assert json.loads(left.text) == {'action': 'grasp', 'room': 'kitchen', 'mode': 'safe'} and left.own == len(cut)


def test_required_members_that_are_missing_leave_nothing_unless_they_are_made_up():
    form = Form(JSON, TEXTS['nested'])
    cut = b'{"pose": {"x": 1.5, "y'
    assert dropped(matcher(form), cut, is_json=True) is None
    ended = closed(matcher(form), cut, is_json=True)
    assert valid(ended.text, SCHEMAS['nested']) and ended.text.startswith(cut) and ended.own == len(cut)


@pytest.mark.parametrize('cut', [b'{"name": "a\\', b'{"name": "a\\u', b'{"name": "a\\ud83d', b'{"name": "a\\ud83d\\u',
                                 b'{"name": "a\xc3', b'{"name": "a\xf0\x9f\xa4'])
def test_half_a_character_is_no_part_of_what_is_closed(cut):
    ended = closed(matcher(Form(JSON, TEXTS['flat'])), cut, is_json=True)
    assert json.loads(ended.text) == {'name': 'a'} and ended.own == len(b'{"name": "a')


@pytest.mark.parametrize(('schema', 'shortest'), [
    ({'type': 'object'}, '{}'),
    ({'type': 'array', 'items': {}, 'minItems': 1}, '[0]'),
    ({'type': 'string'}, '""'),
    ({'type': 'string', 'minLength': 3}, '"aaa"'),
    ({'enum': ['kitchen', 'hall', 'office']}, '"hall"'),
    ({'type': ['string', 'null', 'boolean']}, '""'),
    ({'anyOf': [{'type': 'object', 'properties': {'a': {'type': 'string'}}, 'required': ['a'],
                 'additionalProperties': False}, {'type': 'null'}]}, 'null'),
    ({'type': 'integer', 'minimum': 150, 'maximum': 220}, None),
    (SCHEMAS['recursive'], '{"label":""}'),
    (SCHEMAS['nested'], '{"pose":{"x":0,"y":0}}'),
    (SCHEMAS['flat'], '{"name":""}'),
])
def test_the_shortest_answer(schema, shortest):
    found = shortest_end(matcher(json_form(schema)), is_json=True)
    assert valid(found, schema)
    assert shortest is None or found.decode() == shortest


@pytest.mark.parametrize(('regex', 'cut', 'left', 'ended'), [
    ('(go [a-z]+; )+', 'go hall; go kit', 'go hall; ', 'go hall; go kit; '),
    ('(go [a-z]+; )+', 'go ha', None, 'go ha; '),
    ('[a-z]+', 'abc', 'abc', 'abc'),
    ('a{3,5}', 'aa', 'aaa', 'aaa'),  # forced
    ('(left|right) turn', 'le', 'left turn', 'left turn'),
    ('(,)*b', ',,', None, ',,b'),
    ('\\d{4}-\\d{2}', '20', None, '2000-00'),
    ('(\u597d|ab)+', 'ab\u597d', 'ab\u597d', 'ab\u597d'),
])
def test_regular_expressions(regex, cut, left, ended):
    form = Form(REGEX, regex)
    found = dropped(matcher(form), cut.encode(), is_json=False)
    assert (found and found.text.decode()) == left
    found = closed(matcher(form), cut.encode(), is_json=False)
    assert re.fullmatch(regex, found.text.decode()) and len(found.text.decode()) == len(ended)
    for text in (cut[:n] for n in range(1, len(cut))):  # at any cut
        assert re.fullmatch(regex, closed(matcher(form), text.encode(), is_json=False).text.decode())


@pytest.mark.parametrize(('cut', 'left', 'ended'), [
    ('le', 'left', 'left'), ('g', None, 'go'), ('go', 'go', 'go'), ('go ', None, 'go home'),
    ('go home', 'go home', 'go home'), ('go up', 'go upstairs', 'go upstairs'), ('', None, 'go'), ('x', None, None),
])
def test_a_choice_is_never_shortened_to_another_one(cut, left, ended):
    choices = ['left', 'go upstairs', 'go', 'go home']
    found, whole = (chosen(choices, cut.encode(), closes=closes) for closes in (False, True))
    assert (found and found.text.decode(), whole and whole.text.decode()) == (left, ended)
    assert found is None or found.own == len(cut)


def test_half_a_character_of_a_choice_is_followed():
    assert chosen(['k\u00fc', 'ka'], 'k\u00fc'.encode()[:2], closes=False).text == 'k\u00fc'.encode()


def test_text_that_the_grammar_does_not_allow_is_not_completed():
    form = Form(JSON, TEXTS['flat'])
    assert dropped(matcher(form), b'{"nome"', is_json=True) is None
    assert closed(matcher(form), b'{"nome"', is_json=True) is None


@pytest.mark.parametrize('before', ['{', '{"name"', '{"name":', '{"name":"a"', '{"name":"a",'])
@pytest.mark.parametrize('white', [' ', '\n', '\t', '\n    ', '\r\n'])
def test_white_space_is_bounded(before, white):
    """An answer may be indented, and cannot consist of white space, whatever the model wants."""
    follow = matcher(Form(JSON, TEXTS['flat']))
    assert follow.follow(before.encode()) == len(before)
    assert len(white) <= follow.follow(white.encode() * 1000) < 40
    assert not set(follow.next_bytes()) <= set(b' \t\r\n')
