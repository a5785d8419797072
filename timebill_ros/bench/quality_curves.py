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

"""From the scores of answers to a quality table: means, and what is known about them besides the numbers.

Quality falls with eviction and grows with the share of an answer that came, or stays. Where measured means do
otherwise, that is mostly noise, on which a planner must not act. So each curve is the monotone one that is closest to
the means (isotonic regression).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from timebill_ros.bench.answers import RATIOS
from timebill_ros.planning.quality_table import Curve, PromptClass, QualityTable

SHARES = tuple(i / 10 for i in range(11))  # of an answer's tokens
MOST_CLASSES, LEAST_IN_CLASS = 4, 30  # of prompt lengths; tasks in each

Cell = tuple[str, str, float]  # (variant, scorer, eviction ratio); the scorer is empty without eviction


@dataclass
class Answered:
    """One task: its prompt tokens, the scores of its answers, and those of the whole answer's parts (SHARES)."""

    family: str
    n_x: int
    scores: dict[Cell, dict[str, float]]  # the first score of each counts
    cuts: list[float]

    def score(self, cell: Cell) -> float:
        """Return the score that counts of one answer."""
        return next(iter(self.scores[cell].values()))


def quality_table(found: Sequence[Answered], variants: Sequence[str], scorer: str) -> QualityTable:
    """Return the table of these tasks, which all have answers after every eviction by `scorer` in all `variants`."""
    def curves(chosen: Sequence[Answered]) -> dict[str, Curve]:
        return {variant: tuple(zip(RATIOS, falling([
            fmean(each.score((variant, scorer if ratio else '', ratio)) for each in chosen) for ratio in RATIOS]),
            strict=True)) for variant in variants}

    classes = classes_of(found)
    return QualityTable(curves(found), cut_curve(found), tuple(
        PromptClass(low, high, curves(chosen)) for low, high, chosen in classes) if len(classes) > 1 else ())


def cut_curve(found: Sequence[Answered]) -> Curve:
    """Return the share of the whole answers' quality that is left of them, over the share of their tokens."""
    whole = sum(each.cuts[-1] for each in found) or 1.0
    left = [min(1.0, sum(each.cuts[i] for each in found) / whole) for i in range(len(SHARES))]
    rising = falling([*left[:-1], 1.0][::-1])[::-1]
    return tuple(zip(SHARES, [*rising[:-1], 1.0], strict=True))


def classes_of(found: Sequence[Answered]) -> list[tuple[int, int, list[Answered]]]:
    """Return (from, to below, tasks) of classes of prompt lengths with about equally many tasks, ascending."""
    ordered = sorted(found, key=lambda each: each.n_x)
    n = max(1, min(MOST_CLASSES, len(ordered) // LEAST_IN_CLASS))
    edges = sorted({ordered[i * len(ordered) // n].n_x for i in range(n)} | {ordered[-1].n_x + 1})
    return [(low, high, [each for each in ordered if low <= each.n_x < high])
            for low, high in zip(edges, edges[1:], strict=False)]


def falling(values: Sequence[float]) -> list[float]:
    """Return the non-increasing sequence with the least squared distance to `values` (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # (mean, number of values)
    for value in values:
        mean, n = value, 1
        while blocks and blocks[-1][0] < mean:
            before, m = blocks.pop()
            mean, n = (before * m + mean * n) / (m + n), m + n
        blocks.append((mean, n))
    return [mean for mean, n in blocks for _ in range(n)]
