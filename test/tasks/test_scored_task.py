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

"""A task as benches take it."""
from timebill_ros.tasks.scored_task import ScoredTask


def test_the_first_score_counts():
    task = ScoredTask('1', 'family', [], 8, lambda text: {'step_accuracy': len(text) / 10, 'token_f1': 1.0})
    assert task.score('abc') == 0.3
