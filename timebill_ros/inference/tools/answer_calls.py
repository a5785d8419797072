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

"""An answer to a goal with tools, taken apart into text and calls, wherever it ended.

A call acts on the world, so half of one is never passed on: a call that was not complete when the answer was cut is
dropped as a whole, or completed where the goal says so (grammars/tool_answer.py).
"""
from __future__ import annotations

import json
import secrets
import string
from typing import NamedTuple

from timebill_ros.codes import FinishReason
from timebill_ros.inference.tools.call_format import Call, CallFormat
from timebill_ros.request import CUT

_SIGNS = string.ascii_letters + string.digits
ID_CHARACTERS = 9  # Mistral's templates take ids of just this length


class Answered(NamedTuple):
    """An answer's text, without its calls, and the calls."""

    text: str
    calls: list[Call]


def taken_apart(text: str, calls: CallFormat, names: list[str], reason: FinishReason) -> Answered:
    """Take apart an answer that ended for `reason` with `text`. `names`: of the goal's tools.

    Of an answer that did not end by itself, the beginning of a call and of its marker is left out. One that did keeps
    as text what it wrote and is no call.
    """
    found = calls.read(text, names)
    ended = reason in (FinishReason.EOS, FinishReason.STOP)
    if found.calls and (ended or reason in CUT):
        return Answered(found.text if ended else text[:found.start].strip(), found.calls)
    if ended:
        return Answered(text, [])
    return Answered(_without_beginning(text[:found.start], calls.marker), [])


def _without_beginning(text: str, marker: str) -> str:
    """Return `text` without the first characters of a marker at its end: at least two, as one alone may be a text's."""
    cut = next((n for n in range(len(marker) - 1, 1, -1) if text.endswith(marker[:n])), 0)
    return text[:len(text) - cut]


def names_of(tools: str) -> list[str]:
    """Return the names of the tools in a goal's `tools`."""
    return [tool['function']['name'] for tool in json.loads(tools)]


def as_records(calls: list[Call]) -> list[dict[str, str]]:
    """Return calls as an Outcome holds them, each with an id of its own."""
    return [{'id': ''.join(secrets.choice(_SIGNS) for _ in range(ID_CHARACTERS)), 'name': call.name,
             'arguments': call.arguments} for call in calls]
