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

"""The rule by quality: what the client can be expected to hold at the deadline is to be worth the most.

Ways to go on are compared by expected quality (expected_quality.py): the whole cache, evictions at once or at one of
the next looks, on each of the weights. An answer is never destroyed to keep a promise: one is made where it costs no
more than a stated share of the best quality. Otherwise the best way is taken, whatever the verdict becomes.

Entries that were evicted come back (evictions.py) where N_W fits with them too, with time to spare, and what is still
to be written is worth it. Lengths and times that were feared and did not come about make that room.
"""
from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from timebill_ros.codes import Verdict
from timebill_ros.length.pessimistic_length import expected
from timebill_ros.planning import solver
from timebill_ros.planning.expected_quality import Outlook, Stand, Way
from timebill_ros.planning.quality_table import UNQUANTISED, QualityTable
from timebill_ros.planning.situation import Option, Progress, Situation
from timebill_ros.request import Plan
from timebill_ros.timing.step_time import StepTime

LEAST_GROWTH = 1.05  # an eviction is worth its risk only where N_fit grows so much
LEAST_WORTH = 0.05  # a response that would be lost is worth a cap where the text keeps this share of the quality
LEAST_BACK = 8  # entries come back only where that is at least such a part of what is gone
LEAST_GAIN = 1.02  # and where the expected quality grows so much
LOOKS = (1, 2, 4, 8)  # looks at the plan from now at which an eviction may come


@dataclass(frozen=True)
class _Choice:
    """One way on one set of weights, with what it would give."""

    option: Option
    way: Way
    fit: int  # about N_fit in expected times: tokens in all
    value: float  # expected quality


@dataclass(frozen=True)
class QualityRule:
    """Choose kept entries, weights and cap by expected quality.

    table:            measured quality
    promise_quality:  the least share of the best expected quality at which a promise is made
    min_kept:         fewest prompt entries that an eviction leaves
    brings_back:      what was evicted may come back
    """

    table: QualityTable
    promise_quality: float = 0.9
    min_kept: int = 128
    brings_back: bool = True

    def for_weights(self, of_4_bits: Iterable[str]) -> QualityRule:
        """Return the rule for a model of which these variants keep the 4 bits that the weights were stored with."""
        return replace(self, table=self.table.for_weights(of_4_bits))

    def measured(self, variant: str) -> str:
        """Return the variant whose curve counts: the model's own weights have some curve in any case."""
        return variant if self.table.has(variant) else UNQUANTISED[0]

    def promised_ratio(self, variant: str) -> float:
        """Return the largest measured eviction ratio for which a promise is made, were it evicted at once."""
        measured = self.measured(variant)
        least = self.promise_quality * self.table.of(measured, 0.0)
        return max((r for r in self.table.ratios(measured) if self.table.of(measured, r) >= least), default=0.0)

    def first(self, options: Sequence[Option], known: Situation, time_left_s: float, eviction_s: float) -> Plan:
        """Return the first plan; `eviction_s`: what an eviction takes. See `Planner.plan`."""
        case = _Case(self, known, Stand(known.n_x, known.n_x, eviction_s), 0, time_left_s, options[0].variant)
        n_w = known.pessimistic()
        n_hat = min(max(known.distribution.median(), 1), known.n_max, n_w)
        return case.plan(options, n_hat, n_w)

    def revise(self, plan: Plan, option: Option, known: Situation, now: Progress, time_left_s: float,
               eviction_s: float, restore_s: float = 0.0) -> Plan:
        """Return the plan made again, `plan` itself where nothing changes. See `Planner.revise`.

        `restore_s`: what bringing all back takes that was evicted. The tokens so far count as part of the cache.
        """
        bounds, n = known.bounds, now.n
        n_w = known.pessimistic(n)
        unchanged = Verdict.FITS if now.n_keep == known.n_x else Verdict.FITS_WITH_EVICTION
        stand = Stand(now.n_keep, now.n_kv, eviction_s, restore_s, now.most)
        steps, left_s, rest = option.steps.scaled(bounds.time_bound), time_left_s - bounds.reserve_s, n_w - n + 1
        if plan.verdict is unchanged and plan.n_keep == now.n_keep and n_w <= known.n_max and solver.fits(
                steps, now.n_kv, rest, left_s) and not _room_again(stand, steps, left_s, rest, bounds.time_bound):
            return plan  # the usual case. Nothing more is computed, because the next token waits for this.
        case = _Case(self, known, stand, n, time_left_s, option.variant)
        n_hat = min(expected(known.distribution, known.n_max, n), n_w)
        revised = case.plan([option], n_hat, n_w)
        # A response that would be lost ends before. How many tokens fit is decided at the last look before the cap or
        # before a new one, and again when the response gets there: by then its steps have shown what they take.
        cap = plan.length_cap
        if known.may_cap and (revised.verdict.is_promise or min(cap, revised.length_cap) <= n + known.look_tokens):
            cap = max(revised.length_cap, n)
        # An eviction that still waits is worked out anew at the next look.
        waits, waited = revised.evict_after > n, plan.n_keep < now.n_keep
        if revised.verdict is plan.verdict and cap == plan.length_cap and (
                waits and waited or revised.n_keep == now.n_keep == plan.n_keep):
            return plan
        return replace(revised, length_cap=cap, variant=plan.variant)


