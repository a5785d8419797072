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

"""Estimates: the worker's answer where it is idle, otherwise the node's own; they delay no goal and hang nobody."""
from concurrent.futures import Future

import pytest
from fake_worker import READY, planned

from timebill_ros.codes import ErrorCode, GoalError, Verdict
from timebill_ros.dispatch.bound_estimate import Estimate
from timebill_ros.dispatch.pending_estimates import ESTIMATE_TIMEOUT_S
from timebill_ros.request import to_dict


def estimate(harness, *budget_s, **request) -> Future:
    future = harness.dispatcher.estimate(harness.job(*budget_s, **request).request)
    harness.sync()
    return future


def answer(harness, **content):
    (asked,) = [message for message in harness.worker.sent if message['op'] == 'estimate']
    harness.worker.say({'event': 'estimate', 'tag': asked['tag'], **content})
    harness.sync()


def test_an_estimate(harness):
    future, plan = estimate(harness), planned(Verdict.AT_RISK, decode_expected_s=1.0, decode_wcet_s=3.0)
    whole = planned(Verdict.INFEASIBLE, decode_expected_s=2.0, decode_wcet_s=4.0)
    answer(harness, plan=to_dict(plan), whole=to_dict(whole), prompt_tokens=9, prefill_s=0.5)
    assert future.result(0) == Estimate(Verdict.AT_RISK, 9, 1, 2, 0.5 + 4.0, 0.5 + 3.0, 0.0)
    answer(harness, error_code=7000, error_msg='twice')  # without effect


def test_an_estimate_that_cannot_be_made(harness):
    future = estimate(harness)
    answer(harness, error_code=int(ErrorCode.PROMPT_TOO_LONG), error_msg='9000 tokens')
    assert future.exception(0).code is ErrorCode.PROMPT_TOO_LONG and '9000' in str(future.exception(0))


@pytest.mark.parametrize('wrong', [{'n_keep': 10}, {'predicted_tokens': 3}, {'verdict': 9}, {'surprise': 1}])
def test_an_estimate_that_cannot_be_is_answered_with_an_error(harness, wrong):
    future, plan = estimate(harness), to_dict(planned(Verdict.FITS))
    answer(harness, plan={**plan, **wrong}, whole=plan, prompt_tokens=9, prefill_s=0.5)
    error = future.exception(0)
    assert error.code is ErrorCode.UNKNOWN and next(iter(wrong)).split('_')[-1] in str(error).lower()


def running(harness):
    harness.submit()


def abandoned(harness):
    harness.submit(1.0)
    harness.advance(1.0)


def restarting(harness):
    harness.answer = None
    harness.worker.die()


def lost(harness):
    harness.worker.die()
    harness.sync()


def silent(harness):
    harness.advance(ESTIMATE_TIMEOUT_S)


def closing(harness):
    harness.dispatcher.close()


@pytest.mark.parametrize(('before', 'after'), [(running, None), (abandoned, None), (restarting, None), (None, silent),
                                               (None, lost)])
def test_an_estimate_delays_no_goal_and_is_made_in_the_node_meanwhile(harness, before, after):
    if before is not None:
        before(harness)
    future = estimate(harness)
    if after is not None:
        assert not future.done()
        after(harness)
    made = future.result(0)
    # A prompt of 2 bytes, and 2 tokens of the template; 2 s for 10 tokens; a response of at most 99 takes 0.1 s a step.
    # The time for which the worker was waited for is not taken off the budget: who asks has not sent the goal yet.
    assert (made.is_from_bound, made.prompt_tokens, made.predicted_tokens) == (True, 4, 50)
    assert made.verdict is not Verdict.INFEASIBLE or after is not silent
    assert made.wcet_without_eviction_s == pytest.approx(0.8 + 9.8)
    assert before is not None or after is lost or [m['op'] for m in harness.worker.sent].count('estimate') == 1


