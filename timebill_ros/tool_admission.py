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

"""Whether the tools of a goal, and the calls in its conversation, are well formed. No model, no torch, no rclpy."""
from __future__ import annotations

import json
import re

from timebill_ros.codes import ErrorCode, GoalError, ToolChoice
from timebill_ros.request import Request

MAX_TOOLS = 128
MAX_TOOLS_CHARACTERS = 65536
MAX_CALLS = 128  # of one message
MAX_ALL_CALLS = 1024  # of a conversation, which has no more messages that could answer them
MAX_ID_CHARACTERS = 128
_NAME = re.compile(r'[A-Za-z0-9_.\-]{1,64}')


def _invalid(message: str) -> GoalError:
    return GoalError(ErrorCode.INVALID_GOAL, message)


def _read(text: str):
    """Return what JSON holds. ValueError for what is none, and for half a surrogate pair: no tokenizer takes it."""
    value = json.loads(text)
    if '\\u' in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def check_tools(request: Request) -> None:
    """Raise GoalError, with the offending value, unless the model can be told of the tools of `request`."""
    if not request.tools:
        if request.tool_choice is ToolChoice.REQUIRED:
            raise _invalid('tool_choice is REQUIRED, and the goal has no tools')
        return
    if len(request.tools) > MAX_TOOLS_CHARACTERS:
        raise _invalid(f'tools has {len(request.tools)} characters; at most {MAX_TOOLS_CHARACTERS} are taken')
    if not request.messages:
        raise _invalid("tools go through the model's chat template: send messages, not prompt")
    beside = next((name for name in ('response_schema', 'choices', 'regex', 'closing_text', 'stop_at_line_end')
                   if getattr(request, name)), 'sampling.stop' if request.sampling.stop else '')
    if beside:
        raise _invalid(f'{beside} cannot go with tools: leave one of them out')
    try:
        tools = _read(request.tools)
    except (ValueError, RecursionError) as error:
        raise _invalid(f'tools is no JSON: {error}; it begins with {request.tools[:64]!r}') from error
    if not isinstance(tools, list) or not 0 < len(tools) <= MAX_TOOLS:
        raise _invalid(f'tools must be a JSON list of 1 to {MAX_TOOLS} functions, got {request.tools[:64]!r}')
    try:
        names = [_check_tool(tool, f'tools[{index}]') for index, tool in enumerate(tools)]
    except RecursionError:  # where a value that is wrong is to be shown
        raise _invalid('tools holds a wrong value, which is nested too deeply to be shown') from None
    if len(set(names)) < len(names):
        raise _invalid(f'tools names {max(names, key=names.count)!r} more than once')


def _check_tool(tool, where: str) -> str:
    """Return the name of a tool. GoalError unless it is a function in OpenAI's form."""
    function = tool.get('function') if isinstance(tool, dict) and tool.get('type') == 'function' else None
    if not isinstance(function, dict):
        raise _invalid(f'{where} must be {{"type": "function", "function": {{"name": ...}}}}, got '
                       f'{json.dumps(tool)[:64]}')
    name, parameters = function.get('name'), function.get('parameters', {})
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(f'{where}.function.name must be 1 to 64 letters, digits, "_", "." or "-", got {name!r:.80}')
    if not isinstance(parameters, dict) or parameters.get('type', 'object') != 'object':
        raise _invalid(f'{where}.function.parameters must be a JSON Schema of the type object, got {parameters!r:.80}')
    return name


def check_calls(messages: list[dict]) -> None:
    """Raise GoalError, with the offending value, unless a conversation's calls, and what they gave, are in order."""
    n = sum(len(message.get('tool_calls', ())) for message in messages)
    if n > MAX_ALL_CALLS:  # the dispatcher's thread looks at each
        raise _invalid(f'the messages hold {n} tool_calls; at most {MAX_ALL_CALLS} are taken')
    for index, message in enumerate(messages):
        where, calls = f'messages[{index}]', message.get('tool_calls', [])
        if calls and message['role'] != 'assistant':
            raise _invalid(f'{where} of the role {message["role"]} has tool_calls; only an assistant calls tools')
        if len(calls) > MAX_CALLS:
            raise _invalid(f'{where} holds {len(calls)} tool_calls; at most {MAX_CALLS} are taken')
        for number, call in enumerate(calls):
            _check_call(call, f'{where}.tool_calls[{number}]')
        answered = message.get('tool_call_id', '')
        if len(answered) > MAX_ID_CHARACTERS:
            raise _invalid(f'{where}.tool_call_id has {len(answered)} characters; at most {MAX_ID_CHARACTERS} are '
                           'taken')
        if answered and message['role'] != 'tool':
            raise _invalid(f'{where} of the role {message["role"]} has the tool_call_id {answered!r:.80}; only '
                           'messages of the role tool answer a call')
    if messages and messages[-1].get('tool_calls'):
        raise _invalid('the last message calls tools: send what they gave, as messages of the role tool')


def _check_call(call: dict, where: str) -> None:
    if not _NAME.fullmatch(call['name']):
        raise _invalid(f'{where}.name must be 1 to 64 letters, digits, "_", "." or "-", got {call["name"]!r:.80}')
    if len(call['id']) > MAX_ID_CHARACTERS:
        raise _invalid(f'{where}.id has {len(call["id"])} characters; at most {MAX_ID_CHARACTERS} are taken')
    try:
        arguments = _read(call['arguments'] or '{}')
    except (ValueError, RecursionError) as error:
        raise _invalid(f'{where}.arguments is no JSON: {error}; it begins with {call["arguments"][:64]!r}') from error
    if not isinstance(arguments, dict):
        raise _invalid(f'{where}.arguments must be a JSON object, got {call["arguments"][:64]!r}')
