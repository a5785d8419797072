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

"""What is told of a goal that runs, and that others are served while it has given way."""
import pytest

from timebill_ros.codes import Phase
from timebill_ros.request import Plan, Request, Timing
from timebill_ros.worker.goal_control import control_of


class Journal(list):
    """In the place of a Channel and a Streamer: what was asked of them."""

    def send(self, message):
        self.append(message)

    def catch_up(self):
        self.append('text so far')


@pytest.fixture
def journal():
    return Journal()


def made(journal, serve_one=lambda: None):
    return control_of(Request('goal', 0.0, 9.0, prompt='p', delivery_margin_s=0.5), journal, journal, serve_one)


def test_what_becomes_of_it_is_told(journal):
    control = made(journal)
    assert (control.deadline.at_s, control.margin_s) == (9.0, 0.5)
    control.on_phase(Phase.DECODE)
    control.on_plan(Plan(), Timing())
    control.on_refused('no room')
    assert [(message['event'], message['id']) for message in journal] == [
        ('phase', 'goal'), ('plan', 'goal'), ('refused', 'goal')]
    assert journal[-1]['why'] == 'no room'


@pytest.mark.parametrize('ends_by', ['paused', 'canceled'])
def test_others_are_served_until_it_goes_on_or_is_canceled(journal, ends_by):
    def serve_one():
        journal.append('another')
        if journal.count('another') == 3:
            setattr(control, ends_by, ends_by == 'canceled')

    control = made(journal, serve_one)
    control.on_pause()
    assert journal == ['text so far', {'event': 'paused', 'id': 'goal'}, 'another', 'another', 'another']
    assert not control.paused and control.canceled == (ends_by == 'canceled')


def test_a_goal_that_is_canceled_already_waits_for_nobody(journal):
    control = made(journal, lambda: pytest.fail('nobody is to be served'))
    control.canceled = True
    control.on_pause()
    assert not control.paused
