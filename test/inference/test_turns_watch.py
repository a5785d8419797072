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

"""A chat template that writes earlier turns anew is told once, and no other."""
import logging

import pytest

from timebill_ros.inference.turns_watch import TurnsWatch


class Words:
    def decode(self, ids):
        return ' '.join(map(str, ids))


def turn(text, role='user'):
    return {'role': role, 'content': text}


FIRST = [turn('map', 'system'), turn('go')]
GROWN = [*FIRST, turn('done', 'assistant'), turn('back')]
IDS = list(range(100))


@pytest.mark.parametrize(('then', 'ids', 'tells'), [
    (GROWN, IDS + [7] * 50, False), (GROWN, IDS[:80] + [7] * 50, False),  # where the answer began, it stands now
    (GROWN, IDS[:3] + [500] + IDS[4:] + [7] * 50, True), (GROWN, IDS[:40] + [500] * 40, True),
    ([turn('map', 'system'), turn('stop'), turn('no')], [500] * 100, False),  # another conversation
    (FIRST, [500] * 100, False)], ids=str)
def test_what_is_told(caplog, then, ids, tells):
    watch = TurnsWatch(Words())
    with caplog.at_level(logging.WARNING):
        watch.observe(FIRST, IDS, 0)
        watch.observe(then, ids, 32)
        watch.observe(FIRST, IDS, 0)
        watch.observe(then, ids, 32)  # not again
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == tells
    if tells:
        assert told[0].startswith(f'32 of {len(ids)} tokens') and '500' in told[0]
