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

"""The `messages` of OpenAI's chat API as turns for the model's chat template."""
from __future__ import annotations

from timebill_ros.admission import MAX_MESSAGES
from timebill_ros.door.refusal import of_field
from timebill_ros.msg import ChatMessage, ToolCall
from timebill_ros.tool_admission import MAX_ALL_CALLS

ROLES = {'system': 'system', 'developer': 'system', 'user': 'user', 'assistant': 'assistant', 'tool': 'tool'}
TEXTS = {'text': 'text', 'refusal': 'refusal'}  # kinds of content parts, and where their text is
_READ = {'role', 'content', 'tool_calls', 'tool_call_id'}
_LOST = {'audio', 'function_call'}  # fields that say something which no chat template here can take


def turns(messages, ignored: list[str]) -> list[ChatMessage]:
    """Return the turns. Refusal for what is no conversation of texts; `ignored` gets the names of fields left out."""
    if not isinstance(messages, list) or not messages:
        raise of_field('messages', 'messages must be a list of at least one message with "role" and "content"')
    if len(messages) > MAX_MESSAGES:  # which takes the node no time to say, and the door a second
        raise of_field('messages', f'messages has {len(messages)} entries: at most {MAX_MESSAGES} are served')
    n_calls = sum(map(_n_calls, messages))
    if n_calls > MAX_ALL_CALLS:
        raise of_field('messages', f'messages has {n_calls} tool_calls: at most {MAX_ALL_CALLS} are served')
    left_out = dict.fromkeys(ignored)  # in order, and a message may have 100,000 fields
    found = [_turn(message, f'messages[{index}]', left_out) for index, message in enumerate(messages)]
    ignored[:] = left_out
    return found


def _turn(message, name: str, left_out: dict[str, None]) -> ChatMessage:
    if not isinstance(message, dict):
        raise of_field(name, f'{name} must be an object with "role" and "content", got {message!r:.80}')
    role = message.get('role')
    if not isinstance(role, str) or role not in ROLES:
        raise of_field(f'{name}.role', f'{name}.role must be one of {", ".join(ROLES)}, got {role!r:.80}')
    for key, value in message.items():
        if key in _READ or value is None:
            continue
        if key in _LOST:
            raise of_field(f'{name}.{key}', f'{name}.{key} is not served here: give text, and tools as "tools"')
        left_out[f'messages[].{key}'] = None
    calls = _calls(message.get('tool_calls'), f'{name}.tool_calls')
    if calls and role != 'assistant':
        raise of_field(f'{name}.tool_calls', f'{name}.tool_calls: only messages of the role assistant have calls, '
                       f'this one is of the role {role}')
    turn = ChatMessage(role=ROLES[role], content=_text(message.get('content'), f'{name}.content', bool(calls)))
    if calls:
        turn.tool_calls = calls
    if role == 'tool':
        turn.tool_call_id = string(message.get('tool_call_id') or '', f'{name}.tool_call_id')
    return turn


def string(value, name: str) -> str:
    """Return `value`, a text. Refusal for anything else."""
    if not isinstance(value, str):
        raise of_field(name, f'{name} must be text, got {value!r:.80}')
    return value


def _text(content, name: str, may_be_none: bool) -> str:
    """Return the text of a content: text, or a list of parts, which become lines."""
    if content is None and may_be_none:
        return ''
    if isinstance(content, list):
        return '\n'.join(_part(part, f'{name}[{index}]') for index, part in enumerate(content))
    return string(content, name)


def _part(part, name: str) -> str:
    kind = part.get('type') if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in TEXTS:
        raise of_field(name, f'{name} is of the type {kind!r:.80}: the model reads text alone, so give parts of '
                       'the type text')
    return string(part.get(TEXTS[kind]), f'{name}.{TEXTS[kind]}')


def _n_calls(message) -> int:
    calls = message.get('tool_calls') if isinstance(message, dict) else None
    return len(calls) if isinstance(calls, list) else 0


def _calls(calls, name: str) -> list[ToolCall]:
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise of_field(name, f'{name} must be a list, got {calls!r:.80}')
    return [_call(call, f'{name}[{index}]') for index, call in enumerate(calls)]


def _call(call, name: str) -> ToolCall:
    function = call.get('function') if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise of_field(name, f'{name} must be an object with "id" and "function", got {call!r:.80}')
    return ToolCall(id=string(call.get('id') or '', f'{name}.id'),
                    name=string(function.get('name'), f'{name}.function.name'),
                    arguments=string(function.get('arguments'), f'{name}.function.arguments'))
