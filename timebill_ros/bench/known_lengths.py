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

"""Lengths that are known beforehand: what an oracle plans with, as the bound of what any prediction could be worth."""
from __future__ import annotations

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.planning.length_source import ExpectedLength, LengthSource


class KnownLengths(LengthSource):
    """Expects `tokens`, the length of the next answer, which is to be set before every request."""

    tokens = 1

    def start(self, *_) -> None:
        """Start nothing: nothing has to be predicted."""

    def expected(self, started, observed, n_x, n_goal, **_) -> ExpectedLength:
        """Return that length, or the goal's own limit of `n_goal` tokens where that is less."""
        return ExpectedLength(LengthDistribution.point(min(self.tokens, n_goal)), True)
