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

"""A conversation that is longer than the context: how many of its oldest turns are left out."""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.request import Request

DROP_OLDEST = 'drop_oldest'  # of the parameter on_long_history
ANSWER_SHARE = 4  # room for the answer is what the goal allows, and at most the context over this


@dataclass(frozen=True)
class Read:
    """A prompt as the model will read it. `dropped`: messages of the conversation that were left out."""

    prompt: str  # rendered
    ids: list[int]
    dropped: int = 0


def read(model, request: Request, should_stop: Callable[[], bool]) -> Read | None:
    """Render and tokenize `request`, without its oldest turns where it says so and all of them are too long.

    Turns go until the rest leaves room for the answer, or only the last one is left. The search halves their number: a
    conversation of 500 turns is tokenized ten times at most, mostly in part. None where `should_stop` said so.
    GoalError for a prompt that the model cannot take, for instance where not even the last turn fits.
    """
    system, turns = split(request.messages)
    if request.on_long_history != DROP_OLDEST or len(turns) < 2:
        return _read(model, request, should_stop, 0)
    most = model.max_context - min(request.max_new_tokens, model.max_context // ANSWER_SHARE)
    found: dict[int, Read | None] = {}

    def without(n: int) -> Read | None:
        messages, dropped = [*system, *chain(*turns[n:])], sum(map(len, turns[:n]))
        return _read(model, replace(request, messages=messages), should_stop, dropped)

    def fits(n: int) -> bool:
        try:
            found[n] = without(n)
        except GoalError as error:
            if error.code is not ErrorCode.PROMPT_TOO_LONG:
                raise
            return False
        return found[n] is None or len(found[n].ids) <= most  # None: it was stopped, so there is nothing to look for

    last = len(turns) - 1
    n = 0 if fits(0) else 1 + bisect_left(range(1, last), True, key=fits)
    return found[n] if n < last else without(n)


def split(messages: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[list[dict[str, str]]]]:
    """Return the system messages that a conversation begins with, and its turns.

    A turn is a user's message and all that follows up to the next one. What comes before the first is one turn too.
    """
    n_system = next((i for i, message in enumerate(messages) if message['role'] != 'system'), len(messages))
    turns: list[list[dict[str, str]]] = []
    for message in messages[n_system:]:
        if message['role'] == 'user' or not turns:
            turns.append([])
        turns[-1].append(message)
    return messages[:n_system], turns


def _read(model, request: Request, should_stop: Callable[[], bool], dropped: int) -> Read | None:
    prompt = model.render(request)
    ids = model.tokenize(prompt, is_chat=bool(request.messages), should_stop=should_stop)
    return Read(prompt, ids, dropped) if ids is not None else None
