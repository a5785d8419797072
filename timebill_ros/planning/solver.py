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

"""The smallest KV-cache eviction that lets a response end in time: pure arithmetic (PAPER: solver).

Decisions are made in counts of kept entries, not in ratios. Every decision compares the same time that callers report
(`StepTime.decode`), so a plan never contradicts its own estimate. Symbols: D, seconds left for decoding; N, response
length in tokens; N_x, prompt tokens; p and q, the step time's coefficients (p*N_kv + q); m = N - 1;
beta = p*(1 - alpha)*N_x + q - p/2.
"""
from __future__ import annotations

import math
from bisect import bisect_right

from timebill_ros.codes import Verdict
from timebill_ros.request import Plan
from timebill_ros.timing.step_time import StepTime


def fits(steps: StepTime, n_keep: int, n: int, d: float) -> bool:
    """Return whether `n` tokens decode within `d` seconds over `n_keep` kept entries."""
    return steps.decode(n_keep, n) <= d


def longest_fit(steps: StepTime, n_keep: int, d: float, n_max: int) -> int:
    """Return N_fit: the longest response, at most `n_max` tokens, that `d` seconds of decoding allow; 0 where d < 0.

    For a straight line this is 1 + floor(2D / (beta + sqrt(beta^2 + 2pD))) (PAPER: solver). Bisecting t_dec gives the
    same, agrees with t_dec where that is rounded, and works for step times with a bend too.
    """
    if d < 0 or n_max < 1:
        return 0
    return bisect_right(range(1, n_max + 1), d, key=lambda n: steps.decode(n_keep, n))


def largest_keep(steps: StepTime, n_x: int, n_min: int, d: float, n: int) -> int | None:
    """Return the most prompt entries in [n_min, n_x] with which `n` tokens decode within `d` seconds; None: none do.

    For a straight line this is floor((1 - alpha_req) * N_x) with the corrected
    alpha_req = 1 - D/(p*N_x*m) + (N - 2)/(2*N_x) + q/(p*N_x) (PAPER: solver), clamped to what may be kept.
    """
    if d < 0:
        return None
    fitting = bisect_right(range(n_min, n_x + 1), d, key=lambda n_keep: steps.decode(n_keep, n))
    return n_min + fitting - 1 if fitting else None


def smallest_keep(n_x: int, alpha_max: float, window: int) -> int:
    """Return n_min: the fewest entries that `alpha_max` leaves of `n_x`.

    A prompt within the scorer's window is kept whole. At most floor(alpha_max * n_x) entries are evicted, and at least
    one is kept. The added 1e-4 is for ratios that came as float32.
    """
    if n_x <= window:
        return n_x
    return max(1, n_x - math.floor(alpha_max * n_x + 1e-4))


def solve(*, steps: StepTime, n_x: int, n_min: int, time_left_s: float, eviction_s: float, predicted: int,
          pessimistic: int, n_max: int, n_goal: int = 0, caution: float = 1.0, reserve_s: float = 0.0) -> Plan:
    """Choose how much of the prompt's cache to keep, for one set of weights.

    `time_left_s` is D where nothing is evicted; evicting costs `eviction_s` of it first. `n_min` to `n_x` entries may
    be kept; the response is cut after `n_max` tokens. Times are in seconds, lengths in tokens. `steps` and `eviction_s`
    are expected times; a promise is made for `caution` times as long, with `reserve_s` to spare. `n_goal`: the goal's
    own limit, where that is longer than `n_max`. A response that is cut before its own limit has not ended naturally,
    so nothing is promised where N_W is above `n_max`; it is AT_RISK at best.

    FITS: N_W fits without eviction. FITS_WITH_EVICTION: N_W fits with the least eviction that lets it. AT_RISK: only
    N_hat fits, in expected times; the least eviction that lets it is chosen. INFEASIBLE: not even N_hat fits with
    `n_min` entries; these are kept.
    """
    n_hat = min(max(predicted, 1), n_max)
    n_w = min(max(pessimistic, n_hat), max(n_goal, n_max))
    worst, worst_left_s, worst_eviction_s = steps.scaled(caution), time_left_s - reserve_s, eviction_s * caution

    n_keep = _least_eviction(worst, n_x, n_min, worst_left_s, worst_eviction_s, n_w) if n_w <= n_max else None
    if n_keep is not None:
        verdict = Verdict.FITS if n_keep == n_x else Verdict.FITS_WITH_EVICTION
    else:
        n_keep = _least_eviction(steps, n_x, n_min, time_left_s, eviction_s, n_hat)
        verdict = Verdict.AT_RISK if n_keep is not None else Verdict.INFEASIBLE
        n_keep = n_min if n_keep is None else n_keep
    evicts = n_keep < n_x
    fitting = max(longest_fit(worst, n_min, worst_left_s - (worst_eviction_s if n_min < n_x else 0.0), n_max),
                  longest_fit(worst, n_x, worst_left_s, n_max))
    return Plan(verdict=verdict, n_x=n_x, n_keep=n_keep, eviction_ratio=1 - n_keep / n_x, length_cap=n_max,
                predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=fitting,
                decode_wcet_s=reserve_s + (worst_eviction_s if evicts else 0.0) + worst.decode(n_keep, min(n_w, n_max)),
                decode_expected_s=(eviction_s if evicts else 0.0) + steps.decode(n_keep, n_hat))


def _least_eviction(steps: StepTime, n_x: int, n_min: int, left_s: float, eviction_s: float, n: int) -> int | None:
    """Return the most entries with which `n` tokens fit into the time left after an eviction; None: none do.

    `n_x` entries need no eviction.
    """
    if fits(steps, n_x, n, left_s):
        return n_x
    return largest_keep(steps, n_x, n_min, left_s - eviction_s, n)  # never n_x: it does not fit
