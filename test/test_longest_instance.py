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

from timebill_ros.longest_instance import LONGEST, longest_instance


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
    {'allOf': [{'type': 'null'}]},
])
def test_not_known(schema):
    assert longest_instance(schema) is None


def test_schemas_within_schemas_are_bounded():
    schema: dict = {'type': 'null'}
    for _ in range(50):
        schema = {'anyOf': [schema]}
    assert longest_instance(schema) is None
