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

"""Whose answer a goal gets, and when; on a fake worker, a fake caller and a clock that the tests move."""
import math

import pytest
from fake_worker import MARGIN_S, end_of

from timebill_ros.codes import ErrorCode, FinishReason, Part, Phase, Strategy, Thinking, Tier, Verdict
from timebill_ros.dispatch.offboard.breaker import FAILURES, WAITS_S
from timebill_ros.dispatch.offboard.second_tier import ASKED, BROKEN, HOPELESS
from timebill_ros.dispatch.supervisor import HANG_GRACE_S
from timebill_ros.request import Timing

NONE, EOS, DEADLINE = ErrorCode.NONE, FinishReason.EOS, FinishReason.DEADLINE


def tier_of(job):
    return job.timing.tier


def test_both_tiers_are_asked_and_the_better_answer_is_delivered_at_once(harness):
    job = harness.ask()
    assert harness.worker.ids('run') == harness.caller.ids('ask') == ['goal 0']
    assert harness.dispatcher.tier.running == 1 and job.is_contested
    harness.now += 1.0
    harness.server_ends(job)
    assert end_of(job) == (NONE, EOS, 'the better answer') and tier_of(job) is Tier.OFFBOARD
    assert (job.timing.offboard_s, job.timing.offboard_first_token_s, job.timing.generated_tokens) == (1.0, 1.0, 3)
    assert job.n_tokens == 3 and job.timing.variant == 'large' and job.timing.time_to_first_token_s == 1.0
    assert harness.worker.ids('cancel') == ['goal 0'] and harness.caller.ids('cancel') == []
    harness.on_board_ends(job, 'too late', FinishReason.CANCELED, error_code=ErrorCode.CANCELED)
    following = harness.submit()
    assert harness.ends(job) == 1 and harness.worker.ids('run') == ['goal 0', 'goal 1'] and following.outcome is None
    counts = harness.dispatcher.counts
    assert (counts['answered_onboard'], counts['answered_offboard'], harness.dispatcher.tier.asked) == (0, 1, 1)


def test_a_complete_answer_on_board_waits_for_the_better_one_and_is_in_time_without_it(harness):
    answered, stalled = harness.ask(10.0), harness.ask(20.0)
    harness.on_board_ends(answered, 'a small answer', verdict=Verdict.FITS)
    assert answered.outcome is None and answered.phase is Phase.DECODE
    assert harness.worker.ids('run') == ['goal 0', 'goal 1'], 'the worker goes on with the next one'
    harness.now += 2.0
    harness.server_ends(answered)
    assert end_of(answered) == (NONE, EOS, 'the better answer') and tier_of(answered) is Tier.OFFBOARD

    harness.server_says(stalled, 'The', 1)
    harness.on_board_ends(stalled, 'a small answer')
    harness.advance(20.0 - 2.0 - MARGIN_S - 0.01)
    assert stalled.outcome is None
    harness.advance(0.02)
    assert end_of(stalled) == (NONE, EOS, 'a small answer') and tier_of(stalled) is Tier.ONBOARD
    assert stalled.timing.tardiness_s == 0.0 and harness.caller.ids('cancel') == ['goal 1']
    assert stalled.timing.offboard_first_token_s == 2.0 and stalled.timing.offboard_s == pytest.approx(19.91)


@pytest.mark.parametrize('by', ['error', 'death', 'out of time'])
def test_a_network_that_is_lost_in_the_middle_costs_nothing(harness, by):
    running, held = harness.ask(), harness.ask()
    harness.server_says(running, 'The be', 2)
    harness.on_board_ends(running, 'a small answer')
    harness.worker.text(held, 'on bo', 2)
    harness.sync()
    assert held.written() == {} and held.text == 'on bo', 'it is open whose text it will be'
    if by == 'death':
        harness.caller.die()
        harness.sync()
    for job in (running, held) if by != 'death' else ():
        if by == 'error':
            harness.server_fails(job)
        else:
            harness.caller.say({'event': 'ended', 'id': job.request.request_id})
            harness.sync()
    assert end_of(running) == (NONE, EOS, 'a small answer') and tier_of(running) is Tier.ONBOARD
    assert held.written() == {Part.TEXT: 'on bo'}, 'from now on it can only be the text of the model on board'
    harness.on_board_ends(held, 'on board')
    assert end_of(held) == (NONE, EOS, 'on board') and harness.ends(held) == 1


