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

"""The token loop under a deadline guard.

Nothing in the loop allocates per token on the host side beyond Python's own integers, logs, touches a disk or calls
ROS: it reads the clock once per token and counts; another thread turns the counted tokens into text and sends them, and
a revised plan too. Every `replan_tokens` tokens the plan is looked at again.
"""
from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from timebill_ros.deadline import Deadline
from timebill_ros.inference.sampling import NOT_A_TOKEN, Sampler
from timebill_ros.request import ErrorCode, FinishReason, GoalError, Phase, Plan, Timing

# Weight of the newest step in the running step time. The profile's estimate is the lower bound: a machine that has
# become slower than its profile must stop earlier, one that seems faster has no reason to stop later.
_NEWEST = 0.2
_RECENT = 15  # steps whose median a plan is made again with: one that was preempted must not cost cache entries


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Switch Python's garbage collector off inside. The caller collects later (the worker: between goals)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _ignore(*args) -> None:
    pass


@dataclass
class Control:
    """What connects a running request to the outside: it is watched and steered from other threads.

    The engine writes `tokens` and `n_tokens`; anyone may read them while the loop runs. `canceled` and the deadline are
    written from outside and read once per token or prefill chunk. Plans are made for the deadline; what stops the work
    is `overrun_s` after it.
    """

    deadline: Deadline
    margin_s: float = 0.0  # kept free before the deadline for delivering the result
    overrun_s: float = 0.0  # how long the work may go on after the deadline (SKIP_NEXT)
    dropped: bool = False  # a plan made again expects no answer in time, and the goal wants to end where that is so
    canceled: bool = False
    tokens: list[int] = field(default_factory=list)  # allocated to the cap before the loop starts
    n_tokens: int = 0
    on_phase: Callable[[Phase], None] = _ignore
    on_plan: Callable[[Plan, Timing], None] = _ignore
    revised: tuple[Plan, Timing] | None = None  # the latest plan made while decoding, for another thread to send

    def should_stop(self) -> bool:
        return self.canceled or self.deadline.expired(self.margin_s - self.overrun_s)


def decode(model, sampler: Sampler, logits, *, position: int, n_kv: int, cap: int, cap_reason: FinishReason,
           step_s: Callable[[int], float], stops, control: Control, replan_tokens: int = 0,
           replan: Callable[[int, int, float], int] | None = None) -> FinishReason:
    """Draw tokens until the answer ends, `cap` is reached, the client cancels or the next step would end too late.

    `logits` [V] come from prefill and give token 0; `position` is the next token's position (the prompt length,
    whatever was evicted), `n_kv` the number of cached entries, `step_s(n_kv)` the estimated seconds of a step.
    After every `replan_tokens` tokens (0: never) `replan(n_tokens, n_kv, median of the last steps' seconds)` may evict
    more; it returns the number of cached entries, and may have set `control.dropped`: ERROR is returned then. GoalError
    where the model computes NaN or infinity.
    """
    tokens, eos, deadline, clock = control.tokens, model.eos_ids, control.deadline, control.deadline.clock
    token = sampler.draw(logits)
    pace = 0.0
    before = 0.0
    recent = [0.0] * _RECENT
    next_plan = replan_tokens if replan is not None and replan_tokens > 0 else cap
    while True:
        # The one wait for the device per token: it makes EOS and the deadline guard possible.
        value = int(token)
        if value == NOT_A_TOKEN:
            raise GoalError(ErrorCode.UNKNOWN, f'the model computed NaN or infinite logits at token {control.n_tokens}')
        n = control.n_tokens
        tokens[n] = value
        control.n_tokens = n = n + 1
        if value in eos:
            return FinishReason.EOS
        if stops.hit(tokens, n):
            return FinishReason.STOP
        if n >= cap:
            return cap_reason
        if control.canceled:
            return FinishReason.CANCELED
        now = clock()
        if n > 1:
            step = recent[n % _RECENT] = now - before
            pace = step if n == 2 else pace + _NEWEST * (step - pace)
        if n >= next_plan:
            next_plan += replan_tokens
            n_kv = replan(n, n_kv, median(recent[2:n + 1] if n < _RECENT else recent))
            if control.dropped:
                return FinishReason.ERROR
            now = clock()  # what that took is no step time
        before = now
        if now + max(pace, step_s(n_kv)) + control.margin_s > deadline.at_s + control.overrun_s:
            return FinishReason.DEADLINE
        logits = model.step(token, position)
        token = sampler.draw(logits)
        position += 1
        n_kv += 1
