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

"""The order of waiting goals and their chances: pure, on instants that the tests choose."""
import random

import pytest

from timebill_ros.codes import ErrorCode, FinishReason, Phase, Strategy, Verdict
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.schedule import (
    Blocking,
    ServiceTimes,
    blocked_by,
    chances,
    last_start_s,
    order,
    preempts,
    urgency,
)
from timebill_ros.dispatch.seen_prompts import CHARACTERS
from timebill_ros.request import Outcome, Plan, Request, Timing

MARGIN_S = 0.1


def request(deadline_s=10.0, priority=0, characters=100, **fields):
    return Request('id', 0.0, deadline_s, prompt='x' * characters, priority=priority, delivery_margin_s=MARGIN_S,
                   **fields)


def learned():
    """10 to 30 characters in a token, 2 s of decoding; a token takes 0.1 s to read, up to 100 tokens."""
    times = ServiceTimes()
    times.prefill = [(0, 0.0), (10, 1.0), (100, 10.0)]
    for tokens in (10, 20, 30):
        times.observe(request(characters=100), Outcome(finish_reason=FinishReason.EOS, timing=Timing(
            prompt_tokens=tokens, decode_s=2.0)))
    return times


def test_edf_with_the_priority_as_first_key():
    rng = random.Random(1)
    jobs = [Job(request(rng.choice([1.0, 2.0, 3.0]), rng.choice([0, 5, 255]))) for _ in range(40)]
    edf = order(jobs, 'edf')
    keys = [(-job.request.priority, job.request.deadline_s, jobs.index(job)) for job in edf]
    assert keys == sorted(keys)  # ties in the order they came in
    assert order(jobs, 'fcfs') == jobs


@pytest.mark.parametrize(('new', 'running', 'by_priority', 'by_deadline'), [
    (request(5.0), request(10.0), False, True),
    (request(10.0), request(10.0), False, False),
    (request(20.0, 1), request(10.0), True, True),
    (request(5.0, 0), request(10.0, 1), False, False),
])
def test_what_preempts(new, running, by_priority, by_deadline):
    assert [preempts(new, running, mode) for mode in ('never', 'priority', 'deadline')] == [
        False, by_priority, by_deadline]


def test_nothing_is_expected_of_goals_while_none_has_finished():
    times = ServiceTimes()
    times.prefill = [(0, 0.0), (10, 1.0)]
    times.observe(request(), Outcome(ErrorCode.UNKNOWN, 'why', '', FinishReason.ERROR))  # never got so far
    assert (times.least_s(request()), times.usual_s(request())) == (0.0, 0.0)


@pytest.mark.parametrize(('characters', 'least_s', 'usual_s'), [
    (100, 0.5, 2.0 + 2.0), (50, 0.25, 1.0 + 2.0), (400, 2.0, 8.0 + 2.0), (10_000, 10.0, 10.0 + 2.0), (0, 0.0, 2.0)])
def test_service_times_follow_the_profile_and_finished_goals(characters, least_s, usual_s):
    times = learned()
    assert times.least_s(request(characters=characters)) == pytest.approx(least_s)
    assert times.usual_s(request(characters=characters)) == pytest.approx(usual_s)


def test_what_a_template_writes_around_short_messages_is_not_taken_for_their_text():
    def chat(characters):
        return Request('id', 0.0, 10.0, messages=[{'role': 'user', 'content': 'x' * characters}])

    times = ServiceTimes()
    times.ready({'prefill': [(0, 0.0), (1000, 100.0)], 'costs': {'template_tokens': 30, 'message_tokens': 4}})
    assert times.needed_s(chat(40), complete=True) == 0.0, 'nothing is known'
    times.observe(chat(40), Outcome(finish_reason=FinishReason.EOS, timing=Timing(prompt_tokens=40, decode_s=2.0)))
    assert times.usual_s(chat(40)) == pytest.approx(4.0 + 2.0)
    assert times.least_s(chat(2000)) == pytest.approx(0.5 * 50.0)
    assert times.usual_s(chat(2000)) == pytest.approx(50.0 + 3.0 + 2.0)
    assert times.needed_s(chat(2000), complete=False) == pytest.approx(50.0 + 3.0)
    assert times.usual_s(request(characters=2000)) == pytest.approx(50.0 + 2.0)


