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

"""A request as the model will read it. Needs neither torch nor the library of grammars."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from timebill_ros.codes import Verdict
from timebill_ros.inference.history import read
from timebill_ros.request import Request

if TYPE_CHECKING:
    from timebill_ros.inference.grammars.restricted_answer import RestrictedAnswer


SHORTEST_STEP_S = 1e-5  # for which the end of an answer of a given form is planned


@dataclass(frozen=True)
class Prepared:
    """A request as the model will read it."""

    prompt: str  # rendered
    ids: list[int]
    n_max: int  # N_max: the longest response that the goal and the model's context allow
    n_goal: int  # the goal's own limit, where that is shorter than the whole context
    dropped: int  # messages of the conversation that were left out
    reused: int = 0  # tokens, from the beginning, whose states are known
    answer: RestrictedAnswer | None = None  # where the goal asks for a form, or has tools
    thinks: bool = False  # a thinking section comes before the answer, to which n_max and n_goal belong

    def closing_s(self, left_s: float, step_s: float) -> float:
        """Return the seconds that completing the answer takes at most, as estimated; 0 where it has no form.

        left_s, step_s: seconds in which the prompt is read and the answer written, and of one step
        """
        if self.answer is None:
            return 0.0
        return self.answer.closing_s(min(self.n_max, max(left_s / max(step_s, SHORTEST_STEP_S), 0.0)))

    @property
    def is_choice(self) -> bool:
        """Whether the goal names all answers, whose lengths say nothing of others."""
        return self.answer is not None and bool(self.answer.bounds.lengths)

    def shows_level(self, verdict: Verdict) -> bool:
        """Whether what becomes of a goal with this verdict shows how sure a promise has to be.

        Choices are written quicker than planned, and a goal that does not fit whole leaves its thinking section out.
        """
        return not self.is_choice and (verdict is Verdict.FITS or not self.thinks)

    @property
    def n_x(self) -> int:
        """N_x: prompt tokens."""
        return len(self.ids)


def prepare(model, request: Request, should_stop: Callable[[], bool]) -> Prepared | None:
    """Render, tokenize, compile the form; None where `should_stop` said so. GoalError for what cannot be."""
    compiling = model.grammars.start(request)
    found = read(model, request, should_stop)
    if found is None:
        return None
    n_goal = min(request.max_new_tokens, model.max_context)
    n_max = min(n_goal, model.max_context - len(found.ids))
    answer = model.grammars.collect(compiling, should_stop)
    if compiling is not None and answer is None:
        return None
    limit = answer.bounds.limit if answer is not None and answer.bounds.limit else n_goal
    section = model.chat.thinking
    return Prepared(found.prompt, found.ids, min(n_max, limit), min(n_goal, limit), found.dropped,
                    model.prefixes.known(found.ids) if model.prefixes else 0, answer,
                    section is not None and section.is_open(found.prompt))
