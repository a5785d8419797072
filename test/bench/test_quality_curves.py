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

"""From scores to a quality table: means that never rise with eviction, and classes of prompt lengths."""
import random

import pytest

from timebill_ros.bench.answers import RATIOS
from timebill_ros.bench.quality_curves import SHARES, Answered, classes_of, cut_curve, falling, quality_table


def answered(n_x, *values, cuts=None):
    """A task whose answers in two variants score `values`, one for each ratio."""
    by_ratio = list(zip(RATIOS, values, strict=True))
    scores = {(variant, 'snapkv' if ratio else '', ratio): {'score': value - less, 'other': 1.0}
              for variant, less in (('bfloat16', 0.0), ('int8', 0.1)) for ratio, value in by_ratio}
    return Answered('family', n_x, scores, cuts or list(SHARES))


@pytest.mark.parametrize(('values', 'expected'), [
    ([], []), ([0.5], [0.5]), ([0.9, 0.5, 0.1], [0.9, 0.5, 0.1]), ([0.5, 0.7], [0.6, 0.6]),
    ([0.9, 0.4, 0.5, 0.6, 0.1], [0.9, 0.5, 0.5, 0.5, 0.1]), ([0.1, 0.2, 0.9], [0.4, 0.4, 0.4])])
def test_the_nearest_falling_sequence(values, expected):
    assert falling(values) == pytest.approx(expected)


def test_falling_is_the_nearest_of_all():
    rng = random.Random(0)
    grid = [i / 4 for i in range(5)]
    for _ in range(50):
        values = [rng.choice(grid) for _ in range(4)]
        others = [[a, b, c, d] for a in grid for b in grid for c in grid for d in grid if a >= b >= c >= d]
        best = min(sum((x - y) ** 2 for x, y in zip(values, other, strict=True)) for other in others)
        assert sum((x - y) ** 2 for x, y in zip(values, falling(values), strict=True)) <= best + 1e-9


def test_a_table_holds_the_means_of_each_variant():
    table = quality_table([answered(100, .9, .8, .8, .4, .3, .2), answered(900, .7, .8, .6, .6, .1, .4)],
                          ['bfloat16', 'int8'], 'snapkv')
    assert [quality for _, quality in table.variants['bfloat16']] == pytest.approx([.8, .8, .7, .5, .25, .25])
    assert table.of('int8', 0.0) == pytest.approx(.7) and table.classes == ()


def test_prompts_of_different_lengths_have_tables_of_their_own():
    found = [answered(n, *([0.9] * 6)) for n in range(100, 140)] + \
            [answered(n, .9, .5, .3, .2, .1, .1) for n in range(1000, 1040)]
    random.Random(0).shuffle(found)
    table = quality_table(found, ['bfloat16', 'int8'], 'snapkv')
    assert [(each.low, each.high) for each in table.classes] == [(100, 1000), (1000, 1040)]
    assert table.of('bfloat16', 0.5, 120) == pytest.approx(0.9) and table.of('bfloat16', 0.5, 2000) == pytest.approx(.3)
    assert table.of('bfloat16', 0.5) == pytest.approx(0.6)


@pytest.mark.parametrize(('lengths', 'n_classes'), [(range(59), 1), (range(60), 2), (range(1000), 4), ([7] * 200, 1),
                                                    ([7] * 100 + [8] * 100, 2)])
def test_every_task_is_in_one_class(lengths, n_classes):
    found = [answered(n, *([0.5] * 6)) for n in lengths]
    classes = classes_of(found)
    assert len(classes) == n_classes and sum(len(chosen) for *_, chosen in classes) == len(found)
    assert all(low <= each.n_x < high for low, high, chosen in classes for each in chosen)


def test_what_is_left_of_cut_answers():
    early = answered(100, *([0.5] * 6), cuts=[0.0] + [1.0] * 10)  # right from the first token on
    late = answered(100, *([0.5] * 6), cuts=[0.0] * 10 + [1.0])
    wrong = answered(100, *([0.0] * 6), cuts=[0.0] * 11)
    assert cut_curve([early, late, wrong]) == ((0.0, 0.0), *((share, 0.5) for share in SHARES[1:-1]), (1.0, 1.0))
    better = answered(100, *([0.5] * 6), cuts=[0.0] + [0.8] * 9 + [0.4])  # the whole answer is worse than a part
    assert cut_curve([better]) == ((0.0, 0.0), *((share, 1.0) for share in SHARES[1:]))
    assert cut_curve([wrong])[0] == (0.0, 0.0) and cut_curve([wrong])[-1] == (1.0, 1.0)
