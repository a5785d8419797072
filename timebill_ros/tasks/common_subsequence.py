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

"""The longest common subsequence, which scores of lines and of words are made of."""
from __future__ import annotations

from collections.abc import Sequence


def longest_common_subsequence(given: Sequence[str], wanted: Sequence[str]) -> int:
    """Return how many items of `wanted` stand in `given` in the same order, at most.

    The time grows with the product of the two lengths.
    """
    longest = [0] * (len(wanted) + 1)  # longest[j]: common subsequence of the items so far and wanted[:j]
    for item in given:
        previous = 0
        for j, right in enumerate(wanted, start=1):
            diagonal, previous = previous, longest[j]
            longest[j] = diagonal + 1 if item == right else max(longest[j], longest[j - 1])
    return longest[-1]
