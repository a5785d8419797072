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

"""Messages of the status and stats topics, without ROS, for the tests of what monitors show."""
from __future__ import annotations

import math
from types import SimpleNamespace

from timebill_ros.codes import Phase, Verdict

START_S = 1_700_000_000.0  # ROS time


def stamp(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))


def status(request_id: str, phase: Phase, at_s: float, *, release_s: float = 0.0, budget_s: float = 2.0,
           verdict: Verdict = Verdict.UNKNOWN, expected_s: float | None = None, **changed) -> SimpleNamespace:
    """A RequestStatus. `at_s`, `release_s` and `expected_s` are seconds after START_S."""
    fields = dict(finish_reason=0, error_code=0, slack_s=math.nan, wcet_s=math.nan, response_time_s=math.nan,
                  tardiness_s=math.nan, eviction_ratio=math.nan, predicted_tokens=0, pessimistic_tokens=0,
                  generated_tokens=0, queue_position=0, priority=0, strategy=3, overrun=False, degraded=False,
                  timing_factor=1.0, variant='')
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp(START_S + at_s)), request_id=request_id, phase=int(phase),
        verdict=int(verdict), release=stamp(START_S + release_s), time_budget_s=budget_s,
        deadline=stamp(START_S + release_s + budget_s if budget_s else 0.0),
        predicted_finish=stamp(START_S + expected_s if expected_s is not None else 0.0), **{**fields, **changed})


def stats(at_s: float, **changed) -> SimpleNamespace:
    """A DeadlineStats of an active node that has just begun; `at_s`: seconds after START_S."""
    fields = dict(lifecycle_state=3, degraded=False, running=0, waiting=0, accepted=0, smallest_slack_s=0.0,
                  smallest_slack_is_current=False, window_s=600.0, promised=0, missed=0, miss_rate=0.0,
                  miss_rate_is_current=False, miss_rate_allowed=0.05, timing_factor=1.0, prefill_factor=1.0,
                  time_bound=1.0, tokens_per_second=0.0, tokens_per_second_is_current=False, device='',
                  device_memory_used=0, device_memory_used_is_current=False, device_memory_total=0,
                  device_temperature=0.0, device_temperature_is_current=False)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp(START_S + at_s)), **{**fields, **changed})
