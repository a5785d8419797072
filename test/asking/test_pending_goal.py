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

"""A goal on its way: answers that are lost, text and status as they come, its cancel, and time-outs everywhere."""
import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from action_msgs.msg import GoalStatus
from answered_future import Future

from timebill_ros.action import Generate
from timebill_ros.asking import pending_goal
from timebill_ros.asking.failures import ServerUnavailable
from timebill_ros.asking.pending_goal import PendingGoal
from timebill_ros.asking.silence import SILENT_S, Silence
from timebill_ros.codes import Phase
from timebill_ros.msg import RequestStatus

WAIT_S = 60.0  # for what takes no time on a quiet machine


class Server:
    """What a PendingGoal needs of a client and of rclpy's goal handle; each answer is the next of `answers`."""

    server, watches_status, accepted, status = '/timebill', True, True, GoalStatus.STATUS_EXECUTING

    def __init__(self, *answers):
        self.answers, self.cancels, self.actions, self.server_is_ready = list(answers), 0, self, lambda: True
        self.silence = Silence()

    def on_executor(self, work):
        work()

    def send_goal_async(self, goal, feedback_callback, goal_uuid):
        self.feedback, self.id = feedback_callback, bytes(goal_uuid.uuid).hex()
        return Future(self.answers.pop(0))

    def get_result_async(self):
        return Future(self.answers.pop(0))

    def cancel_goal_async(self):
        self.cancels += 1


def sent(server, *answers, **options):
    """Return a pending goal that `server` was sent; it gives these answers."""
    server.answers = list(answers)
    pending = PendingGoal(server, Generate.Goal(prompt='one'), **options)
    pending.send()
    return pending


def response(text='two three', **fields):
    return SimpleNamespace(result=Generate.Result(text=text, **fields), status=GoalStatus.STATUS_SUCCEEDED)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(pending_goal, 'ACCEPTANCE_S', 0.1)
    monkeypatch.setattr(pending_goal, 'AGAIN_S', 0.05)


# -- answers that are lost -------------------------------------------------------------------------------------------

def test_an_acceptance_that_is_lost_is_told_soon_and_a_late_one_cancels_the_goal(server, hurried):
    pending = sent(server, None, None)
    with pytest.raises(ServerUnavailable, match='did not accept a goal in 0.1 s: it hangs, or its answer was lost'):
        pending.answer(3600.0)
    assert not server.cancels
    pending._on_accepted(Future(server))
    assert server.cancels


def test_a_result_that_is_lost_is_asked_for_again(server, hurried):
    server.status = GoalStatus.STATUS_SUCCEEDED
    assert sent(server, server, None, None, response()).answer(WAIT_S).text == 'two three'


def test_a_result_is_not_asked_for_twice_while_it_is_on_its_way(server, monkeypatch):
    monkeypatch.setattr(pending_goal, 'AGAIN_S', WAIT_S)
    server.status = GoalStatus.STATUS_SUCCEEDED
    pending = sent(server, server, None, 'not to be asked for')
    for _ in range(5):
        assert pending._look(time.monotonic() + WAIT_S) > 0
    assert server.answers == ['not to be asked for']


def test_a_result_that_does_not_come_is_told_in_time(server, hurried):
    pending = sent(server, server, None)
    with pytest.raises(ServerUnavailable, match='no result in 0.2 s'):
        pending.answer(0.2)
    assert not server.cancels  # somebody may wait again


def test_a_goal_that_is_late_for_its_own_limit_is_canceled(server):
    pending = sent(server, server, None, timeout_s=0.2)
    with pytest.raises(ServerUnavailable, match='no result in 0.2 s') as error:
        pending.answer()
    assert server.cancels and error.value.code == Generate.Result.TIMEOUT


def test_a_rejection_is_told_at_once(server):
    server.accepted = False
    with pytest.raises(ServerUnavailable, match='was rejected: /timebill is not active') as error:
        sent(server, server).answer(WAIT_S)
    assert error.value.code == Generate.Result.GOAL_REJECTED


def test_a_client_that_receives_nothing_more_is_told_at_once(server):
    pending = sent(server, server, None)
    threading.Timer(0.05, pending.on_lost, ['the client was closed']).start()
    with pytest.raises(ServerUnavailable, match='/timebill is received any more: the client was closed'):
        pending.answer(WAIT_S)


def test_a_node_that_is_gone_is_told_before_the_limit(server, hurried, monkeypatch):
    monkeypatch.setattr(pending_goal, 'GONE_S', 0.1)
    looks = iter([False, True, False, True])  # DDS may lose sight of it for a moment
    server.server_is_ready = lambda: next(looks, False)
    pending = sent(server, server, None, timeout_s=WAIT_S)
    with pytest.raises(ServerUnavailable, match='/timebill is gone: its action server has not been found for 0.1 s'):
        pending.answer()
    assert next(looks, None) is None


def test_a_node_that_is_silent_for_long_is_told_before_the_limit(server):
    pending = sent(server, server, None, timeout_s=WAIT_S)
    server.silence.seconds = SILENT_S - 0.1
    assert pending.poll() is None, 'a slow node is waited for'

    def fall_silent():
        server.silence.seconds = SILENT_S
        pending.on_silence()

    threading.Timer(0.05, fall_silent).start()
    with pytest.raises(ServerUnavailable, match='was killed or stands still: nothing has come from it for 5.0 s'):
        pending.answer()
    server.silence.end()
    pending._on_result(Future(response()))
    assert pending.poll().text == 'two three', 'it went on after all'


