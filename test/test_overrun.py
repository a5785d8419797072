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

"""One matrix for every overrun strategy: what a cut answer is worth, and what its client gets of it."""
import json
from dataclasses import replace

import pytest

from timebill_ros import settings
from timebill_ros.codes import ErrorCode, FinishReason, OnCut, Strategy
from timebill_ros.overrun import STRATEGIES, drops, interrupt, of, settle
from timebill_ros.request import Request, Timing

LINES = 'take the cup\nopen the dra'
CUT = 'take the cup\n'
ENDED = [FinishReason.EOS, FinishReason.STOP]
LIMITED = [FinishReason.LENGTH, FinishReason.CAPPED]
KILL, SKIP_NEXT, TRUNCATE = EVERY = [Strategy.KILL, Strategy.SKIP_NEXT, Strategy.TRUNCATE]
KEEPING = [SKIP_NEXT, TRUNCATE]
REQUEST = Request('id', 10.5, 12.0, prompt='w')


@pytest.mark.parametrize(('strategy', 'reason', 'text', 'at_line_end', 'closing', 'code', 'kept'), [
    # An answer that the model ended is left alone, whatever the goal says about those that were cut.
    *[(strategy, reason, LINES, at_line_end, closing, ErrorCode.NONE, LINES)
      for strategy in EVERY for reason in ENDED for at_line_end in (False, True)
      for closing in ('', ' [cut]')],
    # A canceled one keeps its text as it is.
    *[(strategy, FinishReason.CANCELED, text, True, ' [cut]', ErrorCode.CANCELED, text)
      for strategy in EVERY for text in ('', LINES)],
    # A late one under KILL keeps nothing.
    *[(KILL, FinishReason.DEADLINE, text, at_line_end, closing, ErrorCode.DEADLINE_MISSED, '')
      for text in ('', LINES) for at_line_end in (False, True) for closing in ('', ' [cut]')],
    # One that was cut at a length came in time, so KILL keeps it too. It is cut in its middle like a late one.
    *[(strategy, reason, text, at_line_end, closing, ErrorCode.NONE, kept + closing)
      for strategy in EVERY for reason in LIMITED for closing in ('', ' [cut]')
      for text, at_line_end, kept in ((LINES, False, LINES), (LINES, True, CUT), (CUT, True, CUT))],
    *[(strategy, FinishReason.LENGTH, text, at_line_end, ' [cut]', ErrorCode.INVALID_GOAL, '')
      for strategy in EVERY for text, at_line_end in (('', False), ('no whole line', True))],
    (KILL, FinishReason.CAPPED, 'no whole line', True, ' [cut]', ErrorCode.DEADLINE_MISSED, ''),
    # A late one under the others keeps what there is, back to a line end where asked, and closes it.
    *[(strategy, FinishReason.DEADLINE, text, at_line_end, closing, ErrorCode.NONE, kept + closing)
      for strategy in KEEPING for closing in ('', ' [cut]')
      for text, at_line_end, kept in ((LINES, False, LINES), (LINES, True, CUT), (CUT, True, CUT))],
    # Nothing to keep is a failure, and closing text alone is no answer.
    *[(strategy, FinishReason.DEADLINE, text, at_line_end, closing, ErrorCode.DEADLINE_MISSED, '')
      for strategy in KEEPING
      for text, at_line_end in (('', False), ('', True), ('no whole line', True)) for closing in ('', ' [cut]')],
])
def test_settle(strategy, reason, text, at_line_end, closing, code, kept):
    request = replace(REQUEST, strategy=strategy, stop_at_line_end=at_line_end, closing_text=closing)
    timing = Timing(time_budget_s=1.5, generated_tokens=7)
    outcome = settle(request, reason, text, timing)
    assert (outcome.error_code, outcome.text, outcome.finish_reason) == (code, kept, reason)
    assert outcome.timing is timing
    assert outcome.added_characters == (len(closing) if outcome.text.endswith(' [cut]') else 0)
    assert bool(outcome.error_msg) == (code is not ErrorCode.NONE)
    if code is ErrorCode.DEADLINE_MISSED:
        assert '1.500 s' in outcome.error_msg and '7 tokens' in outcome.error_msg
        is_killed = reason is FinishReason.DEADLINE and strategy not in KEEPING
        assert ('stop_at_line_end' in outcome.error_msg) == (bool(text) and not is_killed)
    if code is ErrorCode.INVALID_GOAL:
        assert 'max_new_tokens 256' in outcome.error_msg and ('stop_at_line_end' in outcome.error_msg) == bool(text)


