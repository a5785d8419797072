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

The loop logs nothing, touches no disk, calls no ROS and allocates nothing per token beyond Python's own integers. It
reads the clock once per token and counts; another thread turns the counted tokens into text and sends the text and any
revised plan. Every `replan_tokens` tokens the plan is looked at again.

On an accelerator the step after the next one is started before the next token is read, where that changes no answer:
not where the plan is to be looked at first, which may change the cache, and only where two steps fit the time left. At
the end of an answer a step may have been started whose token nobody reads.
"""
from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING

from timebill_ros.codes import ErrorCode, FinishReason, GoalError
from timebill_ros.inference.control import RECENT, Control
from timebill_ros.inference.conventions import NOT_A_TOKEN

if TYPE_CHECKING:
    from timebill_ros.inference.sampling import Sampler
    from timebill_ros.inference.token_chain import TokenChain

# Weight of the newest step in the running step time. The profile's estimate is the lower bound: a machine that has
# become slower than its profile must stop earlier, and one that seems faster has no reason to stop later.
_NEWEST = 0.2


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


def decode(model, sampler: Sampler, logits, *, position: int, n_kv: int, cap: int, cap_reason: FinishReason,
           step_s: Callable[[int], float], stops, control: Control, longest: int = 0, replan_tokens: int = 0,
           replan: Callable[[int, int, float], int] | None = None, more_s: Callable[[int], float] = lambda width: 0.0,
           gives_way: Callable[[TokenChain], bool] | None = None) -> FinishReason:
    """Draw tokens until the answer ends, its limit is reached, the client cancels or a step would end too late.

    `model.chain(sampler)` is the TokenChain to draw from. `logits` [V] come from prefill and give token 0. `position`
    is the next token's position: the prompt length, whatever was evicted. `n_kv` is the number of cached entries,
    `step_s(n_kv)` the estimated seconds of a step, `more_s(width)` what one over several tokens takes longer.
    After every `replan_tokens` tokens (0: never), `replan(n_tokens, n_kv, median seconds of the last steps)` may evict
    more or bring some back, and returns the number of cached entries. `cap` is the plan's, which it may lower and raise
    in `control.cap`: there the loop calls it again and, unless that raises the cap, returns CAPPED. At `longest` tokens
    (0: at `cap`) it returns `cap_reason`. It may set `control.dropped`: then the loop returns ERROR. Where
    `control.pausing` is set, `gives_way(chain)` is called once all tokens that were started have been read. Others may
    use the model inside; it returns whether this answer goes on, whose plan is then looked at. GoalError where the
    model computes NaN or infinity.
    """
    tokens, eos, deadline, clock = control.tokens, model.eos_ids, control.deadline, control.deadline.clock
    chain = model.chain(sampler)
    chain.start(logits)
    control.cap, longest = cap, longest or cap
    started = control.n_tokens + 1  # tokens that are drawn, or will be once the steps are over that were started
    pace = 0.0
    before, width = None, 1  # when the last step was started, None: none was; the tokens that it took
    recent, measured = [0.0] * RECENT, 0  # seconds of steps since the cache was changed last, and their number
    # Not before the second token: until then no step has been measured.
    next_plan = max(replan_tokens, 2) if replan is not None and replan_tokens > 0 else cap
    while True:
        value = chain.read()
        if value == NOT_A_TOKEN:
            raise GoalError(ErrorCode.UNKNOWN, f'the model computed NaN or infinite logits at token {control.n_tokens}')
        n = control.n_tokens
        tokens[n] = value
        control.n_tokens = n = n + 1
        if value in eos:
            return FinishReason.EOS
        if stops.hit(tokens, n):
            return FinishReason.STOP
        if n >= longest:
            return cap_reason
        if control.canceled:
            return FinishReason.CANCELED
        if control.pausing and started == n and gives_way is not None:
            if not gives_way(chain):
                return FinishReason.CANCELED
            before = None
            if next_plan < cap:  # there is something to ask, and less time is left than was planned with
                next_plan = max(n, 2)
        if chain.forced:  # the next tokens are known, and take no step of their own
            started += 1
            continue
        now = clock()
        if before is not None and width == 1:
            step = recent[measured % RECENT] = now - before
            measured += 1
            pace = step if pace == 0.0 else pace + _NEWEST * (step - pace)
        # Before a lowered cap ends the answer, the machine may have recovered.
        if n >= next_plan and measured or n >= cap:
            if n >= next_plan:
                next_plan = n + replan_tokens
            cached = n_kv
            n_kv = replan(n, n_kv, median(recent[:min(measured, RECENT)]) if measured else 0.0)
            if n_kv != cached:
                measured = 0  # steps over a cache of another size say nothing of those to come
            if control.dropped:
                return FinishReason.ERROR
            cap = control.cap
            if n >= cap:
                return FinishReason.CAPPED
            now = clock()  # the time that replanning took is no step time
        before, width = now, chain.width
        expected_s = max(pace, step_s(n_kv)) + (more_s(width) if width > 1 else 0.0)
        ends_at = now + expected_s + control.margin_s
        latest = deadline.at_s + control.overrun_s
        if ends_at > latest:
            return FinishReason.DEADLINE
        if started == n:
            chain.launch(position)
            started, position = n + 1, position + width
        if chain.ahead and not control.pausing and n + 1 < cap and n + 1 < next_plan and ends_at + expected_s <= latest:
            chain.launch(position)
            started, position = n + 2, position + 1
        n_kv += width
