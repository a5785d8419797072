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

"""When a head on hidden states is fitted again while it serves, and when it is trusted. The same for every head."""
from __future__ import annotations

from collections.abc import Sequence

from timebill_ros.length.hidden_state_head import FEWEST, HiddenStateHead

RECENT = 100  # predictions, over which head and marginal are compared
ENOUGH = 20  # predictions; before so many were compared, leaving labels out decides
LEAST_NEW, MOST_NEW = 4, 64  # labels after which the head is fitted again, at least and at most


def is_due(new: int, n: int) -> bool:
    """Return whether a head is to be fitted again to `n` labels, `new` of which came since the last fit."""
    return n >= FEWEST and new >= min(max(LEAST_NEW, n // 8), MOST_NEW)


def is_trusted(head: HiddenStateHead | None, gains: Sequence[float]) -> bool:
    """Return whether a head is planned with. `gains`: by how many tokens its CRPS was the better one, lately."""
    if head is None:
        return False
    if len(gains) < ENOUGH:
        return head.is_better
    return sum(gains) > 0
