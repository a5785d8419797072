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

"""Examples in a batch: what is padded, and what remains of each response."""
from timebill_ros.training.length_examples import Example, collate


def test_collate_counts_what_remains_of_each_response():
    ids, remaining, last, labels, ends = collate(
        [Example([5, 6, 7], [8, 9], [2, 5], ((1, 4),)), Example([5], [6], [9])], 0, bucket_size=2, n_buckets=3)
    assert ids.tolist() == [[5, 6, 7, 8, 9], [5, 6, 0, 0, 0]]
    assert remaining.tolist() == [[0, 4, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert last.tolist() == [2, 0] and ends.tolist() == [5, 2]
    assert labels.tolist() == [[0.5, 0, 0.5], [0, 0, 1]]
