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

"""What eviction, weight precision and cutting cost in quality: measured numbers that the planner weighs.

A quality table is a JSON file. `timebill bench quality` makes one for any model and any tasks:

    {"format": 1,
     "variants": {"float32": [[0.0, 0.98], [0.5, 0.80], ...], "int8": ...},    eviction ratio, mean quality (0 to 1)
     "cut": [[0.0, 0.0], [0.5, 0.52], [1.0, 1.0]],                             share of a response that came before it
                                                                               was cut, share of its quality
     "classes": [{"prompt_tokens": [50, 600], "variants": ...},                optional: "variants" for prompts of so
                 {"prompt_tokens": [600, 4000], "variants": ...}]}             many tokens, from and below, ascending

A ratio alone is coarse: half of a short prompt is less to read than half of a long one. So where there are classes,
the quality of an eviction is that of the prompt's class.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

FORMAT = 1
UNQUANTISED = ('float32', 'bfloat16', 'float16')
OF_4_BITS = ' of 4 bits'  # behind a variant: its curve where the weights keep the 4 bits that they were stored with
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class PromptClass:
    """Quality of each variant over the eviction ratio, for prompts of `low` to below `high` tokens."""

    low: int
    high: int
    variants: dict[str, Curve]


@dataclass(frozen=True)
class QualityTable:
    """Measured quality: of each variant over the eviction ratio, and of a response that was cut.

    ValueError for what is no curve, and for classes that do not ascend.
    """

    variants: dict[str, Curve]
    cut: Curve
    classes: tuple[PromptClass, ...] = ()

    def __post_init__(self):
        edges = [edge for each in self.classes for edge in (each.low, each.high)]
        if edges != sorted(edges) or not all(each.low < each.high for each in self.classes):
            raise ValueError(f'prompt_tokens of classes must ascend, got {edges[:8]}')
        tables = [self.variants, *(each.variants for each in self.classes)]
        for name, curve in [*(pair for table in tables for pair in table.items()), ('cut', self.cut)]:
            xs = [x for x, _ in curve]
            if len(curve) < 2 or xs != sorted(set(xs)) or not all(0 <= v <= 1 for pair in curve for v in pair):
                raise ValueError(f'quality of {name} must be two or more pairs of numbers from 0 to 1, the first '
                                 f'ascending, got {list(curve)[:3]}')

    def _curve_of(self, variant: str, n_x: int | None = None) -> Curve | None:
        """Return the curve of a variant for prompts of `n_x` tokens; None: there is none.

        One of UNQUANTISED stands for the others, which round alike. A prompt outside all classes has the nearest one's.
        """
        names = [variant, *UNQUANTISED] if variant in UNQUANTISED else [variant]
        tables = [self.variants]
        if self.classes and n_x is not None:
            tables.insert(0, next((each for each in self.classes if n_x < each.high), self.classes[-1]).variants)
        return next((table[name] for table in tables for name in names if name in table), None)

    def for_weights(self, of_4_bits: Iterable[str]) -> QualityTable:
        """Return the table for a model of which these variants keep the 4 bits that the weights were stored with.

        Where it has a curve for such weights of a variant, that is the variant's.
        """
        names = set(of_4_bits)

        def own(variants: dict[str, Curve]) -> dict[str, Curve]:
            return {**variants, **{name: variants[name + OF_4_BITS] for name in names if name + OF_4_BITS in variants}}

        return QualityTable(own(self.variants), self.cut,
                            tuple(replace(each, variants=own(each.variants)) for each in self.classes))

    def has(self, variant: str) -> bool:
        """Return whether there is a curve for this variant."""
        return self._curve_of(variant) is not None

    def ratios(self, variant: str) -> list[float]:
        """Return the eviction ratios at which this variant was measured; none if it was not."""
        return [ratio for ratio, _ in self._curve_of(variant) or ()]

    def of(self, variant: str, eviction_ratio: float, n_x: int | None = None) -> float:
        """Return the expected quality of a whole response, 0 to 1; 0 for a variant that was not measured.

        `n_x`: tokens of the prompt; None: of any prompt. The quality never rises with the eviction ratio: where a curve
        does, that is noise of the measurement.
        """
        curve = self._curve_of(variant, n_x)
        if not curve:
            return 0.0
        ratios, values = zip(*curve, strict=True)
        return float(np.interp(eviction_ratio, ratios, np.minimum.accumulate(values)))

    @staticmethod
    def load(path: str | Path) -> QualityTable:
        """Read a quality table. ValueError with a sentence for a file that is missing or is no quality table."""
        try:
            data = json.loads(Path(path).read_text())
            if data['format'] != FORMAT:
                raise ValueError(f'its format is {data["format"]!r}, not {FORMAT}')
            classes = tuple(PromptClass(*map(int, each['prompt_tokens']), _curves(each['variants']))
                            for each in data.get('classes', ()))
            return QualityTable(_curves(data['variants']), _curve(data['cut']), classes)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f'quality table {path} cannot be used: {type(error).__name__}: {error}') from error

    def to_dict(self) -> dict:
        """Return what `load` reads, as JSON-ready data."""
        def rounded(variants: dict[str, Curve]) -> dict:
            return {name: [[x, round(y, 4)] for x, y in curve] for name, curve in variants.items()}
        return {'format': FORMAT, 'variants': rounded(self.variants), 'cut': rounded({'cut': self.cut})['cut'],
                'classes': [{'prompt_tokens': [each.low, each.high], 'variants': rounded(each.variants)}
                            for each in self.classes]}


def _curves(variants: dict[str, Sequence[Sequence[float]]]) -> dict[str, Curve]:
    return {name: _curve(pairs) for name, pairs in variants.items()}


def _curve(pairs: Sequence[Sequence[float]]) -> Curve:
    return tuple((float(x), float(y)) for x, y in pairs)
