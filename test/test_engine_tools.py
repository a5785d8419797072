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

"""Answers that call tools through the engine: calls follow their schemas, and half a call never comes."""
import json

import pytest
from answer_forms import EOS, vocabulary
from chat_templates import SCHEMAS, TOOLS_TEXT
from mock_model import TIMES, FakeClock

pytest.importorskip('llguidance')
jsonschema = pytest.importorskip('jsonschema')
from test_engine_forms import DecidedModel, FormBench, QuickGrammars, WanderingModel  # noqa: E402

from timebill_ros.codes import ErrorCode, FinishReason, OnCut, Strategy, ToolChoice  # noqa: E402
from timebill_ros.engine import Engine  # noqa: E402
from timebill_ros.inference.chat_facts import ChatFacts  # noqa: E402
from timebill_ros.inference.grammars.no_grammars import NoGrammars  # noqa: E402
from timebill_ros.inference.tools.call_format import CallFormat  # noqa: E402
from timebill_ros.planning.tracker import Tracker  # noqa: E402
from timebill_ros.request import Sampling  # noqa: E402

FORMATS = {
    'qwen': CallFormat('<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "',
                       '}\n</tool_call>'),
    'llama 3': CallFormat('{"name": "', '", "parameters": ', '', '}'),
    'mistral': CallFormat('[TOOL_CALLS] [{"name": "', '", "arguments": ', '}, {"name": "', '}]')}
ASKED = [{'role': 'user', 'content': 'where is the cup ' * 20}]
MADE = [('drive_to', '{"place": "kitchen"}'), ('drive', '{"words": "é"}')]


class ToolBench(FormBench):
    def __init__(self, name, wants=None, *, grammars=True):
        self.clock = FakeClock()
        calls = FORMATS[name]
        if wants is None:
            self.model = WanderingModel(self.clock, 7)
        else:
            self.model = DecidedModel(self.clock)
            self.model.wants = wants.encode()
        self.model.chat = ChatFacts(True, calls)
        self.model.grammars = QuickGrammars(vocabulary(), {EOS}, self.model.chat, {}) if grammars else \
            NoGrammars('this test has none')
        self.engine = Engine(self.model, None, TIMES, Tracker('fixed', k=2.0), clock=self.clock)

    def run(self, *arguments, **fields):
        fields = {'prompt': '', 'messages': ASKED, 'tools': TOOLS_TEXT, 'sampling': Sampling(masked=True), **fields}
        return super().run(*arguments, **fields)


def written(name, n=None):
    """Return what is written for the first `n` calls of MADE: all that the format has room for."""
    calls = FORMATS[name]
    made = MADE[:n or (2 if calls.between else 1)]
    return calls.begin + calls.between.join(tool + calls.middle + text for tool, text in made) + calls.end


def read(outcome):
    """Return the calls of an outcome as pairs, each of which has been validated."""
    for call in outcome.tool_calls:
        jsonschema.validate(json.loads(call['arguments']), SCHEMAS[call['name']])
    return [(call['name'], json.loads(call['arguments'])) for call in outcome.tool_calls]


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('grammars', [True, False], ids=['grammar', 'no grammar'])
def test_calls_come_back_parsed(name, grammars):
    outcome = ToolBench(name, written(name), grammars=grammars).run(max_new_tokens=400)
    assert (outcome.error_code, outcome.finish_reason, outcome.text) == (ErrorCode.NONE, FinishReason.EOS, '')
    assert read(outcome) == [(tool, json.loads(text)) for tool, text in MADE[:len(outcome.tool_calls)]]
    assert len(outcome.tool_calls) == (2 if FORMATS[name].between else 1)
    assert bool(outcome.timing.forced_tokens) == grammars


@pytest.mark.parametrize('name', FORMATS)
def test_text_alone_is_an_answer_too(name):
    outcome = ToolBench(name, 'It is in the <hall>.').run(max_new_tokens=400)
    assert (outcome.text, outcome.tool_calls, outcome.finish_reason) == ('It is in the <hall>.', [], FinishReason.EOS)