@pytest.mark.parametrize('strategy', EVERY)
@pytest.mark.parametrize(('text', 'words'), [('', 'no text'), ('no whole line', 'stop_at_line_end')])
def test_an_answer_that_the_context_cut_to_nothing_says_that_the_prompt_is_too_long(strategy, text, words):
    request = replace(REQUEST, strategy=strategy, stop_at_line_end=bool(text), closing_text='.')
    timing = Timing(prompt_tokens=93, generated_tokens=7)
    outcome = settle(request, FinishReason.CAPPED, text, timing, context_is_full=True)
    assert (outcome.error_code, outcome.text) == (ErrorCode.PROMPT_TOO_LONG, '')
    assert all(part in outcome.error_msg for part in ('93 tokens', '7 more', words))


@pytest.mark.parametrize('reason', [FinishReason.DEADLINE, *LIMITED])
@pytest.mark.parametrize('on_cut', OnCut)
@pytest.mark.parametrize(('form', 'text'), [
    (dict(response_schema='{}'), '{"a": 1}'), (dict(choices=['left']), 'left'), (dict(regex='[a-z]+'), 'left')])
def test_a_cut_answer_without_its_form_is_no_answer(form, text, reason, on_cut):
    request, timing = replace(REQUEST, **form, on_cut=on_cut), Timing(time_budget_s=1.5)
    completed = settle(request, reason, text, timing, added=1)
    assert (completed.error_code, completed.text, completed.added_characters) == (ErrorCode.NONE, text, 1)
    whole = settle(request, reason, text, timing, added=0)
    assert (whole.error_code, whole.text, whole.added_characters) == (ErrorCode.NONE, text, 0)
    assert settle(request, reason, text, timing, added=1, dropped=2).dropped_items == 2
    cut = settle(request, reason, text, timing)
    assert (cut.error_code is not ErrorCode.NONE) and cut.text == ''
    assert settle(request, reason, text, timing, dropped=2).dropped_items == 0
    assert 'the form' in cut.error_msg and ('on_cut' in cut.error_msg) == (on_cut is OnCut.DROP)
    assert settle(request, FinishReason.EOS, text, timing).error_code is ErrorCode.NONE
    assert settle(request, FinishReason.CANCELED, text, timing).text == text
    killed = settle(replace(request, strategy=KILL), FinishReason.DEADLINE, text, timing, added=1)
    assert (killed.error_code, killed.text) == (ErrorCode.DEADLINE_MISSED, '')


@pytest.mark.parametrize('reason', [FinishReason.DEADLINE, *LIMITED])
@pytest.mark.parametrize('n', range(10, 60))
def test_an_answer_cut_at_a_line_end_and_closed_still_parses(n, reason):
    """What the closing text is for: the client reads JSON, one entry per line, wherever it was cut, by whatever."""
    whole = '{"steps": [\n"open the drawer",\n"take the cup",\n"close the drawer",\n""]}'
    request = replace(REQUEST, strategy=TRUNCATE, stop_at_line_end=True, closing_text='"cut"]}')
    outcome = settle(request, reason, whole[:n], Timing(time_budget_s=1.0))
    if outcome.error_code is ErrorCode.NONE:
        assert json.loads(outcome.text)['steps'][-1] == 'cut'
    else:
        assert '\n' not in whole[:n]


@pytest.mark.parametrize(('strategy', 'kept'), [(KILL, ''), (SKIP_NEXT, CUT + '.'), (TRUNCATE, CUT + '.')])
@pytest.mark.parametrize('code', [ErrorCode.WORKER_LOST, ErrorCode.PREEMPTED])
def test_an_interrupted_answer_keeps_what_its_strategy_keeps(strategy, kept, code):
    request = replace(REQUEST, strategy=strategy, stop_at_line_end=True, closing_text='.')
    outcome = interrupt(request, code, 'a sentence', LINES, Timing())
    assert (outcome.error_code, outcome.error_msg, outcome.text, outcome.finish_reason) == (
        code, 'a sentence', kept, FinishReason.ERROR)


@pytest.mark.parametrize(('strategy', 'runs_on', 'cut_is_lost'), [
    (KILL, False, True), (SKIP_NEXT, True, False), (TRUNCATE, False, False)])
def test_what_each_strategy_lets_the_engine_do(strategy, runs_on, cut_is_lost):
    request = replace(REQUEST, strategy=strategy)
    assert (of(request).runs_on, of(request).cut_is_lost) == (runs_on, cut_is_lost)
    assert [drops(request, value) for value in ('never', 'kill', 'all')] == [False, cut_is_lost, True]


def test_every_strategy_but_the_default_is_there():
    assert set(STRATEGIES) == set(Strategy) - {Strategy.DEFAULT} == set(settings.STRATEGIES.values())


def test_the_end_of_a_longest_overrun_says_so():
    request = replace(REQUEST, strategy=SKIP_NEXT, max_overrun_s=2.5)
    assert '2.500 s' in settle(request, FinishReason.DEADLINE, '', Timing(time_budget_s=1.5)).error_msg
