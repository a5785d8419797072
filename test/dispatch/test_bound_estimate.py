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

"""Estimates that the node makes while the worker is busy: as the planner would, with a token bound and the queue."""
import json
import random
import unicodedata

import pytest
from fake_worker import MARGIN_S, READY, START_S, Harness

from timebill_ros.codes import Part, Thinking, Verdict
from timebill_ros.dispatch import bound_estimate
from timebill_ros.dispatch.bound_estimate import Costs, Table, Waiting, _written, estimate
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import FixedFactor
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Bounds, Situation
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.request import Request, Sampling
from timebill_ros.timing.execution_time import ExecutionTimes

NONE = Waiting(0.0, 0.0)
CONTEXT, WINDOW = 4096, 32
TIMES = ExecutionTimes(a=0.0, b=1e-4, c=1e-3, p=2e-6, q=2e-3, bend=3e-6, knee=500, e_1=1e-6, e_0=1e-3)


def costs(**changed):
    counts = [0, TIMES.knee, CONTEXT]
    return Costs({'prefill': [(n, TIMES.prefill(n)) for n in counts], 'step': [(n, TIMES.step(n)) for n in counts],
                  'eviction': [(n, TIMES.eviction(n)) for n in counts], 'draws': {'top_p': 0.5}, 'window': WINDOW,
                  'min_kept': 1, 'max_ratio': 1.0, 'max_context': CONTEXT, 'template_tokens': 0, 'message_tokens': 0,
                  **changed})


def goal(budget_s=10.0, n=100, **fields):
    return Request('asked', 0.0, budget_s, prompt='x' * n, delivery_margin_s=0.0, **fields)


@pytest.mark.parametrize('points', [[(0, 1.0), (10, 1.0)], [(0, 0.0), (3, 6.0), (10, 6.5)]])
def test_a_table(points):
    table = Table(points)
    for n in range(30):
        assert table.sum_below(n) == pytest.approx(sum(table(i) for i in range(n)))
    assert [table(x) for x, _ in points] == [y for _, y in points]


@pytest.mark.parametrize('points', [[], [(0, 1.0)], [(1, 1.0), (2, 1.0)], [(0, 1.0), (5, 1.0), (5, 2.0)]])
def test_a_table_that_cannot_be(points):
    with pytest.raises(ValueError, match='counts'):
        Table(points)


@pytest.mark.parametrize('seed', range(40))
def test_it_agrees_with_the_planner(seed):
    """Where the bound on tokens is exact: the same verdict, eviction and times."""
    rng = random.Random(seed)
    n_x, budget_s = rng.choice([8, 100, 700, 2000]), rng.choice([0.3, 1.0, 3.0, 6.0]) * rng.uniform(0.5, 1.5)
    request = goal(budget_s, n_x, max_new_tokens=rng.choice([50, 400, 2000]), max_eviction_ratio=rng.choice([0.0, 0.9]))
    factor, caution, reserve_s = rng.uniform(0.9, 2.0), rng.choice([1.0, 1.3]), rng.choice([0.0, 0.02])
    distribution = LengthDistribution.point(rng.choice([32, 320]))
    n_max = request.max_new_tokens
    made = estimate(request, costs(), {
        'timing_factor': factor, 'time_bound': caution, 'reserve_s': reserve_s,
        'predicted_tokens': distribution.median(),
        'pessimistic_tokens': FixedFactor(2.0).pessimistic(distribution, CONTEXT)}, NONE)
    plan = Planner(TIMES, ['own']).plan(
        Situation(distribution, n_x, smallest_keep(n_x, request.max_eviction_ratio, WINDOW), n_max,
                  Bounds(FixedFactor(2.0), factor, caution, reserve_s)), budget_s - TIMES.prefill(n_x))
    assert (made.verdict, made.prompt_tokens) == (plan.verdict, n_x)
    assert (made.predicted_tokens, made.pessimistic_tokens) == (plan.predicted_tokens, plan.pessimistic_tokens)
    assert made.eviction_ratio == pytest.approx(plan.eviction_ratio)
    assert made.wcet_with_eviction_s == pytest.approx(TIMES.prefill(n_x) + plan.decode_wcet_s)
    assert made.is_from_bound


