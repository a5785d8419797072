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

"""The paper's accounting of Skip-Next, on times made by hand."""
import pytest

from timebill_ros.bench.skip_next import order, served

SECONDS = {'short': 0.5, 'just': 1.0, 'late': 1.2, 'later': 3.5}


@pytest.mark.parametrize(('arriving', 'expected'), [
    (['short', 'just', 'short'], [True, True, True]),
    (['late', 'short', 'short'], [True, False, True]),
    (['later', 'short', 'short', 'short', 'short'], [True, False, False, False, True]),
    (['short', 'later', 'short'], [True, True, False]),  # what would arrive after the last one is no job
    (['late', 'later', 'short', 'later'], [True, False, True, True]),
    ([], []),
])
def test_a_late_job_skips_the_releases_that_come_meanwhile(arriving, expected):
    assert served(arriving, SECONDS, 1.0) == expected


def test_an_order_is_of_all_tasks_and_the_same_again():
    keys = [str(i) for i in range(20)]
    assert sorted(order(keys, 1)) == sorted(keys) and order(keys, 1) == order(keys, 1) != order(keys, 2)
