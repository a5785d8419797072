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

"""Where nothing is marked, nothing is asked per token."""
from engine_bench import Bench

from timebill_ros.inference.ranges import Ranges


def test_the_token_loop_has_the_model_itself():
    bench = Bench()
    assert type(bench.engine.ranges) is Ranges and bench.engine.ranges.stepping(bench.model) is bench.model
    with Ranges().request(), Ranges().around('anything'):
        Ranges().phase('anything')
