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

"""The records that travel: a Request goes in, a Plan is made for it, an Outcome comes out.

Plain data, shared by the ROS process and the worker process, which exchange it as JSON. The enums carry the numbers
of the ROS interfaces (a test compares them), so neither process needs the other's imports. Times are seconds as
floats; instants are readings of CLOCK_MONOTONIC, which all processes of one machine share.

A record that contradicts itself is a bug, so making one raises ValueError with the field and its value. Values that a
client chose are no bug: admission.py turns bad ones into a result with a code.
"""
from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import IntEnum

UNKNOWN = math.nan  # a time that was not measured


class Strategy(IntEnum):
    """What happens when the deadline comes before the answer is complete (PAPER: overrun strategies)."""

    DEFAULT = 0
    KILL = 1
    SKIP_NEXT = 2
    TRUNCATE = 3


class Verdict(IntEnum):
    """What the plan expects of the deadline. FITS and FITS_WITH_EVICTION are promises."""

    UNKNOWN = 0
    FITS = 1
    FITS_WITH_EVICTION = 2
    AT_RISK = 3
    INFEASIBLE = 4

    @property
    def is_promise(self) -> bool:
        return self in (Verdict.FITS, Verdict.FITS_WITH_EVICTION)


class FinishReason(IntEnum):
    """Why generation stopped."""

    UNKNOWN = 0
    EOS = 1
    STOP = 2
    LENGTH = 3
    CAPPED = 4
    DEADLINE = 5
    CANCELED = 6
    SKIPPED = 7
    ERROR = 8

    @property
    def is_natural(self) -> bool:
        """The answer ended by itself or at the goal's own limit, not because time ran out."""
        return self in (FinishReason.EOS, FinishReason.STOP, FinishReason.LENGTH)


class ErrorCode(IntEnum):
    """0 as Nav2 has it, then a block of our own."""

    NONE = 0
    UNKNOWN = 7000
    TIMEOUT = 7001
    INVALID_GOAL = 7002
    INACTIVE = 7003
    PROMPT_TOO_LONG = 7004
    INFEASIBLE = 7005
    SKIPPED = 7006
    OUT_OF_MEMORY = 7007
    WORKER_LOST = 7008
    CANCELED = 7009
    BUSY = 7010
    PREEMPTED = 7011


class Phase(IntEnum):
    """Where a request is. Feedback carries the first three."""

    QUEUED = 1
    PREFILL = 2
    DECODE = 3
    DONE = 4
    SKIPPED = 5


class GoalError(Exception):
    """A request that ends without an answer: a code and a sentence that names the offending value."""

    def __init__(self, code: ErrorCode, message: str):
        super().__init__(message)
        self.code = code


def _require(holds: bool, field_name: str, condition: str, value) -> None:
    """ValueError, with the field, what it must be and its value, unless the condition holds."""
    if not holds:
        raise ValueError(f'{field_name} must be {condition}, got {value!r}')


def _require_ratio(ratio: float, kept: int, whole: int) -> None:
    """ValueError unless `ratio` is the share of `whole` entries that is gone where `kept` are kept."""
    expected = 1 - kept / whole if whole else 0.0
    _require(abs(ratio - expected) <= 1e-9, 'eviction_ratio', f'1 - {kept} / {whole}', ratio)  # false for NaN


@dataclass
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; top_p 1 and top_k 0 switch those filters off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: list[str] = field(default_factory=list)


@dataclass
class Request:
    """One goal. After admission exactly one of `prompt` (raw text) and `messages` (chat template) is not empty.

    The deadline may lie before the release: one in ROS time moves with the simulated clock.
    """

    request_id: str
    release_s: float  # monotonic instant at which the goal was received
    deadline_s: float  # monotonic instant by which its result is to be set
    prompt: str = ''
    messages: list[dict[str, str]] = field(default_factory=list)
    strategy: Strategy = Strategy.TRUNCATE
    max_new_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    max_eviction_ratio: float = 0.95
    priority: int = 0
    closing_text: str = ''
    stop_at_line_end: bool = False
    delivery_margin_s: float = 0.03  # kept free before the deadline for carrying the result to the client
    max_overrun_s: float = 0.0  # how long it may go on after the deadline; more than 0 for SKIP_NEXT only

    def __post_init__(self):
        # Sizes and not the texts themselves: a client may have sent megabytes.
        _require(not (self.prompt and self.messages), 'prompt', f'empty beside {len(self.messages)} messages',
                 f'{len(self.prompt)} characters')
        for index, message in enumerate(self.messages):
            _require('role' in message and 'content' in message, f'messages[{index}]', 'a role and a content',
                     sorted(message))
        _require(math.isfinite(self.release_s), 'release_s', 'finite', self.release_s)
        _require(not math.isnan(self.deadline_s), 'deadline_s', 'an instant', self.deadline_s)
        _require(self.max_new_tokens >= 1, 'max_new_tokens', 'at least 1', self.max_new_tokens)
        _require(0 <= self.priority <= 255, 'priority', 'from 0 to 255', self.priority)
        _require(0 <= self.delivery_margin_s < math.inf, 'delivery_margin_s', 'finite and not negative',
                 self.delivery_margin_s)
        _require(0 <= self.max_overrun_s < math.inf, 'max_overrun_s', 'finite and not negative', self.max_overrun_s)
        _require(not self.max_overrun_s or self.strategy is Strategy.SKIP_NEXT, 'max_overrun_s',
                 '0 for a strategy other than SKIP_NEXT', self.max_overrun_s)

    @property
    def time_budget_s(self) -> float:
        """T: the relative deadline."""
        return self.deadline_s - self.release_s

    @property
    def characters(self) -> int:
        """Of the prompt, or of all messages."""
        return len(self.prompt) + sum(len(message['content']) for message in self.messages)

    @staticmethod
    def from_dict(data: dict) -> Request:
        data = dict(data)
        data['strategy'] = Strategy(data['strategy'])
        data['sampling'] = Sampling(**data['sampling'])
        return Request(**data)


