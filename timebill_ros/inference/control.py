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

"""The record through which other threads watch and steer a running request."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from timebill_ros.codes import Phase
from timebill_ros.deadline import Deadline
from timebill_ros.request import Plan, Timing

RECENT = 15  # steps whose median a plan is revised with: one step that was preempted must not cost cache entries


def _ignore(*args) -> None:
    pass


@dataclass
class Control:
    """One running request, as other threads watch and steer it.

    The engine writes `tokens` and `n_tokens`; any thread may read them while the loop runs. `canceled`, `pausing`
    and the deadline are written from outside, and read once per token and per layer or chunk of prefill. Plans are made
    for the deadline; the work itself is stopped `overrun_s` after it.
    """

    deadline: Deadline
    margin_s: float = 0.0  # kept free before the deadline for completing an answer that is cut, and for delivering it
    overrun_s: float = 0.0  # how long the work may go on after the deadline (SKIP_NEXT)
    dropped: bool = False  # set to end the request: a revised plan expects no answer in time
    cap: int = 0  # tokens of the answer; a revised plan may lower it, and raise it again, while the loop runs
    canceled: bool = False
    pausing: bool = False  # set to have the request give way to others, see giving_way.py
    paused: bool = False  # it has given way, and is to go on once this is false
    tokens: list[int] = field(default_factory=list)  # allocated to the goal's limit before the loop starts
    n_tokens: int = 0
    thinks: bool = False  # what comes is a thinking section
    thought: int = 0  # tokens of the section, at the beginning, once it is over
    looks: int = 0  # how often prefill has asked whether to stop: with `n_tokens`, the sign that work goes on
    on_phase: Callable[[Phase], None] = _ignore
    on_plan: Callable[[Plan, Timing], None] = _ignore
    on_pause: Callable[[], None] = _ignore  # called once the request has given way; returns when it is to go on
    on_refused: Callable[[str], None] = _ignore  # called with the reason where it cannot give way, and ends instead
    revised: tuple[Plan, Timing] | None = None  # the latest plan made while decoding, for another thread to send
    _left_s: float = 0.0  # at the latest look
    _gap_s: float = 0.0  # seconds between the two looks before it

    def should_stop(self) -> bool:
        """Whether prefill is to stop: also where the deadline will have come by the next look.

        Each call counts as a look, so that others see that prefill goes on. The next one is expected after no less time
        than one of the last two took to come; one of them alone may have been a pause.
        """
        self.looks += 1
        left_s = self.deadline.remaining() - self.margin_s + self.overrun_s
        gaps_s = (self._gap_s, self._left_s - left_s)
        self._left_s, self._gap_s = left_s, gaps_s[1]
        return self.canceled or self.pausing or left_s <= max(0.0, min(gaps_s))

    def gave_way(self, seconds: float) -> None:
        """Take note that others ran for so long since the latest look: that says nothing of when the next one comes."""
        self._left_s -= seconds
