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

Non-preemptive EDF with the priority as first key. How long a waiting goal will take is known only roughly: before it
starts, its prompt is not tokenized and its length not predicted. So the estimates here rest on what finished goals
took.
"""
from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from timebill_ros.codes import Verdict
from timebill_ros.dispatch.decode_times import DecodeTimes
from timebill_ros.dispatch.job import Job
from timebill_ros.dispatch.seen_prompts import SeenPrompts
from timebill_ros.request import Outcome, Request


def urgency(request: Request) -> tuple[int, float]:
    """Return a key that sorts the most urgent request first."""
    return -request.priority, request.deadline_s


def preempts(new: Request, running: Request, preempt: str) -> bool:
    """Whether `new` stops `running`, according to the parameter `preempt`."""
    if preempt == 'deadline':
        return urgency(new) < urgency(running)
    return preempt == 'priority' and new.priority > running.priority


class ServiceTimes:
    """Estimates the seconds that goals take, without a tokenizer.

    `prefill` is the profile's table of (prompt tokens, seconds), ascending. Tokens per character and the time to decode
    an answer (of goals of the same kind, see decode_times.py) are measured on the last `window` goals that finished.
    Until one has, every estimate is 0. What the template writes around messages is no part of their tokens per
    character: around short ones it is most of the prompt, and long ones have hardly more of it.

    A prompt that begins like an earlier one is read from where they differ, if the worker `reuses` what it has read.
    How much of the common beginning that came to is measured too; until it was, only `least_s` counts on it.
    """

    window = 64

    def __init__(self):
        self.prefill: Sequence[tuple[int, float]] = ()
        self.reuses = False
        self.pauses: Sequence[tuple[int, float]] = ()  # as `prefill`, see pause_s; empty: no goal can give way
        self._template = (0, 0, 0)  # tokens that it writes, at most: once, for each message, around tools
        self._pinned = 0  # characters of the longest prompt that the worker never forgets
        self._seen = SeenPrompts()
        self._tokens: deque[float] = deque(maxlen=self.window)  # per character of the prompt
        self._decode = DecodeTimes(self.window)
        self._reused: deque[float] = deque(maxlen=self.window)  # shares of the common beginning
        self._whole: deque[float] = deque(maxlen=self.window)  # seconds of answers, from the start of the prefill
        # Statistics of these, computed once per finished goal, because every event asks for them.
        self._fewest = self._usual = self._usual_reused = 0.0

    def ready(self, event: dict) -> None:
        """Take what a worker that is ready says."""
        self.prefill = [(n, seconds) for n, seconds in event['prefill']]
        self.reuses = event.get('reuses', False)
        self.pauses = [(n, seconds) for n, seconds in event.get('pauses', [])]
        costs = event.get('costs', {})
        self._template = tuple(int(costs.get(f'{name}_tokens', 0)) for name in ('template', 'message', 'tools'))
        self._pinned = event.get('pinned_characters', 0)
        self._seen = SeenPrompts()  # a new worker has read nothing

    def prepared(self, request: Request) -> None:
        """Take note of a prompt that the worker has read ahead, at least in part."""
        self._seen.add(request)

    def observe(self, request: Request, outcome: Outcome) -> None:
        """Learn from a goal that has ended, if it got as far as its prefill or its natural end."""
        timing = outcome.timing
        if timing.prompt_tokens > 0:
            self._tokens.append(self.per_character(request, timing.prompt_tokens))
            self._fewest, self._usual = min(self._tokens), median(self._tokens)
        if timing.kept_tokens > 0 and self.reuses:  # the prompt was read as a whole
            if common := self._seen.common(request):
                share = timing.reused_tokens / (timing.prompt_tokens / max(1, request.characters) * common)
                self._reused.append(min(1.0, share))
                self._usual_reused = median(self._reused)
            self._seen.add(request)
        if timing.decode_s > 0 and outcome.finish_reason.is_natural:  # false for NaN
            self._decode.add(request, timing.decode_s)
            self._whole.append(sum(filter(lambda seconds: seconds > 0, (timing.prefill_s, timing.eviction_s,
                                                                        timing.decode_s))))

    def per_character(self, request: Request, prompt_tokens: int) -> float:
        """Return how many tokens a character of a prompt's own texts has, at least, where the prompt has so many."""
        return max(0, prompt_tokens - self._around(request)) / max(1, request.characters)

    def _around(self, request: Request) -> int:
        """Return how many tokens the template writes around the texts of a prompt, at most."""
        once, each, tools = self._template
        n = len(request.messages)
        return once + each * (n - 1) + (tools if request.tools else 0) if n else 0

    def _new(self, request: Request, share: float) -> float:
        """Return the characters of a prompt that are to be read where this share of a common beginning is reused."""
        return request.characters - share * self._seen.common(request) if self.reuses else request.characters

    def _prefill_s(self, request: Request, rate: float) -> float:
        """Return the expected seconds of the prefill; `rate`: tokens per character."""
        new = self._new(request, self._usual_reused) / max(1, request.characters)
        return _interpolated(self.prefill, new * (rate * request.characters + self._around(request)))

    def reads_s(self, request: Request) -> float:
        """Return the expected seconds of the prefill, of a token a character before a goal has finished; 0: unknown."""
        return self._prefill_s(request, self._usual if self._tokens else 1.0)

    def least_s(self, request: Request) -> float:
        """Return a lower estimate of the prefill, in seconds; 0 while nothing is known.

        It assumes half of the fewest tokens per character seen lately. Half, because other languages and other kinds
        of text have fewer, and a goal is ended on the strength of this estimate.
        """
        new = max(0.0, min(self._new(request, 1.0), request.characters - self._pinned))
        return _interpolated(self.prefill, 0.5 * self._fewest * new) if self._tokens else 0.0

    def usual_s(self, request: Request) -> float:
        """Return the expected seconds of prefill and decoding together; 0 while nothing is known."""
        if not self._tokens:
            return 0.0
        return self._prefill_s(request, self._usual) + self._decode.usual_s(request)

    @property
    def answer_s(self) -> float:
        """The median time of answers that ended naturally, without queueing; 0 before the first. From any thread."""
        return median(list(self._whole) or [0.0])

    @property
    def knows_answers(self) -> bool:
        """Whether `usual_s` includes the decoding of an answer."""
        return len(self._decode) > 0

    def needed_s(self, request: Request, *, complete: bool, tokens_per_character: float = 0.0) -> float:
        """Return the seconds after which a goal can have an answer; 0 while nothing is known.

        These are the expected prefill and, where only a `complete` answer counts, the quickest decoding seen lately.
        `tokens_per_character`: what to assume before a goal has finished; 0: nothing is known.
        """
        rate = self._usual if self._tokens else tokens_per_character
        prefill_s = self._prefill_s(request, rate) if self._tokens or rate else 0.0
        return prefill_s + (self._decode.quickest_s if complete else 0.0)

    def pause_s(self, job: Job) -> float:
        """Return the seconds for putting a goal aside that runs, and taking it up again; 0 where that is not known."""
        n = job.timing.prompt_tokens or self._usual * job.request.characters
        return _interpolated(self.pauses, n + job.n_tokens)


