"""Execution times of one model on one device: the profile, its fit and the estimates made from it (PAPER: ETE).

t_pf(N_x) = max(floor, a*N_x^2 + b*N_x + c) for prefill, t_i = p*N_kv + q for one decode step,
t_ev(N_x) = e_1*N_x + e_0 for scoring and eviction, t_predict(N_p) = a_p*N_p^2 + b_p*N_p + c_p for the length predictor.
What comes out is an *estimate* of the worst case, not a proven bound. numpy only: no torch, no rclpy.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import yaml

FORMAT = 1


class ProfileError(ValueError):
    """A profile that cannot be used; the sentence says why."""


@dataclass(frozen=True)
class Identity:
    """What a profile is valid for. All of it must match; library versions may differ and are only recorded."""

    device: str  # hardware and thread count, e.g. 'AMD EPYC, 2 threads' or 'NVIDIA H200'
    model: str  # fingerprint of the target's config and weight files
    predictor: str  # the same of the length predictor, or 'none'
    dtype: str  # torch dtype of weights and cache, e.g. 'float32'


@dataclass(frozen=True)
class ExecutionTimes:
    """Fitted coefficients, all non-negative, seconds and tokens."""

    a: float
    b: float
    c: float
    p: float
    q: float
    prefill_floor: float = 0.0
    e_1: float = 0.0
    e_0: float = 0.0
    a_p: float = 0.0
    b_p: float = 0.0
    c_p: float = 0.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                raise ProfileError(f'coefficient {name} must be a finite number >= 0, got {value!r}')

    def prefill(self, n_x: int) -> float:
        """t_pf: seconds to prefill `n_x` tokens while the length predictor runs beside it."""
        return max(self.prefill_floor, (self.a * n_x + self.b) * n_x + self.c)

    def step(self, n_kv: int) -> float:
        """t_i: seconds of one decode step over `n_kv` cached entries."""
        return self.p * n_kv + self.q

    def eviction(self, n_x: int) -> float:
        """Seconds to score a prompt of `n_x` tokens and compact its cache."""
        return self.e_1 * n_x + self.e_0

    def prediction(self, n_p: int) -> float:
        """t_predict: seconds of the length predictor on `n_p` tokens, prefill running beside it."""
        return (self.a_p * n_p + self.b_p) * n_p + self.c_p

    def estimate(self, kind: str, n: float) -> float:
        """Seconds of one of a profile's kinds of measurement ('prefill', 'step', 'eviction', 'prediction')."""
        return {'prefill': self.prefill, 'step': self.step, 'eviction': self.eviction,
                'prediction': self.prediction}[kind](n)

    def predictor_bound(self, n_x: int) -> int:
        """N_p: the longest predictor input that prefill of `n_x` tokens hides (PAPER: deployment)."""
        budget = self.prefill(n_x) - self.c_p
        if budget <= 0:
            return 0
        if self.a_p == 0 and self.b_p == 0:
            return n_x
        # The stable root of a_p*N^2 + b_p*N = budget; a_p may be 0.
        return int(min(n_x, 2 * budget / (self.b_p + math.sqrt(self.b_p ** 2 + 4 * self.a_p * budget))))


@dataclass
class Profile:
    """A measured device: what it is valid for, the fitted times, and how good the fit is."""

    identity: Identity
    times: ExecutionTimes
    date: str = ''
    versions: dict[str, str] = field(default_factory=dict)
    fit_errors: dict[str, float] = field(default_factory=dict)  # MAPE per model, share (0.01 is 1 %)
    points: dict[str, list[list[float]]] = field(default_factory=dict)  # kind -> [length, seconds] as measured

    def save(self, path: str | Path) -> None:
        """Write the profile as YAML, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + '.partial')
        partial.write_text(yaml.safe_dump({'format': FORMAT, **asdict(self)}, sort_keys=False))
        partial.replace(path)

    @staticmethod
    def load(path: str | Path) -> Profile:
        """Read a profile; ProfileError with a sentence for anything but a whole and valid one."""
        path = Path(path)
        try:
            data = yaml.safe_load(path.read_text())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: a date such as 2026-99-99
            raise ProfileError(f'profile {path} cannot be read: {error}') from error
        if not isinstance(data, dict) or data.get('format') != FORMAT:
            found = data.get('format') if isinstance(data, dict) else type(data).__name__
            raise ProfileError(f'profile {path} is not of format {FORMAT} (found {found!r})')
        try:
            identity, times = Identity(**data['identity']), ExecutionTimes(**data['times'])
            return Profile(identity, times, str(data.get('date', '')), dict(data.get('versions') or {}),
                           dict(data.get('fit_errors') or {}), dict(data.get('points') or {}))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProfileError(f'profile {path} is corrupt: {error}') from error

    def check(self, expected: Identity, where: str) -> None:
        """Refuse a profile made on another device, model, predictor or precision, naming which."""
        for name, mine in asdict(self.identity).items():
            wanted = getattr(expected, name)
            if mine != wanted:
                raise ProfileError(f'profile {where} was made for {name} {mine!r}, but this node has {wanted!r}; '
                                   'run "timebill profile" on this device')


def fit_nonnegative(columns: Sequence[Sequence[float]], seconds: Sequence[float]) -> np.ndarray:
    """Least squares on *relative* errors with coefficients >= 0.

    `columns` are the regressors (k sequences of n values). With k <= 3 trying every subset of active coefficients is
    exact: the best non-negative solution is the unconstrained one of its own support.
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
    """[length, seconds] repeats -> (lengths, median seconds): one preempted repeat must not bend the fit."""
    by_length: dict[float, list[float]] = {}
    for length, seconds in points:
        by_length.setdefault(length, []).append(seconds)
    lengths = sorted(by_length)
    return np.array(lengths), np.array([np.median(by_length[n]) for n in lengths])


def fit(points: dict[str, list[list[float]]]) -> tuple[ExecutionTimes, dict[str, float]]:
    """Fit all coefficients to measured points; returns them with the MAPE of each model (share).

    `points` holds [length, seconds] lists under 'prefill' and 'step', and optionally 'eviction' and 'prediction'.
    """
    for kind in ('prefill', 'step'):
        if len({n for n, _ in points.get(kind, [])}) < 2:
            raise ProfileError(f'a profile needs {kind} times at two lengths or more')
    n_x, t_pf = median_by_length(points['prefill'])
    a, b, c = fit_nonnegative([n_x ** 2, n_x, np.ones_like(n_x)], t_pf)
    n_kv, t_i = median_by_length(points['step'])
    p, q = fit_nonnegative([n_kv, np.ones_like(n_kv)], t_i)
    coefficients = dict(a=a, b=b, c=c, p=p, q=q, prefill_floor=t_pf.min())
    if points.get('eviction'):
        n, t = median_by_length(points['eviction'])
        coefficients['e_1'], coefficients['e_0'] = fit_nonnegative([n, np.ones_like(n)], t)
    if points.get('prediction'):
        n, t = median_by_length(points['prediction'])
        coefficients['a_p'], coefficients['b_p'], coefficients['c_p'] = fit_nonnegative([n ** 2, n, np.ones_like(n)], t)
    times = ExecutionTimes(**{name: float(value) for name, value in coefficients.items()})
    errors = {}
    for kind, measured in points.items():
        lengths, seconds = median_by_length(measured)
        estimated = np.array([times.estimate(kind, n) for n in lengths])
        errors[kind] = float(np.mean(np.abs(estimated - seconds) / seconds))
    return times, errors