class _Case:
    """One request at one instant: `generated` tokens have come, `left_s` seconds are left."""

    def __init__(self, rule: QualityRule, known: Situation, stand: Stand, generated: int, left_s: float, own: str):
        self.rule, self.known, self.stand, self.left_s, self.own = rule, known, stand, left_s, own
        bounds = known.bounds
        self.caution, self.worst_left_s = bounds.time_bound, left_s - bounds.reserve_s
        self.caps = known.may_cap  # a response that would be lost is capped, so that it ends in time
        self.present = min(generated, 1)  # the first token of the rest, where it is there already
        self.written = generated - self.present  # tokens before the rest
        self.most = known.n_max - self.written
        self.floor = min(max(known.n_min, min(rule.min_kept, known.n_x)), stand.n_keep)
        self.stay = Way(stand.n_keep)
        self.outlook = Outlook(known.distribution, generated, longest=known.longest, cut=rule.table.cut)

    def plan(self, options: Sequence[Option], n_hat: int, n_w: int) -> Plan:
        """Return the plan of the best choice among the weights `options`; lengths count from the response's start."""
        if n_w <= self.known.n_max and self._worst_fit(options[0], self.stay) >= n_w:
            return self._as_plan(options[0], self._back(options[0], n_w) or self.stay, n_hat, n_w, n_w, 1.0)
        choices, promises = [], []
        for option in options:
            if self.rule.table.has(option.variant) or option.variant == self.own:
                ways, promised = list(self._ways(option, n_hat)), list(self._promised_ways(option, n_w))
                found = self._valued(option, [self.stay, *ways, *promised])
                choices += [found[0], *(choice for choice in found[1:1 + len(ways)]
                                        if choice.fit >= LEAST_GROWTH * found[0].fit)]
                promises += found[1 + len(ways):]
        best = max(choices, key=lambda choice: choice.value)
        kept = [choice for choice in promises if choice.value >= self.rule.promise_quality * best.value]
        if kept:
            best = max(kept, key=lambda choice: choice.value)
        whole = self.rule.table.of(self.rule.measured(self.own), 0.0)
        return self._as_plan(best.option, best.way, n_hat, n_w, max(choice.fit for choice in choices),
                             best.value / whole if whole else 1.0)

    def _back(self, option: Option, n_w: int) -> Way | None:
        """Return the way that brings as many entries back as N_W leaves room for; None: there is none worth it."""
        n_keep = _room_again(self.stand, option.steps.scaled(self.caution), self.worst_left_s, n_w - self.written,
                             self.caution)
        if not n_keep:
            return None
        stay, back = self._valued(option, [self.stay, Way(n_keep)])
        return back.way if back.value >= LEAST_GAIN * stay.value else None

    def _ways(self, option: Option, n_hat: int) -> Iterable[Way]:
        """Return the evictions to compare: those of the table, the largest, and the least that lets N_hat fit."""
        stay = self._fit(option, self.stay)
        least = math.ceil(LEAST_GROWTH * stay)
        if self.floor >= self.stand.n_keep or self._fit(option, Way(self.floor)) < least:
            return  # the largest eviction gains too little, so that each does
        keeps = {self.floor, *(math.floor((1 - ratio) * self.known.n_x)
                               for ratio in self.rule.table.ratios(self.rule.measured(option.variant)))}
        keeps = sorted((n for n in keeps if self.floor <= n < self.stand.n_keep), reverse=True)
        for after in self._afters():
            yield from (Way(n_keep, after) for n_keep in keeps)
            if way := self._least_eviction(option.steps, after, self.left_s, max(n_hat, least) - self.written):
                yield way

    def _promised_ways(self, option: Option, n_w: int) -> Iterable[Way]:
        """Return the least evictions that let N_W fit, at once and at each of the next looks; or the whole cache.

        One that waits must be possible at the look after that too, so that a promise is not left without any slack.
        """
        if n_w > self.known.n_max:
            return
        stay = self._worst_fit(option, self.stay)
        if stay >= n_w:
            yield self.stay
            return
        target = max(n_w, math.ceil(LEAST_GROWTH * stay))
        if target > self.known.n_max or self.floor >= self.stand.n_keep:
            return
        def least(after: int) -> Way | None:
            return self._least_eviction(option.steps.scaled(self.caution), after, self.worst_left_s,
                                        target - self.written, self.caution)
        for after in self._afters():
            way = least(after)
            if way and (not after or least(after + self.known.look_tokens)):
                yield way

    def _afters(self) -> Iterable[int]:
        """Return after how many tokens of the rest an eviction may come: at once, or at one of the next looks."""
        look = self.known.look_tokens
        looks = [number * look + self.present for number in LOOKS]
        return (0, *(after for after in looks if look and after < self.most))

    def _least_eviction(self, steps: StepTime, after: int, left_s: float, n: int, caution: float = 1.0) -> Way | None:
        """Return the way that keeps the most entries and lets `n` more tokens fit; None: there is none."""
        stand = self._slow_stand(caution)
        if n <= after or n > self.most or left_s < 0:
            return None
        keeps = range(self.floor, self.stand.n_keep)
        fitting = bisect_right(keeps, left_s, key=lambda n_keep: stand.decode_s(steps, Way(n_keep, after), n))
        return Way(keeps[fitting - 1], after) if fitting else None

    def _fit(self, option: Option, way: Way) -> int:
        """Return N_fit in expected times: tokens in all."""
        return self.written + self.stand.longest_fit(option.steps, way, self.left_s, self.most)

    def _worst_fit(self, option: Option, way: Way) -> int:
        """Return N_fit in the times that promises are made for."""
        return self.written + self._slow_stand(self.caution).longest_fit(option.steps.scaled(self.caution), way,
                                                                         self.worst_left_s, self.most)

    def _slow_stand(self, times: float) -> Stand:
        return self.stand._replace(eviction_s=self.stand.eviction_s * times, restore_s=self.stand.restore_s * times)

    def _valued(self, option: Option, ways: list[Way]) -> list[_Choice]:
        """Return what each way gives on these weights."""
        n_x, of, measured = self.known.n_x, self.rule.table.of, self.rule.measured(option.variant)
        steps, stand, left_s = option.steps, self.stand, self.left_s
        if self.caps:
            steps, stand, left_s = steps.scaled(self.caution), self._slow_stand(self.caution), self.worst_left_s
        reached = self.written + stand.fits(steps, ways, left_s, self.most)
        values = self.outlook.quality(ways, reached, self.stand, lambda n_keep: of(measured, 1 - n_keep / n_x, n_x))
        return [_Choice(option, way, int(fit), float(value))
                for way, fit, value in zip(ways, reached, values, strict=True)]

    def _as_plan(self, option: Option, way: Way, n_hat: int, n_w: int, longest_fit: int, worth: float) -> Plan:
        """Return the plan to go this way.

        `longest_fit`: N_fit of the choice that lets most tokens come. `worth`: expected quality, as a share of that of
        a whole answer.
        """
        known, stand, worst_fit = self.known, self.stand, self._worst_fit(option, way)
        if worst_fit >= n_w and n_w <= known.n_max:
            verdict = Verdict.FITS if way.n_keep == known.n_x else Verdict.FITS_WITH_EVICTION
        else:
            capped = self.caps and worst_fit > self.written and worth >= LEAST_WORTH
            fit = max(longest_fit, worst_fit)  # that of choices is about right, and may be a little less
            hopeless = fit < n_hat and (known.lengths_known or fit < 1) and not capped
            verdict = Verdict.INFEASIBLE if hopeless else Verdict.AT_RISK
        cap = worst_fit if self.caps and not verdict.is_promise and 0 < worst_fit < known.n_max else known.n_max
        wcet_s = known.bounds.reserve_s + self._slow_stand(self.caution).decode_s(
            option.steps.scaled(self.caution), way, min(n_w, known.n_max) - self.written)
        return Plan(verdict=verdict, n_x=known.n_x, n_keep=way.n_keep, eviction_ratio=1 - way.n_keep / known.n_x,
                    length_cap=cap, predicted_tokens=n_hat, pessimistic_tokens=n_w, fitting_tokens=worst_fit,
                    decode_wcet_s=wcet_s, decode_expected_s=stand.decode_s(option.steps, way, n_hat - self.written),
                    variant=option.variant,
                    evict_after=self.written + way.after if way.after and way.n_keep < stand.n_keep else 0,
                    quality=max(0.0, worth))


def _room_again(stand: Stand, steps: StepTime, left_s: float, n: int, caution: float) -> int:
    """Return how many entries of the prompt may be there again where `n` more tokens are to fit; 0: none comes back.

    `steps` and `left_s` are those that promises are made for, `caution` times as long as expected. Some time is left to
    spare, so that the next look does not evict again.
    """
    if stand.most <= stand.n_keep:
        return 0
    slow, steps = stand._replace(restore_s=stand.restore_s * caution * LEAST_GROWTH), steps.scaled(LEAST_GROWTH)
    keeps = range(stand.n_keep - (stand.n_keep - stand.most) // LEAST_BACK, stand.most + 1)
    fitting = bisect_right(keeps, left_s, key=lambda n_keep: slow.decode_s(steps, Way(n_keep), n))
    return keeps[fitting - 1] if fitting else 0
