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

"""A goal from end to end over real DDS: its result, feedback and status; and what node and worker may load."""
from __future__ import annotations

import gc
import os
import re
import time

import pytest
import rclpy
from node_client import SUCCEEDED, Result, duration, make_goal, wait_until
from node_process import worker_program
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from scripted_model import STEP_S

from timebill_ros.action import Generate
from timebill_ros.msg import RequestStatus, Timing
from timebill_ros.node.server_node import TimebillNode


def test_a_goal_with_only_prompt_and_time_budget_is_valid(node):
    goal = Generate.Goal(prompt='one', time_budget=duration(30.0))
    sent = node.send(goal)
    status, result = sent.result()
    assert (status, result.error_code, result.error_msg) == (SUCCEEDED, Result.NONE, '')
    assert (result.text, result.finish_reason) == ('two three', Result.FINISH_EOS)
    timing = result.timing
    assert (timing.prompt_tokens, timing.generated_tokens, timing.kept_tokens) == (1, 3, 1)
    assert (timing.verdict, timing.eviction_ratio, timing.tardiness_s) == (Timing.VERDICT_FITS, 0.0, 0.0)
    assert timing.time_budget_s == pytest.approx(30.0)
    assert 0 <= timing.queue_s <= timing.time_to_first_token_s <= timing.response_time_s
    assert timing.queue_s + timing.prefill_s + timing.eviction_s + timing.decode_s <= timing.response_time_s
    assert timing.response_time_s <= sent.arrived_s - sent.sent_s
    assert (timing.pessimistic_tokens - 1) * STEP_S <= timing.wcet_s < 30.0


def test_the_collector_of_garbage_stops_no_goal_for_long(tmp_path):
    """After configure, what is there for good is not walked through again: that would delay a goal that comes."""
    context = rclpy.Context()
    rclpy.init(context=context)
    worker = Parameter('worker_python', value=worker_program('stub_worker.py', tmp_path))
    served = TimebillNode(context=context, parameter_overrides=[worker])
    try:
        gc.unfreeze()
        assert served.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert gc.get_freeze_count() > 10 * len(gc.get_objects())
    finally:
        gc.unfreeze()
        served.destroy_node()
        rclpy.shutdown(context=context)


def test_feedback_adds_up_to_the_text(node):
    sent = node.send(make_goal(max_new_tokens=3000))
    status, result = sent.result()
    assert status == SUCCEEDED
    wait_until(lambda: sent.text == result.text, 5.0, 'the deltas do not make up the text')
    assert len(sent.feedback) > 2
    counts = [message.generated_tokens for message in sent.feedback]
    assert counts == sorted(counts) and counts[-1] <= 3000
    assert {message.phase for message in sent.feedback} <= {1, 2, 3}
    assert all(message.slack_s > 0 for message in sent.feedback if message.text_delta)


def test_feedback_is_throttled(node, changed):
    changed('feedback_rate', 2.0, 20.0)
    sent = node.send(make_goal(max_new_tokens=1500))
    _, result = sent.result()
    assert len(sent.feedback) <= 2 * result.timing.response_time_s + 2


def test_status_tells_each_phase_with_the_goals_uuid(node):
    sent = node.send(make_goal(max_new_tokens=20))
    sent.result()
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    messages = [message for message in node.statuses if message.request_id == sent.id]
    assert re.fullmatch('[0-9a-f]{32}', sent.id)
    assert [message.phase for message in messages] == [
        RequestStatus.PHASE_QUEUED, RequestStatus.PHASE_PREFILL, RequestStatus.PHASE_PREFILL,
        RequestStatus.PHASE_DECODE, RequestStatus.PHASE_DONE]
    queued, _, planned, _, done = messages
    assert (queued.verdict, queued.error_code) == (Timing.VERDICT_UNKNOWN, 0)
    # What is expected depends on the answers to goals like this one that there were before.
    assert planned.verdict == Timing.VERDICT_FITS
    assert 1 <= planned.predicted_tokens <= planned.pessimistic_tokens <= 20
    assert planned.slack_s > 0 and planned.predicted_finish.sec > 0
    assert planned.predicted_finish.sec <= planned.deadline.sec
    assert (done.finish_reason, done.generated_tokens, done.overrun) == (Result.FINISH_LENGTH, 20, False)
    assert done.response_time_s > 0 and done.tardiness_s == 0
    assert abs(done.header.stamp.sec - time.time()) < 60


def test_the_node_has_no_torch_and_the_worker_no_rclpy(node):
    def mapped(pid):
        with open(f'/proc/{pid}/maps') as maps:
            return {os.path.basename(line.split(maxsplit=5)[-1].strip()) for line in maps}

    for pid, mine, others in ((node.process.pid, 'librcl', 'libtorch'), (node.worker_pid(), 'libtorch', 'librcl')):
        files = mapped(pid)
        assert any(file.startswith(mine) for file in files)
        assert not any(file.startswith(others) for file in files)


def test_live_parameters_change_while_active_and_others_say_why_not(node, changed):
    changed('max_eviction_ratio', 0.5, 0.95)
    for name, value, words in (('model', '/elsewhere', 'clean'), ('threads', 2, 'clean'),
                               ('delivery_margin_s', -1.0, ''), ('delivery_margin_s', float('nan'), 'nan'),
                               ('default_overrun_strategy', 'skip_late', 'skip_late'),
                               ('feedback_rate', 'fast', ''), ('queue_size', None, ''), ('no_such_parameter', 1, '')):
        result = node.set_parameter(name, value)
        assert not result.successful and result.reason and words in result.reason, (name, result)
    assert node.ask(make_goal('one'))[0] == SUCCEEDED
