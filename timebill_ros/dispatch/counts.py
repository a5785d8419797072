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

"""How many goals ended how, for diagnostics: the node counts, a timer reports."""
from __future__ import annotations

from dataclasses import dataclass

from timebill_ros.codes import ErrorCode
from timebill_ros.request import Outcome


@dataclass
class Counts:
    """Goals since the node was configured. Written from the dispatcher's thread only."""

    accepted: int = 0
    promised: int = 0  # ended after a first plan with FITS or FITS_WITH_EVICTION; neither canceled nor INACTIVE
    missed: int = 0  # of those promised: cut before their natural end, or late
    late: int = 0
    skipped: int = 0
    preempted: int = 0

    def observe(self, outcome: Outcome) -> None:
        """Count a goal that has ended. `outcome.timing` holds the promised verdict and the final tardiness."""
        code, timing = outcome.error_code, outcome.timing
        self.late += timing.tardiness_s > 0
        self.skipped += code is ErrorCode.SKIPPED
        self.preempted += code is ErrorCode.PREEMPTED
        if timing.verdict.is_promise and code not in (ErrorCode.CANCELED, ErrorCode.INACTIVE):
            self.promised += 1
            self.missed += not outcome.finish_reason.is_natural or timing.tardiness_s > 0