@dataclass(frozen=True)
class Plan:
    """What the planner decided once prefill was over (or, in an estimate, would decide).

    One made again while decoding counts its lengths from the first token of the answer, and its times from now. The
    default stands for no plan.
    """

    verdict: Verdict = Verdict.UNKNOWN
    n_x: int = 0  # N_x: prompt tokens
    n_keep: int = 0  # prompt entries kept per layer and KV head
    eviction_ratio: float = 0.0  # alpha = 1 - n_keep / N_x
    length_cap: int = 0  # longest response that the plan allows, tokens
    predicted_tokens: int = 0  # N_hat
    pessimistic_tokens: int = 0  # N_W
    fitting_tokens: int = 0  # N_fit at alpha_max
    decode_wcet_s: float = UNKNOWN  # t_dec(alpha, N_W), with the eviction's own time
    decode_expected_s: float = UNKNOWN  # t_dec(alpha, N_hat), with the eviction's own time
    variant: str = ''  # precision of the weights to decode with; empty: the model's own
    timing_factor: float = 1.0  # how much longer than profiled a decode step takes now

    def __post_init__(self):
        verdict, n_hat, n_w = self.verdict, self.predicted_tokens, self.pessimistic_tokens
        least = 0 if verdict is Verdict.UNKNOWN else 1
        _require(least <= self.n_keep <= self.n_x, 'n_keep', f'from {least} to n_x, which is {self.n_x}', self.n_keep)
        _require_ratio(self.eviction_ratio, self.n_keep, self.n_x)
        _require(self.length_cap >= least, 'length_cap', f'at least {least}', self.length_cap)
        _require(n_hat >= least, 'predicted_tokens', f'at least {least}', n_hat)
        _require(n_w >= n_hat, 'pessimistic_tokens', f'at least predicted_tokens, which is {n_hat}', n_w)
        _require(self.fitting_tokens >= 0, 'fitting_tokens', '0 or more', self.fitting_tokens)
        if verdict is Verdict.FITS:
            _require(self.n_keep == self.n_x, 'n_keep', f'all {self.n_x} for FITS', self.n_keep)
        if verdict is Verdict.FITS_WITH_EVICTION:
            _require(self.n_keep < self.n_x, 'n_keep', f'less than {self.n_x} for FITS_WITH_EVICTION', self.n_keep)
        if verdict.is_promise:
            _require(n_w <= min(self.fitting_tokens, self.length_cap), 'pessimistic_tokens', 'at most fitting_tokens '
                     f'({self.fitting_tokens}) and length_cap ({self.length_cap}) for {verdict.name}', n_w)
        if verdict in (Verdict.AT_RISK, Verdict.INFEASIBLE):
            n, name = (n_w, 'pessimistic_tokens') if verdict is Verdict.AT_RISK else (n_hat, 'predicted_tokens')
            _require(self.fitting_tokens < n, 'fitting_tokens', f'less than {name} ({n}) for {verdict.name}',
                     self.fitting_tokens)
        expected_s, wcet_s = self.decode_expected_s, self.decode_wcet_s
        _require(not expected_s < 0, 'decode_expected_s', '0 or more', expected_s)
        _require(not wcet_s < expected_s * (1 - 1e-9), 'decode_wcet_s',
                 f'at least decode_expected_s, which is {expected_s}', wcet_s)
        _require(not wcet_s < 0, 'decode_wcet_s', '0 or more', wcet_s)
        _require(0 < self.timing_factor < math.inf, 'timing_factor', 'finite and above 0', self.timing_factor)

    @staticmethod
    def from_dict(data: dict) -> Plan:
        return Plan(**{**data, 'verdict': Verdict(data['verdict'])})


