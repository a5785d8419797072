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

"""Estimates that somebody waits for.

The worker is asked between goals. Every estimate gets exactly one answer, at the latest after ESTIMATE_TIMEOUT_S.
"""
from __future__ import annotations

import math
from concurrent.futures import Future

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.deadline import Clock
from timebill_ros.request import Plan, Request, to_dict

ESTIMATE_TIMEOUT_S = 5.0


class Estimates:
    """The open estimates of one dispatcher; called from its thread only."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._open: dict[int, tuple[Future, float]] = {}  # by tag: (who waits, until when)

    def ask(self, request: Request, future: Future) -> dict:
        """Note who waits, and return the message that asks the worker."""
        tag = id(future)
        self._open[tag] = (future, self._clock() + ESTIMATE_TIMEOUT_S)
        return {'op': 'estimate', 'tag': tag, 'request': to_dict(request)}

    def answer(self, event: dict) -> None:
        """Hand on the worker's answer; drop one that comes after its timeout."""
        future, _ = self._open.pop(event['tag'], (None, 0.0))
        if future is None:
            return
        try:
            if 'error_code' in event:
                raise GoalError(ErrorCode(event['error_code']), event['error_msg'])
            future.set_result({'plan': Plan.from_dict(event['plan']), 'whole': Plan.from_dict(event['whole']),
                               'prompt_tokens': event['prompt_tokens'], 'prefill_s': event['prefill_s']})
        except GoalError as error:
            future.set_exception(error)
        except (KeyError, TypeError, ValueError) as error:
            future.set_exception(GoalError(ErrorCode.UNKNOWN, 'the inference process sent an estimate that cannot be: '
                                           f'{type(error).__name__}: {error}'))

    def fail(self, code: ErrorCode, message: str) -> None:
        """Give all who wait an error, because the worker will not answer any more."""
        open_, self._open = self._open, {}
        for future, _ in open_.values():
            future.set_exception(GoalError(code, message))

    def next_timer_s(self) -> float:
        return min((until for _, until in self._open.values()), default=math.inf)

    def check_timers(self) -> None:
        now = self._clock()
        for tag, (future, until) in list(self._open.items()):
            if now >= until:
                del self._open[tag]
                future.set_exception(GoalError(ErrorCode.BUSY, 'the worker did not answer in time'))
