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

"""Every accepted goal ends in one result, whatever raises on its way through the action server."""
from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import rclpy
from fake_worker import READY, planned
from node_client import ABORTED, CANCELED, SUCCEEDED, Result, make_goal, wait_for, wait_until
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup

from timebill_ros import settings
from timebill_ros.action import Generate
from timebill_ros.client import TimebillClient
from timebill_ros.codes import ErrorCode, FinishReason, Verdict
from timebill_ros.dispatch.dispatcher import Dispatcher
from timebill_ros.node import goal_handle, translation, unasked_results
from timebill_ros.node.executor import PoolExecutor
from timebill_ros.node.goal_server import GoalServer
from timebill_ros.request import Outcome, Timing, to_dict

TEXT = 'two three'
SETTINGS = settings.check({'delivery_margin_s': 0.0})


class Worker:
    """Answers at once; a goal with the prompt 'endless' is answered when it is canceled."""

    pid = 4711

    def __init__(self, on_event):
        self._on_event = on_event

    def send(self, message):
        if message['op'] == 'configure':
            self._on_event({**READY, 'prefill': [[0, 0.0]]})
        elif message['op'] == 'run' and message['request']['prompt'] != 'endless':
            self._done(message['request']['request_id'], FinishReason.EOS)
        elif message['op'] == 'run':
            self._on_event({'event': 'plan', 'id': message['request']['request_id'],
                            'plan': to_dict(planned(Verdict.FITS)), 'timing': to_dict(Timing(queue_s=0.0))})
        elif message['op'] == 'cancel':
            self._done(message['id'], FinishReason.CANCELED)

    def _done(self, request_id, reason):
        self._on_event({'event': 'text', 'id': request_id, 'delta': TEXT, 'n': 2})
        outcome = Outcome(text=TEXT, finish_reason=reason, timing=Timing(queue_s=0.0), **(
            {'error_code': ErrorCode.CANCELED, 'error_msg': 'canceled'} if reason is FinishReason.CANCELED else {}))
        self._on_event({'event': 'done', 'id': request_id, 'outcome': to_dict(outcome),
                        'finished_s': time.monotonic()})

    def kill(self):
        pass

    close = kill


