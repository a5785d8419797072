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

"""Kinds of prompts whose answers run on, beyond every expectation and to no end of their own.

A model that is asked what it cannot answer may go on until something stops it. That says nothing of other prompts, and
must not make their bound longer. So it is remembered for prompts of the same kind: of about the same length, and with
about the same predicted length, both within a factor of two.
"""
from __future__ import annotations

from collections import deque

from timebill_ros.length.length_distribution import LengthDistribution

KINDS = 64  # remembered; the one that was not seen for the longest time is forgotten
ANSWERS = 100  # remembered of each kind
# Share of a kind's answers that run on, above which the next one is expected to. Far above any miss rate, because some
# answers of every kind are longer than their bound, and of answers that are cut early nothing is known.
LIKELY = 0.25


def kind_of(distribution: LengthDistribution, prompt_tokens: int) -> str:
    """Return the name of a prompt's kind, from its tokens and its predicted length."""
    return f'{prompt_tokens.bit_length()} {distribution.median().bit_length()}'


class RunOns:
    """Which kinds of prompts have answers that run on."""

    def __init__(self):
        self._kinds: dict[str, deque[bool]] = {}  # for each of the last answers, whether it ran on

    def observe(self, kind: str, ran_on: bool) -> None:
        """Account for an answer to a prompt of this kind."""
        answers = self._kinds.pop(kind, None) or deque(maxlen=ANSWERS)
        answers.append(ran_on)
        self._kinds[kind] = answers  # the last of the dict was seen last
        if len(self._kinds) > KINDS:
            del self._kinds[next(iter(self._kinds))]

    def is_likely(self, kind: str) -> bool:
        """Return whether an answer to a prompt of this kind is to be planned for as long as it may get."""
        answers = self._kinds.get(kind, ())
        return sum(answers) > LIKELY * (len(answers) + 1)

    def state(self) -> dict[str, list[int]]:
        """Return what is worth keeping across a restart, as JSON-ready data: 1 for each answer that ran on, or 0."""
        return {kind: [int(ran_on) for ran_on in answers] for kind, answers in self._kinds.items()}

    def restore(self, state: dict[str, list[int]]) -> None:
        """Go on from what `state` returned. ValueError, TypeError or AttributeError for anything else."""
        kinds = {str(kind): deque((bool(int(ran_on)) for ran_on in answers), maxlen=ANSWERS)
                 for kind, answers in state.items()}
        self._kinds = dict(list(kinds.items())[-KINDS:])
