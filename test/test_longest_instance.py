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

"""The longest JSON that a schema allows, and the schemas of which none is known."""
import json

import pytest

from timebill_ros import longest_instance as tested
from timebill_ros.longest_instance import LONGEST, MOST_SCHEMAS, longest_answer, longest_instance
from timebill_ros.request import Request


def closed(**properties):
    return {'type': 'object', 'properties': properties, 'additionalProperties': False}


@pytest.mark.parametrize(('schema', 'longest'), [
    ({'enum': ['a', 'longer', 3]}, 'longer'),
    ({'const': [1, 2]}, [1, 2]),
    ({'type': 'boolean'}, False),
    ({'type': 'null'}, None),
    ({'type': 'integer', 'minimum': -100, 'maximum': 20}, -100),
    ({'type': 'string', 'maxLength': 4}, 'lore'),
    ({'type': ['boolean', 'null']}, False),
    ({'anyOf': [{'type': 'null'}, {'enum': ['kitchen']}]}, 'kitchen'),
    ({'type': 'array', 'items': {'enum': ['a', 'bb']}, 'maxItems': 2}, ['bb', 'bb']),
    ({'type': 'array', 'maxItems': 0}, []),
    (closed(a={'type': 'boolean'}, b=closed(c={'enum': ['x']})), {'a': False, 'b': {'c': 'x'}}),
    ({**closed(a={'type': 'null'}), 'title': 'T', 'required': ['a']}, {'a': None}),
])
def test_longest(schema, longest):
    assert json.loads(longest_instance(schema)) == longest


@pytest.mark.parametrize('schema', [
    {}, {'type': 'object'}, {'type': 'string'}, {'type': 'integer'}, {'type': 'integer', 'minimum': 0},
    {'type': 'number', 'minimum': 0, 'maximum': 1}, {'type': 'array', 'items': {'type': 'null'}},
    {'type': 'object', 'properties': {}}, {'$ref': '#/$defs/a', '$defs': {'a': {'type': 'null'}}},
    {'type': 'string', 'maxLength': 4, 'pattern': 'a+'}, {'type': 'array', 'items': {}, 'maxItems': 3},
    {'type': 'string', 'maxLength': LONGEST}, {'type': 'array', 'items': {'enum': ['a' * 100]}, 'maxItems': 1000},
    {'type': 'string', 'maxLength': 'x'}, {'type': 'other'}, True,
    {'allOf': [{'type': 'null'}]}, {'anyOf': 5}, {'anyOf': []}, {'type': []}, {'type': {}}, {'type': [{}]},
    {'enum': []}, {'enum': 5}, {**closed(), 'properties': 5}, {'const': 'a' * LONGEST},
    {'anyOf': [{'enum': ['a' * LONGEST]}]},
])
def test_not_known(schema):
    assert longest_instance(schema) is None


def test_schemas_within_schemas_are_bounded():
    schema: dict = {'type': 'null'}
    for _ in range(50):
        schema = {'anyOf': [schema]}
    assert longest_instance(schema) is None


def asked(schema) -> Request:
    return Request('a', 0.0, 1.0, prompt='x', response_schema=schema if isinstance(schema, str) else json.dumps(schema))


def test_each_schema_is_looked_at_once(monkeypatch):
    """However often its kind is named: it would be 100 ** 8 looks."""
    looks = []
    monkeypatch.setattr(tested._Search, 'longest', lambda self, schema, depth, look=tested._Search.longest: (
        looks.append(depth), look(self, schema, depth))[1])
    schema: dict = {'type': 'null'}
    for _ in range(8):
        schema = {**closed(a=schema), 'type': ['object'] * 100}
    assert json.loads(longest_instance(schema))['a']['a']['a'].keys() == {'a'}
    assert looks == list(range(9))
    assert longest_answer(asked(schema)) == len(longest_instance(schema)) and looks == [*range(9)] * 3


def test_only_so_many_schemas_are_looked_at():
    def wide(n):
        return {'anyOf': [{'type': 'null'}] * n}

    assert longest_instance(wide(MOST_SCHEMAS - 1)) == 'null'
    assert longest_instance(wide(MOST_SCHEMAS)) is None
    assert longest_instance({'enum': [1] * (MOST_SCHEMAS - 1)}) == '1'
    assert longest_instance({'enum': [1] * MOST_SCHEMAS}) is None, 'its values are looked at too'
    shared: dict = {'type': 'null'}
    for _ in range(12):
        shared = {'anyOf': [shared] * 12}
    assert longest_instance(shared) is None


@pytest.mark.parametrize('depth', [100, 900, 100_000])
def test_deep_values_are_not_indented(depth):
    """Their white space grows with the square of their text."""
    text = '{"const": ' + '[' * depth + '1, ' * 2000 + '1' + ']' * depth + '}'
    assert longest_answer(asked(text)) is None
    flat = longest_answer(asked('{"const": [' + '1, ' * 2000 + '1]}'))
    assert flat == len(json.dumps([1] * 2001, indent=2))


def test_what_is_no_schema_has_no_longest_answer():
    for text in ('{', '[1]', '5', '{"type": {}}', '{"items": ' * 3000):
        assert longest_answer(asked(text)) is None
