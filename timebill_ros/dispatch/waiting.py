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
from collections.abc import Callable, Iterator, Sequence

from timebill_ros import overrun
from timebill_ros.codes import Verdict
from timebill_ros.dispatch import endings, schedule
from timebill_ros.dispatch.bound_estimate import Waiting
from timebill_ros.dispatch.job import Job
from timebill_ros.request import Outcome, Request


class WaitingGoals:
    """Used from the dispatcher's thread; other threads may ask for `len`.

    `settings` (queue_size, scheduling, drop_infeasible) are shared with the dispatcher, which updates them.
    `times`: what goals take, see schedule.ServiceTimes. `aside`: the goals that have given way, the last one last; the
    dispatcher's own list. They go on in the reverse order, each before all that would not stop it if it ran.
    """

    def __init__(self, settings: dict, times: schedule.ServiceTimes, aside: Sequence[Job] = ()):
        self._settings, self._times, self._aside = settings, times, aside
        self._jobs: list[Job] = []  # in the order they came in

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs))  # a copy: goals may be removed meanwhile

    def add(self, job: Job) -> None:
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        """Forget a goal, if it waits."""
        if job in self._jobs:
            self._jobs.remove(job)

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
        found = schedule.chances(self.queue((job,)), schedule.Blocking.at(free_s), self._times, self._drops)
        return next(chance.starts_s for other, chance in found if other is job)

    def wait_of(self, job: Job, blocking: schedule.Blocking, now: float,
                worst_s: Callable[[Request], float]) -> Waiting:
        """Return the seconds that a goal which comes now would wait.

        In the worst case each goal before it takes `worst_s(request)`, but not beyond its own end.
        """
        expected_s = self.starts_s(job, blocking.expected_s)
        free_s = blocking.worst_s
        for ahead in self.queue((job,)):
            if ahead is job:
                break
            if ahead.is_aside:
                free_s = schedule.after(ahead, schedule.Blocking(now, now, free_s), self._times).worst_s
                continue
            free_s = max(free_s, min(free_s + worst_s(ahead.request),
                                     ahead.request.deadline_s + ahead.request.max_overrun_s))
        return Waiting(expected_s - now, max(free_s, expected_s) - now)

    def review(self, blocking: schedule.Blocking, now: float, *, starts_now: bool, is_ready: bool, is_blocked: bool
               ) -> Iterator[tuple[Job, Outcome | None]]:
        """Yield each goal whose chance has changed and, where it has none any more, the outcome that it ends with.

        Of the goals that have given way, only those that cannot go on any more.

        `starts_now`: the worker is free. `is_ready`: there is one; `is_blocked`: another goal runs.
        """
        for job in self._aside:
            if not job.canceled and self.lacks(job, now):
                yield job, endings.left_aside(job)
        queue = self.queue()
        for job, chance in schedule.chances(queue, blocking, self._times, self._drops):
            request = job.request
            if job is queue[0] and starts_now and now < request.deadline_s - request.delivery_margin_s:
                continue  # the worker gets it at once, and judges it better, because it counts its tokens
            if chance.hopeless or (chance.verdict is Verdict.INFEASIBLE and self._drops(request)):
                job.timing.verdict = Verdict.INFEASIBLE
                yield job, endings.hopeless(job, now, starts_s=chance.starts_s, least_s=self._times.least_s(request),
                                            is_ready=is_ready, is_blocked=is_blocked)
            elif chance.verdict is not job.timing.verdict:
                job.timing.verdict = chance.verdict
                yield job, None

    def lacks(self, job: Job, now: float, *, wait_s: float = 0.0) -> str:
        """Return why a goal that gives way, or has, has no answer if it goes on in `wait_s` seconds; empty: it has one.

        It needs the time for being put aside and taken up again and, where drop_infeasible says that a goal ends which
        cannot be answered in full, the time that its plan expects of the rest.
        """
        if not self._times.pauses:
            return ', and nothing is kept here of goals that give way (prefix_cache_mib)'
        request, expected_s = job.request, job.remaining_s(now)[0]
        left_s = request.deadline_s + request.max_overrun_s - request.delivery_margin_s - now - wait_s
        needed_s = expected_s if self._drops(request) and not math.isnan(expected_s) else 0.0
        return '' if left_s > needed_s + self._times.pause_s(job) else ', and it could not go on in time afterwards'

    def next_timer_s(self) -> float:
        """Return the instant at which the next goal becomes hopeless; infinity where none waits."""
        return min((schedule.last_start_s(job.request, self._times) for job in self._jobs), default=math.inf)

    def in_order(self, more: tuple[Job, ...] = ()) -> list[Job]:
        """Return the goals in the order in which they will start, as if `more` waited too."""
        jobs = list(self._jobs)
        jobs += [job for job in more if not any(job is other for other in jobs)]
        return schedule.order(jobs, self._settings['scheduling'])

    def queue(self, more: tuple[Job, ...] = ()) -> list[Job]:
        """Return the goals in the order in which they start or go on, as if `more` waited too."""
        found, aside = [], list(self._aside)
        for job in self.in_order(more):
            while aside and not schedule.preempts(job.request, aside[-1].request, self._settings['preempt']):
                found.append(aside.pop())
            found.append(job)
        return found + aside[::-1]

    def _drops(self, request: Request) -> bool:
        return overrun.drops(request, self._settings['drop_infeasible'])
