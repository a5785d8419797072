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

"""A worker that gives no sign of life is replaced, in a goal and while idle; one that is only slow is not."""
from fake_worker import READY, START_S, end_of

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.dispatch.signs_of_life import PING_S, SECOND_LOOK_S, SILENCE_PAUSES, SILENCE_S
from timebill_ros.dispatch.supervisor import BACKOFF_S, KILL_WAIT_S


def test_a_worker_that_hangs_in_a_goal_is_replaced_long_before_the_deadline(harness):
    hung, following, worker = harness.submit(45.0), harness.submit(45.0), harness.worker
    harness.worker.text(hung, 'so far', 2)
    worker.hangs = True
    harness.creep(SILENCE_S)
    assert worker.alive
    harness.creep(2 * SECOND_LOOK_S)  # and an allowance for the prompt
    assert not worker.alive and harness.now - START_S < 10.0
    assert end_of(hung) == (ErrorCode.WORKER_LOST, FinishReason.ERROR, 'so far')
    assert 'no sign of life' in hung.outcome.error_msg
    assert harness.worker.ids('run') == ['goal 1'] and following.outcome is None


def test_a_worker_that_shows_life_may_take_long(harness):
    job, worker = harness.submit(100.0), harness.worker
    harness.creep(90.0)
    assert worker.alive and job.outcome is None and len(harness.workers) == 1


def test_a_worker_that_hangs_while_idle_is_replaced(harness):
    worker = harness.worker
    harness.creep(20.0)
    assert worker.alive and len(harness.workers) == 1
    worker.hangs = True
    harness.creep(PING_S + SILENCE_S + SECOND_LOOK_S)
    assert not worker.alive and harness.dispatcher.is_ready
    assert harness.submit().outcome is None and harness.worker.ids('run') == ['goal 0']


def test_a_silence_of_several_of_its_pauses_is_no_hang(unconfigured):
    unconfigured.answer = {**READY, 'longest_pause_s': 4.0}
    unconfigured.configured()
    unconfigured.submit(1000.0)
    worker = unconfigured.worker
    worker.hangs = True
    unconfigured.creep(SILENCE_S + SILENCE_PAUSES * 4.0 + 2 * 4.0)
    assert worker.alive
    unconfigured.creep(2 * SECOND_LOOK_S)
    assert not worker.alive


def test_a_node_that_stood_still_does_not_take_its_worker_for_hung(harness):
    """Its clock has leapt, and what the worker said meanwhile comes afterwards."""
    job, worker = harness.submit(1000.0), harness.worker
    for _ in range(5):
        harness.now += 100.0
        harness.sync()
        harness.advance(SECOND_LOOK_S)  # the worker's messages are read
    assert worker.alive and job.outcome is None and len(harness.workers) == 1


def test_a_killed_worker_that_does_not_end_is_not_waited_for(harness):
    """A process that is stuck in a driver survives SIGKILL."""
    job, worker = harness.submit(100.0), harness.worker
    worker.hangs, worker.kill = True, lambda: None
    harness.creep(SILENCE_S + 2 * SECOND_LOOK_S)
    assert job.outcome is None and len(harness.workers) == 1 and not harness.dispatcher.is_ready
    harness.creep(KILL_WAIT_S)
    assert end_of(job)[0] is ErrorCode.WORKER_LOST and len(harness.workers) == 2 and harness.dispatcher.is_ready


def test_a_worker_for_which_there_is_no_room_for_a_thread_is_tried_again(harness):
    def refuse(on_event):
        raise RuntimeError("can't start new thread")

    supervisor, start = harness.dispatcher._supervisor, harness.dispatcher._supervisor._start_worker
    supervisor._start_worker = refuse
    harness.worker.die()
    harness.sync()
    assert not harness.dispatcher.is_ready and harness.submit(60.0).outcome is None, 'the next one may come in time'
    supervisor._start_worker = start
    harness.advance(BACKOFF_S[1])
    assert harness.worker.ids('run') == ['goal 0'] and harness.dispatcher.is_ready
