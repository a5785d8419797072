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

"""Estimates that somebody waits for, and prompts that are read ahead.

The worker is asked where it has nothing else to do. While a goal runs or waits, and where the worker does not answer in
time, the node makes the estimate itself (bound_estimate.py). Every estimate gets exactly one answer, after
ESTIMATE_TIMEOUT_S at the latest.
"""
from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from concurrent.futures import Future

from timebill_ros.codes import ErrorCode, GoalError
from timebill_ros.deadline import Clock
from timebill_ros.dispatch.bound_estimate import Costs, Estimate, Waiting, estimate
from timebill_ros.request import Plan, Request, to_dict

log = logging.getLogger(__name__)

ESTIMATE_TIMEOUT_S = 5.0


class ReadInPart(GoalError):
    """Says why a prompt was not read ahead as a whole, and how much of it was: its tokens, and those that are kept."""

    def __init__(self, code: ErrorCode, message: str, prompt_tokens: int, ready_tokens: int):
        super().__init__(code, message)
        self.prompt_tokens, self.ready_tokens = prompt_tokens, ready_tokens


class Estimates:
    """The open estimates of one dispatcher; called from its thread only.

    `waiting(request, worst_s)` returns how long a request released now would wait for the worker, where a goal before
    it takes `worst_s(its request)` seconds at most.
    `on_prepared(request)` is called when a prompt was read ahead, at least in part.
    """

    def __init__(self, clock: Clock, waiting: Callable[[Request, Callable[[Request], float]], Waiting],
                 on_prepared: Callable[[Request], None]):
        self._clock, self._waiting, self._on_prepared = clock, waiting, on_prepared
        self._open: dict[int, tuple[Future, Request, float]] = {}  # by tag: (who waits, for what, until when)
        self._preparing: dict[int, tuple[Future, Request]] = {}  # by tag: (who waits, for which prompt)
        self._tags = itertools.count(1)  # never used twice: an answer may come after its question was given up
        self._costs: Costs | None = None
        self._learned: dict = {}

    def learn(self, event: dict) -> None:
        """Take what a message of the worker says about costs and lengths."""
        self._learned = event.get('learned') or self._learned
        if 'costs' in event:
            try:
                self._costs = Costs(event['costs'])
            except (KeyError, TypeError, ValueError):
                log.exception('the worker sent costs that cannot be')

    def ask(self, request: Request, future: Future, *, is_idle: bool) -> dict | None:
        """Note who waits, and return the message that asks the worker; None: the answer is given already."""
        if not is_idle or self._preparing:
            self.answer_now(request, future)
            return None
        tag = next(self._tags)
        self._open[tag] = (future, request, self._clock() + ESTIMATE_TIMEOUT_S)
        return {'op': 'estimate', 'tag': tag, 'request': to_dict(request)}

    def prepare(self, request: Request, future: Future, *, is_idle: bool) -> dict | None:
        """Note who waits for a prompt to be read ahead; see `ask`."""
        if not is_idle:
            future.set_exception(GoalError(ErrorCode.BUSY, 'a goal runs or waits, or the inference process starts'))
            return None
        tag = next(self._tags)
        self._preparing[tag] = (future, request)
        return {'op': 'prepare', 'tag': tag, 'request': to_dict(request)}

    def answer_now(self, request: Request, future: Future) -> None:
        """Answer from what the worker has said earlier, without asking it."""
        if self._costs is None:
            future.set_exception(GoalError(ErrorCode.UNKNOWN, 'the inference process is busy or was lost, and has not '
                                           'told what requests cost'))
            return
        try:
            waiting = self._waiting(request, self._longest_s)
            future.set_result(self._bound(request, waiting))
        except Exception as error:  # a bug; who asks must not wait for good
            log.exception('an estimate failed')
            future.set_exception(error)

    def _longest_s(self, ahead: Request) -> float:
        """Return how long a goal takes at most that starts before another; one that thinks takes all its time."""
        return math.inf if self._costs.thinks(ahead) else self._bound(ahead, Waiting(0.0, 0.0)).wcet_with_eviction_s

    def _bound(self, request: Request, waiting: Waiting) -> Estimate:
        return estimate(request, self._costs, self._learned, waiting)

    def prepared(self, event: dict) -> None:
        """Hand on what the worker says of a prompt that it read ahead."""
        future, request = self._preparing.pop(event['tag'], (None, None))
        if future is None:
            return
        if event.get('ready_tokens'):
            self._on_prepared(request)
        try:
            if 'error_code' in event:
                raise ReadInPart(ErrorCode(event['error_code']), event['error_msg'],
                                 int(event.get('prompt_tokens', 0)), int(event.get('ready_tokens', 0)))
            future.set_result((event['prompt_tokens'], event['ready_tokens']))
        except GoalError as error:
            future.set_exception(error)
        except (KeyError, TypeError, ValueError) as error:
            future.set_exception(GoalError(ErrorCode.UNKNOWN, f'the inference process sent what cannot be: {error!r}'))

    def answer(self, event: dict) -> None:
        """Hand on the worker's answer; drop one that comes after its timeout."""
        future, _, _ = self._open.pop(event['tag'], (None, None, 0.0))
        if future is None:
            return
        try:
            if 'error_code' in event:
                raise GoalError(ErrorCode(event['error_code']), event['error_msg'])
            plan, whole, prefill_s = Plan.from_dict(event['plan']), Plan.from_dict(event['whole']), event['prefill_s']
            future.set_result(Estimate(
                plan.verdict, event['prompt_tokens'], plan.predicted_tokens, plan.pessimistic_tokens,
                prefill_s + whole.decode_wcet_s, prefill_s + plan.decode_wcet_s, plan.eviction_ratio,
                reused_tokens=event.get('reused_tokens', 0)))
        except GoalError as error:
            future.set_exception(error)
        except (KeyError, TypeError, ValueError) as error:
            future.set_exception(GoalError(ErrorCode.UNKNOWN, 'the inference process sent an estimate that cannot be: '
                                           f'{type(error).__name__}: {error}'))

    def fail(self, code: ErrorCode, message: str) -> None:
        """Give all who wait an error."""
        open_, self._open = self._open, {}
        for future in [*(future for future, _, _ in open_.values()), *self._stop_preparing()]:
            future.set_exception(GoalError(code, message))

    def worker_lost(self) -> None:
        """Answer all who wait, because the worker will not."""
        open_, self._open = self._open, {}
        for future in self._stop_preparing():
            future.set_exception(GoalError(ErrorCode.WORKER_LOST, 'the inference process ended'))
        for future, request, _ in open_.values():
            self.answer_now(request, future)

    def _stop_preparing(self) -> list[Future]:
        preparing, self._preparing = self._preparing, {}
        return [future for future, _ in preparing.values()]

    def next_timer_s(self) -> float:
        return min((until for _, _, until in self._open.values()), default=math.inf)

    def check_timers(self) -> None:
        now = self._clock()
        for tag, (future, request, until) in list(self._open.items()):
            if now >= until:
                del self._open[tag]
                self.answer_now(request, future)
