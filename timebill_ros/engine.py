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

"""One request, from prompt to outcome: read this first.

    prefill || length prediction -> plan -> (think) -> evict -> decode with a deadline guard -> outcome -> feedback

The engine knows no ROS. It runs in the worker process, one request at a time, and never raises for a bad request:
every call returns an Outcome with a code and, on failure, a sentence.
"""
from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from timebill_ros import overrun
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Phase, Verdict
from timebill_ros.deadline import Clock
from timebill_ros.inference import answer_parts
from timebill_ros.inference.answer_parts import Ended
from timebill_ros.inference.control import Control
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.evictions import Evictions
from timebill_ros.inference.giving_way import GivingWay
from timebill_ros.inference.memory import goal_sentence, is_out_of_memory
from timebill_ros.inference.prepared import Prepared, prepare
from timebill_ros.inference.prompt_reading import keep_part, read_prompt
from timebill_ros.inference.ranges import Ranges
from timebill_ros.inference.text import StopStrings
from timebill_ros.length.form_lengths import within
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.planning.length_source import ExpectedLength, LengthSource
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import FirstPlan, Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.replan import Replanner
from timebill_ros.planning.situation import Situation
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.planning.thinking import Closing, answer_plan, before_answer, think
from timebill_ros.planning.tracker import Feedback, Tracker
from timebill_ros.request import Outcome, Plan, Request, Timing
from timebill_ros.timing.execution_time import ExecutionTimes

if TYPE_CHECKING:  # worker/scripted.py runs this file where torch is not installed
    import torch

    from timebill_ros.length.state_learner import StateLearner

log = logging.getLogger(__name__)


