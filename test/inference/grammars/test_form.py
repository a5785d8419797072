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

"""Which form a goal asks for."""
import pytest

from timebill_ros.inference.grammars.form import CHOICES, JSON, REGEX, Form
from timebill_ros.request import Request


def request(**fields):
    return Request('id', 0.0, 1.0, prompt='p', **fields)


@pytest.mark.parametrize(('fields', 'form'), [
    ({}, None), ({'response_schema': '{"a": 1}'}, Form(JSON, '{"a": 1}')), ({'regex': 'a+'}, Form(REGEX, 'a+')),
    ({'choices': ['left', 'é"']}, Form(CHOICES, '["left", "é\\""]')),
])
def test_form_of_a_goal(fields, form):
    assert Form.of(request(**fields)) == form
    assert request(**fields).has_form == (form is not None)


def test_an_empty_schema_asks_for_any_object():
    assert Form(JSON, '{}').schema == {'type': 'object'}
    assert Form.of(request(choices=['a', 'b'])).choices == ['a', 'b']
