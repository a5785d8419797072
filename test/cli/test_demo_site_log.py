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

"""The demonstration on the embedded model: how budgets are spread."""
from types import SimpleNamespace

from timebill_ros.action import Generate
from timebill_ros.cli import demo_site_log
from timebill_ros.srv import EstimateTime


def test_budgets_run_from_generous_to_hopeless():
    def estimate(goal, budget_s):  # a node with 0.1 s of prefill, 1 s of decoding, 0.8 s after the largest eviction
        whole, least = (0.1, 0.1) if goal.max_new_tokens == 1 else (1.1, 0.9)
        return EstimateTime.Response(wcet_without_eviction_s=whole, wcet_with_eviction_s=least, predicted_tokens=100,
                                     pessimistic_tokens=500)
    series = demo_site_log.budgets(SimpleNamespace(estimate=estimate), Generate.Goal(max_new_tokens=512), margin_s=0.0)
    seconds = [budget_s for _, budget_s in series]
    assert seconds == sorted(seconds, reverse=True) and len(seconds) >= 8
    by_name = dict(series)
    assert by_name['just enough'] > 1.1
    assert all(0.9 < budget_s < 1.1 for name, budget_s in series if name == 'needs eviction')
    assert 0.1 + 0.8 * 100 / 500 < by_name['at risk'] < 0.9
    assert 0.1 < by_name['too short'] < 0.1 + 0.8 * 100 / 500
    assert by_name['hopeless'] < 0.1
