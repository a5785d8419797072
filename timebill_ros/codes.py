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

"""The numbers of the ROS interfaces as enums, and the exception that carries an error code.

A test compares them with the interfaces, so neither the node nor the worker needs the other's imports.
"""
from __future__ import annotations

from enum import IntEnum


class Strategy(IntEnum):
    """What happens when the deadline comes before the answer is complete (PAPER: overrun strategies)."""

    DEFAULT = 0
    KILL = 1
    SKIP_NEXT = 2
    TRUNCATE = 3


class OnCut(IntEnum):
    """How an answer of a given form is completed where it is cut: see Generate's on_cut."""

    DROP = 0
    CLOSE = 1


class ToolChoice(IntEnum):
    """Whether a goal with tools may be answered by text: see Generate's tool_choice."""

    AUTO = 0
    REQUIRED = 1


class Thinking(IntEnum):
    """Whether a thinking section comes before the answer: see Generate's thinking."""

    DEFAULT = 0
    OFF = 1
    ON = 2


class Part(IntEnum):
    """What a piece of text that the model writes is a part of: see Generate's feedback."""

    TEXT = 0
    REASONING = 1
    TOOL_CALL = 2


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


class Tier(IntEnum):
    """Whose answer a result holds: see Timing's tier."""

    NONE = 0
    ONBOARD = 1
    OFFBOARD = 2


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
        """Whether the answer ended by itself or at the goal's own limit, and not because time ran out."""
        return self in (FinishReason.EOS, FinishReason.STOP, FinishReason.LENGTH)


class ErrorCode(IntEnum):
    """Why a goal failed. NONE is 0, as in Nav2; the others are in a block of numbers of this package's own."""

    NONE = 0
    UNKNOWN = 7000
    DEADLINE_MISSED = 7001
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
    """How far a request has come. Feedback carries the first three, the status topic all."""

    QUEUED = 1
    PREFILL = 2
    DECODE = 3
    DONE = 4
    SKIPPED = 5


class GoalError(Exception):
    """Ends a request without an answer. Carries a code and a sentence that names the offending value."""

    def __init__(self, code: ErrorCode, message: str):
        super().__init__(message)
        self.code = code


def name_of(kind: type[IntEnum], number: int) -> str:
    """Return the name of a code; the number itself where a newer node sends a code that is unknown here."""
    try:
        return kind(number).name
    except ValueError:
        return str(number)
