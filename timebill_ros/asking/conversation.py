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

"""Conversations as messages, made of what Python programs hold."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from timebill_ros.asking.message_check import carried
from timebill_ros.msg import ChatMessage, ToolCall

# A conversation: the text of the user, or turns with a role and a content, the oldest first. A turn of the role
# assistant may have tool_calls, and one of the role tool a tool_call_id.
Messages = str | Iterable[Mapping | ChatMessage]


def chat(*messages: Mapping) -> list[ChatMessage]:
    """Return dictionaries with a role and a content as the messages of a goal; `send` checks what is in them."""
    return [ChatMessage(role=message['role'], content=message['content'],
                        tool_calls=_calls(message.get('tool_calls'), f'messages[{index}].tool_calls'),
                        tool_call_id=message.get('tool_call_id', '')) for index, message in enumerate(messages)]


def turns(messages: Messages) -> list[ChatMessage]:
    """Return a conversation as the messages of a goal. ValueError, with the value, for what is none."""
    if isinstance(messages, str):
        messages = [{'role': 'user', 'content': messages}]
    if isinstance(messages, (bytes, Mapping)) or not isinstance(messages, Iterable):
        raise ValueError(f'{messages!r:.80} is no question: give text, or a list of dictionaries with "role" and '
                         '"content"')
    return [_turn(message, f'messages[{index}]') for index, message in enumerate(messages)]


def _turn(message: Mapping | ChatMessage, where: str) -> ChatMessage:
    fields = {}
    try:
        if isinstance(message, ChatMessage):
            role, content, calls, answered = message.role, message.content, message.tool_calls, message.tool_call_id
        else:
            role, content = message['role'], message['content']
            calls, answered = message.get('tool_calls') or (), message.get('tool_call_id') or ''
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f'{where} is no turn of a conversation: {message!r:.80}; give a dictionary with "role" and '
                         '"content"') from None
    if content is None and calls:  # as OpenAI's clients send it
        content = ''
    if calls:
        fields['tool_calls'] = _calls(calls, f'{where}.tool_calls')
    if answered:
        fields['tool_call_id'] = carried('string', answered, f'{where}.tool_call_id')
    return ChatMessage(role=carried('string', role, f'{where}.role'),
                       content=carried('string', content, f'{where}.content'), **fields)


def _calls(calls: Iterable | None, where: str) -> list[ToolCall]:
    return [_call(call, f'{where}[{number}]') for number, call in enumerate(calls or ())]


def _call(call: Mapping | ToolCall, where: str) -> ToolCall:
    """Return one call. A dictionary has an id, a name and arguments, the last two also in OpenAI's "function"."""
    if not isinstance(call, ToolCall):
        try:
            inner = call.get('function', call)
            arguments = inner.get('arguments', '')
            call = ToolCall(
                id=carried('string', call.get('id', ''), f'{where}.id'),
                name=carried('string', inner['name'], f'{where}.name'),
                arguments=carried('string', json.dumps(arguments) if isinstance(arguments, Mapping) else arguments,
                                  f'{where}.arguments'))
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f'{where} is no call of a tool: {call!r:.80}; give a dictionary with "id", "name" and '
                             '"arguments"') from None
    return carried('timebill_ros/ToolCall', call, where)