@pytest.mark.parametrize('seed', range(20))
def test_the_worst_case_that_is_told_agrees_with_the_planner_too(seed):
    rng = random.Random(seed)
    n_x, budget_s = rng.choice([8, 100, 700, 2000]), rng.choice([0.3, 1.0, 3.0, 6.0]) * rng.uniform(0.5, 1.5)
    request = goal(budget_s, n_x, max_new_tokens=2000, max_eviction_ratio=rng.choice([0.0, 0.9]))
    distribution = LengthDistribution.point(rng.choice([32, 320]))
    told = {'time_bound': 1.5, 'reserve_s': 0.04, 'pessimistic_tokens': 4 * distribution.median()}
    made = estimate(request, costs(), {
        'time_bound': 1.1, 'reserve_s': 0.01, 'predicted_tokens': distribution.median(),
        'pessimistic_tokens': 2 * distribution.median(), 'told': told}, NONE)
    bounds = Bounds(FixedFactor(2.0), 1.0, 1.1, 0.01, told=Bounds(FixedFactor(4.0), 1.0, 1.5, 0.04))
    n_min = smallest_keep(n_x, request.max_eviction_ratio, WINDOW)
    for least, seconds in ((n_min, made.wcet_with_eviction_s), (n_x, made.wcet_without_eviction_s)):
        plan = Planner(TIMES, ['own']).plan(Situation(distribution, n_x, least, 2000, bounds),
                                            budget_s - TIMES.prefill(n_x))
        if plan.verdict is made.verdict or least == n_min:
            assert seconds == pytest.approx(TIMES.prefill(n_x) + plan.decode_wcet_s)


@pytest.mark.parametrize('n, verdict', [(CONTEXT - 100, Verdict.FITS), (CONTEXT - 99, Verdict.AT_RISK),
                                        (50 * CONTEXT, Verdict.AT_RISK)])
def test_a_length_that_the_context_might_cut_is_not_promised(n, verdict):
    made = estimate(goal(1e6, n, max_new_tokens=100), costs(), {}, NONE)
    assert made.verdict is verdict


def test_nothing_predicts_lengths():
    """Every length is as likely then, so that half of the limit is expected, and nothing is INFEASIBLE for it."""
    made = estimate(goal(max_new_tokens=70), costs(), {}, NONE)
    assert (made.predicted_tokens, made.pessimistic_tokens) == (35, 70)
    short, none = (estimate(goal(seconds, max_new_tokens=4000), costs(), {}, NONE) for seconds in (1.0, 0.001))
    assert (short.verdict, none.verdict) == (Verdict.AT_RISK, Verdict.INFEASIBLE)


@pytest.mark.parametrize(('facts', 'n_x', 'fewest'), [
    ({}, 1000, 50), ({'min_kept': 128}, 1000, 128), ({'min_kept': 128}, 100, 100), ({'max_ratio': 0.3}, 1000, 700),
    ({'max_ratio': 0.0}, 1000, 1000), ({'window': None}, 1000, 1000)])
def test_what_the_planner_keeps_in_any_case_is_kept(facts, n_x, fewest):
    assert costs(**facts).fewest_kept(n_x, 0.95) == fewest


def test_waiting_counts_against_the_budget():
    """A promise needs room for the worst case; AT_RISK hopes for the expected wait."""
    def verdict(expected_s, worst_s):
        return estimate(goal(1.0, max_new_tokens=100), costs(), {}, Waiting(expected_s, worst_s)).verdict

    assert [verdict(0.0, 0.0), verdict(0.0, 5.0), verdict(5.0, 5.0)] == [
        Verdict.FITS, Verdict.AT_RISK, Verdict.INFEASIBLE]


def test_sampling_takes_its_time():
    greedy, sampled = (estimate(goal(max_new_tokens=11, sampling=sampling), costs(draws={kind: 0.5}), {}, NONE)
                       for sampling, kind in ((Sampling(), 'none of these'), (Sampling(), 'greedy')))
    assert sampled.wcet_without_eviction_s == pytest.approx(greedy.wcet_without_eviction_s + 10 * 0.5)


