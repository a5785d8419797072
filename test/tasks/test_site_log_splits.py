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

"""The splits of the site log share no log, and `shifted` differs in families, lengths and phrasings."""
import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from site_log_reader import things_of

from timebill_ros.tasks.site_log import (
    FAMILIES,
    LENGTHS,
    MIX,
    PHRASINGS,
    SHIFTED_LENGTHS,
    SHIFTED_MIX,
    SHIFTED_PHRASINGS,
    SPLITS,
    SiteLogTask,
    generate,
    tasks,
)

SINGLE = ('find', 'room')  # families that ask for one thing


def phrasing_of(task: SiteLogTask) -> str:
    """An instruction with `do` for its family and `*` for its tone and things: 'please do * and *'."""
    kept = [word if word in ('please', 'now', 'and', task.family) else '*' for word in task.instruction.split()]
    return re.sub(r'\*( \*)+', '*', ' '.join(kept)).replace(task.family, 'do')


def test_tasks_are_the_first_of_their_split(natural):
    assert tasks('test', 3) == [generate(seed, split='test') for seed in range(3)] == natural['test'][:3]
    assert tasks('test', 0) == []


def test_splits_share_no_log(natural):
    logs = {split: {generate(seed, split=split, n_tokens=60, n_asked=1).log for seed in range(300)}
            for split in SPLITS}
    assert all(len(of_split) == 300 for of_split in logs.values())
    for a, b in itertools.combinations(SPLITS, 2):
        assert not logs[a] & logs[b]
        assert not {task.log for task in natural[a]} & {task.log for task in natural[b]}


@pytest.mark.parametrize('split', SPLITS)
def test_families_come_in_the_proportions_of_their_split(split):
    n = 1000
    counts = Counter(generate(seed, split=split, n_tokens=60, n_asked=1).family for seed in range(n))
    mix, other = (SHIFTED_MIX, MIX) if split == 'shifted' else (MIX, SHIFTED_MIX)
    assert sum(mix.values()) == pytest.approx(1) and set(mix) == set(FAMILIES)
    # Pearson's statistic with 5 degrees of freedom: 20.5 at a level of 0.001. The seeds are fixed.
    statistic = [sum((counts[f] - n * share[f]) ** 2 / (n * share[f]) for f in FAMILIES) for share in (mix, other)]
    assert statistic[0] < 20.5 < statistic[1]


@pytest.mark.parametrize('split', SPLITS)
def test_prompt_lengths_are_log_uniform_over_the_range_of_their_split(natural, split):
    low, high = SHIFTED_LENGTHS if split == 'shifted' else LENGTHS
    # Prompts of families that ask for one thing have the length drawn; others are shorter where objects lack.
    place = [math.log(task.n_tokens / low) / math.log(high / low)
             for task in natural[split] if task.family in SINGLE]
    assert -0.03 < min(place) < 0.25 and 0.75 < max(place) < 1.01
    assert np.mean(place) == pytest.approx(0.5, abs=0.15)


def test_phrasings_of_the_shifted_split_are_found_in_no_other(natural):
    assert not set(PHRASINGS) & set(SHIFTED_PHRASINGS)
    found = {split: {phrasing_of(task) for task in natural[split] if len(things_of(task)) > 1}
             for split in SPLITS}
    shifted = found.pop('shifted')
    assert shifted == {'please do * now', 'now do * please', 'please do * and * now'}
    for of_split in found.values():
        assert of_split == {'do *', 'please do *', 'now do *', 'do * and *', 'do * please', 'do * now'}


def test_phrasings_of_the_shifted_split_are_found_in_no_other_for_one_thing(natural):
    found = {split: {phrasing_of(task) for task in natural[split] if task.family in SINGLE} for split in SPLITS}
    shifted = found.pop('shifted')
    assert not shifted & set().union(*found.values())


def test_tasks_of_an_unknown_split_are_refused():
    with pytest.raises(ValueError, match="'holdout'"):
        tasks('holdout', 1)
