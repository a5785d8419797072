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

"""The goals that the worker holds: the one that runs, and those that have given way to it."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from timebill_ros.deadline import Clock
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.schedule import preempts
from timebill_ros.request import Request, to_dict


class BegunGoals:
    """Used from the dispatcher's thread; other threads may iterate. `send(message)`: to the worker.

    `aside`: the goals that have given way, the last one last. The worker can take up only that one.
    """

    def __init__(self, send: Callable[[dict], None], clock: Clock):
        self._send, self._clock = send, clock
        self.running: Job | None = None
        self.aside: list[Job] = []

    def __iter__(self) -> Iterator[Job]:
        running = self.running
        return iter([*([] if running is None else [running]), *self.aside])  # a copy: goals may be removed meanwhile

    def find(self, request_id: str | None) -> Job | None:
        """Return the goal of this id."""
        return next((job for job in self if job.request.request_id == request_id), None)

    def late_for(self, request: Request, preempt: str) -> Job | None:
        """Return a goal that goes on after its deadline, so that `request`, which comes now, is skipped.

        Not one that has made way for others already, or is about to, where it would for this one too (see preempts).
        """
        return next((job for job in self if job.is_late and not (
            job.preempted_by and preempts(request, job.request, preempt))), None)

    def next_timer_s(self) -> float:
        """Return the instant at which the next one is late, or ends because the worker has not ended it."""
        return min((min(job.guard_s(), math.inf if job.is_late else job.request.deadline_s) for job in self),
                   default=math.inf)

    def run(self, job: Job) -> None:
        """Have the worker start a goal, or go on with the one that gave way last."""
        self.running = job
        if job.is_aside:
            self.aside.remove(job)
            self._send({'op': 'resume', 'id': job.request.request_id})
            job.go_on(self._clock())
        else:
            self._send({'op': 'run', 'request': to_dict(job.request)})
            job.start(self._clock())

    def stop(self, job: Job, op: str, grace_s: float) -> None:
        """Have the goal that runs stop: for good (`op` 'cancel'), or until it goes on ('pause')."""
        # The worker stops within a chunk or a step and reports; its account is better than ours.
        self._send({'op': op, 'id': job.request.request_id})
        job.stop_by_s = min(job.stop_by_s, self._clock() + grace_s)

    def gave_way(self, job: Job) -> None:
        """Take note that the worker has put the goal aside that ran."""
        self.running = None
        self.aside.append(job)
        job.give_way(self._clock())

    def remove(self, job: Job) -> bool:
        """Forget a goal; return whether it was one of these. The worker need not keep one that has given way."""
        if job is self.running:
            self.running = None
        elif job in self.aside:
            self.aside.remove(job)
            self._send({'op': 'cancel', 'id': job.request.request_id})
        else:
            return False
        return True

    def starts_anew(self, job: Job) -> bool:
        """Return whether a goal of a lost worker can be answered anew: its client was told no text. Then forget it."""
        if not job.is_aside or job.n_tokens or job.canceled:
            return False
        self.aside.remove(job)
        job.start_anew()
        return True

    def move_deadline(self, job: Job) -> None:
        """Tell the worker that the deadline of one of these has moved. It may lie ahead again."""
        request = job.request
        job.is_late = job.is_late and self._clock() >= request.deadline_s
        self._send({'op': 'deadline', 'id': request.request_id, 'deadline_s': request.deadline_s})
