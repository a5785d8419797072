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

"""The example planner against the scripted worker: how a planner is tested without a model (docs/testing.md)."""
import importlib.util
import re
import time

import pytest
import rclpy
from node_client import WAIT_S
from node_process import NodeProcess
from scripted_model import ROOT

from timebill_ros.client import TimebillClient

SCRIPT = '''
format: 1
times: {prompt_s: 0.0, prompt_token_s: 0.0, token_s: 0.01}
answers:
  - {when: '^one$', text: two three}  # NodeProcess.activate asks this
  - {when: dock, text: go to the dock}
  - {when: long, text: word, predicted_tokens: 2000}
  - {when: slower than promised, text: go and then wait, token_s: 3.0}
  - {when: stands still, text: go and then wait, pauses: [{after_tokens: 2, seconds: 3.5}]}
  - {when: fails, fault: {kind: out_of_memory}}
  - {when: crash, text: go to the dock, uses: 1, fault: {kind: crash, after_tokens: 1}}
  - {when: crash, text: go to the lift}
  - {when: hang, text: go to the dock, fault: {kind: hang, after_tokens: 1}}
'''


@pytest.fixture(scope='module')
def planner(tmp_path_factory):
    """The example's planner, and a server that does as SCRIPT says."""
    spec = importlib.util.spec_from_file_location('example_planner', ROOT / 'examples' / 'planner.py')
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    path = tmp_path_factory.mktemp('script') / 's.yaml'
    path.write_text(SCRIPT)
    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    program = rclpy.create_node('planner', context=context)
    with NodeProcess(worker='scripted', script=str(path)) as node:
        assert node.configure() and node.activate(), node.log
        with TimebillClient(program, node.server) as client:
            client.wait_until_active(WAIT_S)
            yield example.Planner(client)
    program.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture(autouse=True)
def idle(planner):
    """Begin each test with a server that has nothing to do and answers."""
    end = time.monotonic() + WAIT_S
    while planner.decide('dock', 20.0).action != 'go to the dock':
        assert time.monotonic() < end


def test_a_promise_that_is_kept(planner):
    decision = planner.decide('the way to the dock?', WAIT_S)
    assert (decision.action, decision.why_default) == ('go to the dock', '')


@pytest.mark.parametrize('question, budget_s, why', [
    ('a long story', 2.0, 'said beforehand'),  # max_new_tokens is 256 by default, and they take 2.55 s
    ('slower than promised', 4.0, 'DEADLINE_MISSED|deadline|no result'),
    ('stands still', 3.0, 'DEADLINE_MISSED|deadline|no result'), ('hang', 2.0, 'DEADLINE_MISSED|deadline|no result'),
    ('fails', 20.0, 'OUT_OF_MEMORY|memory is too short'),
    ('nobody has thought of this', 20.0, 'no answer of the script')])
def test_it_falls_back_before_the_deadline(planner, question, budget_s, why):
    decision = planner.decide(question, budget_s)
    assert decision.action == 'stop' and re.search(why, decision.why_default), decision
    assert decision.taken_s < budget_s
    if budget_s > 10.0:
        assert decision.taken_s < 10.0, 'it does not wait for an answer of which it is told that it will not come'


def test_a_crash_is_told_at_once_and_it_may_ask_again(planner):
    decision = planner.decide('crash', 60.0)
    assert decision.action == 'stop' and decision.taken_s < 30.0 and 'WORKER_LOST' in decision.why_default
    assert planner.decide('crash', WAIT_S).action == 'go to the lift'