@dataclass
class Timing:
    """The account of one request; field for field what msg/Timing carries.

    It is filled in step by step, so whoever sends one calls `check` before.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    predicted_tokens: int = 0
    pessimistic_tokens: int = 0
    kept_tokens: int = 0
    length_cap: int = 0
    eviction_ratio: float = UNKNOWN  # NaN until there is a plan
    verdict: Verdict = Verdict.UNKNOWN
    variant: str = ''
    time_budget_s: float = UNKNOWN
    wcet_s: float = UNKNOWN
    queue_s: float = UNKNOWN
    prediction_s: float = UNKNOWN
    hidden_prediction_s: float = UNKNOWN
    prefill_s: float = UNKNOWN
    eviction_s: float = UNKNOWN
    decode_s: float = UNKNOWN
    time_to_first_token_s: float = UNKNOWN
    response_time_s: float = UNKNOWN
    tardiness_s: float = UNKNOWN

    def __post_init__(self):
        self.check()

    def check(self) -> None:
        """ValueError, with the field and its value, for an account that contradicts itself."""
        for name in _COUNTS:
            _require(getattr(self, name) >= 0, name, '0 or more', getattr(self, name))
        for name in _TIMES:
            _require(not getattr(self, name) < 0, name, '0 or more, or NaN', getattr(self, name))
        _require(self.pessimistic_tokens >= self.predicted_tokens, 'pessimistic_tokens',
                 f'at least predicted_tokens, which is {self.predicted_tokens}', self.pessimistic_tokens)
        _require(self.kept_tokens <= self.prompt_tokens, 'kept_tokens',
                 f'at most prompt_tokens, which is {self.prompt_tokens}', self.kept_tokens)
        if not math.isnan(self.eviction_ratio):
            _require_ratio(self.eviction_ratio, self.kept_tokens, self.prompt_tokens)
        if self.length_cap:
            _require(self.generated_tokens <= self.length_cap, 'generated_tokens',
                     f'at most length_cap, which is {self.length_cap}', self.generated_tokens)
        _require(not self.hidden_prediction_s > self.prediction_s, 'hidden_prediction_s',
                 f'at most prediction_s, which is {self.prediction_s}', self.hidden_prediction_s)

    def set_plan(self, plan: Plan) -> None:
        self.predicted_tokens = plan.predicted_tokens
        self.pessimistic_tokens = plan.pessimistic_tokens
        self.kept_tokens = plan.n_keep
        self.length_cap = plan.length_cap
        self.eviction_ratio = plan.eviction_ratio
        self.verdict = plan.verdict
        self.variant = plan.variant or self.variant

    @staticmethod
    def from_dict(data: dict) -> Timing:
        return Timing(**{**data, 'verdict': Verdict(data['verdict'])})


_COUNTS = tuple(f.name for f in dataclasses.fields(Timing) if f.name.endswith('_tokens') or f.name == 'length_cap')
# Without the budget, which is negative where a deadline in simulated time moved before the release.
_TIMES = tuple(f.name for f in dataclasses.fields(Timing) if f.name.endswith('_s') and f.name != 'time_budget_s')

_CUT = (FinishReason.CAPPED, FinishReason.DEADLINE)
# The codes with which a reason other than ERROR may end, which has all the others.
_CODES = {
    FinishReason.UNKNOWN: (ErrorCode.NONE,),  # the default: nothing has ended yet
    FinishReason.EOS: (ErrorCode.NONE,),
    FinishReason.STOP: (ErrorCode.NONE,),
    FinishReason.LENGTH: (ErrorCode.NONE,),
    FinishReason.CAPPED: (ErrorCode.NONE, ErrorCode.TIMEOUT),
    FinishReason.DEADLINE: (ErrorCode.NONE, ErrorCode.TIMEOUT),
    FinishReason.CANCELED: (ErrorCode.CANCELED,),
    FinishReason.SKIPPED: (ErrorCode.SKIPPED,),
}
_CODES[FinishReason.ERROR] = tuple(set(ErrorCode) - {code for codes in _CODES.values() for code in codes})
# Failures that keep the text so far, where the goal's strategy does.
_KEEPING = (ErrorCode.UNKNOWN, ErrorCode.INACTIVE, ErrorCode.WORKER_LOST, ErrorCode.CANCELED, ErrorCode.PREEMPTED)


@dataclass(frozen=True)
class Outcome:
    """How a request ended. error_code NONE if and only if the goal succeeded; otherwise error_msg says why."""

    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ''
    text: str = ''
    finish_reason: FinishReason = FinishReason.UNKNOWN
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self):
        code, reason = self.error_code, self.finish_reason
        _require(code in _CODES[reason], 'error_code', f'one that goes with {reason.name}', code)
        _require(bool(self.error_msg) == (code is not ErrorCode.NONE), 'error_msg',
                 f'{"empty" if code is ErrorCode.NONE else "a sentence"} for {code.name}', self.error_msg)
        if code is ErrorCode.NONE:
            _require(bool(self.text) or reason not in _CUT, 'text', f'what is left of the answer for {reason.name}',
                     self.text)
        elif code not in _KEEPING:
            _require(not self.text, 'text', f'empty for {code.name}', self.text[:64])

    @staticmethod
    def from_dict(data: dict) -> Outcome:
        return Outcome(ErrorCode(data['error_code']), data['error_msg'], data['text'],
                       FinishReason(data['finish_reason']), Timing.from_dict(data['timing']))


def to_dict(record) -> dict:
    """A record as JSON-ready data."""
    return dataclasses.asdict(record)