def test_a_cut_answer_says_nothing_of_lengths():
    times = learned()
    times.observe(request(), Outcome(text='cut', finish_reason=FinishReason.DEADLINE,
                                     timing=Timing(prompt_tokens=20, decode_s=.1)))
    assert times.usual_s(request()) == pytest.approx(4.0)


def test_old_goals_are_forgotten():
    times = learned()
    for _ in range(ServiceTimes.window):
        times.observe(request(), Outcome(finish_reason=FinishReason.EOS, timing=Timing(prompt_tokens=80, decode_s=1.0)))
    assert times.least_s(request()) == pytest.approx(4.0)


def free_at(least_s, expected_s=None, worst_s=None):
    return Blocking(least_s, least_s if expected_s is None else expected_s, least_s if worst_s is None else worst_s)


@pytest.mark.parametrize(('blocking', 'verdict', 'hopeless'), [
    (free_at(0.0), Verdict.UNKNOWN, False),
    (free_at(0.0, 5.0, 8.8), Verdict.UNKNOWN, False),
    (free_at(0.0, 5.0, 9.0), Verdict.AT_RISK, False),
    (free_at(0.0, 9.0, 20.0), Verdict.INFEASIBLE, False),
    (free_at(8.9), Verdict.INFEASIBLE, True),
    (free_at(20.0), Verdict.INFEASIBLE, True),
])
def test_chances_count_what_blocks_and_the_reading_of_the_prompt(blocking, verdict, hopeless):
    # Due at 10, less 0.1 for delivery and 1 for reading.
    [(_, chance)] = chances([Job(request(characters=200))], blocking, learned(), lambda request: False)
    assert (chance.verdict if not hopeless else Verdict.INFEASIBLE, chance.hopeless) == (verdict, hopeless)


@pytest.mark.parametrize(('drops', 'second'), [(True, Verdict.UNKNOWN), (False, Verdict.INFEASIBLE)])
def test_goals_ahead_block_too_unless_they_are_dropped(drops, second):
    # The first cannot make it once the worker is free, but would last until 4.7 s all the same.
    jobs = [Job(request(4.5 - MARGIN_S, max_overrun_s=0.35, strategy=Strategy.SKIP_NEXT)), Job(request(4.8))]
    found = [chance.verdict for _, chance in chances(jobs, free_at(0.0, 4.0, 4.0), learned(), lambda request: drops)]
    assert found == [Verdict.INFEASIBLE, second]


def test_a_goal_ahead_blocks_no_longer_than_it_can_last_itself():
    jobs = [Job(request(6.0)), Job(request(7.0))]  # the usual time is 2 + 2 s, and the first has 1.95 s
    (_, first), (_, second) = chances(jobs, free_at(0.0, 4.0, 4.5), learned(), lambda request: False)
    assert (first.verdict, first.starts_s) == (Verdict.UNKNOWN, 4.0)
    assert (second.verdict, second.starts_s) == (Verdict.UNKNOWN, pytest.approx(5.95))


def test_a_goal_that_gave_way_and_goes_on_behind_others_lasts_no_longer_than_its_time_either():
    aside = Job(request(8.0), plan=Plan(Verdict.UNKNOWN, decode_expected_s=4.0, decode_wcet_s=5.0))
    aside.give_way(0.0)
    jobs = [Job(request(20.0, 9)), aside, Job(request(9.5))]  # the first takes from 1 to 5
    (_, first), (_, last) = chances(jobs, free_at(0.0, 1.0, 1.5), learned(), lambda request: False)
    assert first.starts_s == 1.0
    assert (last.verdict, last.starts_s) == (Verdict.UNKNOWN, pytest.approx(7.95))


def test_last_start():
    assert last_start_s(request(), learned()) == pytest.approx(10.0 - 0.1 - 0.5)


def test_strategies_do_not_change_the_order():
    assert urgency(request(strategy=Strategy.KILL)) == urgency(request(strategy=Strategy.SKIP_NEXT))


