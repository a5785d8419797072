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

"""The comparison of length predictors: its measures by hand, and the whole of it on a tiny model."""
import json

import pytest
import tiny_training

from timebill_ros.bench import length_predictor as bench
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.tasks import site_log


def test_reliability_of_a_right_and_of_a_wrong_distribution():
    right = LengthDistribution(1, [0.25] * 4)
    rows = bench.reliability([right] * 4, [1, 2, 3, 4])
    assert all(abs(row['share_interpolated'] - row['level']) <= 0.15 for row in rows)
    assert all(row['share_planned'] >= row['level'] - 1e-9 for row in rows)
    low = bench.reliability([LengthDistribution.point(2)] * 4, [1, 2, 3, 4])
    assert low[-1]['share_planned'] == 0.5


@pytest.mark.slow
def test_what_is_known_without_reading():
    constant, families = bench.without_reading(256)
    assert 4 <= families['find'] <= 8 < constant.median < families['bring']
    assert set(families) == set(site_log.FAMILIES)


@pytest.fixture(scope='module')
def predictor(tmp_path_factory):
    out = tmp_path_factory.mktemp('predictor')
    tiny_training.train_predictor({**tiny_training.TINY_PREDICTOR, 'epochs_on_references': 1},
                                  tiny_training.trained()[0] / 'model', out, baselines=True)
    return out / 'length_predictor'


@pytest.mark.slow
def test_the_whole_comparison(predictor, tmp_path, monkeypatch):
    def short(split, n):
        return [site_log.generate(seed, split=split, n_tokens=60) for seed in range(n)]
    monkeypatch.setattr(bench, 'tasks', short)
    out = tmp_path / 'deep' / 'lengths.json'
    bench.run(tiny_training.trained()[0] / 'model', predictor, out, n_prompts=12, samples=2, bounds=[32], n_learned=51)
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    result = json.loads(out.read_text())
    assert result['beds']['site log']['samples_per_prompt'] == 2 and result['beds']['site log']['device']
    methods = {row['method'] for row in result['rows']}
    assert methods == {'bucket classifier', 'bucket classifier, upper edge', 'bucket classifier, N_p = 32',
                       'regression', '3 buckets', '2 buckets', '1 buckets', '5 classes', '10 classes',
                       'states, after 50 goals', 'states, offline', 'constant median', 'family mean',
                       'TF-IDF and prompt length', 'oracle'}
    for split in ('matched', 'shifted'):
        whole = [row for row in result['rows'] if row['split'] == split and row['family'] == 'all']
        assert len(whole) == len(methods) and all(row['n'] == 24 for row in whole)
        assert [row['level'] for row in result['reliability'][split]] == list(bench.LEVELS)
        families = [row for row in result['rows'] if row['split'] == split and row['method'] == 'oracle']
        assert sum(row['n'] for row in families if row['family'] != 'all') == 24


def test_too_few_goals_to_learn_from_are_refused(tmp_path):
    with pytest.raises(ValueError, match='fewer than 8 goals, got 7'):
        bench.run(tmp_path, tmp_path, tmp_path / 'out.json', n_prompts=1, samples=1, bounds=[], n_learned=7)
