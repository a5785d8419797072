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

"""What an answer may be that may call tools: free text, then calls as the chat template writes them.

The text is free up to the marker that calls begin with. From there on the grammar leads: names of tools, and arguments
of each tool's own schema. Markers that are tokens of their own in the model's vocabulary are these tokens.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from timebill_ros.codes import ErrorCode, GoalError, ToolChoice
from timebill_ros.inference.grammars.form import JSON_OPTIONS
from timebill_ros.inference.grammars.kept_loosely import kept_loosely
from timebill_ros.inference.tools.call_format import CallFormat
from timebill_ros.request import Request

_ANY = r'/(.|\n)+/'


@dataclass(frozen=True)
class ToolForm:
    """What a goal with tools asks for; equal ones have the same grammar.

    tools:   the goal's own text
    format:  how calls are written
    marks:   the added tokens of the vocabulary: (text, id)
    """

    tools: str
    choice: ToolChoice
    format: CallFormat
    marks: tuple[tuple[str, int], ...]
    is_json = False  # as a whole
    kind = 'tools'
    choices = ()

    @staticmethod
    def of(request: Request, calls: CallFormat | None, added: Mapping[int, object]) -> ToolForm | None:
        """Return what a goal asks for; None where it has no tools. `added`: a tokenizer's added_tokens_decoder."""
        if not request.tools or calls is None:
            return None
        marks = tuple((str(token), i) for i, token in sorted(added.items()) if len(str(token)) > 2)
        return ToolForm(request.tools, request.tool_choice, calls, marks)

    @property
    def schemas(self) -> dict[str, dict]:
        """The schema of the arguments of each tool, by name."""
        functions = [tool['function'] for tool in json.loads(self.tools)]
        return {function['name']: {'type': 'object', **function.get('parameters', {})} for function in functions}

    def grammar(self, library) -> str:
        """Return the whole answer as a grammar of llguidance. GoalError where a schema cannot be followed."""
        marker, begin = self.format.marker, self.format.begin
        rules, body = self._calls(begin[len(marker):] if marker else begin, self._spelled)
        first = self._spelled(marker)
        if self.choice is ToolChoice.REQUIRED:
            start = f'start: {first} calls'
        elif not marker:  # an answer that is not all text begins as JSON does
            start = f'start: calls | TEXT |\nTEXT: /[^{re.escape(begin.lstrip()[0])}](.|\\n)*/'
        elif first.startswith('<['):
            start = f'start: TEXT | text {first} calls |\ntext: TEXT |\nTEXT: {_ANY}'
        else:  # the text ends at the first marker in it
            start = f'start: TEXT | text calls |\ntext[lazy]: /(.|\\n)*/ {first}\nTEXT: {_ANY}'
        return '\n'.join(('%llguidance {}', start, body, *rules))

    def byte_grammar(self, library) -> str:
        """Return the calls alone as a grammar over bytes, markers included."""
        rules, body = self._calls(self.format.begin, json.dumps)
        return '\n'.join(('%llguidance {}', 'start: calls', body, *rules))

    def _calls(self, begin: str, spelled: Callable[[str], str]) -> tuple[list[str], str]:
        """Return the rules of single calls, and that of all calls of an answer from `begin` on."""
        rules = []
        for number, (name, schema) in enumerate(self.schemas.items()):
            if why := kept_loosely(schema):
                raise self.refusal(f'the parameters of {name}: {why}')
            rules.append(f'call_{number}: {spelled(name + self.format.middle)} %json '
                         f'{json.dumps({**schema, "x-guidance": JSON_OPTIONS})}')
        more = f'({spelled(self.format.between)} call)*' if self.format.between else ''
        ends = spelled(self.format.end) if self.format.end else ''
        return ['call: ' + ' | '.join(f'call_{number}' for number in range(len(rules))), *rules], \
            f'calls: {spelled(begin) if begin else ""} call {more} {ends}'

    def _spelled(self, text: str) -> str:
        """Return a text as terms of a grammar, in which the added tokens that it holds are tokens."""
        ids = dict(self.marks)
        pattern = '|'.join(re.escape(mark) for mark in sorted(ids, key=len, reverse=True))
        parts = re.split(f'({pattern})', text) if pattern else [text]
        return ' '.join(f'<[{ids[part]}]>' if part in ids else json.dumps(part, ensure_ascii=False)
                        for part in parts if part)

    def refusal(self, why: str) -> GoalError:
        """Return the error of a goal whose tools cannot be followed."""
        return GoalError(ErrorCode.INVALID_GOAL, f'tools cannot be followed: {" ".join(why.split())[:400]}')