def test_while_the_worker_restarts_nothing_is_said_to_fit_for_sure(harness):
    """No start of it need be as quick as those before."""
    restarting(harness)
    harness.sync()
    future, waiting = estimate(harness, 100.0, max_new_tokens=9), harness.submit(100.0)
    assert (future.result(0).verdict, future.result(0).waiting_s) == (Verdict.AT_RISK, 0.0)
    assert waiting.timing.verdict is Verdict.AT_RISK and waiting.outcome is None
    harness.worker.say(READY)
    harness.sync()
    assert waiting.timing.verdict is Verdict.UNKNOWN, 'it runs'
    assert estimate(harness, 1000.0, max_new_tokens=9).result(0).verdict is Verdict.FITS


def test_an_estimate_hangs_nobody(harness):
    future = estimate(harness)
    assert not future.done()
    closing(harness)
    with pytest.raises(GoalError) as caught:
        future.result(10.0)
    assert caught.value.code is ErrorCode.INACTIVE and str(caught.value)


def test_an_answer_that_comes_too_late_is_not_taken_for_that_of_the_next_question(harness):
    for _ in range(20):
        estimate(harness)  # whose future is freed, and its place in memory used again
        harness.advance(ESTIMATE_TIMEOUT_S)
    tags = [message['tag'] for message in harness.worker.sent if message['op'] == 'estimate']
    assert len(set(tags)) == len(tags) == 20


# -- prompts that are read ahead -------------------------------------------------------------------------------------

def prepare(harness):
    job = harness.job()
    future = harness.dispatcher.prepare(job.request)
    harness.sync()
    return future


def told(harness, **content):
    (asked,) = [message for message in harness.worker.sent if message['op'] == 'prepare']
    harness.worker.say({'event': 'prepared', 'tag': asked['tag'], **content})
    harness.sync()


def test_a_prompt_is_read_ahead(harness):
    future = prepare(harness)
    assert not future.done()
    told(harness, prompt_tokens=100, ready_tokens=96)
    assert future.result(0) == (100, 96)
    told(harness, prompt_tokens=1, ready_tokens=1)  # twice: without effect


@pytest.mark.parametrize(('content', 'code', 'words'), [
    ({'error_code': 7010, 'error_msg': 'a goal came: 64 of 100 tokens are kept'}, ErrorCode.BUSY, '64 of 100'),
    ({'prompt_tokens': 3}, ErrorCode.UNKNOWN, 'ready_tokens'),
    ({'error_code': 1, 'error_msg': ''}, ErrorCode.UNKNOWN, '1')])
def test_a_prompt_that_could_not_be_read_ahead(harness, content, code, words):
    future = prepare(harness)
    told(harness, **content)
    assert future.exception(0).code is code and words in str(future.exception(0))


def test_how_much_was_read_ahead_is_told_beside_the_reason_for_which_it_ended(harness):
    future = prepare(harness)
    told(harness, error_code=7010, error_msg='a goal came', prompt_tokens=100, ready_tokens=64)
    error = future.exception(0)
    assert (error.code, error.prompt_tokens, error.ready_tokens) == (ErrorCode.BUSY, 100, 64)


def test_no_prompt_is_read_ahead_while_a_goal_runs(harness):
    harness.dispatcher.submit(harness.job())
    harness.sync()
    assert prepare(harness).exception(0).code is ErrorCode.BUSY
    assert 'prepare' not in [message['op'] for message in harness.worker.sent]


def test_a_goal_that_comes_is_sent_at_once_and_an_estimate_is_the_nodes_own(harness):
    future = prepare(harness)
    asked = harness.dispatcher.estimate(harness.job().request)
    harness.dispatcher.submit(harness.job())
    harness.sync()
    assert [message['op'] for message in harness.worker.sent][-2:] == ['prepare', 'run']
    assert asked.result(0).is_from_bound and not future.done()


def test_a_prompt_that_is_read_ahead_is_lost_with_the_worker(harness):
    future = prepare(harness)
    harness.worker.die()
    harness.sync()
    assert future.exception(0).code is ErrorCode.WORKER_LOST


def test_a_prompt_that_is_read_ahead_ends_with_the_node(harness):
    future = prepare(harness)
    harness.dispatcher.close()
    assert future.exception(0).code is ErrorCode.INACTIVE
