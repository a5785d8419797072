"""The smallest KV-cache eviction that lets a response end in time: pure arithmetic (PAPER: solver).

Decisions are made in counts of kept entries, not in ratios, and every decision compares the same `decode_time` that
callers report, so a plan never contradicts its own estimate.
"""
from __future__ import annotations

import math

from timebill_ros.request import Plan, Verdict


def decode_time(p: float, q: float, n_keep: int, n: int) -> float:
    """t_dec: seconds to decode a response of `n` tokens (token 0 comes from prefill) over `n_keep` kept entries.

    Sum of t_i = p*N_kv + q over the m = n - 1 steps, where step i sees n_keep + i - 1 entries (PAPER: ETE).
    """
    m = max(n - 1, 0)
    return m * (p * n_keep + q) + p * m * (m - 1) / 2


def longest_fit(p: float, q: float, n_keep: int, d: float, n_max: int) -> int:
    """N_fit: the longest response, at most `n_max` tokens, that `d` seconds of decoding allow; 0 where d < 0."""
    if d < 0 or n_max < 1:
        return 0
    beta = p * n_keep + q - p / 2
    # The root beta^2 + 2pD is real: D >= 0 here. A zero denominator means that steps cost nothing.
    denominator = beta + math.sqrt(beta * beta + 2 * p * d)
    m = n_max - 1 if denominator <= 0 else int(min(2 * d / denominator, n_max - 1))
    # The closed form may be off by one where floating point rounds across a boundary.
    while m + 1 < n_max and decode_time(p, q, n_keep, m + 2) <= d:
        m += 1
    while m > 0 and decode_time(p, q, n_keep, m + 1) > d:
        m -= 1
    return 1 + m


def largest_keep(p: float, q: float, n_x: int, n_min: int, d: float, n: int) -> int | None:
    """The most prompt entries in [n_min, n_x] with which `n` tokens decode within `d` seconds; None if none do.

    This is floor((1 - alpha_req) * N_x) with the corrected alpha_req = 1 - D/(p*N_x*m) + (N - 2)/(2*N_x) + q/(p*N_x)
    (PAPER: solver), in counts and clamped to what may be kept.
    """
    m = n - 1
    if d < 0 or decode_time(p, q, n_min, n) > d:
        return None
    if m <= 0 or decode_time(p, q, n_x, n) <= d:
        return n_x
    # Here p > 0: were it 0, n_min and n_x would take the same time.
    keep = math.floor(min(max((d / m - q) / p - (n - 2) / 2, n_min), n_x))
    while keep < n_x and decode_time(p, q, keep + 1, n) <= d:
        keep += 1
    while keep > n_min and decode_time(p, q, keep, n) > d:
        keep -= 1
    return keep


def smallest_keep(n_x: int, alpha_max: float, window: int) -> int:
    """n_min: the fewest entries that `alpha_max` leaves of `n_x`; a prompt within the scorer's window is kept whole.

    At most floor(alpha_max * n_x) are evicted: a limit that was asked for is kept. The tolerance is for ratios that
    came as float32.
    """
    if n_x <= window:
        return n_x
    return max(1, n_x - math.floor(alpha_max * n_x + 1e-4))


def plan(*, p: float, q: float, n_x: int, n_min: int, time_left_s: float, eviction_s: float,
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
        if decode_time(p, q, n_x, n) <= time_left_s:
            return n_x
        return largest_keep(p, q, n_x, n_min, d_evict, n)  # never n_x: paying for an eviction makes that no better

    n_keep = least_eviction(n_w)
    if n_keep is not None:
        verdict = Verdict.FITS if n_keep == n_x else Verdict.FITS_WITH_EVICTION
    else:
        n_keep = least_eviction(n_hat)
        verdict = Verdict.AT_RISK if n_keep is not None else Verdict.INFEASIBLE
        n_keep = n_min if n_keep is None else n_keep
    cost = eviction_s if n_keep < n_x else 0.0
    fitting = max(longest_fit(p, q, n_min, d_evict if n_min < n_x else time_left_s, n_max),
                  longest_fit(p, q, n_x, time_left_s, n_max))
    return Plan(verdict=verdict, n_keep=n_keep, eviction_ratio=1 - n_keep / n_x if n_x else 0.0, length_cap=n_max,
                predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=fitting,
                decode_wcet_s=cost + decode_time(p, q, n_keep, n_w),
                decode_expected_s=cost + decode_time(p, q, n_keep, n_hat))
