"""The smallest KV-cache eviction that lets a response end in time: pure arithmetic (PAPER: solver).

Decisions are made in counts of kept entries, not in ratios, and every decision compares the same time that
callers report (`StepTime.decode`), so a plan never contradicts its own estimate.
"""
from __future__ import annotations

import math
from bisect import bisect_right

from timebill_ros.request import Plan, Verdict
from timebill_ros.step_time import StepTime


def longest_fit(steps: StepTime, n_keep: int, d: float, n_max: int) -> int:
    """N_fit: the longest response, at most `n_max` tokens, that `d` seconds of decoding allow; 0 where d < 0.

    For a straight line this is 1 + floor(2D / (beta + sqrt(beta^2 + 2pD))) (PAPER: solver); bisecting t_dec gives the
    same, exactly where it is rounded, and with a bend too.
    """
    if d < 0 or n_max < 1:
        return 0
    return bisect_right(range(1, n_max + 1), d, key=lambda n: steps.decode(n_keep, n))


def largest_keep(steps: StepTime, n_x: int, n_min: int, d: float, n: int) -> int | None:
    """The most prompt entries in [n_min, n_x] with which `n` tokens decode within `d` seconds; None if none do.

    For a straight line this is floor((1 - alpha_req) * N_x) with the corrected
    alpha_req = 1 - D/(p*N_x*m) + (N - 2)/(2*N_x) + q/(p*N_x) (PAPER: solver), clamped to what may be kept.
    """
    if d < 0:
        return None
    fitting = bisect_right(range(n_min, n_x + 1), d, key=lambda n_keep: steps.decode(n_keep, n))
    return n_min + fitting - 1 if fitting else None


def smallest_keep(n_x: int, alpha_max: float, window: int) -> int:
    """n_min: the fewest entries that `alpha_max` leaves of `n_x`; a prompt within the scorer's window is kept whole.

    At most floor(alpha_max * n_x) are evicted: a limit that was asked for is kept. The tolerance is for ratios that
    came as float32.
    """
    if n_x <= window:
        return n_x
    return max(1, n_x - math.floor(alpha_max * n_x + 1e-4))


def plan(*, steps: StepTime, n_x: int, n_min: int, time_left_s: float, eviction_s: float,
         predicted: int, pessimistic: int, n_max: int) -> Plan:
    """Choose how much of the prompt's cache to keep.

    `time_left_s` is what is left for decoding (D) if nothing is evicted; evicting costs `eviction_s` of it first.
    `n_min`..`n_x` is the range of entries that may be kept; `n_max` bounds the response. All times in seconds,
    lengths in tokens. FITS: N_W fits without eviction. FITS_WITH_EVICTION: it fits with the least eviction that does.
    AT_RISK: only N_hat fits; evict the least that lets it. INFEASIBLE: not even N_hat fits at alpha_max; evict that
    much.
    """
    n_hat = min(max(predicted, 1), n_max)
    n_w = min(max(pessimistic, n_hat), n_max)
    d_evict = time_left_s - eviction_s

    def least_eviction(n: int) -> int | None:
        if steps.decode(n_x, n) <= time_left_s:
            return n_x
        return largest_keep(steps, n_x, n_min, d_evict, n)  # never n_x: paying for an eviction makes that no better

    n_keep = least_eviction(n_w)
    if n_keep is not None:
        verdict = Verdict.FITS if n_keep == n_x else Verdict.FITS_WITH_EVICTION
    else:
        n_keep = least_eviction(n_hat)
        verdict = Verdict.AT_RISK if n_keep is not None else Verdict.INFEASIBLE
        n_keep = n_min if n_keep is None else n_keep
    cost = eviction_s if n_keep < n_x else 0.0
    fitting = max(longest_fit(steps, n_min, d_evict if n_min < n_x else time_left_s, n_max),
                  longest_fit(steps, n_x, time_left_s, n_max))
    return Plan(verdict=verdict, n_keep=n_keep, eviction_ratio=1 - n_keep / n_x if n_x else 0.0, length_cap=n_max,
                predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=fitting,
                decode_wcet_s=cost + steps.decode(n_keep, n_w),
                decode_expected_s=cost + steps.decode(n_keep, n_hat))
