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

"""What a start says of itself: its part, what is done there, for how long, and how long the rest takes."""
import pytest
from mock_model import FakeClock

from timebill_ros.inference.start_progress import (
    CHUNKS,
    MODEL,
    PARTS,
    PREDICTOR,
    PROFILE,
    READING_ON,
    STEPS,
    StartProgress,
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def start(clock):
    return StartProgress(clock)


def test_a_start_that_finds_everything_on_disk_says_its_part_and_no_rest(start, clock):
    assert start.report() == {'part': 1, 'of': len(PARTS), 'what': 'loading PyTorch and transformers', 'for_s': 0.0,
                              'left_s': None, 'longer': False}
    start.begin(STEPS, 'int8')
    clock.now += 3.0
    assert start.report() == {'part': 3, 'of': len(PARTS), 'what': 'preparing decode steps: int8', 'for_s': 3.0,
                              'left_s': None, 'longer': False}
    start.begin(CHUNKS)
    assert start.report()['what'] == 'choosing the chunks of prefill' and start.report()['for_s'] == 0.0


def test_the_rest_is_what_it_usually_takes_until_more_is_known(start, clock):
    later_s = CHUNKS.usual_s + PREDICTOR.usual_s + READING_ON.usual_s + PROFILE.usual_s
    start.begin(STEPS)
    clock.now += 2.0
    start.make('compiling', 40.0)
    assert start.report()['left_s'] == pytest.approx(40.0 + later_s)
    clock.now += 24.0
    assert start.report()['for_s'] == 24.0 and start.report()['left_s'] == pytest.approx(16.0 + later_s)
    clock.now += 76.0  # much longer than usual
    assert start.report()['left_s'] == pytest.approx(50.0 + later_s)
    start.tell('compiling piece 3 of 4', share=0.8)  # the pace is known now
    assert start.report()['left_s'] == pytest.approx(25.0 + later_s)
    start.begin(PROFILE)
    start.make('', 20.0)
    assert start.report()['left_s'] == pytest.approx(20.0)
    clock.now += 5.0
    start.tell('50%', share=0.5)
    assert start.report()['left_s'] == pytest.approx(5.0)
    assert start.report()['what'] == 'measuring a profile: 50%'


def test_the_end_that_was_told_moves_back_only_with_a_word(start, clock):
    def end_s() -> float:
        report = start.report()
        return None if report['longer'] else clock.now + report['left_s']

    start.begin(STEPS)
    start.make('compiling', 40.0)
    told_s = end_s()
    clock.now += 30.0
    assert end_s() == pytest.approx(told_s)
    start.tell('compiling piece 3 of 4', share=0.5)  # 30 s more, not 10
    assert end_s() is None
    start.tell('compiling piece 4 of 4', share=0.75)  # a new pace, as was told before
    assert end_s() == pytest.approx(told_s)
    clock.now += 20.0
    start.tell('compiling piece 4 of 4', share=0.8)
    assert end_s() is None
    start.begin(PROFILE)
    start.make('', 20.0)
    assert end_s() == pytest.approx(clock.now + 20.0)


def test_another_thing_that_is_made_in_a_part_begins_anew(start, clock):
    start.begin(STEPS)
    start.make('compiling', 40.0)
    clock.now += 10.0
    start.tell('compiling piece 3 of 3', share=0.7)
    start.tell('int8')
    start.make('compiling', 40.0)
    later_s = CHUNKS.usual_s + PREDICTOR.usual_s + READING_ON.usual_s + PROFILE.usual_s
    assert start.report()['left_s'] == pytest.approx(40.0 + later_s) and start.report()['for_s'] == 0.0


def test_what_gets_on_is_counted_and_what_is_repeated_is_not(start):
    def advances(do) -> bool:
        before = start.n_advances
        do()
        return start.n_advances > before

    assert advances(lambda: start.begin(MODEL))
    assert advances(lambda: start.tell('a')) and not advances(lambda: start.tell('a'))
    assert advances(lambda: start.tell('a', share=0.1)) and not advances(lambda: start.tell('a', share=0.1))
    assert not advances(start.report)
