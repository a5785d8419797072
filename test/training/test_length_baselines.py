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

"""The heads that the length predictor is compared with."""
import pytest
import torch

from timebill_ros.training.length_baselines import Baselines

LENGTHS = [3, 3, 5, 8, 8, 20, 40, 41, 60, 64]


@pytest.fixture()
def baselines():
    torch.manual_seed(0)
    return Baselines.for_lengths(6, LENGTHS, bucket_size=4, n_buckets=20)


def test_classes_cover_every_length_up_to_the_longest(baselines):
    assert baselines.classes['10 buckets'] == list(range(8, 81, 8))
    assert baselines.classes['5 buckets'] == [16, 32, 48, 64, 80]
    for name, edges in baselines.classes.items():
        assert edges == sorted(set(edges)) and edges[-1] == 80, name
    assert len(baselines.classes['5 classes']) == 5 and len(baselines.classes['10 classes']) == 10


def test_a_class_stands_for_the_training_lengths_in_it(baselines):
    assert baselines.values['5 buckets'][0] == [5.0, pytest.approx(27 / 5)]  # 3 3 5 8 8
    assert baselines.values['5 buckets'][-1] == [72.5, 72.5]  # none seen: the middle of 65..80


def test_all_heads_learn(baselines):
    """The hidden states determine the length, so after some steps every head predicts it."""
    lengths = torch.tensor(LENGTHS)
    hidden = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 4, 4]), 6).float() * 3
    optimizer = torch.optim.Adam(baselines.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        baselines.loss(hidden, lengths).backward()
        optimizer.step()
    for name, (middle, mean) in baselines.predict(hidden[-1]).items():
        assert 48 <= middle <= 76 and 48 <= mean <= 76, name
    for name, (middle, mean) in baselines.predict(hidden[0]).items():
        assert middle <= 20 and mean <= 20, name


def test_a_length_beyond_the_last_class_counts_in_it(baselines):
    assert torch.isfinite(baselines.loss(torch.zeros(1, 6), torch.tensor([500])))


def test_saved_and_loaded(baselines, tmp_path):
    baselines.save(tmp_path)
    again = Baselines.load(tmp_path)
    hidden = torch.randn(6)
    assert again.predict(hidden) == baselines.predict(hidden)
    (tmp_path / 'baselines.json').unlink()
    with pytest.raises(FileNotFoundError, match='baselines.json'):
        Baselines.load(tmp_path)
