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


"""When a head is fitted again, and when it is trusted."""
from types import SimpleNamespace

import pytest

from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.refitting import ENOUGH, LEAST_NEW, MOST_NEW, is_due, is_trusted


@pytest.mark.parametrize(('new', 'n', 'due'), [
    (FEWEST - 1, FEWEST - 1, False), (FEWEST, FEWEST, True), (LEAST_NEW - 1, 20, False), (LEAST_NEW, 20, True),
    (24, 200, False), (25, 200, True), (MOST_NEW - 1, 5000, False), (MOST_NEW, 5000, True)])
def test_the_more_labels_there_are_the_more_are_waited_for(new, n, due):
    assert is_due(new, n) == due


@pytest.mark.parametrize(('is_better', 'gains', 'trusted'), [
    (True, [], True), (False, [], False), (True, [-9.0] * (ENOUGH - 1), True), (True, [-9.0] * ENOUGH, False),
    (False, [0.1] * ENOUGH, True), (True, [5.0, -1.0] * ENOUGH, True)])
def test_the_last_predictions_decide_once_there_are_enough(is_better, gains, trusted):
    assert is_trusted(SimpleNamespace(is_better=is_better), gains) == trusted


def test_without_a_head_there_is_nothing_to_trust():
    assert not is_trusted(None, [1.0] * 100)
