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

"""Compiling forms: what it costs to send a bad or a hostile one, and what an answer's length is known to be."""
import json
import threading
import time

import pytest
import torch
from answer_forms import EOS, TEXTS, vocabulary

pytest.importorskip('llguidance')
from timebill_ros.codes import ErrorCode, GoalError, OnCut  # noqa: E402
from timebill_ros.inference.grammars import compiler as module  # noqa: E402
from timebill_ros.inference.grammars.compiler import Grammars  # noqa: E402
from timebill_ros.request import Request  # noqa: E402


@pytest.fixture(scope='module')
def grammars():
    return Grammars(vocabulary(), {EOS})


def request(**fields):
    return Request('id', 0.0, 1.0, prompt='p', **fields)


def compiled(grammars, **fields):
    return grammars.collect(grammars.start(request(**fields)), lambda: False)


def test_a_goal_without_a_form_costs_nothing(grammars):
    assert grammars.start(request()) is None and grammars.collect(None, lambda: False) is None


@pytest.mark.parametrize('name', TEXTS)
def test_every_schema_compiles_in_little_time(grammars, name):
    answer = compiled(grammars, response_schema=TEXTS[name])
    assert 0 < answer.grammar_s < 1.0 and 0 < answer.closing_s(1) < answer.closing_s(100) < 0.5
    assert compiled(grammars, response_schema=TEXTS[name]).grammar_s == 0  # it is kept


@pytest.mark.parametrize(('fields', 'named'), [
    ({'response_schema': '{"type": "rubbish"}'}, 'response_schema cannot be followed'),
    ({'response_schema': '{"$ref": "https://example.org/a.json"}'}, 'response_schema cannot be followed'),
    ({'response_schema': json.dumps({'type': 'object', 'properties': {'a': False}, 'required': ['a']})},
     'response_schema cannot be followed'),
    ({'response_schema': '{"type": "string", "not": {"const": "a"}}'}, 'response_schema cannot be followed'),
    ({'regex': '(a'}, 'regex cannot be followed'),
    ({'regex': '(?=a)b'}, 'regex cannot be followed'),
])
def test_what_cannot_be_followed_is_told_and_the_next_goal_is_served(grammars, fields, named):
    started = time.monotonic()
    with pytest.raises(GoalError, match=named) as refused:
        compiled(grammars, **fields)
    assert refused.value.code is ErrorCode.INVALID_GOAL
    assert time.monotonic() - started < 5 * module.LONGEST_S
    assert compiled(grammars, choices=['a', 'b']) is not None


@pytest.mark.parametrize(('fields', 'text', 'kept'), [
    ({'regex': '[a-z]{100000}'}, 'abc', None),
    ({'regex': '.*room.*'}, 'go to ', None), ({'regex': '.*room.*'}, 'the room is', 'the room is'),
    ({'regex': '(a|b)*abb'}, 'abbab', 'abb'),
    ({'response_schema': '{"type": "string", "pattern": "room"}'}, '"the ro', None),
    ({'response_schema': '{"type": "string", "format": "email"}'}, '"me@x.org"', '"me@x.org"'),
    ({'response_schema': '{"type": "integer", "multipleOf": 7, "minimum": 50}'}, '5', None)])
def test_a_form_without_an_end_that_is_found_is_served_and_cut_without_one(grammars, fields, text, kept):
    answer = compiled(grammars, **fields)
    assert answer.bounds.least >= 1 and answer.closing_s(10) < 0.1
    tokens = grammars._vocabulary.tokenize_str(text)
    for on_cut in OnCut:
        found = answer.completed(tokens, on_cut)
        assert (found if found is None else found[0]) == kept, on_cut


def test_a_number_that_could_go_on_is_kept_by_close_alone(grammars):
    answer = compiled(grammars, response_schema='{"type": "integer", "multipleOf": 7, "minimum": 50}')
    tokens = grammars._vocabulary.tokenize_str('56')
    assert answer.completed(tokens, OnCut.DROP) is None and answer.completed(tokens, OnCut.CLOSE) == ('56', 0, 0)


@pytest.mark.parametrize('fields', [
    {'regex': '((a{0,200}){0,200}){0,200}'}, {'regex': '(a?){1000}a{1000}'}, {'regex': '(a|b|ab)*c' * 200},
    {'response_schema': json.dumps({'type': 'string', 'pattern': '(.*a){500}'})},
    {'response_schema': '{"anyOf": [' * 800 + '{}' + ']}' * 800},
    {'response_schema': json.dumps({'enum': [f'{i:x}' * 9 for i in range(3000)]})},
    {'response_schema': json.dumps({'$ref': '#/$defs/a', '$defs': {'a': {'$ref': '#/$defs/b'},
                                                                   'b': {'$ref': '#/$defs/a'}}})},
])
def test_whatever_a_hostile_form_does_it_ends_soon(grammars, fields):
    started = time.monotonic()
    try:
        answer = compiled(grammars, **fields)
        answer.mask(torch.zeros(EOS + 1))
    except GoalError as error:
        assert error.code is ErrorCode.INVALID_GOAL
    assert time.monotonic() - started < 4 * module.LONGEST_S
    assert compiled(grammars, choices=['a', 'b']) is not None


def test_a_form_that_takes_for_ever_holds_up_only_who_waits_for_it(grammars, monkeypatch):
    blocked = threading.Event()
    grammars._executor.submit(blocked.wait)
    try:
        assert grammars.collect(grammars.start(request(regex='ab+')), lambda: True) is None  # it is stopped
        monkeypatch.setattr(module, 'LONGEST_S', 0.05)
        with pytest.raises(GoalError, match='to compile'):
            compiled(grammars, regex='ab+')
    finally:
        blocked.set()
    monkeypatch.undo()
    assert compiled(grammars, regex='ab+') is not None


def test_a_panic_of_the_library_ends_the_goal_alone(grammars, monkeypatch):
    class Panic(BaseException):
        pass

    def fail():
        raise Panic('at lexer.rs')
    monkeypatch.setattr(module, 'library', fail)
    with pytest.raises(GoalError, match='Panic: at lexer.rs'):
        compiled(grammars, regex='abc+')
    monkeypatch.undo()
    assert compiled(grammars, regex='abc+') is not None


def test_lengths_of_choices_are_exact(grammars):
    bounds = compiled(grammars, choices=['ab', 'kitchen', '\u597d']).bounds
    assert bounds.limit == 1 + len('kitchen') and len(bounds.lengths) == 3
    assert (bounds.least, bounds.most) == (bounds.lengths[0], bounds.lengths[-1])


def test_lengths_of_schemas(grammars):
    enums, flat = (compiled(grammars, response_schema=TEXTS[name]).bounds for name in ('enums', 'flat'))
    shortest = '{"action":"go","room":3,"mode":"safe"}'
    assert enums.least == 1 + len(shortest)  # this vocabulary spells bytes
    assert enums.most > enums.least and enums.limit is None
    assert flat.least == 1 + len('{"name":""}') and flat.most is None


def test_only_the_latest_forms_are_kept(grammars):
    for i in range(3 * module.KEPT):
        compiled(grammars, regex=f'a{i}')
    assert len(grammars._kept) == module.KEPT
