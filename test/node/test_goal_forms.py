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

"""Goals that say what their answer must be, through the real node: refused where that cannot be, valid where it can."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from node_client import ABORTED, SUCCEEDED, Result, hot, make_goal
from node_process import NodeProcess
from scripted_model import ROOT

from timebill_ros.action import Generate

SCHEMA = {'type': 'object', 'properties': {'steps': {'type': 'array', 'items': {'type': 'string'}},
                                           'why': {'type': 'string'}},
          'required': ['steps'], 'additionalProperties': False}
BUILD = 'import pathlib, sys; from byte_tokenizers import build; build(pathlib.Path(sys.argv[1]))'


@pytest.mark.parametrize('fields', [{'response_schema': '{}'}, {'choices': ['left', 'right']}, {'regex': 'a+'}])
def test_a_model_whose_tokens_are_words_cannot(node, fields):
    status, result = node.ask(make_goal(**fields))
    assert (status, result.error_code) == (ABORTED, Result.INVALID_GOAL)
    assert 'not served here' in result.error_msg and ('writes words' in result.error_msg or 'pip' in result.error_msg)


@pytest.mark.parametrize(('fields', 'told'), [
    ({'response_schema': '[]'}, 'must be a JSON object'), ({'regex': 'a', 'choices': ['a']}, 'choices and regex'),
    ({'regex': 'a', 'closing_text': '.'}, 'closing_text cannot go with regex'), ({'on_cut': 9}, 'unknown on_cut 9'),
    ({'tools': '{}'}, 'send messages'), ({'tool_choice': 1}, 'the goal has no tools'),
    ({'tool_choice': 7}, 'unknown tool_choice 7'), ({'thinking': 9}, 'unknown thinking 9'),
    ({'thinking': 2}, 'thinking is ON, but a prompt goes through no chat template')])
def test_what_makes_no_sense_is_refused_by_the_node(node, fields, told):
    status, result = node.ask(make_goal(**fields))
    assert (status, result.error_code) == (ABORTED, Result.INVALID_GOAL) and told in result.error_msg


@pytest.mark.slow
def test_answers_have_their_form_whenever_they_end(tmp_path):
    pytest.importorskip('llguidance')
    jsonschema = pytest.importorskip('jsonschema')
    path = os.pathsep.join([str(ROOT), str(ROOT / 'test')])
    subprocess.run([sys.executable, '-c', BUILD, str(tmp_path)], check=True, env={**os.environ, 'PYTHONPATH': path})
    with NodeProcess(model=str(tmp_path), profile='', max_context_tokens=512, keep_state=False) as node:
        node.start()
        for i in range(12):
            status, result = node.ask(make_goal('tea', 0.1 + 0.1 * i, response_schema=json.dumps(SCHEMA),
                                                max_new_tokens=400, sampling=hot(i + 1),
                                                on_cut=Generate.Goal.ON_CUT_CLOSE))
            if status == SUCCEEDED:  # otherwise the machine was too busy to begin in time
                jsonschema.validate(json.loads(result.text), SCHEMA)
                assert 0 < result.generated_characters <= len(result.text)
                assert result.timing.mask_s > 0 and result.timing.grammar_s >= 0
            else:
                assert result.text == ''
        status, result = node.ask(make_goal('tea', choices=['left', 'right'], sampling=hot()))
        assert (status, result.finish_reason) == (SUCCEEDED, Result.FINISH_EOS) and result.text in ('left', 'right')
        status, result = node.ask(make_goal('tea', regex='[0-9]{3}-[0-9]{2}', sampling=hot()))
        assert status == SUCCEEDED and len(result.text) == 6 and result.text[3] == '-'
        status, result = node.ask(make_goal('tea', regex='(a'))
        assert (status, result.error_code) == (ABORTED, Result.INVALID_GOAL) and 'regex' in result.error_msg
