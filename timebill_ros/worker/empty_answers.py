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

"""Tells in the log where answers that succeed are empty: right for one goal, and a sign of a fault where it recurs."""
from __future__ import annotations

import logging
import time
from collections import deque

from timebill_ros.codes import ErrorCode, FinishReason
from timebill_ros.deadline import Clock
from timebill_ros.request import Outcome

log = logging.getLogger(__name__)

WINDOW = 20  # the last goals that succeeded
OFTEN = 3  # this many empty ones among them are worth a warning
QUIET_S = 600.0  # at least this long between two warnings


class EmptyAnswers:
    """Counts empty answers among the goals that succeeded, and warns where there are many."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self._recent: deque[FinishReason | None] = deque(maxlen=WINDOW)  # None: with text or calls of tools
        self._quiet_until_s = -float('inf')

    def observe(self, outcome: Outcome) -> None:
        """Take note of how a goal ended."""
        if outcome.error_code is not ErrorCode.NONE:
            return
        has_content = bool(outcome.text or outcome.tool_calls)
        self._recent.append(None if has_content else outcome.finish_reason)
        empty = [reason for reason in self._recent if reason is not None]
        if has_content or len(empty) < OFTEN or self._clock() < self._quiet_until_s:
            return
        self._quiet_until_s = self._clock() + QUIET_S
        stopped = empty.count(FinishReason.STOP)
        log.warning('%d of the last %d goals that succeeded have an empty text: the model ended %d of them before any '
                    "text, and a stop string came first in %d. Look at the prompts, at the model's chat template (does "
                    'a goal give prompt where the model wants messages?) and at sampling.stop', len(empty),
                    len(self._recent), len(empty) - stopped, stopped)
