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

"""The longest common subsequence, against all subsequences."""
import itertools
import random

from timebill_ros.tasks.common_subsequence import longest_common_subsequence


def test_it_is_the_longest_that_both_hold():
    rng = random.Random(0)
    for _ in range(200):
        wanted, given = ([rng.choice('abcd') for _ in range(rng.randint(0, 6))] for _ in range(2))
        # Try all subsequences of `wanted`. `in` consumes an iterator, so items are found in order only.
        common = max(n for n in range(len(wanted) + 1) for chosen in itertools.combinations(wanted, n)
                     for rest in [iter(given)] if all(item in rest for item in chosen))
        assert longest_common_subsequence(given, wanted) == common