class Engine:
    """Runs requests on one model.

    `predictor`: predicts response lengths beside prefill, or None. `states`: predicts them from the hidden states that
    prefill leaves, or None. `times`: what model and predictor take on this device. `tracker`: what finished requests
    have taught about lengths and times. `rule`: what plans are made by; None: the paper's rule. `ranges`: what marks a
    request for a profiler. The other arguments are the parameters of the same names.
    """

    def __init__(self, model, predictor: PredictionExecutor | None, times: ExecutionTimes, tracker: Tracker, *,
                 rule: PaperRule | QualityRule | None = None, ranges: Ranges | None = None,
                 prefill_chunk_tokens: int = 512, prediction_wait_s: float = 0.02, predictor_max_tokens: int = 0,
                 replan_tokens: int = 32, drop_infeasible: str = 'never', states: StateLearner | None = None,
                 thinking_end_text: str = '',
                 clock: Clock = time.monotonic):
        self.model = model
        self.predictor = predictor
        self.times, self.tracker = times, tracker
        model.wide_from = times.wide_from
        self.planner = Planner(times, list(model.variants), rule)
        self.ranges = ranges or Ranges()
        self.replan_tokens = replan_tokens
        self.drop_infeasible = drop_infeasible
        self.prefill_chunk_tokens = prefill_chunk_tokens
        section = model.chat.thinking
        self.closing = Closing.of(model.tokenizer, section, thinking_end_text) if section else None
        self.lengths = LengthSource(predictor, states, prediction_wait_s, predictor_max_tokens, clock)
        self.clock = clock

    def run(self, request: Request, control: Control) -> Outcome:
        """Run one request to its end. The outcome's timing lacks only what the node adds."""
        timing = Timing(time_budget_s=request.time_budget_s, variant=self.model.variant,
                        seed=request.sampling.seed if request.sampling.temperature > 0 else 0)
        try:
            with self.model.stream.entered(), self.ranges.request():
                ended = self._generate(request, control, timing)
            full = timing.prompt_tokens + timing.generated_tokens >= self.model.max_context
            return overrun.settle(request, ended.reason, ended.text, timing, added=ended.added, context_is_full=full,
                                  calls=ended.calls, reasoning=ended.reasoning, dropped=ended.dropped)
        except GoalError as error:
            return Outcome(error.code, str(error), '', FinishReason.ERROR, timing)
        except Exception as error:  # the request ends with a code; the worker and its model go on
            code = ErrorCode.OUT_OF_MEMORY if is_out_of_memory(error) else ErrorCode.UNKNOWN
            log.error('request %s failed: %s', request.request_id, error, exc_info=code is ErrorCode.UNKNOWN)
            with contextlib.suppress(Exception):
                self.model.reset()  # some layers may have appended an entry that others lack
            if self.model.device.type == 'cuda' and code is ErrorCode.OUT_OF_MEMORY:
                import torch
                torch.cuda.empty_cache()  # gives back what was allocated before the failure
            sentence = goal_sentence(error, timing.prompt_tokens) if code is ErrorCode.OUT_OF_MEMORY else \
                f'{type(error).__name__}: {str(error)[:500]}'
            return Outcome(code, sentence, '', FinishReason.ERROR, timing)

    def _generate(self, request: Request, control: Control, timing: Timing) -> Ended:
        """Generate the answer. `timing` is filled in on the way."""
        clock, phase = self.clock, self.ranges.phase
        started = clock()
        timing.queue_s = started - request.release_s
        control.on_phase(Phase.PREFILL)
        phase('tokenize')
        gives_way = GivingWay(self.model, control, timing, clock)
        while (prepared := prepare(self.model, request, control.should_stop)) is None:
            if control.pausing:
                self.model.reset()  # what an earlier request has left need not be kept
            if not gives_way():
                return Ended(FinishReason.CANCELED if control.canceled else FinishReason.DEADLINE)
        timing.prompt_tokens, answer = (n_x := prepared.n_x), prepared.answer
        timing.dropped_messages = prepared.dropped
        if answer is not None:
            timing.grammar_s = answer.grammar_s
        control.margin_s += prepared.closing_s(control.deadline.remaining() - control.margin_s, self.times.step(n_x))
        left = control.deadline.remaining() - control.margin_s
        if left <= 0:
            return Ended(FinishReason.DEADLINE)
        self._refuse_long_prefill(request, timing, left, prepared.reused)

        # Prefill and prediction start together, on separate executors.
        future = self.lengths.start(prepared.prompt, n_x, self.times, prepared.reused)
        phase('prefill')
        prefill_started = (worked := gives_way.clock)()
        logits, timing.reused_tokens = read_prompt(self.model, prepared.ids, chunk_tokens=self.prefill_chunk_tokens,
                                                   should_stop=control.should_stop, goes_on=gives_way,
                                                   messages=() if prepared.dropped else request.messages)
        self.model.synchronize()
        prefill_finished = worked()
        timing.prefill_s = prefill_finished - prefill_started
        profiled_s = 0.0 if timing.preemptions else self.times.prefill(n_x, timing.reused_tokens)  # part was read twice
        if logits is None:
            if control.canceled and not gives_way.is_over:
                keep_part(self.model, prepared.ids)
            if not control.canceled and timing.prefill_s > profiled_s * self.tracker.prefill.value:
                self.tracker.prefill.observe(timing.prefill_s, profiled_s)  # the whole would have taken even longer
            return Ended(FinishReason.CANCELED if control.canceled else FinishReason.DEADLINE)
        phase('wait for the prediction')
        state = self.model.prompt_state.read() if self.lengths.states is not None else None
        expected = self.lengths.expected(future, self.tracker.lengths, n_x, prepared.n_goal, state=state)
        if expected.prediction is not None:
            timing.prediction_s = expected.prediction.seconds
            timing.hidden_prediction_s = expected.prediction.hidden_s(prefill_started, prefill_finished)

        # The plan is made with the measured time left, not with the estimate of what prefill would take.
        phase('plan')
        alone = self._situation(request, prepared, expected)  # what is known of the answer itself
        known = self._planned_from(prepared, alone)
        room, thought, thinking_s = self.model.max_context - n_x, 0, 0.0
        left = control.deadline.remaining() - control.margin_s
        plan = self.planner.plan(known, left)
        needed = self.tracker.needed(plan, self.planner.with_bounds(known, left), known.bounds)
        first = FirstPlan(plan, left, needed if prepared.shows_level(plan.verdict) else None)
        timing.set_plan(plan)
        if prepared.thinks:
            timing.length_cap = room  # of section and answer together
        planned = worked()
        timing.wcet_s = planned - prefill_started + plan.decode_wcet_s
        control.on_plan(plan, replace(timing))
        # A mere prior of lengths says nothing against the goal.
        drops = known.lengths_known and overrun.drops(request, self.drop_infeasible)
        if drops and plan.verdict is Verdict.INFEASIBLE:
            self.tracker.prefill.observe(timing.prefill_s, profiled_s)
            as_profiled = replace(known, bounds=replace(known.bounds, timing_factor=1.0))
            if self.planner.plan(as_profiled, left).verdict is not Verdict.INFEASIBLE:
                self.tracker.steps.refused(known.sampling)
            raise overrun.infeasible(plan, left, request)

        if prepared.thinks:
            phase('thinking')
            self.model.use_variant(plan.variant)  # the request before may have left another in use
            timing.time_to_first_token_s = clock() - request.release_s
            control.thinks = True
            control.on_phase(Phase.DECODE)
            found = think(self.model, control, logits, prepared.ids, request.sampling, known=known, plan=plan,
                          room=room, planner=self.planner, closing=self.closing, gives_way=gives_way)
            timing.generated_tokens = timing.reasoning_tokens = control.n_tokens
            if found is None:
                return self._ended(request, control, prepared, FinishReason.CANCELED, control.n_tokens)
            logits, thought = found
            control.thought, control.thinks = thought, False
            left = control.deadline.remaining() - control.margin_s
            plan = answer_plan(self.planner, alone, thought, room, left)
            timing.set_plan(plan)
            thinking_s, planned = worked() - planned, worked()
            timing.verdict, timing.wcet_s = first.plan.verdict, planned - prefill_started + first.worst_s(plan, left)
            control.on_plan(plan, replace(timing))
            known = before_answer(alone, thought, room)

        phase('eviction')
        with Evictions(self.model, prepared.ids, reversible=self.planner.brings_back) as evictions:
            n_kv = evictions.first(plan, timing, left, clock)
            phase('decode')
            decode_started = worked()
            if not thought:
                timing.time_to_first_token_s = clock() - request.release_s  # prefill has given token 0 already
                control.on_phase(Phase.DECODE)
            # An answer of a form goes its own ways, of which the states of others say nothing.
            remaining = None if answer or thought else self.lengths.while_decoding(expected, self.model)
            replanner = Replanner(self.model, self.planner, known, plan=plan, timing=timing, control=control,
                                  started_s=prefill_started, drops=drops, remaining=remaining, since=thought + 1,
                                  evictions=evictions)
            reason = self._decode(request, control, prepared, logits, plan, replanner, n_kv, gives_way)
        ended = worked()
        timing.decode_s = thinking_s + ended - decode_started
        timing.generated_tokens = n = control.n_tokens
        evicting_s = self.times.eviction(n_x) if n_kv < n_x else 0.0
        saved_s = answer.account(timing, n - thought, self.times.step(n_kv),
                                 lambda width: self.times.beyond(n_kv, width)) if answer else 0.0
        # The lengths that are learned are those of answers, without what was thought before them. Choices teach none.
        self._learn(alone, plan, timing, n - thought, reason, first=first, decode_s=ended - planned,
                    decode_profiled_s=evicting_s + replanner.profiled_s + replanner.segment_s(n) - saved_s,
                    control=control, is_choice=prepared.is_choice)
        if not prepared.is_choice:
            self.lengths.observe(expected, n - thought, whole=reason in (FinishReason.EOS, FinishReason.STOP),
                                 remaining=remaining)
        if reason is FinishReason.ERROR:
            raise overrun.infeasible(replanner.plan, control.deadline.remaining() - control.margin_s, request, n)
        return self._ended(request, control, prepared, reason, thought)

    # -- the steps of a request, in their order ---------------------------------------------------------------------

    def _refuse_long_prefill(self, request: Request, timing: Timing, left_s: float, reused: int) -> None:
        """Raise GoalError INFEASIBLE where reading the prompt alone would take longer than is left, at its quickest."""
        profiled_s = self.times.prefill(timing.prompt_tokens, reused)
        estimate = profiled_s * self.tracker.quickest_prefill
        if estimate > left_s:
            if profiled_s <= left_s:
                self.tracker.prefill.refused()
            timing.verdict, timing.wcet_s = Verdict.INFEASIBLE, estimate
            new = timing.prompt_tokens - reused
            raise GoalError(ErrorCode.INFEASIBLE, f'prefill of {new} tokens alone takes about '
                            f'{estimate:.3f} s; {left_s:.3f} s of the time budget of {request.time_budget_s:.3f} s are '
                            'left for it')

    def _situation(self, request: Request, prepared: Prepared, expected: ExpectedLength) -> Situation:
        n_x = prepared.n_x
        n_min = smallest_keep(n_x, request.max_eviction_ratio, MAX_WINDOW) if self.model.supports_eviction else n_x
        distribution = expected.distribution if prepared.answer is None else within(
            expected.distribution, *prepared.answer.bounds)
        # Most tokens of a choice are forced and take less than steps, so that its length refuses nothing.
        known = expected.known and not (prepared.answer and prepared.answer.bounds.lengths)
        return Situation(distribution, n_x, n_min, prepared.n_max, self.tracker.bounds(request.sampling.kind),
                         may_cap=overrun.of(request).cut_is_lost, n_goal=prepared.n_goal,
                         sampling=request.sampling.kind, look_tokens=self.replan_tokens, lengths_known=known)

    def _planned_from(self, prepared: Prepared, alone: Situation) -> Situation:
        """Return what the first plan is made from: the answer, behind what ends its thinking section if it has one."""
        room = self.model.max_context - prepared.n_x
        return before_answer(alone, len(self.closing.ids), room) if prepared.thinks else alone

    def _decode(self, request: Request, control: Control, prepared: Prepared, logits: torch.Tensor, plan: Plan,
                replanner: Replanner, n_kv: int, gives_way: GivingWay) -> FinishReason:
        """Run the token loop, which writes to `control`; return why it ended."""
        model = self.model.grammars.restricted(self.model, prepared.answer)
        thought = control.thought
        longest = replanner.known.n_max
        control.tokens[thought:] = [0] * (longest - thought)
        stops = StopStrings(self.model.tokenizer, request.sampling.stop, thought)
        before = [*prepared.ids, *control.tokens[:thought]]
        with model.drawing(request.sampling, before) as sampler, no_collection():
            return decode(self.ranges.stepping(model), sampler, logits, position=len(before), n_kv=n_kv + thought,
                          cap=plan.length_cap, longest=longest,
                          cap_reason=FinishReason.LENGTH if longest - thought >= request.max_new_tokens else
                          FinishReason.CAPPED,
                          step_s=self.planner.times_of(plan.variant, request.sampling.kind).steps.scaled(
                              plan.timing_factor),
                          stops=stops, control=control, replan_tokens=self.replan_tokens, replan=replanner,
                          more_s=lambda width: self.times.beyond(n_kv, width) * plan.timing_factor, gives_way=gives_way)

    def _ended(self, request: Request, control: Control, prepared: Prepared, reason: FinishReason,
               thought: int) -> Ended:
        """Return the parts of the answer in `control`, the first `thought` tokens of which are a thinking section."""
        n = control.n_tokens - (reason is FinishReason.EOS)
        return answer_parts.ended(self.model.tokenizer, self.model.chat, request, control.tokens[:n], reason,
                                  answer=prepared.answer, thought=thought)

    def _learn(self, known: Situation, plan: Plan, timing: Timing, n: int, reason: FinishReason, *, first: FirstPlan,
               decode_s: float, decode_profiled_s: float, control: Control, is_choice: bool) -> None:
        """Tell the tracker what this request showed, by an answer of `n` tokens."""
        # A cancel in the margin is the node's.
        is_late = control.deadline.remaining() < (control.margin_s if reason is FinishReason.CANCELED else 0.0)
        in_time = reason.is_natural and not is_late
        # What became of a goal that others had precedence over says nothing of its bounds.
        tells = not timing.preemptions and (is_late or reason is not FinishReason.CANCELED)
        self.tracker.observe(Feedback(
            generated_tokens=n, ended=reason.is_natural, prefill_s=timing.prefill_s,
            prefill_profiled_s=0.0 if timing.preemptions else self.times.prefill(plan.n_x, timing.reused_tokens),
            decode_s=decode_s, decode_profiled_s=decode_profiled_s,
            distribution=known.distribution, max_tokens=known.n_goal,
            kept=in_time if first.plan.verdict.is_promise and tells else None,
            in_time=in_time, needed=first.needed if tells else None,
            factor=plan.timing_factor, sampling=known.sampling, prompt_tokens=plan.n_x,
            capped=reason in (FinishReason.LENGTH, FinishReason.CAPPED),
            spare=first.left_s / max(first.plan.decode_planned_s, 1e-3), tells_length=not is_choice))

    # -- what the node asks for besides ------------------------------------------------------------------------------

    def estimate(self, request: Request) -> tuple[Plan, Plan, int, float, int]:
        """Plan `request` as if it started now, without running the model.

        Returns (plan, plan without eviction, N_x, estimated prefill seconds, tokens of N_x whose states are known).
        GoalError for a request that could not run. The length predictor does run: this takes as long as a prediction.
        """
        prepared = prepare(self.model, request, lambda: False)
        future = self.lengths.start(prepared.prompt, prepared.n_x, self.times, prepared.reused)
        expected = self.lengths.expected(future, self.tracker.lengths, prepared.n_x, prepared.n_goal, wait_s=5.0)
        prefill_s = self.times.prefill(prepared.n_x, prepared.reused) * self.tracker.prefill_factor
        left = request.time_budget_s - request.delivery_margin_s
        left -= prefill_s + prepared.closing_s(left, self.times.step(prepared.n_x))
        known = replace(self._planned_from(prepared, self._situation(request, prepared, expected)), may_cap=False)
        whole = replace(known, n_min=known.n_x)
        return self.planner.plan(known, left), self.planner.plan(whole, left), known.n_x, prefill_s, prepared.reused

    def longest_pause_s(self) -> float:
        """Estimate the longest time between two looks at the control: at the longest prompt's end, or in a step."""
        model, longest = self.model, self.model.max_context
        before = max(0, longest - model.chunks_queued * self.prefill_chunk_tokens) if model.chunked_prefill else 0
        return max(self.times.chunk(before, longest - before) / model.looks_per_chunk, self.times.step(longest))

    def prefill_table(self) -> list[tuple[int, float]]:
        """Return pairs (prompt tokens, estimated prefill seconds), ascending to the model's context.

        The node, which has no profile, estimates with them.
        """
        lengths = [2 ** i for i in range(4, self.model.max_context.bit_length())]
        return [(n, self.times.prefill(n)) for n in [0, *lengths, self.model.max_context]]
