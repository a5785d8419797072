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

"""What a node's parameters and a model's chat template have to agree on: template keywords, and who may speak first."""
from __future__ import annotations

import functools
import inspect
import json
import logging

from timebill_ros.inference.model_directory import ModelError

log = logging.getLogger(__name__)


def set_template_args(name: str, tokenizer, text: str) -> None:
    """Have `tokenizer` render every conversation with the keywords in `text`, a JSON object; empty: none.

    All callers of apply_chat_template get them: goals, and the probes for markers and ends of turns. ModelError where
    the model `name` has no chat template, and for a keyword that has another meaning for transformers. A keyword that
    the template does not name gets a warning: it changes nothing.
    """
    keywords = json.loads(text or '{}')
    if not keywords:
        return
    template = getattr(tokenizer, 'chat_template', None)
    if not template:
        raise ModelError(f'chat_template_args is {text!r}, and model {name} has no chat template')
    taken = [parameter.name for parameter in inspect.signature(tokenizer.apply_chat_template).parameters.values()
             if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    for keyword in keywords:
        if keyword in taken or keyword == 'messages':
            raise ModelError(f'chat_template_args may not set {keyword!r}: the node sets it, or transformers takes it')
        if keyword not in str(template):
            log.warning('chat_template_args sets %r, which the chat template of %s does not use', keyword, name)
    tokenizer.apply_chat_template = functools.partial(tokenizer.apply_chat_template, **keywords)


def takes_system(tokenizer, n: int = 1) -> bool:
    """Whether the chat template renders `n` system messages in a row. Some refuse them (Gemma 2), or leave them out."""
    probes = [f'instruction {k}' for k in range(n)]
    turns = [*({'role': 'system', 'content': probe} for probe in probes), {'role': 'user', 'content': '-'}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return all(probe in text for probe in probes)
    except Exception:  # templates raise jinja errors of their own
        return False


def systems_joined(messages: list[dict]) -> list[dict]:
    """Return `messages` with system messages that follow each other as one, an empty line between their texts."""
    made: list[dict] = []
    for message in messages:
        if made and message['role'] == made[-1]['role'] == 'system':
            parts = [part for part in (made[-1]['content'], message['content']) if part.strip()]
            made[-1] = {**message, 'content': '\n\n'.join(parts)}
        else:
            made.append(message)
    return made


def system_into_user(messages: list[dict]) -> list[dict]:
    """Return `messages` with the text of each system message at the beginning of the next user message.

    An empty line separates the two. A system message that no user message follows is left where it is.
    """
    made: list[dict] = []
    waiting: list[dict] = []  # system messages
    for message in messages:
        if message['role'] == 'system':
            waiting.append(message)
            continue
        if message['role'] == 'user' and waiting:
            parts = [*(system['content'] for system in waiting if system['content'].strip()), message['content']]
            message, waiting = {**message, 'content': '\n\n'.join(parts)}, []
        elif waiting:
            made, waiting = made + waiting, []
        made.append(message)
    return made + waiting