class Served:
    """A goal server on a node of its own, a dispatcher without a model, and a client."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node, self._asking = [rclpy.create_node(name, context=self.context) for name in ('timebill', 'asking')]
        self.statuses, self.published, self.clock = [], [], SimpleNamespace(epoch=0)
        self.due_s = {}  # of goals that were refused
        self.dispatcher = Dispatcher(Worker, dict(SETTINGS), lambda job: self.goals.on_change(job))
        follower = SimpleNamespace(time=self.clock, left_s=lambda ros_s: 10.0, moves=False)
        self.goals = GoalServer(self.node, SETTINGS, self.dispatcher, follower, self.publish_job,
                                self.publish_refused, ReentrantCallbackGroup())
        self.actions = ActionClient(self._asking, Generate, '/timebill/generate')
        self._executors = [PoolExecutor(4, each.get_logger(), context=self.context)
                           for each in (self.node, self._asking)]
        self._threads = []
        for executor, each in zip(self._executors, (self.node, self._asking), strict=True):
            executor.add_node(each)
            self._threads.append(threading.Thread(target=executor.spin, daemon=True))
            self._threads[-1].start()
        self.dispatcher.configure().result(20.0)
        assert self.actions.wait_for_server(20.0)
        self.goals.start()

    def publish_job(self, job):
        self.published.append(job)

    def publish_refused(self, goal, request_id, outcome, release_s, due_s):
        self.statuses.append((request_id, outcome))
        self.due_s[request_id] = due_s

    def send(self, goal, **options):
        sent = threading.Event()
        futures = []
        self._executors[1].create_task(
            lambda: (futures.append(self.actions.send_goal_async(goal, **options)), sent.set()))
        assert sent.wait(20.0)
        return wait_for(futures[0], 20.0)

    def ask(self, goal):
        return self.result(self.send(goal))

    @staticmethod
    def result(handle):
        response = wait_for(handle.get_result_async(), 20.0)
        return response.status, response.result

    def close(self):
        self.dispatcher.close()
        for executor, thread in zip(self._executors, self._threads, strict=True):
            executor.shutdown(2.0)
            thread.join(5.0)
        self.goals.destroy()
        for each in (self.node, self._asking):
            each.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def served():
    served = Served()
    yield served
    served.close()


def test_a_client_that_takes_responses_late_has_an_acceptance_and_a_result_of_each_goal(served):
    def all_of(asks):
        def late():  # on the client's thread, which takes nothing meanwhile
            futures.extend(ask() for ask in asks)
            time.sleep(1.5)

        futures = []
        client.on_executor(late)
        wait_until(lambda: len(futures) == len(asks), 20.0)
        return [wait_for(future, 20.0) for future in futures]

    with TimebillClient(served._asking, '/timebill') as client:
        assert client.actions.wait_for_server(20.0)
        handles = all_of([lambda: client.actions.send_goal_async(make_goal('one', 60.0))] * 60)
        responses = all_of([handle.get_result_async for handle in handles])
    assert all(response.result.error_code in (ErrorCode.NONE, ErrorCode.BUSY) for response in responses)


def test_a_goal_that_its_client_may_not_know_of_is_told_in_the_log(served, monkeypatch):
    monkeypatch.setattr(unasked_results, 'WAIT_S', 0.0)
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT
    handle, told = served.send(make_goal('endless', 60.0)), []
    monkeypatch.setattr(served.node, 'get_logger', lambda: SimpleNamespace(warning=told.append))
    wait_until(lambda: served.goals.look_for_clients() or told, 20.0)
    served.goals.look_for_clients()
    line, = told
    assert line.startswith(f'goal {bytes(handle.goal_id.uuid).hex()} was accepted, and nobody has asked for its result')


def fail(*_, **__):
    raise ValueError('of the test')


# Where something raises, and whether the client can have its text all the same.
PLACES = {
    'reading the deadline': (lambda s: (s.goals._clock, 'left_s'), False),
    'reading the goal': (lambda s: (translation, 'to_request'), False),
    'the delivery margin': (lambda s: (s.goals, 'delivery_margin_s'), False),
    'handing it to the dispatcher': (lambda s: (s.dispatcher, 'submit'), False),
    'the first status': (lambda s: (s.goals, '_publish_job'), True),
    'feedback': (lambda s: (s.goals, '_publish_feedback'), True),
    'the state of the goal': (lambda s: (goal_handle, 'conclude'), False),
    'making the result': (lambda s: (translation, 'to_result'), False),
}


@pytest.mark.parametrize('place, keeps', PLACES.values(), ids=PLACES)
def test_a_goal_ends_in_one_result_wherever_something_raises(served, monkeypatch, place, keeps):
    with monkeypatch.context() as broken:
        broken.setattr(*place(served), fail)
        status, result = served.ask(make_goal('one', 30.0, deadline=translation.stamp(time.time() + 30.0)))
    if keeps:
        assert (status, result.error_code, result.text) == (SUCCEEDED, Result.NONE, TEXT)
    else:
        assert status != SUCCEEDED and result.error_code == Result.UNKNOWN and 'of the test' in result.error_msg
    assert not served.goals._goals and not served.goals._server._coming
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT, 'the next goal is served as if nothing had been'


def test_a_bug_in_reading_a_goal_is_not_called_an_invalid_goal(served, monkeypatch):
    monkeypatch.setitem(SETTINGS, 'default_max_new_tokens', 0)
    status, result = served.ask(make_goal('one', 30.0))
    assert status != SUCCEEDED and result.error_code == Result.UNKNOWN
    assert 'max_new_tokens must be 1 or more, got 0' in result.error_msg


def test_a_goal_that_the_node_cancels_says_why_and_ends_at_once(served):
    """The path of a goal whose client is gone."""
    handle = served.send(make_goal('endless', 60.0))
    wait_until(lambda: any(goal.executing for goal in served.goals._goals.values()))
    served.goals._clients._present = frozenset
    served.goals.look_for_clients()
    began = time.monotonic()
    wait_until(lambda: (served.goals.look_for_clients(), not served.goals._goals)[1], 20.0)
    assert time.monotonic() - began >= 1.5, 'not before it has been gone for a while'
    status, result = served.result(handle)
    assert (status, result.error_code, result.text) == (ABORTED, Result.CANCELED, TEXT)
    assert 'client is gone' in result.error_msg


def test_goals_go_on_without_their_client_where_the_parameter_says_so(served, monkeypatch):
    monkeypatch.setitem(SETTINGS, 'cancel_abandoned', False)
    served.send(make_goal('endless', 60.0))
    wait_until(lambda: served.goals._goals)
    monkeypatch.setattr(served.goals._clients, 'abandoned', lambda: list(served.goals._goals))
    served.goals.look_for_clients()
    assert not any(goal.job.canceled for goal in served.goals._goals.values())


def test_a_refused_goal_ends_though_its_status_cannot_be_published(served, monkeypatch):
    monkeypatch.setattr(served.goals, '_publish_refused', fail)
    status, result = served.ask(make_goal('one', None))
    assert status != SUCCEEDED and result.error_code == Result.INVALID_GOAL


def test_a_goal_that_could_not_be_started_ends_by_its_deadline_at_the_latest(served, monkeypatch):
    start, calls = goal_handle.start_executing, []

    def fails_once(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            fail()
        start(*arguments)

    monkeypatch.setattr(goal_handle, 'start_executing', fails_once)
    assert served.ask(make_goal('one', 30.0))[1].text == TEXT


def test_a_cancel_is_answered_though_it_cannot_be_passed_on(served, monkeypatch):
    handle = served.send(make_goal('endless', 60.0))
    wait_until(lambda: any(goal.executing for goal in served.goals._goals.values()))
    with monkeypatch.context() as broken:
        broken.setattr(served.dispatcher, 'cancel', fail)
        assert not wait_for(handle.cancel_goal_async(), 20.0).goals_canceling
    assert wait_for(handle.cancel_goal_async(), 20.0).goals_canceling
    status, result = served.result(handle)
    assert (status, result.error_code) == (CANCELED, Result.CANCELED)
