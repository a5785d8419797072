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

"""Goals that give way to more urgent ones, over real DDS: they go on where they stopped, or end with what they have."""
from __future__ import annotations

import pytest
from node_client import ABORTED, CANCELED, SUCCEEDED, Result, hot, make_goal, wait_until
from node_process import NodeProcess
from scripted_model import LONG

from timebill_ros.action import Generate
from timebill_ros.msg import RequestStatus
from timebill_ros.tasks import site_log

KILL, TRUNCATE = Generate.Goal.STRATEGY_KILL, Generate.Goal.STRATEGY_TRUNCATE
QUEUED, PREFILL, DECODE = RequestStatus.PHASE_QUEUED, RequestStatus.PHASE_PREFILL, RequestStatus.PHASE_DECODE
N_TOKENS = 800
URGENT = {'prompt': 'one', 'priority': 1}


def without_repeats(phases):
    return [phase for i, phase in enumerate(phases) if i == 0 or phase != phases[i - 1]]


def interrupted(node, goal, *, at_text=(), in_prefill=False):
    """Send a goal, and a short one of higher priority each time that it has so many characters of text.

    Return (what was sent, its result, results of the others).
    """
    others = []
    with node.another_client() as client:
        sent = node.send(goal)
        if in_prefill:
            node.wait_for_phase(sent, PREFILL)
            others.append(client.ask(make_goal(**URGENT))[1])
        for length in at_text:
            wait_until(lambda length=length: len(sent.text) >= length)
            others.append(client.ask(make_goal(**URGENT))[1])
    status, result = sent.result()
    assert status == SUCCEEDED, result.error_msg
    wait_until(lambda: len(sent.text) >= len(result.text))  # feedback and results come over topics of their own
    return sent, result, others


@pytest.mark.parametrize('sampling', [{}, {'sampling': hot(seed=5)}], ids=['greedy', 'sampled'])
def test_a_goal_that_is_interrupted_twice_gives_the_answer_that_it_gives_undisturbed(node, changed, sampling):
    changed('preempt', 'priority', 'never')
    undisturbed = node.ask(make_goal(max_new_tokens=N_TOKENS, **sampling))[1]
    assert (undisturbed.timing.preemptions, undisturbed.timing.paused_s) == (0, 0.0)
    sent, result, others = interrupted(node, make_goal(max_new_tokens=N_TOKENS, **sampling), at_text=(60, 400))
    assert [(other.text, other.error_code) for other in others] == [('two three', Result.NONE)] * 2
    assert result.text == undisturbed.text == sent.text, 'the pieces add up to the result'
    timing = result.timing
    assert timing.preemptions == 2 and timing.generated_tokens == N_TOKENS and timing.tardiness_s == 0.0
    assert 0 < timing.paused_s < timing.response_time_s - timing.decode_s - timing.prefill_s
    node.wait_for_phase(sent, RequestStatus.PHASE_DONE)
    assert without_repeats(node.phases(sent)) == [QUEUED, PREFILL, DECODE, QUEUED, DECODE, QUEUED, DECODE,
                                                  RequestStatus.PHASE_DONE]


def test_a_goal_whose_prompt_is_being_read_gives_way(node, changed):
    changed('preempt', 'priority', 'never')
    goal = make_goal(prompt='w3 w1 w2 w4 ' * 2500, max_new_tokens=40, sampling=hot(seed=5))
    sent, result, (other,) = interrupted(node, goal, in_prefill=True)
    assert (other.text, result.timing.preemptions) == ('two three', 1)
    assert without_repeats(node.phases(sent))[:4] == [QUEUED, PREFILL, QUEUED, PREFILL]
    # What was read then is known by now, which changes no answer.
    assert node.ask(goal)[1].text == result.text == sent.text


