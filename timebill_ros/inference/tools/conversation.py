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

"""A goal's messages and tools as chat templates take them, with whatever clients wrote quoted."""
from __future__ import annotations

import json
from collections.abc import Callable

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.chat_facts import ChatFacts
from timebill_ros.request import Request

Quote = Callable[[str], str]


def for_template(messages: list[dict], quote: Quote) -> list[dict]:
    """Return the messages of a Request as templates take them: arguments of calls are objects, not text.

    A message of the role tool gets the name of the tool that it answers for. `quote` is applied to every text.
    """
    made, waiting = [], []  # waiting: (id, name) of the calls without an answer
    for message in messages:
        turn: dict = {'role': message['role'], 'content': quote(message['content'])}
        if calls := message.get('tool_calls'):
            waiting = [(call['id'], call['name']) for call in calls]
            turn['tool_calls'] = [{'id': quote(call['id']), 'type': 'function', 'function': {
                'name': call['name'], 'arguments': _quoted(json.loads(call['arguments'] or '{}'), quote)}}
                for call in calls]
        elif message['role'] == 'tool':
            answered = message.get('tool_call_id', '')
            found = next((call for call in waiting if call[0] == answered or not answered), (answered, ''))
            waiting = [call for call in waiting if call is not found]
            turn |= {key: quote(value) for key, value in zip(('tool_call_id', 'name'), found, strict=True) if value}
        made.append(turn)
    return made


def tools_for_template(request: Request, facts: ChatFacts, name: str, quote: Quote) -> list[dict] | None:
    """Return the tools of a goal as templates take them; None: there are none.

    GoalError where the template of the model `name` leaves them out, or writes calls in a way that is not known here.
    """
    if not request.tools:
        return None
    why = '' if facts.calls else 'writes calls of tools in a way that is not known here' if facts.shows_tools else \
        'knows no tools'
    if why:
        raise GoalError(ErrorCode.INVALID_GOAL, f'the goal has tools, and the chat template of model {name} {why}: '
                        'describe them in a message, and where llguidance is installed ask for a response_schema')
    return _quoted(json.loads(request.tools), quote)


def _quoted(value, quote: Quote):
    """Return JSON data with every text in it quoted."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return [_quoted(item, quote) for item in value]
    if isinstance(value, dict):
        return {quote(key): _quoted(item, quote) for key, item in value.items()}
    return value