def _interpolated(table: Sequence[tuple[int, float]], n: float) -> float:
    """Interpolate linearly in a table of (count, seconds); outside its range, take the nearest entry; 0 if empty."""
    i = bisect_left(table, (n, 0.0))
    if i == 0 or i == len(table):
        return table[min(i, len(table) - 1)][1] if table else 0.0
    (n_0, s_0), (n_1, s_1) = table[i - 1], table[i]
    return s_0 + (s_1 - s_0) * (n - n_0) / (n_1 - n_0)


def last_start_s(request: Request, times: ServiceTimes) -> float:
    """Return the latest instant at which a goal can start and still read its prompt in time."""
    return request.deadline_s - request.delivery_margin_s - times.least_s(request)


@dataclass(frozen=True)
class Blocking:
    """When the next goal can start. Monotonic instants: at the earliest, as expected, in the worst case."""

    least_s: float
    expected_s: float
    worst_s: float

    @staticmethod
    def at(instant_s: float, *, is_sure: bool = True) -> Blocking:
        """Say that it can start at this instant, or where that is not sure, whenever after it in the worst case."""
        return Blocking(instant_s, instant_s, instant_s if is_sure else math.inf)


def blocked_by(running: Job, now: float, times: ServiceTimes) -> Blocking:
    """Return when the running goal makes room: by its plan, or before there is one, by what goals usually take.

    A goal that thinks may do so until just the time for its answer is left. One that was told to stop does so at once.
    """
    expected_s, worst_s = running.remaining_s(now)
    if running.stop_by_s < math.inf:
        expected_s, worst_s = times.pause_s(running), math.inf
    elif running.plan is None or running.thinks:
        usual_s = times.usual_s(running.request) - running.ran_s(now)
        expected_s, worst_s = usual_s if running.plan is None else max(expected_s, usual_s), math.inf
    limit = max(now, running.guard_s())
    return Blocking(now, min(now + max(0.0, expected_s), limit), min(now + worst_s, limit))


