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

from timebill_ros.codes import ErrorCode, Tier
from timebill_ros.dispatch.miss_rate import is_missed, is_promised
from timebill_ros.request import Outcome


@dataclass
class Counts:
    """Goals since the node was configured. Written from the dispatcher's thread only."""

    accepted: int = 0
    promised: int = 0  # see miss_rate.is_promised
    missed: int = 0  # of those promised: see miss_rate.is_missed
    late: int = 0
    skipped: int = 0
    preempted: int = 0
    answered_onboard: int = 0  # with the text of the model on board
    answered_offboard: int = 0  # with that of the server of offboard_url

    def observe(self, outcome: Outcome) -> None:
        """Count a goal that has ended. `outcome.timing` holds the promised verdict and the final tardiness."""
        code = outcome.error_code
        self.late += outcome.timing.tardiness_s > 0
        self.skipped += code is ErrorCode.SKIPPED
        self.preempted += code is ErrorCode.PREEMPTED
        if code is ErrorCode.NONE:
            offboard = outcome.timing.tier is Tier.OFFBOARD
            self.answered_offboard += offboard
            self.answered_onboard += not offboard
        if is_promised(outcome):
            self.promised += 1
            self.missed += is_missed(outcome)
