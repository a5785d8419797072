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

A promise is missed for two reasons: a response longer than N_W, and a request that takes longer than estimated for the
length that it had. The second is a quantile of *whole-request* ratios of measured to estimated time: a quantile of
single steps, multiplied by their number, is not a quantile of the sum. Noise has a part that does not grow with the
request, so `fixed_s` is added to both times of a ratio.

Under the policy `adaptive` both quantiles share one level, which follows what goals came to, so that the share of
promises missed comes to the miss rate epsilon (promise_level.py, shown_goals.py). Lengths get as much of it as makes
the product of both bounds smallest. Under `conformal` each has epsilon / 2, for good. The timing factors follow the
device under every policy, unless `track_timing` is off.
"""
from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.deadline import Clock
from timebill_ros.length.conformal import conformal_quantile
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.pessimistic_length import Adaptive, Conformal, FixedFactor, PessimisticLength
from timebill_ros.length.promise_level import HIGHEST_EACH, STEP, PromiseLevel
from timebill_ros.planning import kept_state
from timebill_ros.planning.shown_goals import ShownGoals
from timebill_ros.planning.situation import Bounds
from timebill_ros.planning.time_bound import TimeBound, limited
from timebill_ros.request import Plan
from timebill_ros.settings import POLICIES
from timebill_ros.timing.drift import StepFactors, TimingFactor
from timebill_ros.timing.profile import Profile

SHORTEST_S = 0.005  # estimated decoding: a shorter one is mostly fixed costs, and its ratio says nothing of steps
FIXED_STEPS = 20  # steps whose time is the scale of the noise that every request has, whatever its length
AMPLE = 3.0  # times the worst case: a goal with more time than that shows nothing of the level
MOST_UNSETTLED = 8  # requests
RECENT = 8  # requests whose bounds say how the level is shared, and after which it is shared anew
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
    max_tokens: int = 0  # N_max
    kept: bool | None = None  # whether its promise was; None where nothing was promised, or the client took it back
    factor: float = 1.0  # the timing factor that the plan was made with
    sampling: str = 'greedy'  # how tokens were drawn (Sampling.kind)
    prompt_tokens: int = 0  # N_x
    capped: bool = False  # it ran to a limit: the goal's own, the context's or the plan's
    in_time: bool = False  # whether it ended naturally by its deadline, whatever was promised
    needed: Callable[[], float] | None = None  # returns the least level with a promise, see ShownGoals; None: not known
    spare: float | None = None  # how many times the first plan's worst case fitted its time; None: not known
    tells_length: bool = True  # False: the goal itself named all answers, whose lengths say nothing of others


class Tracker:
    """Bounds for the next plan, from the feedback so far. Memory is bounded, and nothing here blocks.

    `scores`: of calibration prompts, for the lengths. `ratios`: measured over estimated times, from the profile.
    `fixed_s`: seconds of noise that every request has. `k`: the factor of the policy `fixed`. `profile`: what tells the
    profile that times are learned relative to from others, as JSON-ready data.
    """

    def __init__(self, policy: str = 'adaptive', *, miss_rate: float = 0.05, k: float = 5.0,
                 scores: Sequence[float] = (), ratios: Sequence[float] = (), step: float = STEP,
                 fixed_s: float = 0.0, track_timing: bool = True, profile: dict | None = None,
                 clock: Clock = time.monotonic, wall: Clock = time.time):
        if policy not in POLICIES:
            raise ValueError(f'pessimistic_length must be one of {", ".join(POLICIES)}, got {policy!r}')
        self.policy, self.miss_rate, self.track_timing, self.fixed_s = policy, miss_rate, track_timing, fixed_s
        each, ratios = miss_rate / 2, ratios or PRIOR_RATIOS
        self.length: PessimisticLength
        self._times: TimeBound | None = None
        self._profile, clocks = profile or {}, {'clock': clock, 'wall': wall}
        self.shown = ShownGoals(miss_rate, **clocks)
        self._unsettled: deque[tuple[Callable[[], float], bool]] = deque(maxlen=MOST_UNSETTLED)
        self.level = PromiseLevel(miss_rate, step=step, level_for=self.shown.level, **clocks)
        self._recent: list[tuple[LengthDistribution, int]] = []  # since the level was shared last
        self._fixed_bound = 1.0  # as in the paper: no margin for noise
        if policy == 'fixed':
            self.length = FixedFactor(k)
        elif policy == 'conformal':
            self.length = Conformal(scores, each)
            self._fixed_bound = limited(conformal_quantile(ratios, each), max(ratios))
        else:
            self.length = Adaptive(scores, self.level)
            self._times = TimeBound(self.level, ratios, **clocks)
        self.lengths = ObservedLengths()  # what is planned with where nothing predicts lengths
        self.steps, self.prefill = StepFactors(**clocks), TimingFactor(bounded=False, **clocks)

    @staticmethod
    def of(profile: Profile, policy: str = 'adaptive', **options) -> Tracker:
        """Make a tracker that starts from the timing noise in the profile; `options` are those of the class."""
        return Tracker(policy, ratios=profile.run_ratios, fixed_s=FIXED_STEPS * profile.times.step(0),
                       profile={'date': profile.date, 'identity': profile.identity.facts()}, **options)

    def bounds(self, sampling: str = 'greedy') -> Bounds:
        """Return the bounds that the next request is planned with; `sampling`: how tokens are drawn (Sampling.kind)."""
        self.level.come_back()
        factor = self.steps.value(sampling) if self.track_timing else 1.0
        told = None if self._times is None else self._exceeded_with(self.miss_rate / 2, self.miss_rate / 2, factor)
        return Bounds(self.length, factor, self.time_bound, self.reserve_s, told)

    def needed(self, first: Plan, plan_with: Callable[[Bounds], Plan], bounds: Bounds) -> Callable[[], float] | None:
        """Return what finds the least level at which a first plan is a promise; None where there are no levels.

        `plan_with`: makes the plan `first` with other bounds than `bounds`, of which the timing factor stays.
        """
        if self._times is None:
            return None
        # What is learned of a goal before it is looked for would raise the level that the goal itself needed.
        highest = self.level.value if first.verdict.is_promise else math.inf

        def is_promised(level: float) -> bool:
            parts = self.level.length_share, 1 - self.level.length_share
            each = (min(level * part, HIGHEST_EACH) for part in parts)
            return plan_with(self._exceeded_with(*each, bounds.timing_factor)).verdict.is_promise

        return lambda: min(self.shown.needed(is_promised), highest)

    def _exceeded_with(self, lengths: float, times: float, factor: float) -> Bounds:
        ratio = self._times.exceeded_with(times)
        return Bounds(self.length.at(lengths), factor, ratio, (ratio - 1) * self.fixed_s)

    @property
    def time_bound(self) -> float:
        """The ratio of measured to estimated decoding time that a promise allows for.

        `fixed_s` is added to both times.
        """
        return self._fixed_bound if self._times is None else self._times.value

    @property
    def reserve_s(self) -> float:
        """Seconds that a promise keeps free, besides estimates times `time_bound`: what the bound adds to `fixed_s`."""
        return (self.time_bound - 1) * self.fixed_s

    @property
    def timing_factor(self) -> float:
        """How much longer than profiled a decode step takes now, by the kind of sampling of the last request."""
        return self.steps.value(self.steps.latest) if self.track_timing else 1.0

    @property
    def prefill_factor(self) -> float:
        """How much longer than profiled prefill takes now."""
        return self.prefill.value if self.track_timing else 1.0

    @property
    def quickest_prefill(self) -> float:
        """The same at its quickest lately, `prefill_factor` at the most."""
        return self.prefill.quickest if self.track_timing else 1.0

    def observe(self, seen: Feedback) -> None:
        """Account for one finished or cut request."""
        ample = self._had_time_to_spare(seen)
        self.prefill.observe(seen.prefill_s, seen.prefill_profiled_s)
        if seen.decode_profiled_s >= SHORTEST_S:
            self.steps.observe(seen.sampling, seen.decode_s, seen.decode_profiled_s)
        if self._times is not None and seen.decode_profiled_s > 0:
            ratio = (seen.decode_s + self.fixed_s) / (seen.decode_profiled_s * seen.factor + self.fixed_s)
            self._times.observe(ratio)
        if seen.tells_length:
            self.lengths.observe(seen.prompt_tokens, seen.max_tokens, seen.generated_tokens,
                                 whole=seen.ended and not seen.capped)
        if seen.tells_length and seen.distribution is not None and seen.generated_tokens > 0:
            self.length.observe(seen.distribution, seen.generated_tokens, n_max=seen.max_tokens, ended=seen.ended,
                                capped=seen.capped, prompt_tokens=seen.prompt_tokens)
        self.level.observe(seen.kept, ample=ample)
        if seen.needed is not None and not ample:
            self._unsettled.append((seen.needed, seen.in_time))
        self._share_level(seen)

    def settle(self) -> None:
        """Account for what takes some plans to be known. It is called when the answer is out, which must not wait."""
        while self._unsettled:
            needed, in_time = self._unsettled.popleft()
            self.shown.observe(needed(), in_time)
        self.level.come_back()

    def _had_time_to_spare(self, seen: Feedback) -> bool:
        """Return whether AMPLE times the worst case fitted, were the level at the miss rate."""
        if seen.spare is None or seen.distribution is None or seen.max_tokens < 1 or self._times is None:
            return False
        each, about = self.miss_rate / 2, (seen.distribution, seen.max_tokens, 0, seen.prompt_tokens)
        lengths = self.length.at(each).pessimistic(*about) / self.length.pessimistic(*about)
        return seen.spare >= AMPLE * lengths * self._times.exceeded_with(each) / self._times.value

    def _share_level(self, seen: Feedback) -> None:
        """Share the level anew between lengths and times, now and then: by the bounds of the last requests."""
        if self._times is None or seen.distribution is None or seen.max_tokens < 1:
            return
        self._recent.append((seen.distribution, seen.max_tokens))
        if len(self._recent) == RECENT:
            self.level.share_by(lambda: self.time_bound * sum(
                self.length.pessimistic(distribution, n_max) for distribution, n_max in self._recent))
            self._recent.clear()

    def correct(self, *, prefill: float = 0.0, step: float = 0.0) -> None:
        """Account for fresh measurements without a request: measured over profiled time; 0: not measured."""
        for _ in range(TimingFactor.soon):  # so many are believed
            self.prefill.observe(prefill, 1.0)
            self.steps.observe('greedy', step, 1.0)

    def take_over(self, other: Tracker) -> None:
        """Go on from a tracker that was made with other parameters for the same profile, see `restore`."""
        self.restore(other.state())

    # -- across restarts -----------------------------------------------------------------------------------------

    def state(self) -> dict:
        """Return what is worth keeping across a restart, as JSON-ready data (kept_state.py)."""
        return {'profile': self._profile, 'policy': self.policy, 'miss_rate': self.miss_rate,
                'length': self.length.state(), 'lengths': self.lengths.state(), 'promises': self.level.state(),
                'shown': self.shown.state(),
                'time_bound': self._times.state() if self._times else [],
                'factors': {'prefill': self.prefill.state(), 'step': self.steps.state()}}

    def restore(self, state: dict) -> bool:
        """Go on from what `state` returned; return whether any of its bounds hold for the promise of this tracker.

        Times are taken over only where they were learned relative to the same profile, and bounds only for the same
        policy and miss rate. ValueError, KeyError, TypeError, AttributeError or OverflowError for anything but a state:
        nothing is changed.
        """
        before = self.state()
        try:
            return self._restore(state)
        except Exception:
            self._restore(before)
            raise

    def _restore(self, state: dict) -> bool:
        same_profile = state['profile'] == self._profile
        self.lengths.restore(state.get('lengths', []))
        same_promise = (state['policy'], state['miss_rate']) == (self.policy, self.miss_rate)
        if same_profile:
            self.prefill.restore(state['factors']['prefill'])
            self.steps.restore(state['factors']['step'])
        if same_promise:
            self.length.restore(state['length'])
            if 'promises' in state:  # an earlier version had a level for each bound
                self.shown.restore(state.get('shown', []))
                self.level.restore(state['promises'])
                if 'shown' not in state:  # and another none for the aim, but for the level alone
                    self.level.lower_to_miss_rate()
        if same_promise and same_profile and self._times is not None:
            self._times.restore(state['time_bound'])
        return same_promise

    def save(self, path: Path, model: str = '') -> None:
        """Write the state, whole or not at all, with the name of the model for people. OSError where that fails."""
        kept_state.save(path, {'model': model, **self.state()})

    def load(self, path: Path) -> bool:
        """Go on from a saved state; return whether there is one for this promise. See `kept_state.load`."""
        return kept_state.load(path, self.restore)
