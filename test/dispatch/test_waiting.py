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

"""Goals that wait: their order, a full queue, and the end of those that can no longer make their deadlines."""
import pytest
from fake_worker import MARGIN_S, Harness, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict
from timebill_ros.request import Timing

KILL, TRUNCATE = Strategy.KILL, Strategy.TRUNCATE


@pytest.mark.parametrize('queue_size', [0, 1, 3])
def test_a_full_queue_is_busy(queue_size):
    harness = Harness(queue_size=queue_size).configured()
    jobs = [harness.submit() for _ in range(queue_size + 3)]
    assert [job.outcome is not None for job in jobs] == [False] * (queue_size + 1) + [True] * 2
    for job in jobs[-2:]:
        assert end_of(job) == (ErrorCode.BUSY, FinishReason.ERROR, '')
        assert f'{queue_size} goals' in job.outcome.error_msg
    harness.dispatcher.update({'queue_size': queue_size + 1})
    assert harness.submit().outcome is None
    harness.dispatcher.close()


def test_a_goal_of_higher_priority_takes_a_place_in_a_full_queue():
    harness = Harness(queue_size=2).configured()
    running, first, second = harness.submit(100.0), harness.submit(20.0), harness.submit(10.0)
    urgent, equal = harness.submit(30.0, priority=1), harness.submit(5.0)
    assert end_of(first) == (ErrorCode.BUSY, FinishReason.ERROR, '') and 'priority 1' in first.outcome.error_msg
    assert end_of(equal)[0] is ErrorCode.BUSY  # a deadline alone displaces nobody
    for job in (running, urgent, second):
        harness.worker.done(job)
        harness.sync()
    assert harness.worker.ids('run') == ['goal 0', 'goal 3', 'goal 2']
    harness.dispatcher.close()


@pytest.mark.parametrize(('scheduling', 'ran'), [('edf', [0, 3, 2, 1]), ('fcfs', [0, 1, 2, 3])])
def test_the_order_of_waiting_goals(scheduling, ran):
    harness = Harness(scheduling=scheduling).configured()
    jobs = [harness.submit(budget_s, priority=priority) for budget_s, priority in (
        (100.0, 0), (50.0, 0), (40.0, 0), (60.0, 1))]
    for i in ran:
        harness.worker.done(jobs[i])
        harness.sync()
    assert harness.worker.ids('run') == [f'goal {i}' for i in ran]
    harness.dispatcher.close()


@pytest.mark.parametrize(('drop', 'strategy', 'ends'), [
    ('kill', KILL, True), ('kill', TRUNCATE, False), ('never', KILL, False), ('all', TRUNCATE, True)])
def test_a_goal_that_the_running_one_blocks_for_too_long(drop, strategy, ends):
    """The waiting goal's chance is reported at once; whether the goal then ends depends on the parameter."""
    harness = Harness(drop_infeasible=drop).configured()
    running = harness.submit(100.0)
    waiting = harness.submit(5.0, strategy=strategy)
    harness.worker.plan(running, expected_s=2.0, wcet_s=4.0)
    harness.sync()
    assert (waiting.timing.verdict, waiting.outcome) == (Verdict.UNKNOWN, None)
    harness.worker.plan(running, expected_s=2.0, wcet_s=6.0)
    harness.sync()
    assert (waiting.timing.verdict, waiting.outcome) == (Verdict.AT_RISK, None)
    harness.worker.plan(running, expected_s=5.5, wcet_s=6.0)
    harness.sync()
    assert waiting.timing.verdict is Verdict.INFEASIBLE and (waiting.outcome is not None) is ends
    if ends:
        assert end_of(waiting) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
        assert '5.500 s' in waiting.outcome.error_msg and '5.000 s' in waiting.outcome.error_msg
        released = harness.submit(5.0, strategy=strategy)  # at its release
        assert end_of(released)[0] is ErrorCode.INFEASIBLE
    else:
        harness.worker.done(running)
        harness.sync()
        assert harness.worker.ids('run') == ['goal 0', 'goal 1']
        assert waiting.timing.verdict is Verdict.UNKNOWN  # started: its plan will tell
    harness.dispatcher.close()


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_where_not_even_the_prompt_can_be_read_any_more_every_goal_ends(strategy):
    harness = Harness(drop_infeasible='never').configured()
    first = harness.submit(100.0)
    harness.worker.done(first, timing=Timing(prompt_tokens=20, decode_s=1.0))
    harness.submit(100.0)
    waiting = harness.submit(5.0, strategy=strategy)  # the same prompt: half of it takes 2 s, delivery 0.1 s
    harness.advance(2.85)
    assert waiting.outcome is None
    harness.advance(0.1)
    assert end_of(waiting) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert '2.000 s for reading' in waiting.outcome.error_msg
    harness.dispatcher.close()


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_a_goal_whose_deadline_comes_in_the_queue(harness, strategy):
    harness.submit(100.0)
    short, shorter = harness.submit(5.0, strategy=strategy), harness.submit(3.0, strategy=strategy)
    harness.advance(3.0 - MARGIN_S - 0.01)
    assert (short.outcome, shorter.outcome) == (None, None)
    harness.advance(0.02)
    assert short.outcome is None and end_of(shorter) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    harness.advance(1.99)
    assert end_of(short) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert '5.000 s' in short.outcome.error_msg and short.timing.queue_s == pytest.approx(4.9)
    assert harness.worker.ids('run') == ['goal 0'] and harness.worker.ids('cancel') == []


@pytest.mark.parametrize('budget_s', [1e-9, MARGIN_S / 4, -1.0])
def test_a_goal_without_time_even_for_its_delivery_is_told_so_at_once(harness, budget_s):
    job = harness.submit(budget_s)
    assert end_of(job) == (ErrorCode.INFEASIBLE, FinishReason.ERROR, '')
    assert job.timing.verdict is Verdict.INFEASIBLE and f'{budget_s:.3f} s' in job.outcome.error_msg
    assert harness.worker.ids('run') == []
