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

"""Every rule of admission: one matrix of goals that are refused, each with its code and the offending value."""
import math
from dataclasses import replace

import pytest

from timebill_ros.admission import (
    MAX_CHOICE_CHARACTERS,
    MAX_CHOICES,
    MAX_CLOSING_CHARACTERS,
    MAX_REGEX_CHARACTERS,
    MAX_SCHEMA_CHARACTERS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    ROLES,
    check,
    resolve_deadline,
    resolve_sampling,
)
from timebill_ros.codes import ErrorCode, GoalError, Strategy
from timebill_ros.request import Request, Sampling

GOOD = Request('id', 0.0, 1.0, prompt='tidy the kitchen')
CHAT = replace(GOOD, prompt='', messages=[{'role': 'system', 'content': 'You are a robot.'},
                                          {'role': 'user', 'content': 'Tidy up.'}])
MOST_CHARACTERS = 100


def sampled(**changes):
    return {'sampling': Sampling(**changes)}


def chat(*messages):
    return {'prompt': '', 'messages': [dict(zip(('role', 'content'), message, strict=True)) for message in messages]}


REFUSED = [  # changes to a good request -> the offending value in the sentence
    ({'prompt': ''}, 'empty prompt'),
    (chat(('user', ''), ('assistant', '')), 'empty'),
    (chat(('robot', 'hi')), "messages[0].role must be one of system, user, assistant, tool, got 'robot'"),
    (chat(('user', 'hi'), ('User', 'hi')), "messages[1].role must be one of system, user, assistant, tool, got 'User'"),
    (chat(('', 'hi')), "got ''"),
    (chat(('x' * 70, 'hi')), "got '" + 'x' * 64 + "'"),
    ({'strategy': Strategy.DEFAULT}, 'overrun_strategy 0'),
    *[({'max_eviction_ratio': value}, f'max_eviction_ratio must be in [0, 1) or negative, got {value}')
      for value in (1.0, 1.5, -0.5, math.nan, math.inf, -math.inf)],
    *[(sampled(temperature=value), f'temperature must be finite and >= 0, got {value}')
      for value in (-0.1, math.nan, math.inf, -math.inf)],
    *[(sampled(top_p=value), f'top_p must be in (0, 1], got {value}')
      for value in (0.0, -0.1, 1.1, math.nan, math.inf)],
    *[(sampled(min_p=value), f'min_p must be in [0, 1], got {value}') for value in (-0.1, 1.1, math.nan, math.inf)],
    *[(sampled(repetition_penalty=value), f'repetition_penalty must be in [0.01, 100.0], got {value}')
      for value in (0.0, -1.0, 1e-3, 101.0, math.nan, math.inf)],
    (sampled(stop=['x'] * (MAX_STOP_STRINGS + 1)), f'holds {MAX_STOP_STRINGS + 1} strings'),
    ({'closing_text': 'x' * (MAX_CLOSING_CHARACTERS + 1)}, f'closing_text has {MAX_CLOSING_CHARACTERS + 1}'),
    (sampled(stop=['x', '']), 'stop[1] must have 1 to 256 characters, got 0'),
    (sampled(stop=['x' * (MAX_STOP_CHARACTERS + 1)]), f'got {MAX_STOP_CHARACTERS + 1}'),
    ({'response_schema': '{}', 'regex': 'a'}, 'response_schema and regex'),
    ({'choices': ['a'], 'closing_text': '.'}, 'closing_text cannot go with choices'),
    ({'regex': 'a', 'stop_at_line_end': True}, 'stop_at_line_end cannot go with regex'),
    ({'response_schema': '{}', **sampled(stop=['}'])}, 'sampling.stop cannot go with response_schema'),
    ({'response_schema': '{"type": '}, "no JSON"),
    ({'response_schema': '[1]'}, "must be a JSON object, such as {\"type\": \"object\"}, got '[1]'"),
    ({'response_schema': '[' * 60_000}, 'no JSON'),
    *[({'response_schema': text}, f'response_schema{told}') for text, told in (
        ('{"anyOf": 5}', '.anyOf must be a list of one or more schemas, got 5'),
        ('{"anyOf": []}', '.anyOf must be a list of one or more schemas, got []'),
        ('{"oneOf": [{"allOf": {}}]}', '.oneOf[0].allOf must be a list of schemas, got {}'),
        ('{"type": {}}', '.type must be one of object, array, string, integer, number, boolean, null, or a list of '
                         'these, got {}'),
        ('{"type": []}', '.type must be'), ('{"type": ["null", "any"]}', '.type must be'),
        ('{"enum": [1, {}], "type": {}}', '.type must be'),
        ('{"enum": 5}', '.enum must be a list of one or more values, got 5'),
        ('{"enum": []}', '.enum must be a list of one or more values, got []'),
        ('{"anyOf": [{"enum": []}, {"type": "null"}]}', '.anyOf[0].enum must be a list of one or more values, got []'),
        ('{"properties": {"a": {"enum": []}}}', '.properties.a.enum must be a list of one or more values, got []'),
        ('{"properties": 5}', '.properties must be an object that has a schema for each name, got 5'),
        ('{"properties": {"type": 5}}', '.properties.type must be a schema, which is an object, true or false, got 5'),
        ('{"$defs": {"a": {"items": [{"maxItems": "x"}]}}}', '.$defs.a.items[0].maxItems must be a whole number, 0 or '
                                                           'more, got "x"'),
        ('{"additionalProperties": 3}', '.additionalProperties must be a schema'),
        ('{"minLength": true}', '.minLength'),
        ('{"maximum": "1"}', '.maximum must be a number, got "1"'), ('{"required": "a"}', '.required'),
        ('{"properties": {"' + 'a' * 9000 + '": 5}}', ' .. ' + 'a' * 100 + ' must be a schema'),
        ('{"a": [' + '{"items": ' * 900 + '3' + '}' * 900 + '], "type": 3}', '.type must be'))],
    ({'response_schema': ' ' * MAX_SCHEMA_CHARACTERS + '{}'}, f'has {MAX_SCHEMA_CHARACTERS + 2} characters'),
    ({'regex': 'a' * (MAX_REGEX_CHARACTERS + 1)}, f'regex has {MAX_REGEX_CHARACTERS + 1} characters'),
    ({'choices': ['a'] * (MAX_CHOICES + 1)}, f'holds {MAX_CHOICES + 1} choices'),
    ({'choices': ['a', '']}, f'choices[1] must have 1 to {MAX_CHOICE_CHARACTERS} characters, got 0'),
    ({'choices': ['a' * (MAX_CHOICE_CHARACTERS + 1)]}, f'got {MAX_CHOICE_CHARACTERS + 1}'),
]