def test_each_kind_of_sampling_has_a_timing_factor_of_its_own():
    learned = {'timing_factor': 1.0, 'timing_factors': {'greedy': 1.0, 'top_p': 3.0}}
    greedy, top_p = (estimate(goal(max_new_tokens=11, sampling=sampling), costs(draws={}), learned, NONE)
                     for sampling in (Sampling(), Sampling(temperature=0.7, top_p=0.9)))
    read_s = TIMES.prefill(greedy.prompt_tokens)
    assert top_p.wcet_without_eviction_s - read_s == pytest.approx(3.0 * (greedy.wcet_without_eviction_s - read_s))


@pytest.mark.parametrize('text, least', [('abc', 3), ('\u00e4\u00f6', 4), ('\N{GRINNING FACE}', 4), ('\ufdfa', 33)])
def test_there_are_no_more_tokens_than_bytes(text, least):
    """Of the text as it is, and as a tokenizer may normalize it."""
    assert costs().token_bound(goal(n=0, messages=[{'role': 'user', 'content': text}])) == least
    assert costs(template_tokens=5, message_tokens=2).token_bound(
        goal(n=0, messages=[{'role': 'user', 'content': text}] * 2)) == 5 + 2 * 2 + 2 * least


def test_the_context_bounds_the_tokens_too():
    assert costs().token_bound(goal(n=10 ** 6)) == CONTEXT - 1


# -- forms, thinking and tools ---------------------------------------------------------------------------------------

CHOICES = ['left', 'to the right', 'k\u00fcche']
CLOSED = ('{"type": "object", "properties": {"room": {"enum": ["hall", "kitchen"]}, "go": {"type": "boolean"}}, '
          '"required": ["room"], "additionalProperties": false}')
LONGEST = len('{\n  "room": "kitchen",\n  "go": false\n}')


@pytest.mark.parametrize(('form', 'most'), [
    ({'choices': CHOICES}, len('to the right') + 1), ({'response_schema': CLOSED}, LONGEST + 1),
    ({'response_schema': '{}'}, 400), ({'regex': '[a-z]+'}, 400), ({}, 400)])
def test_the_form_bounds_the_length(form, most):
    """A token is a byte at least, and the end is one more."""
    made = estimate(goal(max_new_tokens=400, **form), costs(), {}, NONE)
    assert made.pessimistic_tokens == most and made.predicted_tokens == (most + 1) // 2
    learned = {'predicted_tokens': 90, 'pessimistic_tokens': 180}
    made = estimate(goal(max_new_tokens=400, **form), costs(), learned, NONE)
    assert (made.predicted_tokens, made.pessimistic_tokens) == (min(90, most), min(180, most))
    assert estimate(goal(max_new_tokens=3, **form), costs(), {}, NONE).pessimistic_tokens == 3


def chat(**fields):
    return goal(n=0, messages=[{'role': 'user', 'content': 'hi'}], **fields)


def test_a_thinking_section_is_counted_as_short_as_it_can_be():
    facts = {'thinks': [Thinking.DEFAULT, Thinking.ON], 'closing_tokens': 7}
    for thinking, more in ((Thinking.DEFAULT, 7), (Thinking.ON, 7), (Thinking.OFF, 0)):
        made = estimate(chat(max_new_tokens=70, thinking=thinking), costs(**facts), {}, NONE)
        assert (made.predicted_tokens, made.pessimistic_tokens) == (35 + more, 70 + more)
        assert costs(**facts).thinks(chat(thinking=thinking)) is (more > 0)
    assert not costs(**facts).thinks(goal(thinking=Thinking.DEFAULT)), 'a prompt goes through no template'
    assert not costs().thinks(chat(thinking=Thinking.DEFAULT))


