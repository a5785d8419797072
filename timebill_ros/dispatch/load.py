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

"""How busy the node is: a snapshot of the goals that run and wait."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from timebill_ros.dispatch.job import Job


@dataclass(frozen=True)
class Load:
    """Goals held at one instant. What is None is not known: nothing is held, or nothing is decoded."""

    running: int = 0
    waiting: int = 0
    smallest_slack_s: float | None = None
    tokens_per_s: float | None = None


def load_of(held: Sequence[Job], now: float) -> Load:
    """Return the load of the goals `held` at the monotonic instant `now`."""
    running = [job for job in held if not job.waits]
    return Load(len(running), len(held) - len(running), min((_slack_s(job, now) for job in held), default=None),
                next((job.tokens_per_s for job in running), None))


def position_of(job: Job, held: Sequence[Job]) -> int:
    """Return the place of `job` among those that wait, in the order in which they start: 1 is next, 0 waits no more."""
    waiting = [other for other in held if other.waits]
    return next((place for place, other in enumerate(waiting, 1) if other is job), 0)


def _slack_s(job: Job, now: float) -> float:
    left_s = job.request.deadline_s - now
    worst_s = job.remaining_s(now)[1]
    return left_s if math.isnan(worst_s) else left_s - worst_s
