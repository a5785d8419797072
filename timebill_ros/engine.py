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

    prefill || length prediction -> plan -> evict -> decode with a deadline guard -> outcome -> feedback

The engine knows no ROS. It runs in the worker process, one request at a time, and never raises for a bad request:
every call returns an Outcome with a code and, on failure, a sentence.
"""
from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from timebill_ros import overrun
from timebill_ros.codes import ErrorCode, FinishReason, GoalError, Phase, Verdict
from timebill_ros.deadline import Clock
from timebill_ros.inference.control import Control
from timebill_ros.inference.conventions import MAX_WINDOW
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.history import read
from timebill_ros.inference.memory import goal_sentence, is_out_of_memory
from timebill_ros.inference.prompt_reading import read_prompt
from timebill_ros.inference.ranges import Ranges
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.text import decode as decode_text
from timebill_ros.length.form_lengths import within
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.planning.length_source import ExpectedLength, LengthSource
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.planner import Planner
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.replan import Replanner
from timebill_ros.planning.situation import Situation
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.planning.tracker import Feedback, Tracker
from timebill_ros.request import Outcome, Plan, Request, Timing
from timebill_ros.timing.execution_time import ExecutionTimes

if TYPE_CHECKING:  # worker/scripted.py runs this file where torch is not installed
    import torch

    from timebill_ros.inference.grammars.restricted_answer import RestrictedAnswer
    from timebill_ros.length.state_learner import StateLearner

log = logging.getLogger(__name__)

SHORTEST_STEP_S = 1e-5  # for which the end of an answer of a given form is planned


@dataclass(frozen=True)
class Prepared:
    """A request as the model will read it."""

    prompt: str  # rendered
    ids: list[int]
    n_max: int  # N_max: the longest response that the goal and the model's context allow
    n_goal: int  # the goal's own limit, where that is shorter than the whole context
    dropped: int  # messages of the conversation that were left out
    reused: int = 0  # tokens, from the beginning, whose states are known
    answer: RestrictedAnswer | None = None  # where the goal asks for a form

    @property
    def n_x(self) -> int:
        """N_x: prompt tokens."""
        return len(self.ids)


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
                 clock: Clock = time.monotonic):
        self.model = model
        self.predictor = predictor
        self.times, self.tracker = times, tracker
        self.planner = Planner(times, list(model.variants), rule)
        self.ranges = ranges or Ranges()
        self.replan_tokens = replan_tokens
        self.drop_infeasible = drop_infeasible
        self.prefill_chunk_tokens = prefill_chunk_tokens
        self.lengths = LengthSource(predictor, states, prediction_wait_s, predictor_max_tokens, clock)
        self.clock = clock

    def run(self, request: Request, control: Control) -> Outcome:
        """Run one request to its end. The outcome's timing lacks only what the node adds."""
        timing = Timing(time_budget_s=request.time_budget_s, variant=self.model.variant,
                        seed=request.sampling.seed if request.sampling.temperature > 0 else 0)
        try:
            with self.model.stream.entered(), self.ranges.request():
                reason, text = self._generate(request, control, timing)
            full = timing.prompt_tokens + timing.generated_tokens >= self.model.max_context
            return overrun.settle(request, reason, text, timing, added=control.added, context_is_full=full)
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

    def _generate(self, request: Request, control: Control, timing: Timing) -> tuple[FinishReason, str]:
        """Generate the answer: (why it ended, its text). `timing` is filled in on the way."""
        clock, phase = self.clock, self.ranges.phase
        started = clock()
        timing.queue_s = started - request.release_s
        control.on_phase(Phase.PREFILL)
        phase('tokenize')
        prepared = self._prepare(request, control.should_stop)
        if prepared is None:
            return (FinishReason.CANCELED if control.canceled else FinishReason.DEADLINE), ''
        timing.prompt_tokens, answer = (n_x := prepared.n_x), prepared.answer
        timing.dropped_messages = prepared.dropped
        if answer is not None:
            timing.grammar_s = answer.grammar_s
            fitting = (control.deadline.remaining() - control.margin_s) / max(self.times.step(n_x), SHORTEST_STEP_S)
            control.margin_s += answer.closing_s(min(prepared.n_max, max(fitting, 0.0)))
        left = control.deadline.remaining() - control.margin_s
        if left <= 0:
            return FinishReason.DEADLINE, ''
        self._refuse_long_prefill(request, timing, left, prepared.reused)

        # Prefill and prediction start together, on separate executors.
        future = self.lengths.start(prepared.prompt, n_x, self.times, prepared.reused)
        phase('prefill')
        prefill_started = clock()
        logits, timing.reused_tokens = read_prompt(self.model, prepared.ids, chunk_tokens=self.prefill_chunk_tokens,
                                                   should_stop=control.should_stop, messages=request.messages)
        self.model.synchronize()
        prefill_finished = clock()
        timing.prefill_s = prefill_finished - prefill_started
        if logits is None:
            profiled_s = self.times.prefill(n_x, timing.reused_tokens)
            if not control.canceled and timing.prefill_s > profiled_s * self.tracker.prefill.value:
                self.tracker.prefill.observe(timing.prefill_s, profiled_s)  # the whole would have taken even longer
            return (FinishReason.CANCELED if control.canceled else FinishReason.DEADLINE), ''
        phase('wait for the prediction')
        state = self.model.prompt_state.read() if self.lengths.states is not None else None
        expected = self.lengths.expected(future, self.tracker.lengths, n_x, prepared.n_goal, state=state)
        if expected.prediction is not None:
            timing.prediction_s = expected.prediction.seconds
            timing.hidden_prediction_s = expected.prediction.hidden_s(prefill_started, prefill_finished)

        # The plan is made with the measured time left, not with the estimate of what prefill would take.
        phase('plan')
        known = self._situation(request, prepared, expected)
        left = control.deadline.remaining() - control.margin_s
        plan = self.planner.plan(known, left)
        timing.set_plan(plan)
        planned = clock()
        timing.wcet_s = planned - prefill_started + plan.decode_wcet_s
        control.on_plan(plan, replace(timing))
        # A mere prior of lengths says nothing against the goal.
        drops = known.lengths_known and overrun.drops(request, self.drop_infeasible)
        if drops and plan.verdict is Verdict.INFEASIBLE:
            self.tracker.prefill.observe(timing.prefill_s, self.times.prefill(n_x, timing.reused_tokens))
            as_profiled = replace(known, bounds=replace(known.bounds, timing_factor=1.0))
            if self.planner.plan(as_profiled, left).verdict is not Verdict.INFEASIBLE:
                self.tracker.steps.refused(known.sampling)
            raise self._infeasible(plan, left, request)

        phase('eviction')
        n_kv = self._evict(plan, timing, left)
        phase('decode')
        decode_started = clock()
        timing.time_to_first_token_s = decode_started - request.release_s  # prefill has given token 0 already
        control.on_phase(Phase.DECODE)
        # An answer of a form goes its own ways, of which the states of others say nothing.
        remaining = None if answer else self.lengths.while_decoding(expected, self.model)
        replanner = Replanner(self.model, self.planner, replace(known, n_max=plan.length_cap), plan=plan, timing=timing,
                              control=control, started_s=prefill_started, drops=drops, remaining=remaining)
        reason, stops = self._decode(request, control, prepared, logits, plan, replanner, n_kv)
        ended = clock()
        timing.decode_s = ended - decode_started
        timing.generated_tokens = n = control.n_tokens
        evicting_s = self.times.eviction(n_x) if n_kv < n_x else 0.0
        saved_s = answer.account(timing, self.times.step(n_kv) - self.times.more(n_kv)) if answer else 0.0
        self._learn(known, plan, timing, n, reason, decode_s=ended - planned,
                    decode_profiled_s=evicting_s + replanner.profiled_s + replanner.segment_s(n) - saved_s)
        self.lengths.observe(expected, n, whole=reason in (FinishReason.EOS, FinishReason.STOP), remaining=remaining)
        if reason is FinishReason.ERROR:
            raise self._infeasible(replanner.plan, control.deadline.remaining() - control.margin_s, request, n)
        tokens = control.tokens[:n - 1 if reason is FinishReason.EOS else n]
        if answer is not None:
            text, control.added = answer.ended(tokens, reason, request.on_cut)
            return reason, text
        return reason, stops.cut(decode_text(self.model.tokenizer, tokens))

    # -- the steps of a request, in their order ---------------------------------------------------------------------

    def _prepare(self, request: Request, should_stop: Callable[[], bool]) -> Prepared | None:
        """Render, tokenize, compile the form; None where `should_stop` said so. GoalError for what cannot be."""
        compiling = self.model.grammars.start(request)
        found = read(self.model, request, should_stop)
        if found is None:
            return None
        n_goal = min(request.max_new_tokens, self.model.max_context)
        n_max = min(n_goal, self.model.max_context - len(found.ids))
        answer = self.model.grammars.collect(compiling, should_stop)
        if compiling is not None and answer is None:
            return None
        limit = answer.bounds.limit if answer is not None and answer.bounds.limit else n_goal
        return Prepared(found.prompt, found.ids, min(n_max, limit), min(n_goal, limit), found.dropped,
                        self.model.prefixes.known(found.ids) if self.model.prefixes else 0, answer)

    def _refuse_long_prefill(self, request: Request, timing: Timing, left_s: float, reused: int) -> None:
        """Raise GoalError INFEASIBLE where reading the prompt alone would take longer than is left."""
        profiled_s = self.times.prefill(timing.prompt_tokens, reused)
        estimate = profiled_s * self.tracker.prefill_factor
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

    def _evict(self, plan: Plan, timing: Timing, left_s: float) -> int:
        """Do what the plan says before decoding; return the number of cached entries."""
        started = self.clock()
        self.model.use_variant(plan.variant)
        n_kv = plan.n_x
        # Where no time is left for a second token, none is left for evicting.
        if plan.n_keep < n_kv and not plan.evict_after and left_s > 0:
            self.model.evict(plan.n_keep)
            self.model.synchronize()
            n_kv = plan.n_keep
        timing.kept_tokens, timing.eviction_ratio = n_kv, 1 - n_kv / plan.n_x
        timing.eviction_s = self.clock() - started
        return n_kv

    def _decode(self, request: Request, control: Control, prepared: Prepared, logits: torch.Tensor, plan: Plan,
                replanner: Replanner, n_kv: int) -> tuple[FinishReason, StopStrings]:
        """Run the token loop, which writes to `control`: (why it ended, the search for stop strings)."""
        model = self.model.grammars.restricted(self.model, prepared.answer)
        control.tokens[:] = [0] * plan.length_cap
        stops = StopStrings(self.model.tokenizer, request.sampling.stop)
        with model.drawing(request.sampling, prepared.ids) as sampler, no_collection():
            reason = decode(self.ranges.stepping(model), sampler, logits, position=plan.n_x, n_kv=n_kv,
                            cap=plan.length_cap,
                            cap_reason=FinishReason.LENGTH if plan.length_cap >= request.max_new_tokens else
                            FinishReason.CAPPED,
                            step_s=self.planner.times_of(plan.variant, request.sampling.kind).steps.scaled(
                                plan.timing_factor),
                            stops=stops, control=control, replan_tokens=self.replan_tokens, replan=replanner,
                            more_s=self.times.more(n_kv) * plan.timing_factor)
        return reason, stops

    def _learn(self, known: Situation, plan: Plan, timing: Timing, n: int, reason: FinishReason, *, decode_s: float,
               decode_profiled_s: float) -> None:
        """Tell the tracker what this request showed."""
        self.tracker.observe(Feedback(
            generated_tokens=n, ended=reason.is_natural, prefill_s=timing.prefill_s,
            prefill_profiled_s=self.times.prefill(plan.n_x, timing.reused_tokens), decode_s=decode_s,
            decode_profiled_s=decode_profiled_s,
            distribution=known.distribution, max_tokens=known.n_goal,
            kept=reason.is_natural if plan.verdict.is_promise and reason is not FinishReason.CANCELED else None,
            factor=plan.timing_factor, sampling=known.sampling, prompt_tokens=plan.n_x,
            capped=reason in (FinishReason.LENGTH, FinishReason.CAPPED)))

    @staticmethod
    def _infeasible(plan: Plan, left_s: float, request: Request, n: int = 0) -> GoalError:
        return GoalError(ErrorCode.INFEASIBLE, f'{plan.predicted_tokens - n} more tokens are expected, and '
                         f'{max(0, plan.fitting_tokens - n)} fit the {max(left_s, 0.0):.3f} s that are left of the '
                         f'time budget of {request.time_budget_s:.3f} s (drop_infeasible)')

    # -- what the node asks for besides ------------------------------------------------------------------------------

    def estimate(self, request: Request) -> tuple[Plan, Plan, int, float, int]:
        """Plan `request` as if it started now, without running the model.

        Returns (plan, plan without eviction, N_x, estimated prefill seconds, tokens of N_x whose states are known).
        GoalError for a request that could not run. The length predictor does run: this takes as long as a prediction.
        """
        prepared = self._prepare(request, lambda: False)
        future = self.lengths.start(prepared.prompt, prepared.n_x, self.times, prepared.reused)
        expected = self.lengths.expected(future, self.tracker.lengths, prepared.n_x, prepared.n_goal, wait_s=5.0)
        prefill_s = self.times.prefill(prepared.n_x, prepared.reused) * self.tracker.prefill_factor
        left = request.time_budget_s - prefill_s - request.delivery_margin_s
        known = replace(self._situation(request, prepared, expected), may_cap=False)
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
