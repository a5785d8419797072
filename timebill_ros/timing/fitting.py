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

"""From measured points to execution times: the fit, its errors, and its residuals (PAPER: ETE). numpy only.

Points are [length, seconds] pairs by kind ('prefill', 'step', ...; see profiling.measure). A length is in tokens, or
in cached entries for steps.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from timebill_ros.timing.execution_time import ExecutionTimes, ProfileError
from timebill_ros.timing.step_time import StepTime

LEVELS = (0.5, 0.95, 0.99)  # of the residual quantiles
N_RANGES = 3  # ranges of lengths, each with residual quantiles of its own
MOST_RATIOS = 100  # of whole runs that a profile keeps

Points = dict[str, list[list[float]]]


def fit_nonnegative(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> np.ndarray:
    """Fit `seconds` [n] by k regressors with coefficients [k] >= 0: least squares of the *relative* errors.

    Minimises sum_j (sum_i coefficient_i * columns[i][j] / seconds[j] - 1)^2. `columns` holds k sequences of n values.
    Every subset of active coefficients is tried. That is exact, because the best non-negative solution is the
    unconstrained one of its own support, and cheap, because there are at most four columns.
    """
    t = np.asarray(seconds, dtype=float)
    design = np.stack([np.asarray(column, dtype=float) for column in columns], axis=1) / t[:, None]
    scale = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    best, best_error = np.zeros(design.shape[1]), math.inf
    for size in range(1, design.shape[1] + 1):
        for support in itertools.combinations(range(design.shape[1]), size):
            part = design[:, support] / scale[list(support)]
            solution, *_ = np.linalg.lstsq(part, np.ones(len(t)), rcond=None)
            error = float(((part @ solution - 1) ** 2).sum())
            if (solution >= 0).all() and error < best_error:
                best, best_error = np.zeros(design.shape[1]), error
                best[list(support)] = solution / scale[list(support)]
    return best


def median_by_length(points: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Turn [length, seconds] repeats into lengths [n], ascending, and their median seconds [n].

    With medians, one preempted repeat does not bend the fit.
    """
    by_length: dict[float, list[float]] = {}
    for length, seconds in points:
        by_length.setdefault(length, []).append(seconds)
    lengths = sorted(by_length)
    return np.array(lengths), np.array([np.median(by_length[n]) for n in lengths])


def fit(points: Points, chunk_tokens: int = 0) -> ExecutionTimes:
    """Fit all coefficients of `ExecutionTimes` to the medians by length.

    chunk_tokens: tokens of a prefill chunk; 0 for prefill in one piece, and then without d.

    Kinds 'eviction', 'prefix', 'pause', 'restore' and 'prediction' may be missing; their coefficients are then 0.
    ProfileError where there are fewer than two lengths of 'prefill', of 'step' or of a variant's steps.
    """
    for kind in ('prefill', 'step', *(kind for kind in points if kind.startswith('step:'))):
        if len({n for n, _ in points.get(kind, [])}) < 2:
            raise ProfileError(f'a profile needs {kind} times at two lengths or more')
    found: dict[str, float] = {}

    def coefficients(names: str, kind: str, *columns: Callable) -> None:
        n, t = median_by_length(points[kind])
        found.update(zip(names.split(), fit_nonnegative([column(n) for column in columns], t).tolist(), strict=True))

    square, line, one = np.square, np.asarray, np.ones_like
    # Fewer coefficients than lengths: a curve through every point says nothing of the lengths beyond. The first to go
    # are the cost per chunk, the square, and then the constant, without which long prompts are rather overestimated.
    lengths = median_by_length(points['prefill'])[0]
    columns = {'b': line, 'c': one, 'a': square}
    if chunk_tokens and (lengths > chunk_tokens).sum() >= 2:
        columns['d'] = lambda n: np.ceil(n / chunk_tokens)
    used = list(columns)[:max(1, len(lengths) - 1)]
    found.update(dict.fromkeys('abc', 0.0))
    coefficients(' '.join(used), 'prefill', *(columns[name] for name in used))
    found['prefill_floor'] = float(median_by_length(points['prefill'])[1].min())
    variants = {kind.partition(':')[2]: asdict(fit_steps(points[kind])) for kind in points if kind.startswith('step:')}
    found.update(asdict(fit_steps(points['step'])))
    if points.get('eviction'):
        coefficients('e_1 e_0', 'eviction', line, one)
    if points.get('prefix'):
        coefficients('g_1 g_0', 'prefix', line, one)
    if points.get('pause'):
        coefficients('h_1 h_0', 'pause', line, one)
    if points.get('restore'):
        coefficients('r_1 r_0', 'restore', line, one)
    if points.get('prediction'):
        coefficients('a_p b_p c_p', 'prediction', square, line, one)
    if points.get('forced'):
        found['forced_s'] = float(np.median([seconds for _, seconds in points['forced']]))
    draws = {kind.partition(':')[2]: float(np.median([seconds for _, seconds in measured]))
             for kind, measured in points.items() if kind.startswith('draw:')}
    return ExecutionTimes(**found, chunk_tokens=chunk_tokens, variants=variants, draws=draws)


