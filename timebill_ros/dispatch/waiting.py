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

"""The goals that wait for the worker: their order, the room for one more, and what each may still hope for."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from timebill_ros import overrun
from timebill_ros.codes import Verdict
from timebill_ros.dispatch import schedule
from timebill_ros.dispatch.bound_estimate import Waiting
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Request


class WaitingGoals:
    """Used from the dispatcher's thread; other threads may ask for `len`.

    `settings` (queue_size, scheduling, drop_infeasible) are shared with the dispatcher, which updates them.
    `times`: what goals take, see schedule.ServiceTimes.
    """

    def __init__(self, settings: dict, times: schedule.ServiceTimes):
        self._settings, self._times = settings, times
        self._jobs: list[Job] = []  # in the order they came in

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs))  # a copy: goals may be removed meanwhile

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)

    def take_next(self) -> Job:
        """Remove the goal that starts next, and return it."""
        job = self.in_order()[0]
        self._jobs.remove(job)
        return job

    @property
    def is_full(self) -> bool:
        return len(self._jobs) >= self._settings['queue_size']

    def displaced_by(self, request: Request) -> Job | None:
        """Return the least urgent goal where `request` may take its place: where its priority is lower."""
        last = max(self._jobs, key=lambda job: schedule.urgency(job.request), default=None)
        return last if last is not None and last.request.priority < request.priority else None

    def next(self) -> Job | None:
        """Return the goal that starts next, which stays; None where none waits."""
        return self.in_order()[0] if self._jobs else None

    def has_place(self, job: Job) -> bool:
        """Whether the goal waits already or may, be it in the place of a goal of lower priority."""
        return job in self or not self.is_full or self.displaced_by(job.request) is not None

    def starts_s(self, job: Job, free_s: float) -> float:
        """Return the instant at which a goal is expected to start, if the worker is free from `free_s` on.

        The goal waits already, or it has just come and would wait too.
        """
        jobs = self.in_order((job,))
        blocking = schedule.Blocking(free_s, free_s, free_s)
        found = schedule.chances(jobs, blocking, self._times, self._drops)
        return next(chance.starts_s for other, chance in found if other is job)

    def wait_of(self, job: Job, blocking: schedule.Blocking, now: float,
                worst_s: Callable[[Request], float]) -> Waiting:
        """Return the seconds that a goal which comes now would wait.

        In the worst case each goal before it takes `worst_s(request)`, but not beyond its own end.
        """
        expected_s = self.starts_s(job, blocking.expected_s)
        free_s = blocking.worst_s
        for ahead in self.in_order((job,)):
            if ahead is job:
                break
            free_s = max(free_s, min(free_s + worst_s(ahead.request),
                                     ahead.request.deadline_s + ahead.request.max_overrun_s))
        return Waiting(expected_s - now, max(free_s, expected_s) - now)

    def chances(self, blocking: schedule.Blocking) -> list[tuple[Job, schedule.Chance]]:
        """Return (job, chance) in the order in which the goals will start."""
        return list(schedule.chances(self.in_order(), blocking, self._times, self._drops))

    def must_end(self, request: Request, chance: schedule.Chance) -> bool:
        """Whether a goal with this chance ends now instead of waiting on."""
        return chance.hopeless or (chance.verdict is Verdict.INFEASIBLE and self._drops(request))

    def next_timer_s(self) -> float:
        """Return the instant at which the next goal becomes hopeless; infinity where none waits."""
        return min((schedule.last_start_s(job.request, self._times) for job in self._jobs), default=math.inf)

    def in_order(self, more: tuple[Job, ...] = ()) -> list[Job]:
        """Return the goals in the order in which they will start, as if `more` waited too."""
        jobs = list(self._jobs)
        jobs += [job for job in more if not any(job is other for other in jobs)]
        return schedule.order(jobs, self._settings['scheduling'])

    def _drops(self, request: Request) -> bool:
        return overrun.drops(request, self._settings['drop_infeasible'])