def test_text_of_the_server_never_gets_into_that_of_the_model_on_board(harness):
    job = harness.ask()
    harness.server_says(job, 'The be', 2)
    harness.worker.text(job, 'on bo', 2)
    harness.sync()
    assert (job.text, job.written()) == ('on bo', {})
    shown = []
    harness.dispatcher._on_change = lambda job: shown.append(job.written())
    harness.server_ends(job, 'tter answer')
    assert job.outcome.text == 'The better answer' and shown == [{}], 'nor in the moment in which it is decided'


@pytest.mark.parametrize(('strategy', 'server', 'text', 'code', 'kept', 'tier'), [
    (Strategy.TRUNCATE, 'The be', 'on bo', NONE, 'on bo', Tier.ONBOARD),
    (Strategy.TRUNCATE, 'The be', '', NONE, 'The be', Tier.OFFBOARD),
    (Strategy.TRUNCATE, '', '', ErrorCode.DEADLINE_MISSED, '', Tier.NONE),
    (Strategy.KILL, 'The be', 'on bo', ErrorCode.DEADLINE_MISSED, '', Tier.NONE),
])
def test_at_the_deadline_with_no_complete_answer(harness, strategy, server, text, code, kept, tier):
    job = harness.ask(5.0, strategy=strategy)
    if server:
        harness.server_says(job, server, 2)
    if text:
        harness.worker.text(job, text, 2)
    harness.advance(5.0 - MARGIN_S / 2 + 0.01)
    assert end_of(job) == (code, DEADLINE, kept) and tier_of(job) is tier and job.timing.tardiness_s == 0.0


def test_of_a_worse_server_the_answer_is_kept_in_case_that_none_comes_on_board():
    from fake_caller import OffboardHarness
    harness = OffboardHarness(offboard_quality=0.5).configured()
    good, late = harness.ask(10.0), harness.ask(10.0)
    harness.server_ends(good)
    assert good.outcome is None
    harness.on_board_ends(good, 'a good answer')
    assert end_of(good)[2] == 'a good answer' and tier_of(good) is Tier.ONBOARD
    harness.server_ends(late)
    harness.advance(10.0 - MARGIN_S / 2 + 0.01)
    assert end_of(late) == (NONE, EOS, 'the better answer') and tier_of(late) is Tier.OFFBOARD
    assert late.timing.tardiness_s == 0.0
    harness.dispatcher.close()


def test_of_equal_answers_the_first_is_taken(unconfigured):
    unconfigured.dispatcher.settings['offboard_quality'] = 1.0
    harness = unconfigured.configured()
    first, second = harness.ask(), harness.ask()
    harness.on_board_ends(first, 'on board')
    assert end_of(first)[2] == 'on board' and harness.caller.ids('cancel') == ['goal 0']
    harness.server_ends(second)
    assert end_of(second)[2] == 'the better answer'


@pytest.mark.parametrize('why', ['infeasible', 'busy', 'lost', 'skipped'])
def test_the_server_answers_what_cannot_be_answered_on_board(unconfigured, why):
    unconfigured.dispatcher.settings['queue_size'] = 0 if why == 'busy' else 32
    harness = unconfigured.configured()
    if why in ('busy', 'skipped'):
        harness.submit(2.0, strategy=Strategy.SKIP_NEXT if why == 'skipped' else Strategy.TRUNCATE, max_overrun_s=(
            30.0 if why == 'skipped' else 0.0))
    if why == 'skipped':
        harness.advance(2.5)
    job = harness.ask()
    if why == 'infeasible':
        harness.on_board_ends(job, '', FinishReason.ERROR, error_code=ErrorCode.INFEASIBLE)
    elif why == 'lost':
        harness.worker.die()
        harness.sync()
    assert job.outcome is None and harness.dispatcher.tier.held == [job]
    harness.server_ends(job)
    assert end_of(job) == (NONE, EOS, 'the better answer') and tier_of(job) is Tier.OFFBOARD


def test_what_fails_on_both_tiers_ends_with_the_reason_on_board(harness):
    job, other = harness.ask(), harness.ask(3.0)
    harness.on_board_ends(job, '', FinishReason.ERROR, error_code=ErrorCode.INFEASIBLE)
    harness.server_fails(job)
    assert end_of(job)[0] is ErrorCode.INFEASIBLE and tier_of(job) is Tier.NONE
    harness.on_board_ends(other, '', FinishReason.ERROR, error_code=ErrorCode.PROMPT_TOO_LONG)
    harness.advance(3.0 - MARGIN_S / 2 + 0.01)
    assert end_of(other)[0] is ErrorCode.PROMPT_TOO_LONG and other.timing.tardiness_s == 0.0


