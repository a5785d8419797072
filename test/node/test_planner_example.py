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

"""The example planner and the real node: a budget that is too small, and one that is not."""
import importlib.util

import pytest
import rclpy
from node_client import WAIT_S
from scripted_model import PREFILL_S, ROOT

from timebill_ros.client import TimebillClient

LONG_PROMPT = 'w1 ' * 15000  # 3 s of prefill by the profile


@pytest.fixture(scope='module')
def planner():
    spec = importlib.util.spec_from_file_location('example_planner', ROOT / 'examples' / 'planner.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Planner


@pytest.fixture
def client(node):
    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    program = rclpy.create_node('planner', context=context)
    with TimebillClient(program, node.server) as client:
        client.wait_until_active(WAIT_S)
        yield client
    program.destroy_node()
    rclpy.try_shutdown(context=context)


def test_a_budget_too_small_makes_it_fall_back_before_the_deadline(planner, client):
    budget_s = 0.9 * PREFILL_S * len(LONG_PROMPT.split())
    decision = planner(client).decide(LONG_PROMPT, budget_s)
    assert decision.action == 'stop' and decision.why_default
    assert decision.taken_s < budget_s


def test_a_budget_that_is_enough_gives_the_models_answer(planner, client):
    decision = planner(client).decide('one', WAIT_S)
    assert decision.action != 'stop' and not decision.why_default
    assert set(decision.action.split()) == {'user', 'assistant'}  # this model goes on with its template
