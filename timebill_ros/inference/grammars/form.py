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

"""The form that a goal asks for, as a grammar of llguidance."""
from __future__ import annotations

import json
from dataclasses import dataclass

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.inference.grammars.kept_loosely import kept_loosely
from timebill_ros.request import Request

JSON, CHOICES, REGEX = 'response_schema', 'choices', 'regex'
# White space between two tokens of JSON: line ends and an indentation, but not so much that an answer may consist of
# it. Models that have nothing to say write white space for ever.
WHITE_SPACE = r'[\n\r]{1,2}[ \t]{0,32}|[ \t]{1,32}'
# In a schema's own "x-guidance" these cannot be changed: they keep the promise that the answer satisfies the schema.
JSON_OPTIONS = {'whitespace_flexible': True, 'whitespace_pattern': WHITE_SPACE, 'lenient': False,
                'coerce_one_of': False, 'item_separator': ',', 'key_separator': ':'}


@dataclass(frozen=True)
class Form:
    """What an answer must be. `kind`: the goal's field; `text`: what it holds, the same for equal forms."""

    kind: str
    text: str

    @staticmethod
    def of(request: Request) -> Form | None:
        """Return what the goal asks for; None: any text."""
        if request.response_schema:
            return Form(JSON, request.response_schema)
        if request.choices:
            return Form(CHOICES, json.dumps(request.choices, ensure_ascii=False))
        return Form(REGEX, request.regex) if request.regex else None

    @property
    def is_json(self) -> bool:
        return self.kind == JSON

    @property
    def schema(self) -> dict:
        """The schema; an empty one asks for any object."""
        return json.loads(self.text) or {'type': 'object'}

    @property
    def choices(self) -> list[str]:
        """The choices of a form of this kind."""
        return json.loads(self.text)

    def grammar(self, library) -> str:
        """Return the form as a grammar. `library`: llguidance. GoalError where it is none.

        A grammar that is returned may still turn out to be wrong when it is compiled.
        """
        try:
            if self.kind == JSON:
                if why := kept_loosely(self.schema):
                    raise ValueError(why)
                return library.LLMatcher.grammar_from_json_schema(self.schema, overrides=JSON_OPTIONS)
            if self.kind == REGEX:
                return library.LLMatcher.grammar_from_regex(self.text)
            texts = ' | '.join(json.dumps(choice, ensure_ascii=False) for choice in self.choices)
            return library.LLMatcher.grammar_from_lark(f'start: CHOICE\nCHOICE: {texts}')
        except (ValueError, RecursionError) as error:
            raise self.refusal(str(error)) from error

    def byte_grammar(self, library) -> str:
        """Return the grammar by which an answer that was cut is completed, byte by byte."""
        return self.grammar(library)

    def refusal(self, why: str) -> GoalError:
        """Return the error of a goal whose form cannot be followed."""
        return GoalError(ErrorCode.INVALID_GOAL, f'{self.kind} cannot be followed: {" ".join(why.split())[:400]}')