def fit_steps(measured: list[list[float]]) -> StepTime:
    """Fit a straight line, or one with a bend at a measured length if that at least halves the squared error.

    A bend is never downwards. It needs two lengths beyond it, and two up to it.
    """
    n, t = median_by_length(measured)

    def squared_error(steps: StepTime) -> float:
        return float(sum((steps(float(x)) / y - 1) ** 2 for x, y in zip(n, t, strict=True)))

    best = StepTime(*fit_nonnegative([n, np.ones_like(n)], t).tolist())
    least = squared_error(best) / 2
    for knee in n[1:-2]:
        columns = [n, np.ones_like(n), np.maximum(0, n - knee)]
        steps = StepTime(*fit_nonnegative(columns, t).tolist(), int(knee))
        if squared_error(steps) < least:
            best, least = steps, squared_error(steps)
    return best


def fit_line(measured: list[list[float]]) -> tuple[float, float]:
    """Fit a straight line to the medians by length -> (slope, constant), neither below 0."""
    n, t = median_by_length(measured)
    slope, constant = fit_nonnegative([n, np.ones_like(n)], t).tolist()
    return slope, constant


def errors(times: ExecutionTimes, points: Points) -> dict[str, float]:
    """Return the mean absolute relative error by kind (MAPE as a share: 0.01 is 1 %), against the medians by length."""
    found = {}
    for kind, measured in points.items():
        lengths, seconds = median_by_length(measured)
        estimated = np.array([times.estimate(kind, n) for n in lengths])
        found[kind] = float(np.mean(np.abs(estimated - seconds) / seconds))
    return found


def held_out_errors(points: Points, chunk_tokens: int = 0) -> dict[str, float]:
    """Return the same errors as `errors`, for lengths that the fit has not seen.

    Each length but the shortest and the longest is left out of the fit in turn. A kind with fewer than four lengths is
    left out.
    """
    found: dict[str, list[float]] = {}
    for kind, measured in points.items():
        lengths = sorted({n for n, _ in measured})
        for length in lengths[1:-1] if len(lengths) >= 4 else ():
            others = {**points, kind: [point for point in measured if point[0] != length]}
            left_out = {kind: [point for point in measured if point[0] == length]}
            found.setdefault(kind, []).append(errors(fit(others, chunk_tokens), left_out)[kind])
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def extrapolation_errors(points: Points, chunk_tokens: int = 0) -> dict[str, float]:
    """Return, by kind, the relative error at the longest length of a fit that has not seen this length.

    A kind with fewer than three lengths is left out.
    """
    found: dict[str, float] = {}
    for kind, measured in points.items():
        lengths = sorted({n for n, _ in measured})
        if len(lengths) >= 3:
            others = {**points, kind: [point for point in measured if point[0] != lengths[-1]]}
            longest = {kind: [point for point in measured if point[0] == lengths[-1]]}
            found[kind] = errors(fit(others, chunk_tokens), longest)[kind]
    return found


def residual_quantiles(times: ExecutionTimes, points: Points) -> dict[str, list[dict[str, float]]]:
    """Return, by kind, quantiles of measured over estimated time, for N_RANGES ranges of lengths in ascending order.

    Ranges have equally many points. Their entries: 'up_to' (the longest length), 'n' (points), 'p50', 'p95', 'p99'.
    """
    found = {}
    for kind, measured in points.items():
        ordered = sorted(measured)
        parts = [part for part in np.array_split(np.array(ordered), min(N_RANGES, len(ordered))) if len(part)]
        found[kind] = []
        for part in parts:
            ratios = [seconds / times.estimate(kind, n) for n, seconds in part]
            found[kind].append({'up_to': float(part[-1][0]), 'n': len(part),
                                **{f'p{100 * level:.0f}': float(np.quantile(ratios, level)) for level in LEVELS}})
    return found


def run_ratios(times: ExecutionTimes, points: Points) -> list[float]:
    """Return measured over estimated time of whole runs of steps, ascending, evenly thinned to MOST_RATIOS.

    The smallest and the largest ratio are always kept.
    """
    ratios = sorted(seconds / times.step(n) for n, seconds in points.get('run', []))
    ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
    if len(ratios) <= MOST_RATIOS:
        return ratios
    return [ratios[round(i * (len(ratios) - 1) / (MOST_RATIOS - 1))] for i in range(MOST_RATIOS)]
