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

"""What one request is planned from: what is known of it, what earlier requests taught, how far it has come."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import PessimisticLength
from timebill_ros.timing.step_time import StepTime


@dataclass(frozen=True)
class Bounds:
    """What earlier requests have taught (Tracker.bounds), read once per request so that all its plans agree.

    Promises are made with these bounds, and `told` says what is told as the worst case of one request.
    """

    length: PessimisticLength  # gives N_W for a distribution
    timing_factor: float = 1.0  # how much longer than profiled a step takes now
    time_bound: float = 1.0  # how many times the expected time a promise allows for
    reserve_s: float = 0.0  # seconds that a promise keeps free besides
    told: Bounds | None = None  # each exceeded with half of the miss rate; None: these are


@dataclass(frozen=True)
class Situation:
    """What one request is planned from. Lengths in tokens."""

    distribution: LengthDistribution  # of the response's length
    n_x: int  # N_x: prompt tokens
    n_min: int  # the fewest prompt entries that may be kept
    n_max: int  # N_max: the longest response that can come
    bounds: Bounds
    may_cap: bool = False  # a response that the deadline cuts is worth nothing, so that it may be capped before
    # The goal's own limit, where the response is cut before that: by the model's context, or by a cap of the plan. A
    # cut there is no natural end, so a promise needs N_W <= n_max. 0: n_max is the goal's own.
    n_goal: int = 0
    sampling: str = 'greedy'  # how tokens are drawn (Sampling.kind)
    look_tokens: int = 0  # how many tokens lie between two looks at the plan; 0: there is no second look
    lengths_known: bool = True  # False: the distribution is a mere prior, which nothing may be refused for

    @property
    def longest(self) -> int:
        """The goal's own limit, in tokens."""
        return max(self.n_goal, self.n_max)

    def pessimistic(self, generated: int = 0) -> int:
        """Return N_W, at most the goal's own limit, once `generated` tokens have come."""
        return self.bounds.length.pessimistic(self.distribution, self.longest, generated, self.n_x)


class Progress(NamedTuple):
    """How far a request has come while it is decoded."""

    n: int  # tokens so far
    n_kv: int  # entries in the cache, generated ones too
    n_keep: int  # entries of the prompt among them
    factor: float  # how much longer than profiled a step takes now
    most: int = 0  # entries of the prompt that the cache may hold again; 0: what was evicted stays gone
    latest: float = 1.0  # the factor of the last steps alone, which entries that come back are planned with


class Option(NamedTuple):
    """Weights that are loaded and profiled, with their step times on the device as it is now."""

    variant: str
    steps: StepTime