def test_tools_are_a_part_of_the_prompt():
    tools = '[{"type":"function","function":{"name":"a<b","description":"\u00e9"}}]'
    bound, without = (costs(tools_tokens=9).token_bound(chat(tools=text)) for text in (tools, ''))
    assert bound >= without + 9 + len(json.dumps(json.loads(tools), indent=4)) + 5, 'as < may be escaped'
    called = [{'role': 'assistant', 'content': '', 'tool_calls': [{'id': '1', 'name': 'a', 'arguments': '{"b": [1]}'}]}]
    assert costs().token_bound(goal(n=0, messages=called)) >= len('a{"b": [1]}')


TEXTS = ['{}', '[]', '', '{"a": [1, 2, {"b": null}], "c<": "[{,\\"]"}', '[1e5, -1E+300, 1e15, 0.5, {"a": 1e999}]',
         '["\u00e9", "\\u00e9", "\N{GRINNING FACE}", "a & b > \\\\", true]', '[' * 60 + '1, ' * 30 + '1' + ']' * 60]


@pytest.mark.parametrize('text', TEXTS)
def test_json_is_counted_as_long_as_a_template_may_write_it(text):
    """Without writing it: what is indented grows with the square of its depth."""
    wordy = json.dumps(json.loads(text or '""'), indent=4) if text else ''
    least = len(wordy) + 5 * sum(map(wordy.count, "<>&'"))
    assert least <= _written(text, 10 ** 9) <= 2 * least + 60
    assert costs(max_context=10 ** 9).token_bound(chat(tools=text)) == 2 + _written(text, 10 ** 9)


def test_counting_ends_where_the_context_is_full():
    deep = '{"a": ' + '[' * 400 + ','.join(['1'] * 1500) + ']' * 400 + '}'
    assert CONTEXT <= _written(deep, CONTEXT) < CONTEXT + 2000 < _written(deep, 10 ** 9)
    for text in (deep, '[' * 4000, ']' * 4000 + '"', '"' + '\\"' * 1500):
        called = [{'role': 'assistant', 'content': '', 'tool_calls': [{'id': '', 'name': 'a', 'arguments': text}]}]
        assert costs().token_bound(goal(n=0, messages=called)) <= CONTEXT - 1


def test_what_a_request_holds_is_counted_once(monkeypatch):
    """A goal that waits may hold 100,000 calls, and each estimate asks for all goals that wait."""
    request, counted = chat(tools='[{}]'), []
    monkeypatch.setattr(bound_estimate, '_written',
                        lambda text, most: (counted.append(text), 4 if text else 0)[1])
    some = costs()
    assert some.token_bound(request) == some.token_bound(request) == 6 and counted == ['[{}]']
    assert some.token_bound(chat(tools='[{}, {}]')) == 6 and len(counted) == 2
    many = [chat(tools='{}') for _ in range(300)]
    assert {some.token_bound(one) for one in many} == {6}
    assert len(some._bounds) == bound_estimate.MOST_BOUNDS


@pytest.mark.parametrize('marks', ['\u0301\u0323', '\u0f73', '\u0344'])
def test_marks_without_end_are_not_put_in_order(marks, monkeypatch):
    """That takes a time that grows with the square of their number."""
    whole = []
    monkeypatch.setattr(bound_estimate.unicodedata, 'normalize', lambda form, text, made=unicodedata.normalize: (
        whole.append(len(text)), made(form, text))[1])
    text = 'a' + marks * 1000
    assert bound_estimate._bytes(text) >= len(text.encode()) and max(whole) == 1
    assert bound_estimate._bytes('a' + marks * 3) >= 1 + len((marks * 3).encode()) and max(whole) > 1

# -- in the dispatcher -----------------------------------------------------------------------------------------------

def asked(harness, budget_s=60.0, **fields):
    future = harness.dispatcher.estimate(harness.job(budget_s, **fields).request)
    harness.sync()
    return future.result(0)


