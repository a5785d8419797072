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

"""Which waiting goal starts next, and which can no longer make its deadline. Pure: no clock, no ROS, no torch.

Non-preemptive EDF with the priority as first key. What a waiting goal will take is known only roughly: its prompt is
not tokenized and its length not predicted before it starts. So what finished goals took stands for it.
"""
from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from timebill_ros.request import Outcome, Request, Verdict


def urgency(request: Request) -> tuple[int, float]:
    """Sorts the most urgent request first."""
    return -request.priority, request.deadline_s


def preempts(new: Request, running: Request, preempt: str) -> bool:
    """Whether `new` stops `running`, by the parameter `preempt`."""
    if preempt == 'deadline':
        return urgency(new) < urgency(running)
    return preempt == 'priority' and new.priority > running.priority


class ServiceTimes:
    """Seconds that goals take, as far as they can be told without a tokenizer.

    `prefill` is the profile's table of (prompt tokens, seconds), ascending; the tokens in a character and the time to
    decode an answer are those of the goals that finished lately. Nothing is expected of goals until one has.
    """

    window = 64

    def __init__(self):
        self.prefill: Sequence[tuple[int, float]] = ()
        self._tokens: deque[float] = deque(maxlen=self.window)  # per character
        self._decode: deque[float] = deque(maxlen=self.window)
        # Of these, reckoned once for each goal that ends, because they are asked for at every event.
        self._fewest = self._usual = self._usual_decode_s = 0.0

    def observe(self, request: Request, outcome: Outcome) -> None:
        """Account for a goal that has ended; one that did not get far enough teaches nothing."""
        timing = outcome.timing
        if timing.prompt_tokens > 0:
            self._tokens.append(timing.prompt_tokens / max(1, request.characters))
            self._fewest, self._usual = min(self._tokens), median(self._tokens)
        if timing.decode_s > 0 and outcome.finish_reason.is_natural:  # false for NaN
            self._decode.append(timing.decode_s)
            self._usual_decode_s = median(self._decode)

    def least_s(self, request: Request) -> float:
        """Reading the prompt if it has half as many tokens in a character as any lately; 0 while nothing is known.

        Half, because other languages and other kinds of text have fewer: goals end for this.
        """
        return self._prefill_s(0.5 * self._fewest * request.characters) if self._tokens else 0.0

    def usual_s(self, request: Request) -> float:
        """What it may be expected to take as a whole; 0 while nothing is known."""
        if not self._tokens:
            return 0.0
        return self._prefill_s(self._usual * request.characters) + self._usual_decode_s

    def _prefill_s(self, n: float) -> float:
        """Interpolated, and beyond its ends the table's."""
        table = self.prefill
        i = bisect_left(table, (n, 0.0))
        if i == 0 or i == len(table):
            return table[min(i, len(table) - 1)][1] if table else 0.0
        (n_0, s_0), (n_1, s_1) = table[i - 1], table[i]
        return s_0 + (s_1 - s_0) * (n - n_0) / (n_1 - n_0)


def last_start_s(request: Request, times: ServiceTimes) -> float:
    """The instant from which on not even its prompt can be read in time."""
    return request.deadline_s - request.delivery_margin_s - times.least_s(request)


@dataclass(frozen=True)
class Blocking:
    """When what runs now makes room. Monotonic instants: at the earliest, as expected, in the worst case."""

    least_s: float
    expected_s: float
    worst_s: float


@dataclass(frozen=True)
class Chance:
    """What a waiting goal may hope for. `hopeless`: not even its prompt can be read any more, whatever happens."""

    verdict: Verdict
    hopeless: bool
    starts_s: float  # when it is expected to


def order(jobs: Iterable, scheduling: str) -> list:
    """Waiting jobs, next first; those of equal urgency, and all of them under fcfs, in the order they came in."""
    return sorted(jobs, key=lambda job: urgency(job.request)) if scheduling == 'edf' else list(jobs)


def chances(waiting: Iterable, blocking: Blocking, times: ServiceTimes,
            drops: Callable[[Request], bool]) -> Iterator[tuple[object, Chance]]:
    """(job, chance) for jobs in the order in which they will start; `drops(request)`: see overrun.drops.

    As for a plan, AT_RISK means that it fits as expected but not in the worst case, and INFEASIBLE that it does not
    even as expected; UNKNOWN promises nothing.
    """
    ahead = 0.0
    for job in waiting:
        request = job.request
        due = last_start_s(request, times)
        starts = blocking.expected_s + ahead
        verdict = Verdict.INFEASIBLE if starts > due else \
            Verdict.AT_RISK if blocking.worst_s + ahead > due else Verdict.UNKNOWN
        yield job, Chance(verdict, blocking.least_s >= due, starts)
        if not (verdict is Verdict.INFEASIBLE and drops(request)):
            ahead += times.usual_s(request)
