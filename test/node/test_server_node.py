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

"""Goals over real DDS: what a client of a running node gets back."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest
from builtin_interfaces.msg import Time
from node_client import ABORTED, CANCELED, SUCCEEDED, Result, duration, make_goal, wait_until
from node_process import NodeProcess
from scripted_model import LONG, ROOT, STEP_S

from timebill_ros.action import Generate
from timebill_ros.msg import ChatMessage, RequestStatus, SamplingConfig, Timing
from timebill_ros.srv import EstimateTime

KILL, SKIP_NEXT, TRUNCATE = (Generate.Goal.STRATEGY_KILL, Generate.Goal.STRATEGY_SKIP_NEXT,
                             Generate.Goal.STRATEGY_TRUNCATE)
LONG_PROMPT = ' '.join(f'w{i % 40}' for i in range(12000))


@pytest.fixture(scope='module')
def node():
    with NodeProcess() as node:
        yield node.start()


@pytest.fixture
def changed(node):
    """Changes parameters of the node for one test."""
    before = {}

    def change(name, value, default):
        before[name] = default
        result = node.set_parameter(name, value)
        assert result.successful, result.reason

    yield change
    for name, default in before.items():
        assert node.set_parameter(name, default).successful


def hot(seed: int = 0, **fields) -> SamplingConfig:
    """Sampling that draws nearly at random from the vocabulary."""
    return SamplingConfig(temperature=20.0, seed=seed, **fields)


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
    assert 255 * STEP_S <= timing.wcet_s < 30.0


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
    assert (planned.verdict, planned.predicted_tokens) == (Timing.VERDICT_FITS, 20)
    assert planned.slack_s > 0 and planned.predicted_finish.sec > 0
    assert planned.predicted_finish.sec <= planned.deadline.sec
    assert (done.finish_reason, done.generated_tokens, done.overrun) == (Result.FINISH_LENGTH, 20, False)
    assert done.response_time_s > 0 and done.tardiness_s == 0
    assert abs(done.header.stamp.sec - time.time()) < 60


def test_truncate_succeeds_at_the_deadline_with_text(node):
    sent = node.send(make_goal(budget_s=1.5, max_new_tokens=LONG, overrun_strategy=TRUNCATE))
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_DEADLINE)
    assert result.text and 0 < result.timing.generated_tokens < LONG
    assert result.timing.tardiness_s == 0 and result.timing.response_time_s <= 1.5
    assert result.timing.verdict == Timing.VERDICT_INFEASIBLE  # no predictor: all LONG tokens are expected
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert [message.overrun for message in node.statuses if message.request_id == sent.id][-1]


def test_kill_aborts_at_the_deadline_without_text(node):
    sent = node.send(make_goal(budget_s=1.0, max_new_tokens=LONG, overrun_strategy=KILL))
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (ABORTED, Result.TIMEOUT, Result.FINISH_DEADLINE)
    assert result.text == '' and '1.000 s' in result.error_msg
    assert result.timing.tardiness_s == 0 and result.timing.response_time_s <= 1.0


@pytest.mark.parametrize('strategy', [KILL, TRUNCATE])
def test_a_prompt_whose_prefill_cannot_fit_is_infeasible_at_once(node, strategy):
    # By the profile its prefill takes 2.4 s.
    sent = node.send(make_goal(LONG_PROMPT, 1.5, overrun_strategy=strategy))
    status, result = sent.result()
    assert (status, result.error_code, result.text) == (ABORTED, Result.INFEASIBLE, '')
    assert '12000 tokens' in result.error_msg and '1.500 s' in result.error_msg
    assert result.timing.response_time_s < 1.5 and result.timing.verdict == Timing.VERDICT_INFEASIBLE


@pytest.mark.parametrize('budget_s', [1e-9, 0.001, 0.03])
def test_a_budget_below_the_delivery_margin_ends_with_a_code(node, budget_s):
    status, result = node.ask(make_goal(budget_s=budget_s))
    assert (status, result.text) == (ABORTED, '')
    assert result.error_code in (Result.INFEASIBLE, Result.TIMEOUT) and result.error_msg


def test_waiting_counts_against_the_budget(node):
    first = node.send(make_goal(budget_s=2.5, max_new_tokens=LONG))
    second = node.send(make_goal(budget_s=1.0, max_new_tokens=5))
    status, result = second.result()
    assert (status, result.error_code) == (ABORTED, Result.INFEASIBLE)  # when its prompt could not be read any more
    assert 0.5 < result.timing.queue_s < 1.0 and result.timing.tardiness_s == 0
    assert first.arrived_s is None
    assert first.result()[0] == SUCCEEDED


def test_goals_of_two_clients_and_equal_urgency_run_first_come_first_served(node):
    with node.another_client() as other:
        sent = [client.send(make_goal(max_new_tokens=1000)) for client in (node, other, node, other)]
        results = [goal.result() for goal in sent]
    assert [status for status, _ in results] == [SUCCEEDED] * 4
    for goal in sent:
        node.wait_for_phase(goal, RequestStatus.PHASE_DONE)
    started = [message.request_id for message in node.statuses if message.phase == RequestStatus.PHASE_DECODE]
    assert started[-4:] == [goal.id for goal in sent]
    waits = [result.timing.queue_s for _, result in results]
    assert waits == sorted(waits)


def test_a_late_goal_under_skip_next_is_completed_and_those_released_meanwhile_are_skipped(node):
    sent = node.send(make_goal(budget_s=0.5, max_new_tokens=3000, overrun_strategy=SKIP_NEXT))
    wait_until(lambda: any(message.overrun for message in node.statuses if message.request_id == sent.id))
    skipped = [node.send(make_goal('one', overrun_strategy=strategy)) for strategy in (SKIP_NEXT, TRUNCATE)]
    for goal in skipped:
        status, result = goal.result()
        assert (status, result.error_code, result.finish_reason) == (ABORTED, Result.SKIPPED, Result.FINISH_SKIPPED)
        assert sent.id in result.error_msg and result.text == ''
    status, result = sent.result()
    assert (status, result.error_code, result.finish_reason) == (SUCCEEDED, Result.NONE, Result.FINISH_LENGTH)
    assert result.timing.generated_tokens == 3000
    assert result.timing.tardiness_s == pytest.approx(result.timing.response_time_s - 0.5) and result.error_msg == ''
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    node.wait_for_phase(skipped[0], RequestStatus.PHASE_SKIPPED)
    last = [message for message in node.statuses if message.request_id == sent.id][-1]
    assert last.overrun and last.tardiness_s > 0
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


def test_the_earliest_deadline_goes_first_and_a_higher_priority_before_it(node):
    running = node.send(make_goal(max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    sent = [node.send(make_goal('one', budget_s, priority=priority)) for budget_s, priority in (
        (50.0, 0), (40.0, 0), (60.0, 3))]
    running.cancel()
    for goal in sent:
        assert goal.result()[0] == SUCCEEDED
        node.wait_for_phase(goal, RequestStatus.PHASE_DONE)
    started = [message.request_id for message in node.statuses if message.phase == RequestStatus.PHASE_DECODE]
    assert started[-3:] == [sent[i].id for i in (2, 1, 0)]


@pytest.mark.parametrize('strategy, keeps', [(KILL, False), (TRUNCATE, True)])
def test_a_more_urgent_goal_preempts_where_that_is_asked_for(node, changed, strategy, keeps):
    changed('preempt', 'priority', 'never')
    running = node.send(make_goal(max_new_tokens=LONG, overrun_strategy=strategy))
    wait_until(lambda: running.text)
    with node.another_client() as other:
        urgent = other.send(make_goal('one', priority=1))
        status, result = running.result()
        assert (status, result.error_code, result.finish_reason) == (ABORTED, Result.PREEMPTED, Result.FINISH_ERROR)
        assert urgent.id in result.error_msg and bool(result.text) == keeps
        assert urgent.result()[1].text == 'two three'


def test_messages_go_through_the_chat_template(node):
    # <|im_start|> user w1 w2 <|im_end|> <|im_start|> assistant
    _, result = node.ask(make_goal('', messages=[ChatMessage(role='user', content='w1 w2')], max_new_tokens=3))
    assert (result.error_code, result.timing.prompt_tokens) == (Result.NONE, 7)


def test_messages_are_used_instead_of_the_prompt(node):
    _, result = node.ask(make_goal('w1 ' * 100, messages=[ChatMessage(role='user', content='w1')], max_new_tokens=3))
    assert (result.error_code, result.timing.prompt_tokens) == (Result.NONE, 6)


def test_the_same_seed_gives_the_same_text(node):
    texts = [node.ask(make_goal(max_new_tokens=40, sampling=hot(seed)))[1].text for seed in (7, 7, 8, 2 ** 64 - 1)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[3]


def test_a_stop_string_ends_the_text_and_is_left_out(node):
    _, whole = node.ask(make_goal(max_new_tokens=40, sampling=hot()))
    word = next(word for word in whole.text.split(' ') if word.startswith('w') and not whole.text.startswith(word))
    sent = node.send(make_goal(max_new_tokens=40, sampling=hot(stop=['never', word])))
    status, result = sent.result()
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_STOP)
    assert result.text == whole.text[:whole.text.index(word)]
    wait_until(lambda: sent.text == result.text, 5.0, 'the deltas do not make up the text')


def test_max_new_tokens_is_a_natural_end(node):
    status, result = node.ask(make_goal(max_new_tokens=7))
    assert (status, result.finish_reason, result.timing.generated_tokens) == (SUCCEEDED, Result.FINISH_LENGTH, 7)


def test_the_servers_length_applies_where_the_goal_has_none(node, changed):
    changed('default_max_new_tokens', 9, 256)
    assert node.ask(make_goal())[1].timing.generated_tokens == 9


def ros_time(seconds: float) -> Time:
    return Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))


def test_an_absolute_deadline_in_ros_time(node):
    sent = node.send(make_goal(budget_s=None, deadline=ros_time(time.time() + 1.5), max_new_tokens=LONG))
    status, result = sent.result()
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_DEADLINE)
    assert 0.5 < result.timing.time_budget_s <= 1.5 and result.timing.tardiness_s == 0


@pytest.mark.parametrize('deadline_s, budget_s, low, high', [(30.0, 20.0, 19.9, 20.1), (20.0, 30.0, 10.0, 20.0)])
def test_with_budget_and_deadline_the_earlier_counts(node, deadline_s, budget_s, low, high):
    goal = make_goal('one', budget_s, deadline=ros_time(time.time() + deadline_s))
    assert low < node.ask(goal)[1].timing.time_budget_s <= high


def test_default_time_budget(node, changed):
    changed('default_time_budget_s', 12.5, 0.0)
    status, result = node.ask(make_goal('one', None))
    assert (status, result.timing.time_budget_s) == (SUCCEEDED, pytest.approx(12.5))


@pytest.mark.parametrize('strategy, status', [('kill', ABORTED), ('truncate', SUCCEEDED),
                                              ('skip_next', SUCCEEDED)])
def test_default_overrun_strategy(node, changed, strategy, status):
    changed('default_overrun_strategy', strategy, 'truncate')
    ended, result = node.ask(make_goal(budget_s=0.6, max_new_tokens=2000))
    assert ended == status and (result.timing.tardiness_s > 0) == (strategy == 'skip_next')


def test_closing_text_and_line_end_make_a_truncated_answer_usable(node):
    goal = make_goal(budget_s=1.2, max_new_tokens=LONG, sampling=hot(), stop_at_line_end=True, closing_text='THE END')
    status, result = node.ask(goal)
    assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_DEADLINE)
    assert result.text.endswith('\nTHE END')


def test_closing_text_is_for_truncated_answers_only(node):
    assert node.ask(make_goal('one', closing_text='THE END'))[1].text == 'two three'


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


def test_one_goal_more_than_the_queue_takes_is_told_busy(node, changed):
    changed('queue_size', 2, 32)
    running = node.send(make_goal(max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    waiting = [node.send(make_goal(max_new_tokens=5)) for _ in range(2)]
    status, result = node.ask(make_goal())
    assert (status, result.error_code) == (ABORTED, Result.BUSY)
    assert 'queue_size' in result.error_msg
    running.cancel()
    assert [goal.result()[0] for goal in waiting] == [SUCCEEDED] * 2


def test_without_a_queue_one_goal_at_a_time_is_served(node, changed):
    changed('queue_size', 0, 32)
    running = node.send(make_goal(max_new_tokens=LONG))
    assert node.ask(make_goal())[1].error_code == Result.BUSY
    running.cancel()
    assert running.result()[0] == CANCELED
    assert node.ask(make_goal('one'))[0] == SUCCEEDED


def test_estimate(node):
    answer = node.call(EstimateTime, prompt='w1 ' * 999 + 'w1', time_budget=duration(20.0), max_new_tokens=101)
    assert (answer.error_code, answer.verdict) == (Result.NONE, Timing.VERDICT_FITS)
    assert (answer.predicted_tokens, answer.pessimistic_tokens) == (101, 101)
    assert answer.wcet_without_eviction_s == answer.wcet_with_eviction_s == pytest.approx(0.2 + 0.1, abs=0.01)
    assert answer.eviction_ratio == 0


@pytest.mark.parametrize('budget_s, verdict', [
    (0.0, Timing.VERDICT_UNKNOWN), (5.0, Timing.VERDICT_FITS), (0.9, Timing.VERDICT_INFEASIBLE)])
def test_estimate_for_a_budget(node, budget_s, verdict):
    answer = node.call(EstimateTime, messages=[ChatMessage(role='user', content='w1')], time_budget=duration(budget_s),
                       max_new_tokens=1000)
    assert (answer.error_code, answer.error_msg, answer.verdict) == (Result.NONE, '', verdict)


@pytest.mark.parametrize('fields, code, words', [
    ({}, Result.INVALID_GOAL, 'empty'),
    ({'prompt': 'w1', 'time_budget': duration(-1.0)}, Result.INVALID_GOAL, '-1.0'),
    ({'prompt': 'w1 ' * 20000}, Result.PROMPT_TOO_LONG, '20000'),
])
def test_estimate_of_what_cannot_run(node, fields, code, words):
    answer = node.call(EstimateTime, **fields)
    assert answer.error_code == code and words in answer.error_msg
    assert answer.verdict == Timing.VERDICT_UNKNOWN and answer.wcet_with_eviction_s != answer.wcet_with_eviction_s


def test_estimate_is_busy_while_a_goal_runs(node):
    running = node.send(make_goal(max_new_tokens=LONG))
    node.wait_for_phase(running, RequestStatus.PHASE_DECODE)
    answer = node.call(EstimateTime, prompt='w1')
    assert answer.error_code == Result.BUSY and answer.error_msg
    running.cancel()
    assert running.result()[0] == CANCELED


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
