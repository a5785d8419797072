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

"""A request that gives way, on a model that writes down what is asked of it and a clock that the tests move."""
import pytest
from mock_model import FakeClock

from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.giving_way import GivingWay
from timebill_ros.request import Timing


class Journal:
    """In the place of a model, its asides and a chain."""

    def __init__(self, clock, refuses=''):
        self.happened, self._clock, self._refuses = [], clock, refuses
        self.asides = self

    def put(self):
        if self._refuses:
            raise RuntimeError(self._refuses)
        self._clock.now += 0.5
        return self._note('put')

    def save(self):
        return self._note('save')

    def take_up(self, aside):
        self._clock.now += 0.25
        self._note(f'take up what was {aside}')

    def restore(self, saved):
        self._note(f'restore what was {saved}')

    def let_go(self, aside):
        self._note('let go')

    def synchronize(self):
        self._note('synchronize')

    def _note(self, what):
        self.happened.append(what)
        return what


@pytest.fixture
def clock():
    return FakeClock()


def made(clock, model, others_s=4.0):
    control, timing = Control(Deadline(1e9, lambda: clock.now), pausing=True), Timing()

    def on_pause():
        model.happened.append('others')
        clock.now += others_s

    control.on_pause = on_pause
    return GivingWay(model, control, timing, lambda: clock.now), control, timing


def test_what_others_change_is_saved_and_put_back(clock):
    model = Journal(clock)
    gives_way, control, timing = made(clock, model)
    before = gives_way.clock()
    assert gives_way(model) and not control.pausing
    assert model.happened == ['put', 'save', 'others', 'take up what was put', 'restore what was save', 'synchronize',
                              'let go']
    assert (timing.preemptions, timing.paused_s) == (1, 4.75) and gives_way.clock() == before
    clock.now += 1.0
    assert gives_way.clock() == before + 1.0
    control.pausing = True
    assert gives_way() and (timing.preemptions, timing.paused_s) == (2, 9.5)
    assert 'restore what was save' not in model.happened[7:], 'there is no chain while a prompt is read'


def test_pauses_do_not_say_when_prefill_will_look_again(clock):
    """It gives way twice, with one look between; a deadline that comes later than another pause ends nothing."""
    model = Journal(clock)
    gives_way, control, _ = made(clock, model, others_s=4.0)
    control.deadline.at_s, control.pausing = clock.now + 14.0, False
    for pausing in (False, False, True, True, False, False):
        clock.now += 0.1
        control.pausing = pausing
        assert control.should_stop() is pausing
        assert gives_way() is pausing
    assert control.deadline.remaining() < 4.0
    clock.now = control.deadline.at_s - 0.09
    assert control.should_stop()


@pytest.mark.parametrize('canceled', [False, True])
def test_nobody_has_asked_for_it(clock, canceled):
    model = Journal(clock)
    gives_way, control, timing = made(clock, model)
    control.pausing, control.canceled = canceled, canceled
    assert not gives_way(model) and model.happened == [] and timing.preemptions == 0


def test_a_request_that_is_canceled_meanwhile_is_not_put_back(clock):
    model = Journal(clock)
    gives_way, control, timing = made(clock, model)
    control.on_pause = lambda: setattr(control, 'canceled', True)
    assert not gives_way(model) and model.happened == ['put', 'save', 'let go'] and timing.preemptions == 1


@pytest.mark.parametrize('has_store', [True, False])
def test_one_that_cannot_be_kept_is_canceled_and_says_why(clock, has_store):
    model, reasons = Journal(clock, refuses='no room'), []
    if not has_store:
        model.asides = None
    gives_way, control, timing = made(clock, model)
    control.on_refused = reasons.append
    assert not gives_way(model) and control.canceled and model.happened == [] and timing.preemptions == 0
    assert len(reasons) == 1 and ('no room' if has_store else 'prefix_cache_mib') in reasons[0]


@pytest.mark.parametrize('saves', [True, False])
def test_what_fails_while_others_run_leaves_nothing_behind(clock, saves):
    model = Journal(clock)
    gives_way, control, _ = made(clock, model)

    def fails():
        raise OSError('the pipe')

    if saves:
        control.on_pause = fails
    else:
        model.save = fails
    with pytest.raises(OSError, match='the pipe'):
        gives_way(model)
    assert model.happened[-1] == 'let go'
