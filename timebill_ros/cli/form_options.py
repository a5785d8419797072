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

"""Options that say what the answer to a goal must be."""
from __future__ import annotations

import argparse
import json
from pathlib import Path

from timebill_ros.codes import OnCut, Thinking, ToolChoice

ON_CUT = {kind.name.lower(): int(kind) for kind in OnCut}
TOOL_CHOICE = {kind.name.lower(): int(kind) for kind in ToolChoice}
THINKING = {kind.name.lower(): int(kind) for kind in Thinking}


def schema(text: str) -> str:
    """Return the JSON Schema in the file `text`, or `text` itself where it is one. argparse's error for neither."""
    if not text:
        raise argparse.ArgumentTypeError("'' names no file; leave --schema out for a free answer, or give {} for any "
                                         'object')
    return _json(text, dict, 'no JSON Schema, which is an object such as {"type": "object"}')


def regex(text: str) -> str:
    """Return `text`, a regular expression. argparse's error for an empty one, which a goal takes as none."""
    if not text:
        raise argparse.ArgumentTypeError("'' would be no restriction; leave --regex out for a free answer")
    return text


def tools(text: str) -> str:
    """Return the JSON list of tools in the file `text`, or `text` itself where it is one. argparse's error for neither.

    The node says what is wrong with a tool.
    """
    return _json(text, list, 'no tools, which are a list such as [{"type": "function", "function": {"name": "stop"}}]')


def _json(text: str, kind: type, lacks: str) -> str:
    """Return the JSON in the file `text`, or `text` itself where it is that; `lacks`: what it holds if no `kind`."""
    try:
        found = text if text.lstrip()[:1] in ('{', '[') else Path(text).read_text(encoding='utf-8')
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(f'{text!r} is no file that can be read: {error}') from error
    try:
        is_right = isinstance(json.loads(found), kind)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f'{text!r} holds no JSON: {error}') from error
    if not is_right:
        raise argparse.ArgumentTypeError(f'{text!r} holds {lacks}')
    return found


def add_form_options(command: argparse.ArgumentParser) -> None:
    """Add the options; at most one of the first four may be given."""
    forms = command.add_mutually_exclusive_group()
    forms.add_argument('--schema', type=schema, metavar='FILE',
                       help='JSON Schema that the answer is to satisfy: a file, or the schema itself; {}: any object')
    forms.add_argument('--choice', action='append', default=[], metavar='TEXT',
                       help='one of the texts that the answer may be; give it several times')
    forms.add_argument('--regex', type=regex, metavar='R', help='regular expression that the whole answer is to match')
    forms.add_argument('--tools', type=tools, metavar='FILE',
                       help="tools that the model may call, as a JSON list in OpenAI's form: a file, or the list "
                       'itself; the calls are printed as one line of JSON each')
    command.add_argument('--tool-choice', choices=sorted(TOOL_CHOICE), default='auto',
                         help='auto: text, calls, or both; required: calls only')
    command.add_argument('--thinking', choices=sorted(THINKING), default='default',
                         help='whether a thinking section comes first, for models that have one; default: as the '
                         "model's chat template does. It is printed to standard error")
    command.add_argument('--on-cut', choices=sorted(ON_CUT),
                         help='how an answer of a form, or a call of a tool, is completed where it is cut; drop: what '
                         'was not complete goes; close: it is ended in a short way, whose content is made up '
                         '(default: drop)')


def check_form(options: argparse.Namespace) -> None:
    """Raise ValueError for an option that would change nothing."""
    if options.on_cut and not (options.schema or options.choice or options.regex or options.tools):
        raise ValueError(f'--on-cut {options.on_cut} changes nothing without --schema, --choice, --regex or --tools: '
                         'give one of them, or leave it out')


def form_fields(options: argparse.Namespace) -> dict:
    """Return the fields of a goal that the options give."""
    return {'response_schema': options.schema or '', 'choices': options.choice, 'regex': options.regex or '',
            'on_cut': ON_CUT[options.on_cut or 'drop'], 'tools': options.tools or '',
            'tool_choice': TOOL_CHOICE[options.tool_choice], 'thinking': THINKING[options.thinking]}
