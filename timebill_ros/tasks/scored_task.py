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

"""A prompt that a model answers, and how the answer is scored: what benches measure on, whatever it was made from."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ScoredTask:
    """One task.

    `key`: names it in kept results; another prompt or other right answers have another key. `family`: the kind of task
    that results are given for. `messages`: the prompt, as chat messages. `max_new_tokens`: its longest answer.
    `scores(text)` returns scores of an answer by name, from 0 (worthless) to 1; the first one counts in quality tables.
    """

    key: str
    family: str
    messages: list[dict[str, str]]
    max_new_tokens: int
    scores: Callable[[str], dict[str, float]]

    def score(self, text: str) -> float:
        """Return the score that counts."""
        return next(iter(self.scores(text).values()))
