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

"""What finished requests teach: the pessimistic length, the timing factors and the bound on their residual.

The promised miss rate epsilon is shared between two sources, epsilon / 2 each: a response longer than N_W, and a
request that takes longer than estimated for the length that it had. The second is a quantile of *whole-request* ratios
of measured to estimated time: a quantile of single steps, multiplied by their number, is not a quantile of the sum.
Noise has a part that does not grow with the request, so `fixed_s` is added to both times of a ratio.

Only the policy `adaptive` learns lengths and moves its time bound. The timing factors follow the device under every
policy, unless `track_timing` is off.
"""
from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.length.conformal import OnlineQuantile, conformal_quantile, thinned
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import Adaptive, Conformal, FixedFactor, PessimisticLength
from timebill_ros.planning.planner import Bounds
from timebill_ros.resources import write_whole
from timebill_ros.settings import POLICIES
from timebill_ros.timing.drift import TimingFactor
from timebill_ros.timing.profile import Profile

log = logging.getLogger(__name__)

FORMAT = 1
SHORTEST_S = 0.005  # estimated decoding: a shorter one is mostly fixed costs, and its ratio says nothing of steps
FIXED_STEPS = 20  # steps whose time is the scale of the noise that every request has, whatever its length
MAX_TIME_BOUND = 3.0
PRIOR_WEIGHT = 40  # requests that the profile's residuals count as: runs of a few steps are noisier than requests
# Ratios to start from where nothing was measured: such as a quiet device shows.
PRIOR_RATIOS = tuple(1.0 + 0.05 * (i / 40) ** 3 for i in range(41))


@dataclass(frozen=True)
class Feedback:
    """What one request showed. Times are in seconds; `profiled` ones are the profile's, without any correction."""

    generated_tokens: int
    ended: bool  # at its natural end, or at the goal's own limit
    prefill_s: float
    prefill_profiled_s: float
    decode_s: float  # from the plan to the end
    decode_profiled_s: float  # for the tokens that came, over the entries that were kept
    distribution: LengthDistribution | None = None  # None: nothing was predicted
    pessimistic_tokens: int = 0
    max_tokens: int = 0  # N_max
    promised: bool = True  # the plan's verdict was FITS or FITS_WITH_EVICTION
    factor: float = 1.0  # the timing factor that the plan was made with
    time_bound: float = 1.0  # the time bound that the plan was made with


