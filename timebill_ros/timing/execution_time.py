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

"""Execution times of one model on one device: coefficients, and estimates from them. profile.py keeps them on disk.

In seconds (PAPER: ETE and deployment):

    prefill     t_pf(N_x) = max(prefill_floor, a*N_x^2 + b*N_x + c + d*chunks(N_x))    N_x prompt tokens
    step        t_i(N_kv) = p*N_kv + q, with a bend (step_time.py)                     N_kv cached entries
    eviction    t_ev(N_x) = e_1*N_x + e_0                                              scoring included
    prediction  t_predict(N_p) = a_p*N_p^2 + b_p*N_p + c_p                             N_p tokens of predictor input
    prefix      t_go(N_r) = g_1*N_r + g_0                                               N_r known tokens, FRESH new ones
    draw        one number for each kind of sampling (request.Sampling.kind)
    pause       t_pa(N) = h_1*N + h_0                                                  N cached entries
    restore     t_re(N) = r_1*N + r_0                                                  N cached entries afterwards
    forced      one number: each token more in a decode step of WIDE tokens (inference/grammars/chain.py)

A prompt of which N_r tokens are known is read in t_go(N_r) + max(0, t_pf(N_x) - t_pf(N_r + FRESH)): more new tokens
than FRESH take what they take at their place in a prompt that is read at once.

A pause is what a request that gives way costs by itself: its entries are copied elsewhere, and back. To restore is to
bring entries of the prompt back that were evicted.

A step includes a greedy draw of its token. Another kind of sampling takes longer by the difference of two draws.

The paper has neither floor nor chunks, and no time for eviction or drawing. The time of delivering a result is not in a
profile: the node has the setting `delivery_margin_s` for it. A worst case made from these times is an *estimate*, not a
proven bound. No torch, no rclpy.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace

from timebill_ros.request import GRAMMAR, PENALTY
from timebill_ros.timing.step_time import StepTime

# The coefficients of each cost on disk. Besides there are 'step:int8' and the like, and 'draw:top_p' with SECONDS.
STEP, SECONDS = ('p', 'q', 'bend', 'knee'), 'seconds'
COSTS = {'prefill': ('a', 'b', 'c', 'd', 'prefill_floor', 'chunk_tokens'), 'step': STEP, 'eviction': ('e_1', 'e_0'),
         'prediction': ('a_p', 'b_p', 'c_p'), 'prefix': ('g_1', 'g_0'), 'pause': ('h_1', 'h_0'),
         'restore': ('r_1', 'r_0'), 'forced': ('forced_s',)}
WIDE = 9  # tokens of the step of several that 'forced' is measured on
NEVER = 1 << 30
FRESH = 64  # new tokens of the prompts that the cost 'prefix' is measured on


class ProfileError(ValueError):
    """Raised for a profile that cannot be used; its sentence says why."""


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
    g_1: float = 0.0
    g_0: float = 0.0  # both 0: not measured
    h_1: float = 0.0
    h_0: float = 0.0  # both 0: not measured
    r_1: float = 0.0
    r_0: float = 0.0  # both 0: not measured
    forced_s: float = 0.0  # seconds of each token more in a step of WIDE; 0: not measured
    variants: dict[str, dict[str, float]] = field(default_factory=dict)  # weight precision -> its own p, q, bend, knee
    draws: dict[str, float] = field(default_factory=dict)  # kind of sampling -> seconds of drawing one token

    def __post_init__(self):
        values = {name: value for name, value in asdict(self).items() if name not in ('variants', 'draws')}
        values |= {f'of a draw by {kind}': seconds for kind, seconds in self.draws.items()}
        for variant, own in self.variants.items():
            if set(own) != set(STEP):
                raise ProfileError(f'variant {variant!r} must have p, q, bend and knee, got {own!r}')
            values |= {f'{name} of variant {variant}': value for name, value in own.items()}
        for name, value in values.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                raise ProfileError(f'coefficient {name} must be a finite number >= 0, got {value!r}')

    def prefill(self, n_x: int, reused: int = 0) -> float:
        """Return t_pf: seconds to prefill `n_x` tokens while the length predictor runs beside it.

        The states of the first `reused` tokens are known. Where that was not measured, nothing is counted as saved.
        """
        whole = max(self.prefill_floor, (self.a * n_x + self.b) * n_x + self.c + self.d * self.chunks(n_x))
        if not reused or not self.knows_prefixes:
            return whole
        return self.prefix(reused) + max(0.0, whole - self.prefill(min(reused + FRESH, n_x)))

    def prefix(self, reused: int) -> float:
        """Return t_go: seconds to take `reused` known tokens of a prompt from the store and to read FRESH new ones."""
        return self.g_1 * reused + self.g_0

    @property
    def knows_prefixes(self) -> bool:
        """Whether it was measured what known beginnings of prompts save."""
        return self.g_1 > 0 or self.g_0 > 0

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
    def wide_from(self) -> int:
        """From how many tokens on one step over all of them is quicker than a step for each; NEVER where none is.

        What a step of several takes hardly depends on their number, up to WIDE, on which it was measured.
        """
        if not 0 < self.forced_s < self.step(0):
            return NEVER
        return 2 + int((WIDE - 1) * self.forced_s / self.step(0))

    def beyond(self, n_kv: int, width: int) -> float:
        """Return the seconds that `width` tokens which are known take longer than one, in the quicker of both ways."""
        if width < self.wide_from:
            return (width - 1) * self.step(n_kv)
        return self.forced_s * max(width - 1, WIDE - 1)

    @property
    def steps(self) -> StepTime:
        """The time of decode steps, in the form that the planner takes."""
        return StepTime(self.p, self.q, self.bend, self.knee)

    def of_variant(self, variant: str) -> ExecutionTimes:
        """Return these times with the step time of another weight precision, unchanged for one without its own."""
        own = self.variants.get(variant)
        return replace(self, **own) if own else self

    def of_sampling(self, kind: str) -> ExecutionTimes:
        """Return these times for requests whose tokens are drawn by this kind of sampling (request.Sampling.kind).

        Steps take longer by what such a draw takes longer than a greedy one.
        """
        extra_s = self.draw_extra(kind)
        if extra_s <= 0:
            return self
        variants = {name: {**own, 'q': own['q'] + extra_s} for name, own in self.variants.items()}
        return replace(self, q=self.q + extra_s, variants=variants)

    def draw_extra(self, kind: str) -> float:
        """Return the seconds by which a draw of this kind takes longer than a greedy one.

        A repetition penalty and a mask take as long beside each choice: they are measured beside the greedy one only.
        What was not measured adds nothing.
        """
        greedy_s = self.draws.get('greedy', 0.0)
        choice = kind.removesuffix(GRAMMAR).removesuffix(PENALTY)
        parts = [choice, *('greedy' + beside for beside in (PENALTY, GRAMMAR) if beside in kind)]
        return sum(max(0.0, self.draws[part] - greedy_s) for part in parts if part in self.draws)

    def eviction(self, n_x: int) -> float:
        """Return t_ev: seconds to score a prompt of `n_x` tokens and compact its cache."""
        return self.e_1 * n_x + self.e_0

    def pause(self, n_kv: int) -> float:
        """Return t_pa: seconds for putting a request with `n_kv` cached entries aside and taking it up again."""
        return self.h_1 * n_kv + self.h_0

    def restore(self, n_kv: int) -> float:
        """Return t_re: seconds for bringing entries of a prompt back, of which `n_kv` entries are cached afterwards."""
        return self.r_1 * n_kv + self.r_0

    @property
    def knows_restores(self) -> bool:
        """Whether it was measured what bringing entries back takes."""
        return self.r_1 > 0 or self.r_0 > 0

    def prediction(self, n_p: int) -> float:
        """Return t_predict: seconds of the length predictor on `n_p` tokens while prefill runs beside it."""
        return (self.a_p * n_p + self.b_p) * n_p + self.c_p

    def estimate(self, kind: str, n: float) -> float:
        """Return the seconds of one kind of measurement ('prefill', 'step:int8', ...; see `profiling.measure`)."""
        kind, _, variant = kind.partition(':')
        if kind == 'draw':
            return self.draws[variant]
        if kind == 'forced':
            return self.forced_s
        times = self.of_variant(variant)
        return {'prefill': times.prefill, 'step': times.step, 'run': times.step, 'eviction': times.eviction,
                'prediction': times.prediction, 'prefix': times.prefix, 'pause': times.pause,
                'restore': times.restore}[kind](n)

    def predictor_bound(self, n_x: int, reused: int = 0) -> int:
        """Return N_p: the longest predictor input (tokens, 0 to `n_x`) that prefill of `n_x` tokens hides.

        The first `reused` of them are known, see `prefill`.

        That is the largest N_p with t_predict(N_p) <= t_pf(N_x) (PAPER: deployment).
        """
        budget = self.prefill(n_x, reused) - self.c_p
        if budget <= 0:
            return 0
        if self.a_p == 0 and self.b_p == 0:
            return n_x
        # The positive root of a_p*N^2 + b_p*N = budget, in the form that is stable for small a_p and right for 0.
        return int(min(n_x, 2 * budget / (self.b_p + math.sqrt(self.b_p ** 2 + 4 * self.a_p * budget))))

    def costs(self) -> dict[str, dict[str, float]]:
        """Return the coefficients by the name of their cost, see COSTS; the inverse is `of_costs`."""
        return {**{cost: {name: getattr(self, name) for name in names} for cost, names in COSTS.items()},
                **{f'step:{variant}': dict(own) for variant, own in self.variants.items()},
                **{f'draw:{kind}': {SECONDS: seconds} for kind, seconds in self.draws.items()}}

    @staticmethod
    def of_costs(costs: dict[str, dict[str, float]]) -> ExecutionTimes:
        """Make execution times of coefficients by cost. TypeError, KeyError or ProfileError for what they cannot be.

        A cost that is missing takes no time, unless it is prefill or step. A cost of an unknown name is left out: a
        later version of this package may have measured it.
        """
        values: dict = {}
        for cost, names in COSTS.items():
            own = costs.get(cost) or {}
            if unknown := set(own) - set(names):
                raise ProfileError(f'cost {cost!r} has no {min(unknown)!r}')
            values |= own
        variants = {name.partition(':')[2]: dict(own) for name, own in costs.items() if name.startswith('step:')}
        draws = {name.partition(':')[2]: own[SECONDS] for name, own in costs.items() if name.startswith('draw:')}
        return ExecutionTimes(**values, variants=variants, draws=draws)
