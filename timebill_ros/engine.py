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

import logging
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace

import torch

from timebill_ros import overrun
from timebill_ros.deadline import Clock
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode, no_collection
from timebill_ros.inference.devices import before_others
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.text import decode as decode_text
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import Prediction, PredictionExecutor
from timebill_ros.planning import knobs, planner
from timebill_ros.planning.replan import Replanner
from timebill_ros.planning.tracker import Feedback, Tracker
from timebill_ros.request import (
    ErrorCode,
    FinishReason,
    GoalError,
    Outcome,
    Phase,
    Plan,
    Request,
    Timing,
    Verdict,
)
from timebill_ros.timing.execution_time import ExecutionTimes

log = logging.getLogger(__name__)


class Engine:
    """A loaded model, a length predictor (or none), the execution times of both on this device, and what finished
    requests have taught about lengths and times.
    """

    def __init__(self, model, predictor: PredictionExecutor | None, times: ExecutionTimes, tracker: Tracker, *,
                 quality: knobs.QualityTable | None = None, prefill_chunk_tokens: int = 512,
                 prediction_wait_s: float = 0.02, predictor_max_tokens: int = 0, replan_tokens: int = 32,
                 drop_infeasible: str = 'never', clock: Clock = time.monotonic):
        self.model = model
        self.predictor = predictor
        self.times = times
        self.tracker = tracker
        self.quality = quality
        self.replan_tokens = replan_tokens
        self.drop_infeasible = drop_infeasible  # a choice of the parameter of this name
        self.prefill_chunk_tokens = prefill_chunk_tokens
        self.prediction_wait_s = prediction_wait_s
        self.predictor_max_tokens = predictor_max_tokens
        self.clock = clock
        self._before_prediction = before_others(model.device)

    def run(self, request: Request, control: Control) -> Outcome:
        """The whole flow of one request. The outcome's timing is complete but for what the node adds at the end."""
        timing = Timing(time_budget_s=request.time_budget_s, variant=self.model.variant)
        try:
            with self._before_prediction:
                reason, text = self._generate(request, control, timing)
            return overrun.settle(request, reason, text, timing)
        except GoalError as error:
            return Outcome(error.code, str(error), '', FinishReason.ERROR, timing)
        except Exception as error:  # the request ends with a code; the worker and its model go on
            code = ErrorCode.OUT_OF_MEMORY if _is_out_of_memory(error) else ErrorCode.UNKNOWN
            log.error('request %s failed: %s', request.request_id, error, exc_info=code is ErrorCode.UNKNOWN)
            if self.model.device.type == 'cuda' and code is ErrorCode.OUT_OF_MEMORY:
                torch.cuda.empty_cache()  # what it could allocate before it failed
            return Outcome(code, f'{type(error).__name__}: {str(error)[:500]}', '', FinishReason.ERROR, timing)

    def _generate(self, request: Request, control: Control, timing: Timing) -> tuple[FinishReason, str]:
        model, clock = self.model, self.clock
        started = clock()
        timing.queue_s = started - request.release_s
        control.on_phase(Phase.PREFILL)
        prompt, ids, n_max = self._prepare(request)
        timing.prompt_tokens = n_x = len(ids)
        estimate = self.times.prefill(n_x) * self.tracker.prefill_factor
        left = control.deadline.remaining() - control.margin_s
        if left <= 0:
            return FinishReason.DEADLINE, ''
        if estimate > left:
            timing.verdict, timing.wcet_s = Verdict.INFEASIBLE, estimate
            raise GoalError(ErrorCode.INFEASIBLE, f'prefill of {n_x} tokens alone takes about {estimate:.3f} s; '
                            f'{left:.3f} s of the time budget of {request.time_budget_s:.3f} s are left for it')

        # Prefill and prediction start together, on separate executors.
        future = self._start_prediction(prompt, n_x)
        prefill_started = clock()
        model.reset()
        logits = model.prefill(ids, chunk_tokens=self.prefill_chunk_tokens, should_stop=control.should_stop)
        model.synchronize()
        prefill_finished = clock()
        timing.prefill_s = prefill_finished - prefill_started
        if logits is None:
            return (FinishReason.CANCELED if control.canceled else FinishReason.DEADLINE), ''

        # The plan uses the measured time left, not the estimate of what prefill would take.
        distribution = self._collect(future, timing, prefill_started, prefill_finished, n_max)
        n_min = self._smallest_keep(request, n_x)
        left = control.deadline.remaining() - control.margin_s
        time_bound, reserve_s = self.tracker.time_bound, self.tracker.reserve_s
        plan = self.plan(distribution, n_x=n_x, n_min=n_min, n_max=n_max, time_left_s=left,
                         may_cap=overrun.of(request).cut_is_lost)
        timing.set_plan(plan)
        planned = clock()
        timing.wcet_s = planned - prefill_started + plan.decode_wcet_s
        control.on_plan(plan, replace(timing))
        # Without a predictor the predicted length is the longest one, and says nothing against a goal.
        drops = self.predictor is not None and overrun.drops(request, self.drop_infeasible)
        if drops and plan.verdict is Verdict.INFEASIBLE:
            self.tracker.prefill.observe(timing.prefill_s, self.times.prefill(n_x))
            raise self._infeasible(plan, left, request)

        evict_started = clock()
        model.use_variant(plan.variant)
        n_kv = n_x
        if plan.n_keep < n_x and left > 0:  # with no time left for a second token, neither is there for this
            model.evict(plan.n_keep)
            model.synchronize()
            n_kv = plan.n_keep
        timing.kept_tokens, timing.eviction_ratio = n_kv, 1 - n_kv / n_x
        decode_started = clock()
        timing.eviction_s = decode_started - evict_started

        control.on_phase(Phase.DECODE)
        control.tokens[:] = [0] * plan.length_cap
        stops = StopStrings(model.tokenizer, request.sampling.stop)
        cap_reason = FinishReason.LENGTH if plan.length_cap >= n_max else FinishReason.CAPPED
        first_token_s = decode_started - request.release_s
        times = self.times.of_variant(plan.variant)
        replanner = Replanner(model, times, self.tracker.length, distribution, plan=plan, timing=timing,
                              control=control, n_min=n_min, n_max=plan.length_cap, started_s=prefill_started,
                              caution=time_bound, reserve_s=reserve_s, for_promises=self.quality is not None,
                              drops=drops)
        with torch.inference_mode(), no_collection():  # entered once, not by every step
            reason = decode(model, Sampler(request.sampling, model.device), logits, position=n_x, n_kv=n_kv,
                            cap=plan.length_cap, cap_reason=cap_reason, step_s=times.steps.scaled(plan.timing_factor),
                            stops=stops, control=control, replan_tokens=self.replan_tokens, replan=replanner)
        ended = clock()
        timing.decode_s = ended - decode_started
        timing.time_to_first_token_s = first_token_s
        timing.generated_tokens = n = control.n_tokens
        evicting_s = times.eviction(n_x) if n_kv < n_x else 0.0
        self.tracker.observe(Feedback(
            generated_tokens=n, ended=reason.is_natural, prefill_s=timing.prefill_s,
            prefill_profiled_s=self.times.prefill(n_x), decode_s=ended - planned,
            decode_profiled_s=evicting_s + replanner.profiled_s + replanner.segment_s(n), distribution=distribution,
            pessimistic_tokens=plan.pessimistic_tokens, max_tokens=n_max, promised=plan.verdict.is_promise,
            factor=plan.timing_factor, time_bound=time_bound))
        if reason is FinishReason.ERROR:
            raise self._infeasible(replanner.plan, control.deadline.remaining() - control.margin_s, request, n)
        text = decode_text(model.tokenizer, control.tokens[:n - 1 if reason is FinishReason.EOS else n])
        return reason, stops.cut(text)

    @staticmethod
    def _infeasible(plan: Plan, left_s: float, request: Request, n: int = 0) -> GoalError:
        return GoalError(ErrorCode.INFEASIBLE, f'{plan.predicted_tokens - n} more tokens are expected, and '
                         f'{max(0, plan.fitting_tokens - n)} fit the {max(left_s, 0.0):.3f} s that are left of the '
                         f'time budget of {request.time_budget_s:.3f} s (drop_infeasible)')

    def estimate(self, request: Request) -> tuple[Plan, Plan, int, float]:
        """What the plan would be if `request` started now, without running the model.

        Returns (plan, plan without eviction, N_x, estimated prefill seconds). GoalError for a request that could not
        run. The length predictor does run, so this takes its time.
        """
        prompt, ids, n_max = self._prepare(request)
        n_x = len(ids)
        distribution = self._collect(self._start_prediction(prompt, n_x), Timing(), 0.0, 0.0, n_max, wait_s=5.0)
        prefill_s = self.times.prefill(n_x) * self.tracker.prefill_factor
        left = request.time_budget_s - prefill_s - request.delivery_margin_s
        plan = self.plan(distribution, n_x=n_x, n_min=self._smallest_keep(request, n_x), n_max=n_max, time_left_s=left)
        whole = self.plan(distribution, n_x=n_x, n_min=n_x, n_max=n_max, time_left_s=left)
        return plan, whole, n_x, prefill_s

    def longest_pause_s(self) -> float:
        """Estimated longest time between two looks at the control: in the longest prompt's last chunk, or a step."""
        longest = self.model.max_context
        before = max(0, longest - self.prefill_chunk_tokens) if self.model.chunked_prefill else 0
        return max(self.times.chunk(before, longest - before) / self.model.looks_per_chunk, self.times.step(longest))

    def prefill_table(self) -> list[tuple[int, float]]:
        """(prompt tokens, estimated seconds), ascending to the context: for whoever cannot import the profile."""
        lengths = [2 ** i for i in range(4, self.model.max_context.bit_length())]
        return [(n, self.times.prefill(n)) for n in [0, *lengths, self.model.max_context]]

    def plan(self, distribution: LengthDistribution, *, n_x: int, n_min: int, n_max: int, time_left_s: float,
             may_cap: bool = False) -> Plan:
        """Length distribution and time left -> plan (PAPER: solver), with the bounds that keep the miss rate."""
        times, factor = self.times, self.tracker.timing_factor
        options = [knobs.Option(name, times.of_variant(name).steps.scaled(factor)) for name in self.model.variants]
        plan = knobs.choose(
            options, self.quality, distribution, n_x=n_x, n_min=n_min, n_max=n_max,
            time_left_s=time_left_s, eviction_s=times.eviction(n_x) * factor, predicted=distribution.median(),
            pessimistic=self.tracker.length.pessimistic(distribution, n_max), caution=self.tracker.time_bound,
            reserve_s=self.tracker.reserve_s, may_cap=may_cap)
        return replace(plan, timing_factor=factor)

    def _prepare(self, request: Request) -> tuple[str, list[int], int]:
        """(rendered prompt, token ids, N_max)."""
        prompt = self.model.render(request)
        ids = self.model.tokenize(prompt, is_chat=bool(request.messages))
        return prompt, ids, min(request.max_new_tokens, self.model.max_context - len(ids))

    def _smallest_keep(self, request: Request, n_x: int) -> int:
        if not self.model.supports_eviction:
            return n_x
        return planner.smallest_keep(n_x, request.max_eviction_ratio, MAX_WINDOW)

    def _start_prediction(self, prompt: str, n_x: int) -> Future[Prediction] | None:
        return self.predictor.submit(prompt, self._predictor_bound(n_x)) if self.predictor else None

    def _predictor_bound(self, n_x: int) -> int:
        """N_p: the predictor's input length at most."""
        return self.predictor_max_tokens or max(self.times.predictor_bound(n_x), 2 * MAX_WINDOW)

    def _collect(self, future, timing: Timing, prefill_started: float, prefill_finished: float, n_max: int,
                 wait_s: float | None = None) -> LengthDistribution:
        """The predicted distribution; the marginal one if it is late or failed, the worst case without a predictor."""
        if future is None:
            return LengthDistribution.point(n_max, 1)
        try:
            prediction = future.result(timeout=self.prediction_wait_s if wait_s is None else wait_s)
        except FutureTimeout:
            log.info('the length prediction was late; planning with the marginal distribution')
            return self.predictor.marginal()
        except Exception:
            log.exception('the length prediction failed; planning with the marginal distribution')
            return self.predictor.marginal()
        timing.prediction_s = prediction.seconds
        timing.hidden_prediction_s = prediction.hidden_s(prefill_started, prefill_finished)
        return prediction.distribution


def _is_out_of_memory(error: Exception) -> bool:
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