@pytest.mark.parametrize('strategy, keeps', [(KILL, False), (TRUNCATE, True)])
def test_a_goal_that_cannot_go_on_in_time_ends_preempted(node, changed, strategy, keeps):
    changed('preempt', 'priority', 'never')
    running = node.send(make_goal(budget_s=4.0, max_new_tokens=LONG, overrun_strategy=strategy))
    wait_until(lambda: running.text)
    with node.another_client() as other:
        urgent = other.send(make_goal(priority=1, max_new_tokens=LONG))
        status, result = running.result()
        assert (status, result.error_code, result.finish_reason) == (ABORTED, Result.PREEMPTED, Result.FINISH_ERROR)
        assert urgent.id in result.error_msg and bool(result.text) == keeps
        assert result.timing.response_time_s < 4.0
        wait_until(lambda: urgent.text)
        urgent.cancel()
        assert urgent.result()[0] == CANCELED
    assert node.ask(make_goal('one'))[1].text == 'two three'


def test_a_goal_that_has_given_way_can_be_canceled(node, changed):
    changed('preempt', 'priority', 'never')
    running = node.send(make_goal(max_new_tokens=LONG))
    wait_until(lambda: running.text)
    with node.another_client() as other:
        urgent = other.send(make_goal(priority=1, max_new_tokens=N_TOKENS))
        wait_until(lambda: node.phases(running)[-1:] == [QUEUED])
        running.cancel()
        status, result = running.result()
        assert (status, result.error_code) == (CANCELED, Result.CANCELED) and result.text == running.text != ''
        assert result.timing.preemptions == 1
        assert urgent.arrived_s is None, 'it has its result before the other one'
        assert urgent.result()[1].timing.generated_tokens == N_TOKENS
    assert node.ask(make_goal('one'))[1].text == 'two three'


def test_goals_give_way_inside_of_one_another(node, changed):
    changed('preempt', 'priority', 'never')
    goals = [dict(max_new_tokens=N_TOKENS // 2, sampling=hot(seed=priority + 1)) for priority in range(3)]
    undisturbed = [node.ask(make_goal(**goal))[1].text for goal in goals]
    sent = []
    for priority, goal in enumerate(goals):
        sent.append(node.send(make_goal(priority=priority, **goal)))
        wait_until(lambda: sent[-1].text)
    results = [goal.result() for goal in sent]
    assert [result.text for _, result in results] == undisturbed
    assert [result.timing.preemptions for _, result in results] == [1, 1, 0]
    arrivals = [goal.arrived_s for goal in sent]
    assert arrivals == sorted(arrivals, reverse=True)


def test_a_node_whose_goals_have_given_way_inside_of_one_another_still_hears(node, changed):
    """Each goal that has begun has a thread that publishes its text, one that has given way too."""
    changed('preempt', 'priority', 'never')
    sent = []
    for priority in range(7):
        sent.append(node.send(make_goal(priority=priority, max_new_tokens=LONG)))
        wait_until(lambda: sent[-1].text)
    for goal in reversed(sent):
        goal.cancel()
        assert goal.result()[0] == CANCELED
    assert [goal.result()[1].timing.preemptions for goal in sent] == [1] * 6 + [0]


@pytest.mark.slow
def test_the_embedded_model_goes_on_with_compiled_steps():
    """A long goal gives way while its prompt is read and while it is answered, and is undisturbed afterwards."""
    def goal(number, n_tokens, **sampling):
        log = site_log.generate(number, split='test', n_tokens=n_tokens).messages[-1]['content']
        return make_goal(log, max_new_tokens=1500, **sampling)

    with NodeProcess(model='embedded', profile='', compile_step='auto', self_profile_s=3.0, prefill_chunk_tokens=0,
                     feedback_rate=50.0, preempt='priority') as node:
        node.start()
        # An answer that is drawn nearly at random ends by chance, wherever its prompt is from.
        lengths = (node.ask(goal(0, 100, sampling=hot(seed)))[1].timing.generated_tokens for seed in range(1, 200))
        long = next(seed for seed, length in enumerate(lengths, 1) if length > 700)
        for number, asked in ((1, dict(sampling=hot(long))), (2, {})):
            sent, result, others = interrupted(node, goal(number, 6000, **asked), in_prefill=True,
                                               at_text=(1,) if asked else ())
            assert not any(other.error_code for other in others)
            undisturbed = node.ask(goal(number, 6000, **asked))[1]
            assert result.text == undisturbed.text == sent.text and undisturbed.timing.preemptions == 0
            assert result.timing.preemptions == len(others) and result.timing.tardiness_s == 0.0