class Tracker:
    """Bounds for the next plan, from the feedback so far. Memory is bounded, and nothing here blocks.

    `scores`: of calibration prompts, for the lengths. `ratios`: measured over estimated times, from the profile.
    `fixed_s`: seconds of noise that every request has. `k`: the factor of the policy `fixed`.
    """

    def __init__(self, policy: str = 'adaptive', *, miss_rate: float = 0.05, k: float = 5.0,
                 scores: Sequence[float] = (), ratios: Sequence[float] = (), step: float = 0.03,
                 fixed_s: float = 0.0, track_timing: bool = True):
        if policy not in POLICIES:
            raise ValueError(f'pessimistic_length must be one of {", ".join(POLICIES)}, got {policy!r}')
        self.policy, self.miss_rate, self.track_timing, self.fixed_s = policy, miss_rate, track_timing, fixed_s
        each, ratios = miss_rate / 2, ratios or PRIOR_RATIOS
        self.length: PessimisticLength
        self._times: OnlineQuantile | None = None
        self._fixed_bound = 1.0  # as in the paper: no margin for noise
        if policy == 'fixed':
            self.length = FixedFactor(k)
        elif policy == 'conformal':
            self.length = Conformal(scores, each)
            self._fixed_bound = self._bounded(conformal_quantile(ratios, each), max(ratios))
        else:
            self.length = Adaptive(scores, each, step=step)
            self._times = OnlineQuantile(each, thinned(ratios, PRIOR_WEIGHT), step=step)
        self.steps, self.prefill = TimingFactor(bounded=False), TimingFactor(bounded=False)

    @staticmethod
    def of(profile: Profile, policy: str = 'adaptive', **options) -> Tracker:
        """Make a tracker that starts from the timing noise in the profile; `options` are those of the class."""
        return Tracker(policy, ratios=profile.run_ratios, fixed_s=FIXED_STEPS * profile.times.step(0), **options)

    @staticmethod
    def _bounded(bound: float, largest: float) -> float:
        # An infinite bound on a length is cut at N_max. A time has no such limit; a little more than the largest ratio
        # of late takes its place.
        return min(max(bound if math.isfinite(bound) else 1.05 * largest, 1.0), MAX_TIME_BOUND)

    def bounds(self) -> Bounds:
        """Return the bounds that the next request is planned with."""
        return Bounds(self.length, self.timing_factor, self.time_bound, self.reserve_s)

    @property
    def time_bound(self) -> float:
        """The ratio of measured to estimated decoding time that is exceeded at half of the miss rate.

        `fixed_s` is added to both times.
        """
        if self._times is None:
            return self._fixed_bound
        return self._bounded(self._times.bound(), max(self._times.scores, default=1.0))

    @property
    def reserve_s(self) -> float:
        """Seconds that a promise keeps free, besides estimates times `time_bound`: what the bound adds to `fixed_s`."""
        return (self.time_bound - 1) * self.fixed_s

    @property
    def timing_factor(self) -> float:
        """How much longer than profiled a decode step takes now."""
        return self.steps.value if self.track_timing else 1.0

    @property
    def prefill_factor(self) -> float:
        """How much longer than profiled prefill takes now."""
        return self.prefill.value if self.track_timing else 1.0

    def observe(self, seen: Feedback) -> None:
        """Account for one finished or cut request."""
        self.prefill.observe(seen.prefill_s, seen.prefill_profiled_s)
        if seen.decode_profiled_s >= SHORTEST_S:
            self.steps.observe(seen.decode_s, seen.decode_profiled_s)
        if self._times is not None and seen.decode_profiled_s > 0:
            ratio = (seen.decode_s + self.fixed_s) / (seen.decode_profiled_s * seen.factor + self.fixed_s)
            self._times.observe(ratio > seen.time_bound, ratio)
        if seen.distribution is not None and seen.generated_tokens > 0:
            self.length.observe(seen.distribution, seen.generated_tokens, n_w=seen.pessimistic_tokens,
                                n_max=seen.max_tokens, ended=seen.ended, promised=seen.promised)

    def take_over(self, other: Tracker) -> None:
        """Go on from a tracker that was made with other parameters.

        Its timing factors are taken over; where policy and miss rate are the same, everything else is too.
        """
        self.steps, self.prefill = other.steps, other.prefill
        self.restore(other.state())

    # -- across restarts -----------------------------------------------------------------------------------------

    def state(self) -> dict:
        return {'format': FORMAT, 'policy': self.policy, 'miss_rate': self.miss_rate, 'length': self.length.state(),
                'times': self._times.state() if self._times else {}, 'steps': self.steps.state(),
                'prefill': self.prefill.state()}

    def restore(self, state: dict) -> None:
        """Go on from what `state` returned. ValueError, KeyError or TypeError for anything else: nothing is changed."""
        if state['format'] != FORMAT:
            raise ValueError(f'its format is {state["format"]!r}, not {FORMAT}')
        if (state['policy'], state['miss_rate']) != (self.policy, self.miss_rate):
            return  # bounds for another promise: start again
        before = self.state()
        try:
            self._restore(state)
        except Exception:
            self._restore(before)
            raise

    def _restore(self, state: dict) -> None:
        self.steps.restore(state['steps'])
        self.prefill.restore(state['prefill'])
        self.length.restore(state['length'])
        if self._times is not None:
            self._times.restore(state['times'])

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all. OSError where that fails."""
        write_whole(path, json.dumps(self.state()))

    def load(self, path: Path) -> bool:
        """Go on from a saved state, if there is one. A file that cannot be used is set aside, with a warning."""
        try:
            self.restore(json.loads(path.read_text()))
            return True
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            aside = path.with_name(path.name + '.corrupt')
            log.warning('tracked state %s cannot be used (%s: %s); set aside as %s', path, type(error).__name__, error,
                        aside.name)
            try:
                path.replace(aside)
            except OSError as problem:
                log.warning('nor can it be set aside: %s', problem)
            return False