@pytest.mark.parametrize('name', ['qwen', 'mistral'])
def test_text_may_stand_before_calls(name):
    outcome = ToolBench(name, f'I go.\n{written(name)}').run(max_new_tokens=400)
    assert outcome.text == 'I go.' and len(read(outcome)) == 2


@pytest.mark.parametrize('name', FORMATS)
def test_a_model_that_wants_text_calls_a_tool_where_one_is_required(name):
    outcome = ToolBench(name, 'It is in the hall.').run(max_new_tokens=400, tool_choice=ToolChoice.REQUIRED,
                                                        on_cut=OnCut.CLOSE)
    assert outcome.text == '' and read(outcome)


def test_a_call_that_its_schema_forbids_cannot_be_written():
    wants = written('qwen', 1).replace('kitchen', 'mars')
    outcome = ToolBench('qwen', wants).run(max_new_tokens=400, on_cut=OnCut.CLOSE)
    assert read(outcome)[0][1]['place'] in ('kitchen', 'hall')


@pytest.mark.parametrize('name', FORMATS)
@pytest.mark.parametrize('on_cut', OnCut)
@pytest.mark.parametrize('grammars', [True, False], ids=['grammar', 'no grammar'])
def test_cut_anywhere_no_half_a_call_comes(name, on_cut, grammars):
    calls, before = FORMATS[name], 'I go. ' if FORMATS[name].marker else ''
    whole = before + written(name)
    bench = ToolBench(name, whole, grammars=grammars)
    for n in range(1, len(whole.encode()) + 1):
        outcome = bench.run(max_new_tokens=n, on_cut=on_cut)
        so_far = whole.encode()[:n].decode(errors='ignore')
        complete = [tool for tool, text in MADE if tool + calls.middle + text in so_far]
        found = [tool for tool, _ in read(outcome)]
        assert found[:len(complete)] == complete
        if on_cut is OnCut.DROP or not grammars:
            assert found == complete
        elif 'drive_to"' in so_far:  # it is certain which tool is called
            assert len(found) >= 1
        if outcome.error_code is not ErrorCode.NONE:
            assert outcome.error_code is ErrorCode.INVALID_GOAL and 'no complete call' in outcome.error_msg
        assert '{' not in outcome.text and '[T' not in outcome.text and '<t' not in outcome.text


@pytest.mark.parametrize('name', FORMATS)
def test_answers_at_random_are_valid_and_in_time(name):
    bench = ToolBench(name)
    for budget_s in (0.2, 0.4, 0.8, 1.6, 3.2):
        for choice in ToolChoice:
            outcome = bench.run(budget_s, tool_choice=choice, on_cut=OnCut.CLOSE)
            read(outcome)
            assert bench.lateness_s <= 1e-6
            if choice is ToolChoice.REQUIRED and outcome.error_code is ErrorCode.NONE:
                assert outcome.tool_calls and not outcome.text


def test_kill_keeps_no_call_at_the_deadline():
    outcome = ToolBench('qwen', written('qwen') + ' ' * 200).run(1.5, strategy=Strategy.KILL, max_new_tokens=4000)
    if outcome.finish_reason is FinishReason.DEADLINE:
        assert outcome.error_code is ErrorCode.DEADLINE_MISSED and not outcome.tool_calls


def test_required_calls_need_grammars():
    outcome = ToolBench('qwen', 'hi', grammars=False).run(tool_choice=ToolChoice.REQUIRED)
    assert outcome.error_code is ErrorCode.INVALID_GOAL and 'tool_choice REQUIRED is not served' in outcome.error_msg


def test_a_schema_that_cannot_be_followed_ends_its_goal_alone():
    bad = json.dumps([{'type': 'function', 'function': {'name': 'go', 'parameters': {
        'type': 'object', 'properties': {'x': {'type': 'rubbish'}}}}}])
    bench = ToolBench('qwen', 'hi')
    outcome = bench.run(tools=bad)
    assert outcome.error_code is ErrorCode.INVALID_GOAL and 'tools cannot be followed' in outcome.error_msg
    assert bench.run().text == 'hi'