@pytest.mark.parametrize('when', ['running', 'held'])
def test_a_cancel_stops_both_tiers(harness, when):
    job = harness.ask()
    if when == 'held':
        harness.on_board_ends(job, 'a small answer')
    harness.dispatcher.cancel(job)
    harness.sync()
    harness.advance(HANG_GRACE_S)
    assert end_of(job)[0] is ErrorCode.CANCELED and harness.caller.ids('cancel') == ['goal 0']
    harness.server_ends(job)
    assert harness.ends(job) == 1 and harness.dispatcher.tier.running == 0


def test_goals_end_with_the_node(harness):
    held, running = harness.ask(), harness.ask()
    harness.on_board_ends(held, 'a small answer')
    harness.dispatcher.end_all(ErrorCode.INACTIVE, 'why').wait(5.0)
    assert [end_of(job)[0] for job in (held, running)] == [ErrorCode.INACTIVE] * 2
    assert harness.dispatcher.tier.held == [] and sorted(harness.caller.ids('cancel')) == ['goal 0', 'goal 1']


def test_nothing_leaves_the_robot_that_may_not_or_that_the_server_cannot_hold_to(harness):
    for request in ({'allow_offboard': False}, {'response_schema': '{}'}, {'regex': 'a'}, {'choices': ['a', 'b']},
                    {'tools': '[]', 'prompt': '', 'messages': [{'role': 'user', 'content': 'hi'}]},
                    {'thinking': Thinking.ON, 'prompt': '', 'messages': [{'role': 'user', 'content': 'hi'}]}):
        job = harness.ask(100.0, **request)
        assert not job.is_contested and math.isnan(job.timing.offboard_s)
    assert [message['op'] for message in harness.caller.sent] == ['configure']


def test_more_goals_than_offboard_goals_stay_on_board(harness):
    jobs = [harness.ask(100.0) for _ in range(5)]
    assert harness.caller.ids('ask') == ['goal 0', 'goal 1', 'goal 2', 'goal 3'] and not jobs[4].is_contested
    harness.server_ends(jobs[1])
    harness.ask(100.0)
    assert harness.caller.ids('ask')[-1] == 'goal 5'


def test_a_server_that_fails_is_left_alone_and_tried_again(harness, caplog):
    tier = harness.dispatcher.tier
    for _ in range(FAILURES):
        job = harness.ask()
        harness.server_fails(job, 'HTTP 503: busy')
        harness.on_board_ends(job)
        assert end_of(job)[0] is NONE
    assert tier.state == BROKEN and 'HTTP 503: busy' in caplog.text
    harness.sync()
    assert len(harness.callers) == 2, 'a process with fresh connections takes the place of the first'
    quiet = harness.ask()
    harness.on_board_ends(quiet)
    assert end_of(quiet)[0] is NONE and harness.caller.ids('ask') == []
    harness.advance(WAITS_S[0])
    tried, beside = harness.ask(), harness.ask()
    assert harness.caller.ids('ask') == [tried.request.request_id] and not beside.is_contested, 'one at a time'
    harness.server_fails(tried)
    assert harness.ask().is_contested is False
    harness.advance(WAITS_S[1])
    again = harness.ask(100.0)
    harness.server_ends(again)
    assert end_of(again)[2] == 'the better answer' and tier.state == ASKED
    assert harness.ask(100.0).is_contested


def test_a_request_that_the_server_does_not_take_speaks_not_against_it(harness, caplog):
    for _ in range(FAILURES):
        job = harness.ask()
        harness.server_fails(job, 'HTTP 400: too long', fault=False)
        harness.on_board_ends(job)
    assert harness.dispatcher.tier.state == ASKED and caplog.text.count('HTTP 400: too long') == 1, 'told once'


@pytest.mark.parametrize('answer', ['', '  \n'])
def test_an_answer_without_text_is_none_and_speaks_not_against_the_server(harness, answer):
    for _ in range(FAILURES):
        job = harness.ask()
        harness.server_ends(job, answer)
        assert job.outcome is None and not job.is_contested
        harness.on_board_ends(job, 'on board')
        assert end_of(job)[2] == 'on board' and harness.dispatcher.tier.state == ASKED


