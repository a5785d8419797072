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

"""Goals of mixed prefixes on one engine: that they share beginnings, and that answers are those from nothing."""
import itertools
import json

import pytest

from timebill_ros import settings
from timebill_ros.bench import prefix_load
from timebill_ros.deadline import Deadline


def test_prompts_share_any_beginning_with_any_other():
    made = [messages[0]['content'].split() for messages in itertools.islice(prefix_load.prompts(3), 200)]
    assert made == [messages[0]['content'].split() for messages in itertools.islice(prefix_load.prompts(3), 200)]
    assert max(map(len, made)) < prefix_load.LONGEST_WORDS + 40 and len({tuple(words) for words in made}) > 150
    common = []
    for i in range(40, 200):
        common.append(max(sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(
            made[i], other, strict=False))) / len(made[i]) for other in made[:i]))
    assert sum(share > 0.5 for share in common) > 80, 'most go on after a beginning that was there before'
    assert sum(share < 0.9 for share in common) > 20, 'and not all of them at the end'


def test_a_goal_is_canceled_or_gives_way_at_the_look_that_is_drawn():
    canceled = prefix_load.Disturbed(Deadline(1e9, lambda: 0.0), cancel_at=3)
    assert [canceled.should_stop() for _ in range(3)] == [False, False, True] and canceled.canceled
    pausing = prefix_load.Disturbed(Deadline(1e9, lambda: 0.0), pause_at=2)
    assert [pausing.should_stop() for _ in range(2)] == [False, True] and pausing.pausing
    pausing.pausing = False
    assert not pausing.should_stop(), 'it gives way once'


@pytest.mark.slow
def test_two_hundred_goals_are_answered_as_from_nothing_in_flat_memory(tmp_path, capsys):
    values = settings.check({'model': 'embedded', 'length_predictor': settings.NO_PREDICTOR, 'device': 'cpu',
                             'threads': 1, 'self_profile_s': 2.0, 'cache_dir': str(tmp_path)})
    out = tmp_path / 'load.json'
    assert prefix_load.run(values, out, n_goals=200, compared=40, seed=2) == 0
    found = json.loads(out.read_text())
    assert found['compared'] == found['same'] == 40 and sum(found['endings'].values()) == 200
    assert found['reused_share'] > 0.2 and found['preemptions'] > 0 and found['endings']['CANCELED'] > 0
    assert found['checks'] >= 15 and abs(found['grown_mb']) < 50
    assert '40 of 40 as from nothing' in capsys.readouterr().out
