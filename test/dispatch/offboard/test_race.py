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

"""Which of two answers is the better one, and for which it is worth waiting."""
import math

import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Tier, Verdict
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.offboard.race import Race
from timebill_ros.request import Outcome, Plan, Request, Timing

DEADLINE_S, MARGIN_S = 10.0, 1.0
FAILED = Outcome(ErrorCode.INFEASIBLE, 'why', '', FinishReason.ERROR)
CUT = Outcome(ErrorCode.NONE, '', 'on bo', FinishReason.DEADLINE)
WHOLE = Outcome(ErrorCode.NONE, '', 'on board', FinishReason.EOS)


def race(text='', finish=None, plan_quality=1.0, expected_s=math.nan, **request):
    job = Job(Request('id', 0.0, DEADLINE_S, delivery_margin_s=MARGIN_S, **{'prompt': 'hi', **request}))
    job.plan = Plan(Verdict.AT_RISK, 9, 4, 1 - 4 / 9, 2, 1, 2, 1, quality=plan_quality)
    made = Race(job, 0.5, 1.0, expected_s, 'large')
    made.text, made.finish = text, finish
    if text:
        made.first_s, made.n = 0.25, 2
    return made


@pytest.mark.parametrize(('on_board', 'text', 'finish', 'quality', 'plan_quality', 'better', 'tier'), [
    (WHOLE, 'the server', FinishReason.EOS, 2.0, 1.0, 'the server', Tier.OFFBOARD),
    (WHOLE, 'the server', FinishReason.EOS, 1.0, 1.0, 'the server', Tier.OFFBOARD),
    (WHOLE, 'the server', FinishReason.EOS, 0.9, 1.0, 'on board', Tier.NONE),
    (WHOLE, 'the server', FinishReason.EOS, 0.9, 0.8, 'the server', Tier.OFFBOARD),
    (CUT, 'the server', FinishReason.EOS, 0.1, 1.0, 'the server', Tier.OFFBOARD),
    (FAILED, 'the server', FinishReason.LENGTH, 0.1, 1.0, 'the server', Tier.OFFBOARD),
    (WHOLE, 'the ser', None, 2.0, 1.0, 'on board', Tier.NONE),
    (CUT, 'the ser', None, 2.0, 1.0, 'on bo', Tier.NONE),
    (FAILED, 'the ser', None, 2.0, 1.0, 'the ser', Tier.OFFBOARD),
    (FAILED, '', None, 2.0, 1.0, '', Tier.NONE), (FAILED, ' \n', None, 2.0, 1.0, '', Tier.NONE),
    (FAILED, 'the \ufffd', None, 2.0, 1.0, 'the ', Tier.OFFBOARD),
    (FAILED, 'the \ufffd', FinishReason.LENGTH, 2.0, 1.0, 'the ', Tier.OFFBOARD),
    (FAILED, 'the \ufffd', FinishReason.EOS, 2.0, 1.0, 'the \ufffd', Tier.OFFBOARD),
])
def test_the_better_answer(on_board, text, finish, quality, plan_quality, better, tier):
    found = race(text, finish, plan_quality).better(on_board, quality)
    assert (found.text, found.timing.tier) == (better, tier)


def test_a_strategy_that_keeps_no_cut_answer_keeps_none_of_the_server():
    assert race('the ser', strategy=Strategy.KILL).better(FAILED, 2.0) is FAILED


def test_the_account_is_that_of_the_server_where_it_counts():
    on_board = Timing(prompt_tokens=9, generated_tokens=7, forced_tokens=3, length_cap=7, decode_s=1.0, prefill_s=0.5)
    timing = race('the server', FinishReason.EOS).answer(on_board).timing
    assert (timing.generated_tokens, timing.forced_tokens, timing.length_cap) == (2, 0, 0)
    assert (timing.variant, timing.prompt_tokens, timing.prefill_s) == ('large', 9, 0.5)
    assert timing.time_to_first_token_s == 0.75 and math.isnan(timing.decode_s), 'nothing is learned from it on board'


@pytest.mark.parametrize(('on_board', 'quality', 'expected_s', 'waits'), [
    (WHOLE, 2.0, math.nan, True), (WHOLE, 2.0, 8.5, True), (WHOLE, 2.0, 8.6, False), (WHOLE, 1.0, 1.0, False),
    (CUT, 0.1, 8.5, True), (CUT, 0.1, 8.6, False), (FAILED, 0.1, 100.0, True),
])
def test_what_is_worth_waiting_for(on_board, quality, expected_s, waits):
    assert race(expected_s=expected_s).is_worth_waiting(on_board, quality) is waits


@pytest.mark.parametrize(('quality', 'plan_quality', 'wins'), [(1.0, 1.0, True), (0.9, 1.0, False), (0.9, 0.8, True)])
def test_what_nothing_better_can_follow(quality, plan_quality, wins):
    assert race(plan_quality=plan_quality).wins_at_once(quality) is wins


def test_a_good_answer_leaves_the_whole_margin_and_a_late_one_half_of_it():
    made = race()
    assert made.next_timer_s == DEADLINE_S - MARGIN_S / 2
    made.held = WHOLE
    assert made.next_timer_s == DEADLINE_S - MARGIN_S
    made.held = FAILED
    assert made.next_timer_s == DEADLINE_S - MARGIN_S / 2
    made.job.request.deadline_s += 5.0
    assert made.next_timer_s == DEADLINE_S + 5.0 - MARGIN_S / 2, 'a deadline may move'
