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

"""Options that say what an answer must be: what a goal gets of them, and what is refused before a node is asked."""
import argparse
import json

import pytest

from timebill_ros.cli.form_options import add_form_options, form_fields
from timebill_ros.cli.main import main


def fields(*arguments):
    parser = argparse.ArgumentParser()
    add_form_options(parser)
    return form_fields(parser.parse_args(arguments))


NONE = {'response_schema': '', 'choices': [], 'regex': '', 'on_cut': 0, 'tools': '', 'tool_choice': 0, 'thinking': 0}
TOOLS = '[{"type": "function", "function": {"name": "stop"}}]'


@pytest.mark.parametrize(('arguments', 'given'), [
    ([], {}),
    (['--schema', '{}'], {'response_schema': '{}'}),
    (['--choice', 'left', '--choice', 'right'], {'choices': ['left', 'right']}),
    (['--regex', 'a+', '--on-cut', 'close'], {'regex': 'a+', 'on_cut': 1}),
    (['--on-cut', 'drop'], {}),
    (['--tools', TOOLS, '--tool-choice', 'required'], {'tools': TOOLS, 'tool_choice': 1}),
    (['--thinking', 'off'], {'thinking': 1}), (['--thinking', 'on'], {'thinking': 2}),
])
def test_fields_of_the_goal(arguments, given):
    assert fields(*arguments) == {**NONE, **given}


def test_a_schema_is_read_from_its_file(tmp_path):
    text = json.dumps({'type': 'object'})
    (tmp_path / 'schema.json').write_text(text)
    assert fields('--schema', str(tmp_path / 'schema.json'))['response_schema'] == text


@pytest.mark.parametrize(('arguments', 'said'), [
    (['--schema', '/no-such-file.json'], "'/no-such-file.json' is no file that can be read"),
    (['--schema', '{"type": '], 'holds no JSON'),
    (['--schema', '{}', '--regex', 'a'], 'not allowed with argument --schema'),
    (['--choice', 'a', '--regex', 'a'], 'not allowed with argument --choice'),
    (['--schema', ''], "'' names no file; leave --schema out"),
    (['--regex', ''], "'' would be no restriction; leave --regex out"),
    (['--on-cut', 'guess'], "invalid choice: 'guess'"),
    (['--tools', '/no-such-file.json'], "'/no-such-file.json' is no file that can be read"),
    (['--tools', '[{'], 'holds no JSON'),
    (['--tools', '[]', '--schema', '{}'], 'not allowed with argument'),
])
def test_what_is_refused(capsys, arguments, said):
    with pytest.raises(SystemExit):
        main(['ask', 'text', '--budget', '1', *arguments])
    assert said in capsys.readouterr().err


def test_how_a_cut_is_completed_needs_something_to_complete(capsys):
    assert main(['ask', 'text', '--budget', '1', '--on-cut', 'close']) == 1
    assert '--on-cut close changes nothing without --schema, --choice, --regex or --tools' in capsys.readouterr().err


def test_a_file_without_a_schema_is_refused(tmp_path, capsys):
    (tmp_path / 'list.json').write_text('[1]')
    with pytest.raises(SystemExit):
        main(['ask', 'text', '--budget', '1', '--schema', str(tmp_path / 'list.json')])
    assert 'an object such as {"type": "object"}' in capsys.readouterr().err


def test_tools_are_read_from_their_file(tmp_path, capsys):
    (tmp_path / 'tools.json').write_text(TOOLS)
    assert fields('--tools', str(tmp_path / 'tools.json'))['tools'] == TOOLS
    (tmp_path / 'tools.json').write_text('{}')
    with pytest.raises(SystemExit):
        main(['ask', 'text', '--budget', '1', '--tools', str(tmp_path / 'tools.json')])
    assert 'a list such as [{"type": "function"' in capsys.readouterr().err