@pytest.mark.parametrize(('changes', 'sentence'), REFUSED)
def test_refused_with_the_value(changes, sentence):
    with pytest.raises(GoalError) as caught:
        check(replace(GOOD, **changes), max_prompt_characters=MOST_CHARACTERS)
    assert caught.value.code is ErrorCode.INVALID_GOAL
    assert sentence in str(caught.value)


@pytest.mark.parametrize('changes', [{'prompt': 'x' * 101}, chat(('user', 'x' * 60), ('assistant', 'x' * 41))])
def test_too_many_characters(changes):
    with pytest.raises(GoalError, match='101 characters.* 100 ') as caught:
        check(replace(GOOD, **changes), max_prompt_characters=MOST_CHARACTERS)
    assert caught.value.code is ErrorCode.PROMPT_TOO_LONG


@pytest.mark.parametrize('changes', [
    {},
    {'prompt': 'x' * MOST_CHARACTERS},
    {'strategy': Strategy.KILL},
    {'strategy': Strategy.TRUNCATE},
    {'max_eviction_ratio': 0.0},
    {'max_eviction_ratio': 0.999},
    chat(('user', ''), ('assistant', 'hi')),
    chat(*[(role, 'hi') for role in ROLES]),
    sampled(temperature=1e-45),
    sampled(repetition_penalty=0.009999999776482582),  # 0.01 as the goal's float32 field holds it
    sampled(temperature=100.0, top_p=1e-30, top_k=1, seed=2 ** 64 - 1),
    sampled(stop=['x' * MAX_STOP_CHARACTERS] * MAX_STOP_STRINGS),
    {'response_schema': '{}'},
    {'response_schema': '{"type": "object"}'},
    {'response_schema': '{"properties": {"type": {"enum": [{"type": 5}]}, "enum": {}, "b": true}}'},
    {'response_schema': '{"default": {"type": 5}, "const": {"anyOf": 5}, "allOf": [], "prefixItems": []}'},
    {'response_schema': '{"anyOf": [{"enum": [[]]}, {"type": ["null", "string"]}], "items": [{}], "required": []}'},
    {'response_schema': '{"items": ' * 500 + '{"maximum": 1.5, "maxItems": 3}' + '}' * 500},
    {'choices': ['a' * MAX_CHOICE_CHARACTERS] * MAX_CHOICES},
    {'regex': 'a' * MAX_REGEX_CHARACTERS},
])
def test_accepted(changes):
    check(replace(GOOD, **changes), max_prompt_characters=MOST_CHARACTERS)


