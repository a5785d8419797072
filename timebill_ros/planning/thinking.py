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

"""A thinking section: it takes the time that the answer leaves, and no more.

The plan before it is that of the answer alone, with the tokens that end the section in front. While the model thinks,
the token loop keeps free what the answer is planned to take at its pessimistic length; the section is ended where it
would go on into that. Then the answer is planned for itself, with the section as a part of what it stands behind.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Verdict
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.thinking_section import ThinkingSection
from timebill_ros.length.shifting import later
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.situation import Situation
from timebill_ros.request import Plan, Sampling
from timebill_ros.timing.step_time import StepTime

if TYPE_CHECKING:
    import torch

LOOK_TOKENS = 16  # after which it is looked again what the answer will take
UNMASKED = {'masked': False, 'stop': []}  # stop texts and grammars are for the answer


@dataclass(frozen=True)
class Closing:
    """What ends a section.

    ids:     tokens that are forced where the section is ended early: a text, the marker, white space
    marker:  the marker's text
    mark_id: the marker's token; None: it is spelled in several
    """

    ids: list[int]
    marker: str
    mark_id: int | None

    @staticmethod
    def of(tokenizer, section: ThinkingSection, end_text: str) -> Closing:
        """Return what ends the sections of a model; `end_text`: the parameter thinking_end_text."""
        ids = tokenizer(end_text + section.closing, add_special_tokens=False)['input_ids']
        return Closing(list(ids), section.close_marker, tokenizer.get_added_vocab().get(section.close_marker))


class _ThinkingModel:
    """What the token loop needs of a model, for a section. The marker's token ends it.

    Nothing is started ahead: the section may end at any token, and the cache must then hold just what was read.
    """

    def __init__(self, model, closing: Closing):
        self._model = model
        self.eos_ids = model.eos_ids if closing.mark_id is None else model.eos_ids | {closing.mark_id}

    def chain(self, sampler):
        chain = self._model.chain(sampler)
        chain.ahead = False
        return chain


class _Reserve:
    """Keeps time free for the answer: the token loop calls it as it calls a Replanner, see there."""

    def __init__(self, control: Control, known: Situation, plan: Plan, steps: StepTime):
        self._control, self._known, self._factor, self._steps = control, known, plan.timing_factor, steps
        # A deadline that may be overrun (SKIP_NEXT) is one for thinking all the same.
        self._base_s, self._n_w = control.margin_s + control.overrun_s, known.pessimistic()
        self(0, known.n_x, 0.0)

    def __call__(self, n: int, n_kv: int, pace: float) -> int:
        """Set the margin to what the answer will take once there are a few more tokens; return `n_kv`."""
        bounds, profiled_s = self._known.bounds, self._steps(max(n_kv - 1 - LOOK_TOKENS // 2, 0))
        factor = max(self._factor, pace / profiled_s) if profiled_s > 0 else self._factor
        steps = self._steps.scaled(factor * bounds.time_bound)
        # The loop looks whether one step more fits; the closing is one besides.
        self._control.margin_s = self._base_s + bounds.reserve_s + steps.decode(n_kv + 2 * LOOK_TOKENS, self._n_w + 1)
        return n_kv


def before_answer(known: Situation, n: int, room: int) -> Situation:
    """Return what is known of an answer, with `n` tokens in front of it that count as a part of it.

    `room`: tokens that the model's context has left behind the prompt. GoalError where they leave none for the answer.
    """
    if n >= room:
        raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'behind the prompt of {known.n_x} tokens the context has room for '
                        f'{room} more, and the thinking section takes {n}: send less, or with thinking OFF')
    return replace(known, distribution=later(known.distribution, n), n_max=min(known.n_max + n, room),
                   n_goal=known.longest + n)


def think(model, control: Control, logits: torch.Tensor, ids: list[int], sampling: Sampling, *, known: Situation,
          plan: Plan, room: int, planner: Planner, closing: Closing, gives_way: Callable | None = None
          ) -> tuple[torch.Tensor, int] | None:
    """Let the model think behind the prompt `ids`: (logits [V] of the answer's first token, tokens of the section).

    The section goes into `control.tokens`, and nowhere without `plan` having time left: then it is ended at once. None
    where the client has canceled. `known`: of the answer, with the closing in front; `room`: as of `before_answer`.
    """
    n_x, margin_s = len(ids), control.margin_s
    cap = room - known.pessimistic() if plan.verdict is Verdict.FITS else 0
    reason, n = None, 0
    if cap > 0:
        control.tokens[:] = [0] * cap
        stops = StopStrings(model.tokenizer, [closing.marker] if closing.mark_id is None else [])
        own = replace(sampling, **UNMASKED)
        steps = planner.times_of(plan.variant, own.kind).steps
        reserve = _Reserve(control, known, plan, steps)
        try:
            with model.drawing(own, ids) as sampler, no_collection():
                reason = decode(_ThinkingModel(model, closing), sampler, logits, position=n_x, n_kv=n_x, cap=cap,
                                cap_reason=FinishReason.CAPPED, step_s=steps.scaled(plan.timing_factor), stops=stops,
                                control=control, replan_tokens=LOOK_TOKENS, replan=reserve, gives_way=gives_way)
        finally:
            control.margin_s = margin_s
        n = control.n_tokens
    if reason is FinishReason.CANCELED:
        return None
    last = control.tokens[n - 1:n]
    is_closed = reason is FinishReason.STOP or reason is FinishReason.EOS and last == [closing.mark_id]
    if reason is FinishReason.EOS and not is_closed:  # it has ended its turn without an answer; that is not taken
        n, last = n - 1, []
    forced = [] if is_closed else closing.ids
    control.tokens[n:] = forced
    from timebill_ros.inference.steps.several import append  # torch, which a script does without
    logits = append(model, [*last, *forced], n_x + n - len(last))
    model.synchronize()
    control.n_tokens = n + len(forced)
    return logits, n + len(forced)


def answer_plan(planner: Planner, known: Situation, thought: int, room: int, left_s: float) -> Plan:
    """Return the plan of an answer behind a section of `thought` tokens; lengths count from the section's start.

    `known`: of the answer alone.
    """
    if thought >= room:
        raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'the thinking section of {thought} tokens has filled the context')
    plan = planner.plan(replace(known, n_x=known.n_x + thought, n_min=known.n_min + thought,
                                n_max=min(known.n_max, room - thought), n_goal=known.longest), left_s)
    n_keep = plan.n_keep - thought
    return replace(plan, n_x=known.n_x, n_keep=n_keep, eviction_ratio=1 - n_keep / known.n_x,
                   length_cap=plan.length_cap + thought, predicted_tokens=plan.predicted_tokens + thought,
                   pessimistic_tokens=plan.pessimistic_tokens + thought,
                   fitting_tokens=plan.fitting_tokens + thought,
                   evict_after=plan.evict_after + thought if plan.evict_after else 0)