def after(aside: Job, blocking: Blocking, times: ServiceTimes) -> Blocking:
    """Return when the next goal can start if a goal that gave way goes on first, as soon as `blocking` says."""
    pause_s = times.pause_s(aside)
    return Blocking(blocking.least_s, blocked_by(aside, blocking.expected_s, times).expected_s + pause_s,
                    blocked_by(aside, blocking.worst_s, times).worst_s + pause_s)


def behind(ahead: Request, blocking: Blocking, times: ServiceTimes) -> Blocking:
    """Return when the next goal can start if one that waits runs first, for the usual time and not beyond its end."""
    usual_s, end_s = times.usual_s(ahead), ahead.deadline_s + ahead.max_overrun_s - ahead.delivery_margin_s / 2
    expected_s, worst_s = (max(at_s, min(at_s + usual_s, end_s)) for at_s in (blocking.expected_s, blocking.worst_s))
    return Blocking(blocking.least_s, expected_s, worst_s)


@dataclass(frozen=True)
class Chance:
    """What a waiting goal may hope for."""

    verdict: Verdict
    hopeless: bool  # not even its prompt can be read in time any more, whatever happens
    starts_s: float  # the instant at which it is expected to start


def order(jobs: Iterable, scheduling: str) -> list:
    """Return the waiting jobs, next first. Jobs of equal urgency, and all under fcfs, keep the order they came in."""
    return sorted(jobs, key=lambda job: urgency(job.request)) if scheduling == 'edf' else list(jobs)


def chances(waiting: Iterable, blocking: Blocking, times: ServiceTimes,
            drops: Callable[[Request], bool]) -> Iterator[tuple[object, Chance]]:
    """Yield (job, chance) for the goals of `waiting` that have not started; `drops`: see overrun.drops.

    Jobs are in the order in which they will start, or go on where they have given way.

    As in a plan, AT_RISK means that the goal starts in time as expected but not in the worst case, and INFEASIBLE that
    it does not even as expected. UNKNOWN promises nothing.
    """
    for job in waiting:
        if job.is_aside:
            blocking = after(job, blocking, times)
            continue
        request = job.request
        due = last_start_s(request, times)
        verdict = Verdict.INFEASIBLE if blocking.expected_s > due else \
            Verdict.AT_RISK if blocking.worst_s > due else Verdict.UNKNOWN
        yield job, Chance(verdict, blocking.least_s >= due, blocking.expected_s)
        if not (verdict is Verdict.INFEASIBLE and drops(request)):
            blocking = behind(request, blocking, times)
