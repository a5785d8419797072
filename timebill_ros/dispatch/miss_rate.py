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

"""Which goals count as promised and as missed, and whether misses are more than chance explains."""
from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from timebill_ros.codes import ErrorCode
from timebill_ros.request import Outcome

# How rarely as many misses would come if each promise were missed with the allowed probability. The rate is looked at
# again with every goal, so a limit of 1 in 20 would warn for nothing every day.
WARN_CHANCE = 1e-2
ERROR_CHANCE = 1e-4


class Level(IntEnum):
    """How serious a finding is; the numbers are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


def is_promised(outcome: Outcome) -> bool:
    """Whether an ended goal had a promise that counts: a first plan that fits, neither canceled nor INACTIVE."""
    return outcome.timing.verdict.is_promise and outcome.error_code not in (ErrorCode.CANCELED, ErrorCode.INACTIVE)


def is_missed(outcome: Outcome) -> bool:
    """Whether a promised goal was cut before its natural end, or late."""
    return not outcome.finish_reason.is_natural or outcome.timing.tardiness_s > 0


@dataclass(frozen=True)
class MissRate:
    """`missed` of `promised` goals missed their deadline; `allowed` is epsilon, the share that promises aim at."""

    promised: int
    missed: int
    allowed: float

    @property
    def rate(self) -> float | None:
        """The share of promises missed, None without any."""
        return self.missed / self.promised if self.promised else None

    @property
    def chance(self) -> float:
        """Return the probability of at least `missed` misses if each promise were missed with probability `allowed`."""
        n, m, epsilon = self.promised, self.missed, self.allowed
        return 1.0 if not m else math.fsum(
            math.comb(n, k) * epsilon ** k * (1 - epsilon) ** (n - k) for k in range(m, n + 1))

    @property
    def level(self) -> Level:
        """Return WARN or ERROR where chance hardly explains the misses."""
        chance = self.chance
        return Level.ERROR if chance < ERROR_CHANCE else Level.WARN if chance < WARN_CHANCE else Level.OK

    def __str__(self) -> str:
        if self.rate is None:
            return f'no promised goal ended lately; {self.allowed:.1%} may miss their deadline'
        return f'{self.missed} of the last {self.promised} promised goals missed their deadline ({self.rate:.1%}; ' \
               f'{self.allowed:.1%} may)'
