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

"""When workers are killed and stopped."""
import random

from timebill_ros.bench.faults import fault_plan


def test_faults_are_spread_over_the_time():
    plan = fault_plan(3, 2, 50.0, 60.0, random.Random(0))
    assert sorted(kind for _, kind in plan) == ['hang', 'hang', 'kill', 'kill', 'kill']
    times = [at for at, _ in plan]
    assert times == sorted(times) and 50.0 < times[0] and times[-1] < 50.0 + 0.65 * 60.0
