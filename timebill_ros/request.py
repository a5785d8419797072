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
    """One goal after admission. Exactly one of `prompt` (raw text) and `messages` (chat template) is not empty."""

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


@dataclass
class Plan:
    """What the planner decided once prefill was over (or, in an estimate, would decide)."""

    verdict: Verdict = Verdict.UNKNOWN
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

    @staticmethod
    def from_dict(data: dict) -> Plan:
        return Plan(**{**data, 'verdict': Verdict(data['verdict'])})


@dataclass
class Timing:
    """The account of one request; field for field what msg/Timing carries."""

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


@dataclass
class Outcome:
    """How a request ended. error_code NONE if and only if the goal succeeded; otherwise error_msg says why."""

    error_code: ErrorCode = ErrorCode.NONE
    error_msg: str = ''
    text: str = ''
    finish_reason: FinishReason = FinishReason.UNKNOWN
    timing: Timing = field(default_factory=Timing)

    @staticmethod
    def from_dict(data: dict) -> Outcome:
        return Outcome(ErrorCode(data['error_code']), data['error_msg'], data['text'],
                       FinishReason(data['finish_reason']), Timing.from_dict(data['timing']))


def to_dict(record) -> dict:
    """A record as JSON-ready data."""
    return dataclasses.asdict(record)
