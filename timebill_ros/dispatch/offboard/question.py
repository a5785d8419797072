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

"""A goal as a request in OpenAI's form, and which goals the server is asked at all."""
from __future__ import annotations

from timebill_ros.codes import Thinking
from timebill_ros.request import Request


def suits(request: Request) -> bool:
    """Whether the server may be asked for this goal: it allows it, and asks for nothing that only the node can hold.

    The node cannot say of a server's text whether it has the form of a schema or a regular expression, and calls of
    tools and thinking sections are spelled by each server in its own way. Where the last message begins the
    answer, most servers begin another one. Such goals are answered on board.
    """
    last = request.messages[-1] if request.messages else {'role': '', 'content': ''}
    is_begun = last['role'] == 'assistant' and bool(last['content'].strip())
    return request.allow_offboard and not (request.has_form or request.tools or request.thinking is Thinking.ON
                                           or is_begun)


def question(request: Request, model: str) -> tuple[str, dict]:
    """Return the path below `offboard_url` and the JSON body that ask `model` for an answer, streamed.

    Fields that OpenAI does not have are sent only where the goal sets them.
    """
    sampling = request.sampling
    body: dict = {'model': model, 'stream': True, 'max_tokens': request.max_new_tokens,
                  'temperature': sampling.temperature}
    for name, off in (('top_p', 1.0), ('top_k', 0), ('min_p', 0.0)):
        if sampling.temperature > 0 and (value := getattr(sampling, name)) != off:
            body[name] = value
    if sampling.temperature > 0 and sampling.seed:
        body['seed'] = sampling.seed % 2 ** 63  # servers take a signed one
    if sampling.repetition_penalty != 1.0:
        body['repetition_penalty'] = sampling.repetition_penalty
    if sampling.stop:
        body['stop'] = sampling.stop
    if request.messages:
        return 'chat/completions', {**body, 'messages': [_message(message) for message in request.messages]}
    return 'completions', {**body, 'prompt': request.prompt}


def _message(message: dict) -> dict:
    made = {'role': message['role'], 'content': message['content']}
    if message.get('tool_calls'):
        made['tool_calls'] = [{'id': call['id'], 'type': 'function',
                               'function': {'name': call['name'], 'arguments': call['arguments']}}
                              for call in message['tool_calls']]
    if message.get('tool_call_id'):
        made['tool_call_id'] = message['tool_call_id']
    return made
