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

"""Whether the running goal gives way to another one, or ends for it. Pure: no ROS, no torch.

Feasibility and laxity come first. Nobody is stopped for a goal that cannot make its deadline anyhow. Of two goals of
the same priority (`preempt: deadline`), the running one is not stopped where the other can wait until it is through.
"""
from __future__ import annotations

import math

from timebill_ros import overrun
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.schedule import ServiceTimes, blocked_by, preempts
from timebill_ros.dispatch.waiting import WaitingGoals
from timebill_ros.request import Request

READING = 2.0  # times the expected prefill, after which the running goal is taken to have a plan


def takes_over(job: Job, running: Job, waiting: WaitingGoals, times: ServiceTimes, now: float, preempt: str) -> bool:
    """Tell whether `job`, which waits or has just come, stops `running`; `preempt`: the parameter."""
    # First come, first served: others may be before it that do not stop the running one, which would go on before them.
    first = waiting.in_order((job,))[0]
    if running.preempted_by or not all(preempts(one.request, running.request, preempt) for one in (job, first)):
        return False
    if not _is_feasible(job, running, waiting, times, now):
        return False
    if job.request.priority > running.request.priority:
        return True
    return not (waiting.has_place(job) and _can_wait(job, running, waiting, times, now))


def _due_s(request: Request) -> float:
    return request.deadline_s - request.delivery_margin_s


def _planned_s(running: Job, times: ServiceTimes, now: float) -> float:
    """Return the instant by which the running goal has a plan, as expected; infinity where that is not known."""
    if running.plan is not None:
        return now
    reads_s = times.reads_s(running.request)
    return now + READING * reads_s - running.ran_s(now) if reads_s else math.inf


def _is_feasible(job: Job, running: Job, waiting: WaitingGoals, times: ServiceTimes, now: float) -> bool:
    """Whether the goal could make its deadline if the running one stopped now."""
    known = times.per_character(running.request, running.timing.prompt_tokens)  # 0 before its plan
    needed_s = times.needed_s(job.request, complete=overrun.of(job.request).cut_is_lost, tokens_per_character=known)
    return waiting.starts_s(job, now + times.pause_s(running)) + needed_s < _due_s(job.request)


def _can_wait(job: Job, running: Job, waiting: WaitingGoals, times: ServiceTimes, now: float) -> bool:
    """Whether the goal can be answered in full after the running one, even if that one takes its worst case.

    Nothing but its deadline bounds how long the running one takes before it has a plan. So its plan is waited for,
    where the goal could still stop it then. Before any answer has finished, the goal is taken to need as long as the
    running one.
    """
    planned_s = _planned_s(running, times, now)
    if now < planned_s < math.inf and _is_feasible(job, running, waiting, times, planned_s):
        return True
    free_s = blocked_by(running, now, times).worst_s
    takes_s = times.usual_s(job.request) if times.knows_answers else free_s - running.started_s
    return waiting.starts_s(job, free_s) + takes_s < _due_s(job.request)