def test_the_running_goal_and_those_before_it_are_waited_for(harness):
    running = harness.submit(50.0)
    harness.worker.plan(running, expected_s=3.0, wcet_s=7.0)
    harness.sync()
    harness.advance(1.0)
    assert asked(harness, max_new_tokens=1).waiting_s == pytest.approx(6.0), 'the rest of its worst case'
    harness.submit(40.0, max_new_tokens=11, priority=1)
    harness.submit(30.0, max_new_tokens=21)
    # Each may take 0.8 s for its prompt (at most 4 tokens) and 0.1 s for each step.
    assert asked(harness, 60.0).waiting_s == pytest.approx(6.0 + 1.8 + 2.8)
    assert asked(harness, 20.0).waiting_s == pytest.approx(6.0 + 1.8), 'one of the two is due later'
    assert asked(harness, 60.0, priority=2).waiting_s == pytest.approx(6.0), 'it goes before both'


def test_a_goal_that_thinks_may_take_all_its_time():
    harness = Harness()
    harness.answer = {**READY, 'costs': {**READY['costs'], 'thinks': [Thinking.ON]}}
    harness.configured()
    running = harness.submit(50.0)
    harness.worker.plan(running, expected_s=3.0, wcet_s=7.0)
    harness.sync()
    messages = [{'role': 'user', 'content': 'hi'}]
    thinking = harness.submit(20.0, prompt='', messages=messages, thinking=Thinking.ON)
    assert asked(harness, 60.0).waiting_s == pytest.approx(thinking.request.deadline_s - harness.now)
    harness.worker.say({'event': 'text', 'id': running.request.request_id, 'delta': 'hm', 'n': 1,
                        'part': int(Part.REASONING)})
    harness.sync()
    assert asked(harness, 60.0).waiting_s == pytest.approx(50.0 - MARGIN_S / 2), 'until the guard ends it'
    harness.dispatcher.close()


def test_before_its_plan_the_running_goal_may_take_its_whole_budget(harness):
    harness.submit(20.0)
    assert asked(harness).waiting_s == pytest.approx(20.0 - MARGIN_S / 2)


def test_a_goal_that_would_stop_the_running_one_does_not_wait():
    harness = Harness(preempt='priority').configured()
    harness.submit(20.0)
    assert asked(harness, priority=1).waiting_s == 0.0 < asked(harness).waiting_s
    harness.dispatcher.close()


def test_what_requests_teach_is_used(harness):
    job = harness.submit(20.0)
    learned = {'timing_factor': 2.0, 'prefill_factor': 3.0, 'time_bound': 1.0, 'reserve_s': 0.0,
               'predicted_tokens': 11, 'pessimistic_tokens': 21}
    harness.worker.say({'event': 'done', 'id': job.request.request_id, 'outcome': None, 'finished_s': START_S})
    harness.worker.say({'event': 'learned', 'learned': learned})
    harness.sync()
    harness.submit(20.0)
    made = asked(harness)
    assert (made.predicted_tokens, made.pessimistic_tokens) == (11, 21)
    assert made.wcet_without_eviction_s == pytest.approx(3.0 * 0.8 + 2.0 * 20 * 0.1)


def test_what_an_idle_worker_has_forgotten_is_forgotten_here_too(harness):
    """Factors fade with time: an idle worker tells them whenever it is asked whether it hangs."""
    for factor in (3.0, 1.0):
        harness.worker.say({'event': 'pong', 'learned': {'timing_factor': factor, 'predicted_tokens': 20}})
    harness.sync()
    harness.submit(20.0)
    future = harness.dispatcher.estimate(harness.job().request)
    harness.sync()
    assert future.result(0).wcet_without_eviction_s == pytest.approx(0.8 + 98 * 0.1)


def test_a_worker_that_tells_no_costs_is_an_error_and_no_riddle(unconfigured):
    unconfigured.answer = {name: value for name, value in READY.items() if name != 'costs'}
    harness = unconfigured.configured()
    harness.submit(20.0)
    future = harness.dispatcher.estimate(harness.job().request)
    harness.sync()
    assert 'cost' in str(future.exception(0))


def test_a_form_that_cannot_be_spoils_no_estimate(harness):
    """Admission refuses it; if it came all the same, it would be as one whose longest answer is not known."""
    harness.submit(50.0)
    harness.submit(30.0, response_schema='{"type": {}}')
    before = asked(harness, 60.0)
    assert before.is_from_bound and asked(harness, 60.0, response_schema='{"anyOf": 5}').is_from_bound