def test_an_answer_at_the_goals_own_limit_is_kept_as_the_goal_wants_it(harness):
    kept, lost = (harness.ask(max_new_tokens=3, stop_at_line_end=True, closing_text='.') for _ in range(2))
    harness.server_ends(kept, 'one\ntwo', 3, 'length')
    assert end_of(kept) == (NONE, FinishReason.LENGTH, 'one\n.') and kept.outcome.added_characters == 1
    harness.server_ends(lost, 'one two three', 3, 'length')
    assert lost.outcome is None, 'no line had ended'


def test_a_process_that_hangs_is_replaced_and_its_goals_are_answered_on_board(harness):
    harness.caller.hangs = True
    job = harness.ask(100.0)
    harness.creep(3.0)
    assert not harness.callers[0].alive and len(harness.callers) == 2 and not job.is_contested
    harness.on_board_ends(job, 'on board')
    assert end_of(job)[2] == 'on board'
    assert harness.ask(100.0).is_contested, 'the new process is asked'


def test_what_cannot_work_is_told_by_configure(unconfigured):
    unconfigured.caller_answer = {'event': 'failed', 'message': 'offboard_key_file /key cannot be read: gone'}
    future = unconfigured.dispatcher.configure()
    unconfigured.sync()
    with pytest.raises(RuntimeError, match='offboard_key_file /key cannot be read'):
        future.result(0)
    assert unconfigured.workers == []


def test_a_start_that_never_ends_fails(unconfigured):
    unconfigured.caller_answer = None
    future = unconfigured.dispatcher.configure()
    unconfigured.advance(31.0)
    with pytest.raises(RuntimeError, match='not ready after 30 s'):
        future.result(0)


def test_the_verdict_follows_what_was_learned(harness):
    """59 answers carry a promise at a miss rate of 0.05, a third of it for each of three bounds."""
    def answered(seconds, n=11):
        job = harness.ask(100.0)
        asked_s = harness.now
        harness.now += seconds
        harness.server_ends(job, 'the better answer', n, first_s=asked_s + seconds / 2)
        harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': {}, 'finished_s': 0.0})
        harness.sync()
        return job.timing

    first = answered(1.0)
    assert first.offboard_verdict is Verdict.UNKNOWN and math.isnan(first.offboard_wcet_s)
    second = answered(1.0)
    assert second.offboard_verdict is Verdict.AT_RISK and math.isnan(second.offboard_wcet_s)
    for _ in range(60):
        timing = answered(1.0)
    assert timing.offboard_verdict is Verdict.FITS and timing.offboard_wcet_s == pytest.approx(1.0, rel=0.1)
    hopeless = [harness.ask(0.4) for _ in range(HOPELESS)]
    assert {job.timing.offboard_verdict for job in hopeless} == {Verdict.INFEASIBLE}
    assert sum(job.is_contested for job in hopeless) == 1, 'one of them shows whether the server is quicker by now'
    assert harness.dispatcher.tier.seconds == 1.0


def test_an_end_on_board_does_not_wait_for_a_server_that_is_not_expected_in_time(harness):
    for _ in range(3):
        job = harness.ask(100.0)
        harness.now += 5.0
        harness.server_ends(job)
        harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': {}, 'finished_s': 0.0})
        harness.sync()
    jobs = [harness.ask(4.0) for _ in range(HOPELESS)]
    asked = next(job for job in jobs if job.is_contested)
    for job in jobs:
        harness.on_board_ends(job, 'on board')
    assert end_of(asked) == (NONE, EOS, 'on board')


def test_a_goal_that_gives_way_to_others_may_be_answered_by_the_server(harness):
    harness.dispatcher.settings['preempt'] = 'priority'
    harness.dispatcher._times.pauses = [(0, 0.5)]
    aside = harness.ask(100.0)
    harness.submit(100.0, priority=1)
    harness.worker.say({'event': 'paused', 'id': aside.request.request_id})
    harness.advance(2.0)
    harness.server_ends(aside)
    assert end_of(aside)[2] == 'the better answer' and aside.timing.tier is Tier.OFFBOARD
    assert (aside.timing.preemptions, aside.timing.paused_s) == (1, 2.0)


def test_a_late_goal_of_skip_next_goes_on_on_board_alone(harness):
    job = harness.ask(5.0, strategy=Strategy.SKIP_NEXT, max_overrun_s=5.0)
    harness.worker.text(job, 'on bo', 2)
    harness.advance(5.1)
    assert job.is_late and not job.is_contested and harness.caller.ids('cancel') == ['goal 0']
    harness.on_board_ends(job, 'on board', timing=Timing(queue_s=0.0))
    assert end_of(job)[2] == 'on board'
