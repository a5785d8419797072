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

"""Canceled goals over real DDS, in every phase, and clients that go away."""
from __future__ import annotations

import subprocess
import sys
import time

import pytest
from node_client import CANCELED, SUCCEEDED, Result, make_goal, wait_until
from scripted_model import LONG, ROOT

from timebill_ros.msg import RequestStatus

LONG_PROMPT = ' '.join(f'w{i % 40}' for i in range(12000))


def test_cancel_in_prefill(node):
    sent = node.send(make_goal(LONG_PROMPT))
    node.wait_for_phase(sent, RequestStatus.PHASE_PREFILL)
    sent.cancel()
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (CANCELED, Result.CANCELED, Result.FINISH_CANCELED)
    assert result.text == ''


def test_cancel_in_decode_keeps_the_text_so_far(node):
    sent = node.send(make_goal(max_new_tokens=LONG))
    wait_until(lambda: sent.text)
    sent.cancel()
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (CANCELED, Result.CANCELED, Result.FINISH_CANCELED)
    assert result.text.startswith(sent.text[:20]) and result.timing.generated_tokens < LONG
    assert result.error_msg


def test_cancel_after_the_end_changes_nothing(node):
    sent = node.send(make_goal('one'))
    sent.result()
    sent.cancel()
    assert node.ask(make_goal('one'))[0] == SUCCEEDED
    assert sent.result()[0] == SUCCEEDED


def test_twenty_goals_each_canceled(node):
    sent = [node.send(make_goal(max_new_tokens=LONG)) for _ in range(20)]
    for goal in sent:
        goal.cancel()
    ends = [goal.result() for goal in sent]
    assert all((status, result.error_code) in ((CANCELED, Result.CANCELED), (SUCCEEDED, Result.NONE))
               for status, result in ends)
    assert sum(status == CANCELED for status, _ in ends) >= 19
    assert node.ask(make_goal('one'))[1].text == 'two three'


def test_goals_canceled_as_they_are_accepted_or_end(node):
    """Each cancel meets its goal queued, starting, running or just over."""
    for count in range(40):
        sent = node.send(make_goal(max_new_tokens=1 + 10 * (count % 4)))
        time.sleep(0.001 * (count % 10))
        sent.cancel()
        status, result = sent.result()
        assert (status, result.error_code) in ((CANCELED, Result.CANCELED), (SUCCEEDED, Result.NONE))


def test_a_client_that_goes_away_leaves_the_node_serving(node):
    with node.another_client() as other:
        lost = [other.send(make_goal(max_new_tokens=500)) for _ in range(3)]
        wait_until(lambda: lost[0].text)
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


@pytest.mark.slow
def test_a_client_that_is_killed_in_mid_goal_leaves_the_node_serving(node):
    before = len(node.statuses)
    client = subprocess.Popen([sys.executable, '-m', 'timebill_ros.cli', 'ask', 'w1 w2', '--raw', '--budget', '60',
                               '--max-new-tokens', '3000', '--server', node.server], cwd=ROOT)
    wait_until(lambda: any(message.phase == RequestStatus.PHASE_DECODE for message in node.statuses[before:]))
    client.kill()
    client.wait()
    assert node.ask(make_goal('one', 30.0))[0] == SUCCEEDED  # after the other, which nobody canceled
    request_id = node.statuses[before].request_id
    assert any(message.request_id == request_id and message.phase == RequestStatus.PHASE_DONE
               for message in node.statuses)
