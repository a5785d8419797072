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

"""Schemas that llguidance would not keep to the letter are refused, with the remedy; others pass."""
import json

import pytest

from timebill_ros.codes import GoalError
from timebill_ros.inference.grammars.form import JSON, Form
from timebill_ros.inference.grammars.kept_loosely import kept_loosely

OPEN = {'type': 'object', 'additionalProperties': {'type': 'integer'}}


@pytest.mark.parametrize(('schema', 'words'), [
    ({**OPEN, 'minProperties': 2}, 'minProperties 2'),
    ({**OPEN, 'minProperties': 3, 'required': ['a', 'b']}, 'minProperties 3'),
    ({**OPEN, 'minProperties': 2, 'required': ['a', 'a']}, 'minProperties 2'),
    ({'type': 'number', 'exclusiveMinimum': 0, 'maximum': 0.5}, 'exclusiveMinimum 0'),
    ({'exclusiveMaximum': 1.5}, 'exclusiveMaximum 1.5'),
    ({'properties': {'speed': {'type': ['number', 'null'], 'exclusiveMinimum': 0.1}}}, 'exclusiveMinimum 0.1'),
    ({'anyOf': [{'type': 'null'}, {'items': {'exclusiveMinimum': 0}}]}, 'exclusiveMinimum 0'),
    ({'properties': {'default': {'type': 'number', 'exclusiveMinimum': 0}}}, 'exclusiveMinimum 0'),
    ({'patternProperties': {'enum': {**OPEN, 'minProperties': 2}}}, 'minProperties 2'),
    ({'properties': {'properties': {'properties': {'const': {'exclusiveMaximum': 1}}}}}, 'exclusiveMaximum 1'),
    ({'$defs': {'part': {'minProperties': 9}}, '$ref': '#/$defs/part'}, 'minProperties 9')])
def test_what_could_be_broken_is_refused(schema, words):
    assert words in kept_loosely(schema)
    with pytest.raises(GoalError, match=words):
        Form(JSON, json.dumps(schema)).grammar(None)


@pytest.mark.parametrize('schema', [
    {}, OPEN, {**OPEN, 'minProperties': 1}, {**OPEN, 'minProperties': 2, 'required': ['a', 'b']},
    {'type': 'integer', 'exclusiveMinimum': 0, 'exclusiveMaximum': 9}, {'type': 'number', 'minimum': 0, 'maximum': 0.5},
    {'properties': {'minProperties': {'type': 'integer'}, 'exclusiveMinimum': {'type': 'number'}}},
    {'enum': [{'minProperties': 5}]}, {'const': {'exclusiveMinimum': 0}}, {'default': {'exclusiveMaximum': 1}}])
def test_what_is_kept_passes(schema):
    assert kept_loosely(schema) == ''
