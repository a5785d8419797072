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

"""How a model writes calls of tools: found from what its own chat template writes for calls that were made.

A template writes a call as text around a name and around arguments in JSON. So the text of a conversation with one
call, with two calls and without any tells what stands before a name, between name and arguments, between two calls and
at the end. Nothing here knows a model's name. This covers, among others, the formats of Qwen and Hermes (<tool_call>),
Llama 3 (JSON alone) and Mistral ([TOOL_CALLS]).
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

_SAID = '\u25c6said\u25c6'  # a plain answer, with which no format of calls has a beginning or an end in common
_NAMES = ('probe_alpha', 'probe_beta')
_IDS = ('aZ3dE6gH9', 'bY4fG7iJ2')  # Mistral's template takes nine letters and digits
_PLACES = ('north', 'south')
_NAME = r'([A-Za-z0-9_.\-]{1,64})'  # as tool_list.py takes names


class Call(NamedTuple):
    """One call as the model wrote it. `arguments`: a JSON object, as text."""

    name: str
    arguments: str


class Read(NamedTuple):
    """An answer, taken apart."""

    text: str  # what stands beside the calls
    calls: list[Call]  # those that are complete
    start: int  # where calls begin, in characters; the length of the whole where there is none
    begun: int  # where a call begins that is not complete; the length of the whole where there is none


@dataclass(frozen=True)
class CallFormat:
    """What a model writes around the names and arguments of calls.

    begin:    before the first name; `marker` is the part of it that only calls have
    middle:   between a name and its arguments
    between:  between the arguments of a call and the name of the next one; empty: an answer holds one call
    end:      behind the last arguments
    """

    begin: str
    middle: str
    between: str
    end: str

    @property
    def marker(self) -> str:
        """The text that tells that calls follow; empty where an answer with calls is nothing but JSON."""
        return re.sub(r'\s*\[?\s*$', '', self.begin.partition('{"')[0])

    def start(self, text: str) -> int:
        """Return where calls begin in an answer, in characters; its length where there are none."""
        if self.marker:
            at = text.find(self.marker)
            return len(text) if at < 0 else at
        return 0 if text[:1] == self.begin.lstrip()[:1] else len(text)

    def read(self, text: str, names: Collection[str]) -> Read:
        """Take an answer apart. `names`: of the tools; a call of another one is no call.

        White space around names and arguments may be other than the template's.
        """
        start = at = self.start(text)
        calls, begun, before = [], start, self.begin
        while found := re.compile(_loose(before) + _NAME + _loose(self.middle)).match(text, at):
            end = _object_end(text, found.end())
            if end is None or found[1] not in names:
                break
            calls.append(Call(found[1], text[found.end():end]))
            begun = at = end
            if not self.between:
                break
            before = self.between
        beside = text[:start].strip()
        if calls:
            ended = re.compile(_loose(self.end)).match(text, at)
            rest = text[ended.end() if ended else at:]
            if ended and self.start(rest) == len(rest) or _squeezed(self.end).startswith(_squeezed(rest)):
                begun = len(text)  # there is no other call
                beside = '\n'.join(filter(None, (beside, rest.strip() if ended else '')))
        return Read(beside, calls, start, begun)


def _loose(written: str) -> str:
    """Return a pattern for a text of the template, with any white space between its words and signs."""
    return r'\s*' + ''.join(re.escape(part) + r'\s*' for part in re.findall(r'[\w]+|[^\w\s]', written))


def _squeezed(text: str) -> str:
    return ''.join(text.split())


def _object_end(text: str, at: int) -> int | None:
    """Return where the JSON object ends that begins at `at`; None: there is no whole one."""
    if text[at:at + 1] != '{':
        return None
    try:
        return json.JSONDecoder().raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        return None


def found_in(tokenizer) -> CallFormat | None:
    """Return how the chat template of `tokenizer` writes calls.

    None where it has none, leaves tools out, or writes calls in another way than around names and JSON.
    """
    if not getattr(tokenizer, 'chat_template', None) or not shows_tools(tokenizer):
        return None
    plain, one, two = _rendered(tokenizer, 0), _rendered(tokenizer, 1), _rendered(tokenizer, 2)
    if plain is None or one is None:
        return None
    before = len(os.path.commonprefix([plain, one]))
    after = len(os.path.commonprefix([plain[:before - 1:-1], one[:before - 1:-1]]))
    written = _parts(one[before:len(one) - after], 1)
    if written is None:
        return None
    begin, middle, end = written
    several = None if two is None else _parts(two[before:len(two) - after], 2)
    between = several[2] if several and (*several[:2], *several[3:5]) == (begin, middle, middle, end) \
        else ''
    return CallFormat(begin, middle, between, end)


def shows_tools(tokenizer) -> bool:
    """Whether the chat template writes tools into the prompt."""
    try:
        text = tokenizer.apply_chat_template([{'role': 'user', 'content': 'go'}], tools=_tools(), tokenize=False,
                                             add_generation_prompt=True)
    except Exception:  # templates raise jinja errors of their own
        return False
    return _NAMES[0] in text


def _tools() -> list[dict]:
    place = {'type': 'object', 'properties': {'where': {'type': 'string'}}, 'required': ['where']}
    return [{'type': 'function', 'function': {'name': name, 'description': 'goes', 'parameters': place}}
            for name in _NAMES]


def _rendered(tokenizer, n: int) -> str | None:
    """Return a conversation that ends with an answer of `n` calls, or of text; None: the template refuses it."""
    calls = [{'id': _IDS[i], 'type': 'function', 'function': {'name': _NAMES[i], 'arguments': {'where': _PLACES[i]}}}
             for i in range(n)]
    answer = {'role': 'assistant', 'content': '', 'tool_calls': calls} if n else \
        {'role': 'assistant', 'content': _SAID}
    try:
        return tokenizer.apply_chat_template([{'role': 'user', 'content': 'go'}, answer], tools=_tools(),
                                             tokenize=False)
    except Exception:  # some templates refuse several calls, or calls altogether
        return None


def _parts(written: str, n: int) -> list[str] | None:
    """Return what stands before, between and behind the names and arguments of `n` calls.

    None where these are not there. The ids of calls are left out: a model does not write them.
    """
    calls = [f'{name}(.*?)' + r'\{\s*"where"\s*:\s*"' + place + r'"\s*\}'
             for name, place in zip(_NAMES, _PLACES, strict=True)]
    pattern = '(.*?)'.join(['', *calls[:n], ''])
    found = re.fullmatch(pattern, written, re.DOTALL)
    if found is None:
        return None
    parts = [re.sub(r',\s*"id"\s*:\s*"(?:%s)"|"id"\s*:\s*"(?:%s)"\s*,\s*' % (('|'.join(_IDS),) * 2), '', part)
             for part in found.groups()]
    return None if any(own in part for part in parts for own in (*_IDS, *_NAMES, *_PLACES)) else parts
