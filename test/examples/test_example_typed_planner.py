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

"""The example that takes a typed plan: types to schemas, answers to types, and what it asks for."""
import json
from types import SimpleNamespace

import pytest

from timebill_ros.client import ServerUnavailable

PLAN = {'steps': [{'action': 'go', 'target': 'kitchen'}, {'action': 'wait', 'target': 'door', 'seconds': 3}]}


@pytest.fixture
def example(load):
    return load('typed_planner')


class Client:
    """Answers with `text`; `error`: a code in its place."""

    def __init__(self, text, *, error=0, own=None):
        own = len(text) if own is None else own
        self.result = SimpleNamespace(error_code=error, error_msg='because', generated_characters=own)
        self.text, self.asked = text, {}

    def ask(self, question, budget_s, *, timeout_s, **fields):
        self.asked = fields
        answer = SimpleNamespace(text=self.text, code='DEADLINE_MISSED', result=self.result)
        return SimpleNamespace(answer=lambda: answer)


def test_the_schema_of_a_plan(example):
    schema = example.schema_of(example.Plan)
    assert schema['required'] == ['steps'] and list(schema['properties']) == ['steps', 'why']
    step = schema['properties']['steps']['items']
    assert step['properties']['action'] == {'enum': ['go', 'grasp', 'place', 'wait']}
    assert step['required'] == ['action', 'target'] and step['additionalProperties'] is False
    assert step['properties']['seconds'] == {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}


def test_a_type_without_a_schema_is_named(example):
    with pytest.raises(TypeError, match='complex'):
        example.schema_of(list[complex])


@pytest.mark.parametrize(('own', 'is_whole'), [(None, True), (3, False)])
def test_an_answer_becomes_a_plan(example, own, is_whole):
    client = Client(json.dumps(PLAN), own=own)
    decision = example.TypedPlanner(client).decide('bring it', 2.0)
    assert client.asked['response_schema'] == example.schema_of(example.Plan)
    assert [(step.action, step.target, step.seconds) for step in decision.plan.steps] == [
        ('go', 'kitchen', None), ('wait', 'door', 3)]
    assert decision.plan.why == '' and decision.is_whole is is_whole


def test_without_an_answer_there_is_a_reason(example):
    assert example.TypedPlanner(Client('', error=7001)).decide('bring it', 2.0).why_none == 'DEADLINE_MISSED: because'

    class Nobody:
        def ask(self, *arguments, **fields):
            raise ServerUnavailable('no node')
    assert example.TypedPlanner(Nobody()).decide('bring it', 2.0).why_none == 'no node'
