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


"""The states of answers at each age, taken while labels are made: see length/look_labels.py.

Two ways to decode, two classes: `SideBySideLooks` is called after each step of several answers
(inference/side_by_side.py), `OneAnswersLooks` by the token loop. Both find the same states as a node does.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from timebill_ros.inference.answer_state import EVERY, AnswerState
from timebill_ros.length.look_labels import AGES, joined

if TYPE_CHECKING:
    import torch

    from timebill_ros.inference.side_by_side import Row

LOOK_TOKENS = 16  # all of AGES are multiples of it

Looks = list[tuple[int, np.ndarray]]  # (tokens that have come, the answer's states as `joined` returns them [2 H])


class OneAnswersLooks:
    """What the token loop calls every LOOK_TOKENS tokens in the place of a re-planner, which changes nothing.

    `states`: of the model that decodes.
    """

    def __init__(self, states: AnswerState):
        self._states = states
        self.found: Looks = []

    def __call__(self, n: int, n_kv: int, pace: float) -> int:
        if n in AGES:
            self.found.append((n, joined(*self._states.read())))
        return n_kv


class SideBySideLooks:
    """What SideBySide calls after each step."""

    def __init__(self):
        self._sums: dict[int, np.ndarray] = {}  # by the row's identity: of every fourth state [H], float32
        self._found: dict[int, Looks] = {}

    def __call__(self, rows: list[Row], hidden: torch.Tensor | None) -> None:
        if hidden is None:
            return
        counts = [len(row.tokens) for row in rows]  # the newest state gave the last of them
        if not any(n % EVERY == 0 for n in counts):
            return
        for row, n, state in zip(rows, counts, hidden.float().cpu().numpy(), strict=True):
            if n % EVERY:
                continue
            total = self._sums[id(row)] = state + self._sums.get(id(row), 0.0)
            if n in AGES:
                self._found.setdefault(id(row), []).append((n, joined(state, total / (n // EVERY))))

    def taken(self, row: Row) -> Looks:
        """Return the looks at an answer that is over, which is forgotten."""
        self._sums.pop(id(row), None)
        return self._found.pop(id(row), [])
