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

"""Execution times of one model on one device: the profile, its fit and the estimates made from it (PAPER: ETE).

t_pf(N_x) = max(floor, a*N_x^2 + b*N_x + c + d*chunks(N_x)) for prefill in chunks,
t_i = p*N_kv + q (with a bend, see step_time.py) for one decode step,
t_ev(N_x) = e_1*N_x + e_0 for scoring and eviction, t_predict(N_p) = a_p*N_p^2 + b_p*N_p + c_p for the length predictor.
(Delivering a result takes what the node measures, not what a profile says: `delivery_margin_s`.) What comes out is an
*estimate* of the worst case, not a proven bound. No torch, no rclpy.
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
    """A profile that cannot be used; the sentence says why."""


@dataclass(frozen=True)
class Identity:
    """What a profile is valid for. All of it must match; library versions may differ and are only recorded."""

    device: str  # hardware and thread count, e.g. 'AMD EPYC, 2 threads' or 'NVIDIA H200'
    model: str  # fingerprint of the target's config and weight files
    predictor: str  # the same of the length predictor, or 'none'
    dtype: str  # torch dtype of weights and cache, e.g. 'float32'
    compiled: str = ''  # precisions whose decode step is a compiled program or captured (said then), comma-separated
    placement: str = 'beside'  # of the length predictor, see tuning.py


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
    d: float = 0.0
    chunk_tokens: int = 0  # of prefill, as profiled; 0: in one piece
    bend: float = 0.0
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
        """t_pf: seconds to prefill `n_x` tokens while the length predictor runs beside it."""
        return max(self.prefill_floor, (self.a * n_x + self.b) * n_x + self.c + self.d * self.chunks(n_x))

    def chunks(self, n_x: int) -> int:
        """How many pieces a prompt is prefilled in."""
        return math.ceil(n_x / self.chunk_tokens) if self.chunk_tokens else 1

    def chunk(self, start: int, n: int) -> float:
        """Seconds of the prefill chunk that reads tokens `start` to `start + n`: a difference of prefills."""
        return self.prefill(start + n) - (self.prefill(start) if start else 0.0)

    def step(self, n_kv: int) -> float:
        """t_i: seconds of one decode step over `n_kv` cached entries."""
        return self.steps(n_kv)

    @property
    def steps(self) -> StepTime:
        """The decode steps' part, as the planner takes it."""
        return StepTime(self.p, self.q, self.bend, self.knee)

    def of_variant(self, variant: str) -> ExecutionTimes:
        """The same with the step times of another weight precision; itself for one that has none of its own."""
        own = self.variants.get(variant)
        return replace(self, **own) if own else self

    def eviction(self, n_x: int) -> float:
        """Seconds to score a prompt of `n_x` tokens and compact its cache."""
        return self.e_1 * n_x + self.e_0

    def prediction(self, n_p: int) -> float:
        """t_predict: seconds of the length predictor on `n_p` tokens, prefill running beside it."""
        return (self.a_p * n_p + self.b_p) * n_p + self.c_p

    def estimate(self, kind: str, n: float) -> float:
        """Seconds of one of a profile's kinds of measurement ('prefill', 'step', 'step:int8', ...)."""
        kind, _, variant = kind.partition(':')
        times = self.of_variant(variant)
        return {'prefill': times.prefill, 'step': times.step, 'run': times.step, 'eviction': times.eviction,
                'prediction': times.prediction}[kind](n)

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
    held_out_errors: dict[str, float] = field(default_factory=dict)  # the same, each length left out in turn
    residuals: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # see fitting.py
    run_ratios: list[float] = field(default_factory=list)  # whole runs of decode steps: measured over estimated time
    points: dict[str, list[list[float]]] = field(default_factory=dict)  # kind -> [length, seconds] as measured

    def save(self, path: str | Path) -> None:
        """Write the profile as YAML, whole or not at all."""
        write_whole(Path(path), yaml.safe_dump({'format': FORMAT, **asdict(self)}, sort_keys=False))

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
                           dict(data.get('fit_errors') or {}), dict(data.get('held_out_errors') or {}),
                           dict(data.get('residuals') or {}),
                           [float(ratio) for ratio in data.get('run_ratios') or []], dict(data.get('points') or {}))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProfileError(f'profile {path} is corrupt: {error}') from error

    def check(self, expected: Identity, where: str) -> None:
        """Refuse a profile made on another device, model, predictor or precision, naming which."""
        for name, mine in asdict(self.identity).items():
            wanted = getattr(expected, name)
            if mine != wanted:
                raise ProfileError(f'profile {where} was made for {name} {mine!r}, but this node has {wanted!r}; '
                                   'run "timebill profile" on this device')