@pytest.mark.parametrize(('budget_s', 'deadline_in_s', 'default_s', 'due_s'), [
    (2.0, None, 0.0, 102.0),
    (2.0, None, 1.0, 102.0),  # the default does not shorten a budget
    (0.0, 3.0, 0.0, 103.0),
    (0.0, 3.0, 1.0, 103.0),
    (2.0, 3.0, 0.0, 102.0),  # the earlier wins
    (3.0, 2.0, 0.0, 102.0),
    (0.0, None, 5.0, 105.0),
    (1e-9, None, 0.0, 100.000000001),
])
def test_when_the_result_is_due(budget_s, deadline_in_s, default_s, due_s):
    assert resolve_deadline(release_s=100.0, time_budget_s=budget_s, deadline_in_s=deadline_in_s,
                            default_time_budget_s=default_s) == due_s


@pytest.mark.parametrize(('budget_s', 'deadline_in_s', 'default_s', 'sentence'), [
    (0.0, None, 0.0, 'neither time_budget nor deadline, and default_time_budget_s is 0'),
    (-0.5, None, 0.0, 'time_budget must be positive, got -0.5 s'),
    (-0.5, None, 5.0, 'got -0.5 s'),  # no default hides a mistake
    (-0.5, 3.0, 0.0, 'got -0.5 s'),
    (0.0, -1.25, 0.0, 'deadline lies 1.250 s in the past'),
    (2.0, -1.25, 0.0, 'deadline lies 1.250 s in the past'),
    (0.0, -1.25, 5.0, 'deadline lies 1.250 s in the past'),
    (2.0, 0.0, 0.0, 'deadline lies'),
])
def test_times_that_are_not_ahead(budget_s, deadline_in_s, default_s, sentence):
    with pytest.raises(GoalError) as caught:
        resolve_deadline(release_s=100.0, time_budget_s=budget_s, deadline_in_s=deadline_in_s,
                         default_time_budget_s=default_s)
    assert caught.value.code is (ErrorCode.INFEASIBLE if sentence.startswith('deadline') else ErrorCode.INVALID_GOAL)
    assert sentence in str(caught.value)


def test_what_float32_makes_of_a_ratio_just_below_1_is_told():
    with pytest.raises(GoalError, match='float32'):
        check(replace(GOOD, max_eviction_ratio=1.0), max_prompt_characters=MOST_CHARACTERS)


OF_MODEL = {'temperature': 0.6, 'top_p': 0.95, 'top_k': 20, 'min_p': 0.05, 'repetition_penalty': 1.05}


@pytest.mark.parametrize(('asked', 'defaults', 'expected'), [
    ({}, {}, (0.0, 1.0, 0, 0.0, 1.0)),
    ({}, OF_MODEL, (0.6, 0.95, 20, 0.05, 1.05)),
    ({'top_k': 7, 'repetition_penalty': 1.3}, {}, (0.0, 1.0, 7, 0.0, 1.3)),
    ({'top_k': 7, 'repetition_penalty': 1.3}, OF_MODEL, (0.6, 0.95, 7, 0.05, 1.3)),
    ({'temperature': 0.0}, OF_MODEL, (0.0, 1.0, 0, 0.0, 1.0)),
    ({'temperature': 0.9, 'min_p': 0.1}, OF_MODEL, (0.9, 1.0, 0, 0.1, 1.0)),
    ({'temperature': -math.inf}, OF_MODEL, (0.6, 0.95, 20, 0.05, 1.05)),
])
def test_a_goal_that_leaves_temperature_open_is_drawn_as_the_server_says(asked, defaults, expected):
    found = resolve_sampling(Sampling(**{'temperature': -1.0, **asked}), defaults)
    assert (found.temperature, found.top_p, found.top_k, found.min_p, found.repetition_penalty) == expected


def test_a_temperature_that_is_no_number_is_not_the_servers():
    assert math.isnan(resolve_sampling(Sampling(temperature=math.nan), OF_MODEL).temperature)


def test_a_seed_that_is_given_stays_and_others_differ():
    assert resolve_sampling(Sampling(seed=2 ** 64 - 1), {}).seed == 2 ** 64 - 1
    fresh = {resolve_sampling(Sampling(stop=['x']), {}).seed for _ in range(100)}
    assert len(fresh) == 100 and all(0 < seed == int(float(seed)) for seed in fresh), 'floats of JSON readers hold them'
    assert resolve_sampling(Sampling(stop=['x']), {}).stop == ['x']