@pytest.mark.parametrize(('plan', 'expected_s', 'worst_s'), [
    (None, 4.0, 9.95),  # 4 s usually, of which 1 s has passed; at the latest it ends at its guard
    (Plan(Verdict.UNKNOWN, decode_expected_s=5.0, decode_wcet_s=6.0), 6.0, 7.0),
    (Plan(Verdict.UNKNOWN, decode_expected_s=0.5, decode_wcet_s=50.0), 1.5, 9.95),
])
def test_the_running_goal_blocks_until_it_is_expected_to_end(plan, expected_s, worst_s):
    running = Job(request())
    running.phase, running.plan, running.planned_s = Phase.PREFILL, plan, 1.0
    blocking = blocked_by(running, 1.0, learned())
    assert (blocking.least_s, blocking.expected_s, blocking.worst_s) == (1.0, pytest.approx(expected_s), worst_s)


@pytest.mark.parametrize(('expected_s', 'frees_s'), [(0.5, 4.0), (5.0, 6.0)])
def test_a_goal_that_thinks_may_do_so_until_its_guard(expected_s, frees_s):
    """As long as goals usually take, unless its answer alone is planned to take longer."""
    running = Job(request())
    running.plan, running.planned_s = Plan(Verdict.UNKNOWN, decode_expected_s=expected_s, decode_wcet_s=6.0), 1.0
    running.phase, running.thinks = Phase.DECODE, True
    blocking = blocked_by(running, 1.0, learned())
    assert (blocking.least_s, blocking.expected_s, blocking.worst_s) == (1.0, pytest.approx(frees_s), 9.95)


# -- prompts that begin like earlier ones ----------------------------------------------------------------------------

READY = {'prefill': [(0, 0.0), (1000, 100.0)], 'reuses': True}  # a token takes 0.1 s to read
N = 4 * CHARACTERS


def ended(reused):
    return Outcome(finish_reason=FinishReason.EOS, timing=Timing(
        prompt_tokens=N // 4, kept_tokens=N // 4, reused_tokens=reused, decode_s=2.0))


def test_what_is_known_of_a_prompt_counts_once_it_was_seen_to_be_reused():
    times, other = ServiceTimes(), Request('o', 0.0, 10.0, prompt='y' * N)
    times.ready(READY)
    times.observe(request(characters=N), ended(reused=0))  # four characters in a token
    whole = N / 4 * 0.1
    assert times.usual_s(request(characters=N)) == pytest.approx(whole + 2.0)  # nothing was seen to be reused
    assert times.least_s(request(characters=N)) == 0.0
    assert times.least_s(request(characters=N + 400)) == pytest.approx(0.5 * 100 * 0.1)  # only what is new
    times.observe(request(characters=N), ended(reused=N // 8))  # half of it
    assert times.usual_s(request(characters=N)) == pytest.approx(whole / 2 + 2.0)
    assert times.needed_s(request(characters=N), complete=False) == pytest.approx(whole / 2)
    assert times.usual_s(other) == pytest.approx(whole + 2.0) and times.least_s(other) == pytest.approx(whole / 2)
    times.ready(READY)  # a new worker has read nothing
    assert times.least_s(request(characters=N)) == pytest.approx(whole / 2)


def test_a_prompt_that_was_read_ahead_or_is_pinned_takes_no_time_at_least():
    times = ServiceTimes()
    times.ready(READY)
    times.observe(Request('o', 0.0, 10.0, prompt='y' * N), ended(reused=0))
    assert times.least_s(request(characters=N)) == pytest.approx(N / 8 * 0.1)
    times.prepared(request(characters=N))
    assert times.least_s(request(characters=N)) == 0.0
    times.ready({**READY, 'pinned_characters': N // 2})
    assert times.least_s(request(characters=N)) == pytest.approx(N / 16 * 0.1)


def test_a_worker_that_reuses_nothing_reads_every_prompt():
    times = ServiceTimes()
    times.ready({**READY, 'reuses': False})
    for _ in range(2):
        times.observe(request(characters=N), ended(reused=0))
    assert times.least_s(request(characters=N)) == pytest.approx(N / 8 * 0.1)
