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

"""Execution times of one model on one device: coefficients, estimates from them, and the profile that keeps them.

In seconds (PAPER: ETE and deployment):

    prefill     t_pf(N_x) = max(prefill_floor, a*N_x^2 + b*N_x + c + d*chunks(N_x))    N_x prompt tokens
    step        t_i(N_kv) = p*N_kv + q, with a bend (step_time.py)                     N_kv cached entries
    eviction    t_ev(N_x) = e_1*N_x + e_0                                              scoring included
    prediction  t_predict(N_p) = a_p*N_p^2 + b_p*N_p + c_p                             N_p tokens of predictor input

The paper has neither floor nor chunks, and no time for eviction. The time of delivering a result is not in a profile:
the node has the setting `delivery_margin_s` for it. A worst case made from these times is an *estimate*, not a proven
bound. No torch, no rclpy.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import yaml

from timebill_ros.resources import write_whole
from timebill_ros.timing.step_time import StepTime

FORMAT = 2


class ProfileError(ValueError):
    """Raised for a profile that cannot be used; its sentence says why."""


@dataclass(frozen=True)
class Identity:
    """What a profile is valid for. Every field must match; library versions may differ and are only recorded."""

    device: str  # hardware and thread count, e.g. 'AMD EPYC, 2 threads' or 'NVIDIA H200'
    model: str  # fingerprint of the target's config and weight files
    predictor: str  # fingerprint of the length predictor's files, or 'none'
    dtype: str  # torch dtype of weights and cache, e.g. 'float32'
    # Precisions whose decode step is not the modules' own, comma-separated: 'int8' compiled, 'int8 captured' captured.
    compiled: str = ''
    placement: str = 'beside'  # where the length predictor runs, see worker/tuning.py


@dataclass(frozen=True)
class ExecutionTimes:
    """Fitted coefficients of the formulas above, in seconds and tokens. ProfileError unless finite and >= 0."""

    a: float
    b: float
    c: float
    p: float
    q: float
    prefill_floor: float = 0.0  # seconds: the smallest of the median prefill times by length
    e_1: float = 0.0
    e_0: float = 0.0
    a_p: float = 0.0
    b_p: float = 0.0
    c_p: float = 0.0
    d: float = 0.0  # seconds per prefill chunk
    chunk_tokens: int = 0  # tokens of a prefill chunk, as profiled; 0: prefill in one piece
    bend: float = 0.0  # see step_time.py
    knee: int = 0  # cached entries, see step_time.py
    variants: dict[str, dict[str, float]] = field(default_factory=dict)  # weight precision -> its own p, q, bend, knee

    def __post_init__(self):
        values = {name: value for name, value in asdict(self).items() if name != 'variants'}
        for variant, own in self.variants.items():
            if set(own) != {'p', 'q', 'bend', 'knee'}:
                raise ProfileError(f'variant {variant!r} must have p, q, bend and knee, got {own!r}')
            values |= {f'{name} of variant {variant}': value for name, value in own.items()}
        for name, value in values.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                raise ProfileError(f'coefficient {name} must be a finite number >= 0, got {value!r}')

    def prefill(self, n_x: int) -> float:
        """Return t_pf: seconds to prefill `n_x` tokens while the length predictor runs beside it."""
        return max(self.prefill_floor, (self.a * n_x + self.b) * n_x + self.c + self.d * self.chunks(n_x))

    def chunks(self, n_x: int) -> int:
        """Return how many chunks a prompt of `n_x` tokens is prefilled in."""
        return math.ceil(n_x / self.chunk_tokens) if self.chunk_tokens else 1

    def chunk(self, start: int, n: int) -> float:
        """Return the seconds of a prefill chunk of `n` tokens after the first `start` of a prompt.

        This is the difference of two prefills, t_pf(start + n) - t_pf(start); t_pf(n) for the first chunk.
        """
        return self.prefill(start + n) - (self.prefill(start) if start else 0.0)

    def step(self, n_kv: int) -> float:
        """Return t_i: seconds of one decode step over `n_kv` cached entries."""
        return self.steps(n_kv)

    @property
    def steps(self) -> StepTime:
        """The time of decode steps, in the form that the planner takes."""
        return StepTime(self.p, self.q, self.bend, self.knee)

    def of_variant(self, variant: str) -> ExecutionTimes:
        """Return these times with the step time of another weight precision, unchanged for one without its own."""
        own = self.variants.get(variant)
        return replace(self, **own) if own else self

    def eviction(self, n_x: int) -> float:
        """Return t_ev: seconds to score a prompt of `n_x` tokens and compact its cache."""
        return self.e_1 * n_x + self.e_0

    def prediction(self, n_p: int) -> float:
        """Return t_predict: seconds of the length predictor on `n_p` tokens while prefill runs beside it."""
        return (self.a_p * n_p + self.b_p) * n_p + self.c_p

    def estimate(self, kind: str, n: float) -> float:
        """Return the seconds of one kind of measurement ('prefill', 'step:int8', ...; see `profiling.measure`)."""
        kind, _, variant = kind.partition(':')
        times = self.of_variant(variant)
        return {'prefill': times.prefill, 'step': times.step, 'run': times.step, 'eviction': times.eviction,
                'prediction': times.prediction}[kind](n)

    def predictor_bound(self, n_x: int) -> int:
        """Return N_p: the longest predictor input (tokens, 0 to `n_x`) that prefill of `n_x` tokens hides.

        That is the largest N_p with t_predict(N_p) <= t_pf(N_x) (PAPER: deployment).
        """
        budget = self.prefill(n_x) - self.c_p
        if budget <= 0:
            return 0
        if self.a_p == 0 and self.b_p == 0:
            return n_x
        # The positive root of a_p*N^2 + b_p*N = budget, in the form that is stable for small a_p and right for 0.
        return int(min(n_x, 2 * budget / (self.b_p + math.sqrt(self.b_p ** 2 + 4 * self.a_p * budget))))


@dataclass
class Profile:
    """A measured device: what the measurement is valid for, the fitted times, and how good the fit is."""

    identity: Identity
    times: ExecutionTimes
    date: str = ''
    versions: dict[str, str] = field(default_factory=dict)
    fit_errors: dict[str, float] = field(default_factory=dict)  # MAPE by kind, as a share (0.01 is 1 %)
    held_out_errors: dict[str, float] = field(default_factory=dict)  # the same on lengths that the fit has not seen
    residuals: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # see fitting.residual_quantiles
    run_ratios: list[float] = field(default_factory=list)  # measured over estimated time of runs of decode steps
    points: dict[str, list[list[float]]] = field(default_factory=dict)  # kind -> [length, seconds] as measured

    def save(self, path: str | Path) -> None:
        """Write the profile as YAML, whole or not at all."""
        write_whole(Path(path), yaml.safe_dump({'format': FORMAT, **asdict(self)}, sort_keys=False))

    @staticmethod
    def load(path: str | Path) -> Profile:
        """Read a profile. ProfileError, naming the path, for anything but a whole and valid one."""
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
                           dict(data.get('fit_errors') or {}), dict(data.get('held_out_errors') or {}),
                           dict(data.get('residuals') or {}),
                           [float(ratio) for ratio in data.get('run_ratios') or []], dict(data.get('points') or {}))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProfileError(f'profile {path} is corrupt: {error}') from error

    def check(self, expected: Identity, where: str) -> None:
        """Raise ProfileError, naming the first difference, where the profile is not valid for `expected`.

        where: the name of the profile in the error, such as its path.
        """
        for name, mine in asdict(self.identity).items():
            wanted = getattr(expected, name)
            if mine != wanted:
                raise ProfileError(f'profile {where} was made for {name} {mine!r}, but this node has {wanted!r}; '
                                   'run "timebill profile" on this device')
