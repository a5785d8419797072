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

"""The file of calibration scores: what was saved comes back, and any other file is refused."""
import json
import math

import pytest

from timebill_ros.length.calibration import load_scores, save_scores, surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.pessimistic_length import Conformal

SCORES = [-math.log((i + 0.5) / 200) for i in range(200)]  # those of a predictor whose distributions are right


def test_scores_are_kept_in_a_file(tmp_path):
    path = tmp_path / 'calibration.json'
    assert load_scores(path) == []
    save_scores(path, SCORES, temperature=1.0)
    assert load_scores(path) == pytest.approx(SCORES, abs=1e-4)
    assert json.loads(path.read_text())['temperature'] == 1.0


def test_a_bound_from_a_file_takes_in_the_lengths_that_it_was_made_of(tmp_path):
    """Were the score rounded to the nearest, 0.35667, not one of the lengths would be within the bound."""
    always, path = LengthDistribution(1, [0.3, 0.3, 0.4]), tmp_path / 'calibration.json'
    save_scores(path, [surprise(always, 2)] * 99)
    assert Conformal(load_scores(path), 0.05).pessimistic(always, 100) == 2


@pytest.mark.parametrize('text', ['{', '[]', '{"format": 2, "scores": []}', '{"format": 1}',
                                  '{"format": 1, "scores": 3}', '{"format": 1, "scores": ["x"]}',
                                  '{"format": 1, "scores": [-1]}', '{"format": 1, "scores": [NaN]}'])
def test_a_file_without_scores_is_named(text, tmp_path):
    path = tmp_path / 'calibration.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='calibration.json cannot be used'):
        load_scores(path)