def test_a_goal_that_a_silent_node_does_not_accept_is_told_early(server, monkeypatch):
    pending = sent(server, None, None, timeout_s=WAIT_S)
    server.silence.seconds = SILENT_S
    assert pending.poll() is None, 'a node that has just come back has time to accept it'
    monkeypatch.setattr(pending_goal, 'GONE_S', 0.05)
    with pytest.raises(ServerUnavailable, match='was killed or stands still'):
        pending.answer()
    pending._on_accepted(Future(server))
    assert server.cancels and server.silence.seconds == 0.0


def test_nobody_waits_without_a_limit(server):
    with pytest.raises(ValueError, match='sent without a timeout_s'):
        sent(server, None).answer()


def test_a_goal_that_cannot_be_sent_is_told_and_raises_nothing_on_the_clients_thread(server):
    def fail(*_, **__):
        raise RuntimeError('of the test')

    server.send_goal_async = fail
    pending = sent(server, timeout_s=WAIT_S)  # send() is what the client's thread does
    with pytest.raises(ServerUnavailable, match='could not be sent to /timebill: RuntimeError: of the test') as error:
        pending.answer()
    assert error.value.code == Generate.Result.SEND_GOAL_FAILURE


def test_a_limit_that_never_comes_is_refused(server):
    with pytest.raises(ValueError, match='timeout_s is NaN'):
        sent(server, timeout_s=float('nan'))


# -- as it comes -----------------------------------------------------------------------------------------------------

def feedback(text):
    return SimpleNamespace(feedback=Generate.Feedback(text_delta=text))


@pytest.mark.parametrize(('deltas', 'text', 'shown'), [
    (['two', ' three'], 'two three', ['two', ' three']),
    (['two', '', ' '], 'two three', ['two', ' ', 'three']),  # what feedback did not carry comes with the result
    ([], 'two three', ['two three']),
    (['two'], '', ['two']),  # the node took it back
])
def test_the_text_comes_in_pieces(server, deltas, text, shown):
    heard = []
    pending = sent(server, server, None, on_feedback=heard.append, timeout_s=WAIT_S)
    for delta in deltas:
        server.feedback(feedback(delta))
    pending._on_result(Future(response(text)))
    server.feedback(feedback('late'))
    assert list(pending) == list(pending) == shown
    assert [message.feedback.text_delta for message in heard] == [*deltas, 'late']


def test_an_on_feedback_that_raises_is_logged_once_and_harms_no_goal(server):
    logged = []
    server.node = SimpleNamespace(get_logger=lambda: SimpleNamespace(error=logged.append))

    def fail(message):
        raise RuntimeError('of the test')

    pending = sent(server, server, None, on_feedback=fail, timeout_s=WAIT_S)
    server.feedback(feedback('two'))  # what the client's thread does
    server.feedback(feedback(' three'))
    pending._on_result(Future(response()))
    assert list(pending) == ['two', ' three']
    told, = logged
    assert 'on_feedback raised, and is not called again' in told and 'RuntimeError: of the test' in told


def test_statuses_come_until_the_answer(server):
    pending = sent(server, server, None, timeout_s=WAIT_S)
    assert pending.status is None
    phases = [Phase.QUEUED, Phase.PREFILL, Phase.DECODE]

    def run():
        for phase in phases:
            pending.on_status(RequestStatus(phase=int(phase)))
        pending._on_result(Future(response()))

    threading.Timer(0.02, run).start()
    assert [status.phase for status in pending.statuses()] == phases
    assert pending.status.phase == Phase.DECODE and pending.is_over


def test_a_client_that_hears_no_statuses_says_so(server):
    server.watches_status = False
    pending = sent(server, server, response(), timeout_s=WAIT_S)
    with pytest.raises(ValueError, match='make it with Client'):
        pending.statuses()
    assert pending.status is None and pending.answer().code == 'NONE'


def test_a_program_may_look_again_and_again(server):
    pending = sent(server, server, None, timeout_s=WAIT_S)
    assert pending.poll() is None
    pending._on_result(Future(response()))
    assert pending.poll().code == 'NONE'
    late = sent(Server(), None, timeout_s=0.0)
    with pytest.raises(ServerUnavailable, match='did not accept'):
        late.poll()


def test_the_node_knows_the_goal_by_its_request_id(server):
    assert sent(server, None).request_id == server.id


# -- cancel and asyncio ----------------------------------------------------------------------------------------------

def test_a_cancel_before_the_acceptance_goes_out_with_it(server):
    pending = sent(server, None, None)
    pending.cancel()
    assert not server.cancels
    pending._on_accepted(Future(server))
    assert server.cancels == 1


def test_a_goal_that_is_over_is_not_canceled(server):
    pending = sent(server, server, response())
    pending.cancel()
    assert not server.cancels


def test_a_coroutine_awaits_text_statuses_and_answer(server):
    pending = sent(server, server, None, timeout_s=WAIT_S)

    def run():
        server.feedback(feedback('two'))
        pending.on_status(RequestStatus(phase=int(Phase.DECODE)))
        pending._on_result(Future(response()))

    async def ask():
        threading.Timer(0.02, run).start()
        answer = await pending
        return answer.text, [text async for text in pending], [s.phase async for s in pending.statuses()]

    assert asyncio.run(ask()) == ('two three', ['two', ' three'], [Phase.DECODE])


def test_a_coroutine_that_is_canceled_cancels_its_goal(server):
    pending = sent(server, server, None, timeout_s=WAIT_S)

    async def give_up():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pending, 0.02)

    asyncio.run(give_up())
    assert server.cancels == 1


def test_a_coroutine_is_told_of_a_time_out(server):
    pending = sent(server, None, timeout_s=0.05)

    async def ask():
        await pending

    with pytest.raises(ServerUnavailable, match='did not accept'):
        asyncio.run(ask())
