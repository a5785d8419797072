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

"""What answers beside the worker: nothing, or the server of the parameter `offboard_url`.

The dispatcher calls the same methods of either. Without `offboard_url` nothing of the room offboard/ is imported.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future

from timebill_ros.deadline import Clock
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.request import Outcome


class OneTier:
    """The model on board answers alone: no method does anything."""

    state = 0  # DeadlineStats.OFFBOARD_NONE
    asked = running = 0
    seconds = 0.0
    held: tuple[Job, ...] = ()

    def configure(self, then: Callable[[], None], failed: Future) -> None:
        then()

    def begin(self, job: Job) -> None:
        pass

    def decide(self, job: Job, outcome: Outcome) -> Outcome | None:
        return outcome

    def forget(self, job: Job) -> None:
        pass

    def next_timer_s(self) -> float:
        return math.inf

    def check_timers(self) -> None:
        pass

    def stop(self) -> None:
        pass


def tier_of(settings: dict, post: Callable, conclude: Callable, tell: Callable, clock: Clock,
            start_caller: Callable | None):
    """Return what answers beside the worker; the parameters: see SecondTier. `start_caller` None: a real process."""
    if not settings.get('offboard_url'):
        return OneTier()
    from timebill_ros.dispatch.offboard.second_tier import SecondTier

    def start(on_event: Callable[[dict], None]) -> WorkerProcess:
        return WorkerProcess(settings['worker_python'], on_event, module='timebill_ros.dispatch.offboard.main',
                             name='offboard')

    return SecondTier(start_caller or start, settings, post, conclude, tell, clock)
