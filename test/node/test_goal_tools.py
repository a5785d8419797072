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

"""Goals with tools and thinking sections through the real node, on a model with random weights."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from chat_templates import SCHEMAS, TOOLS_TEXT
from node_client import ABORTED, SUCCEEDED, Result, hot, make_goal
from node_process import NodeProcess
from scripted_model import ROOT

from timebill_ros.action import Generate
from timebill_ros.msg import ChatMessage

BUILD = """
import json, pathlib, sys
from byte_tokenizers import build
from chat_templates import QWEN3
path = pathlib.Path(sys.argv[1])
build(path)
(path / 'chat_template.jinja').write_text(QWEN3)
config = json.loads((path / 'config.json').read_text())
(path / 'config.json').write_text(json.dumps({**config, 'max_position_embeddings': 2048}))
"""
Goal, Feedback = Generate.Goal, Generate.Feedback
ASKED = [ChatMessage(role='user', content='where is the cup')]


@pytest.fixture(scope='module')
def thinking_node(tmp_path_factory):
    pytest.importorskip('llguidance')
    directory = tmp_path_factory.mktemp('model')
    path = os.pathsep.join([str(ROOT), str(ROOT / 'test')])
    subprocess.run([sys.executable, '-c', BUILD, str(directory)], check=True, env={**os.environ, 'PYTHONPATH': path})
    with NodeProcess(model=str(directory), profile='', max_context_tokens=2048, keep_state=False,
                     thinking_end_text='So: ') as node:
        node.start()
        yield node


def ask(node, budget_s=5.0, **fields):
    return node.ask(make_goal('', budget_s, messages=ASKED, sampling=hot(3), **{'max_new_tokens': 60, **fields}))


@pytest.mark.slow
def test_calls_come_in_the_result_and_go_round(thinking_node):
    jsonschema = pytest.importorskip('jsonschema')
    fields = {'tools': TOOLS_TEXT, 'tool_choice': Goal.TOOL_CHOICE_REQUIRED, 'on_cut': Goal.ON_CUT_CLOSE,
              'thinking': Goal.THINKING_OFF, 'max_new_tokens': 200}
    status, result = ask(thinking_node, **fields)
    assert status == SUCCEEDED, result.error_msg
    assert (result.text, result.reasoning) == ('', '') and result.tool_calls
    for call in result.tool_calls:
        jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])
    call = result.tool_calls[0]
    status, result = thinking_node.ask(make_goal('', 5.0, max_new_tokens=5, thinking=Goal.THINKING_OFF, messages=[
        *ASKED, ChatMessage(role='assistant', tool_calls=[call]),
        ChatMessage(role='tool', content='done', tool_call_id=call.id)], tools=TOOLS_TEXT))
    assert status == SUCCEEDED


@pytest.mark.slow
def test_reasoning_is_apart_from_the_text_in_the_feedback_too(thinking_node):
    sent = thinking_node.send(make_goal('', 3.0, messages=ASKED, sampling=hot(3), max_new_tokens=60,
                                        thinking=Goal.THINKING_ON))
    status, result = sent.result()
    assert status == SUCCEEDED and result.reasoning and 'think>' not in result.text
    assert 0 < result.timing.reasoning_tokens < result.timing.generated_tokens
    heard = {part: ''.join(message.text_delta for message in sent.feedback if message.part == part)
             for part in (Feedback.PART_TEXT, Feedback.PART_REASONING)}
    assert heard[Feedback.PART_TEXT] == result.text
    assert heard[Feedback.PART_REASONING].strip() == result.reasoning
    assert 'think>' not in heard[Feedback.PART_REASONING]


@pytest.mark.slow
def test_at_tight_budgets_an_answer_is_written(thinking_node):
    for budget_s in (0.6, 0.9, 1.3, 2.0):
        status, result = ask(thinking_node, budget_s, thinking=Goal.THINKING_ON, max_new_tokens=10)
        if status == SUCCEEDED:  # otherwise the machine was too busy to begin in time
            assert result.text or result.finish_reason == Result.FINISH_EOS


@pytest.mark.slow
def test_what_cannot_be_had_is_told(node):
    status, result = node.ask(make_goal('', 5.0, messages=ASKED, tools=TOOLS_TEXT))
    assert (status, result.error_code) == (ABORTED, Result.INVALID_GOAL) and 'knows no tools' in result.error_msg
