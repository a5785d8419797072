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

"""A goal counts as abandoned once no program that may have sent it is left, and not before."""
from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from node_client import Result, make_goal, wait_until
from node_process import NodeProcess
from rclpy.action import ActionServer
from scripted_model import LONG

from timebill_ros.msg import RequestStatus
from timebill_ros.node.client_watch import GONE_S, ClientWatch

LEASE = """<dds xmlns="http://www.eprosima.com"><profiles>
<participant profile_name="short_lease" is_default_profile="true"><rtps><builtin><discovery_config>
<leaseDuration><sec>2</sec></leaseDuration>
<leaseAnnouncement><sec>0</sec><nanosec>500000000</nanosec></leaseAnnouncement>
</discovery_config></builtin></rtps></participant></profiles></dds>"""
# A client that sends goals and then does nothing more, not even leave.
CLIENT = """
import sys, time
from timebill_ros.client import Client
from timebill_ros.action import Generate
from timebill_ros.client import duration
client = Client(sys.argv[1], name='doomed')
client.wait_until_active(60.0)
for _ in range(2):
    client.send(Generate.Goal(prompt='w1 w2', time_budget=duration(300.0), max_new_tokens=int(sys.argv[2])))
time.sleep(600.0)
"""


class Scene:
    """A watch on a clock that the test moves, and the programs that have a client."""

    def __init__(self):
        self.now, self.programs, self.identified = 100.0, set(), {}
        self.watch = ClientWatch(lambda: frozenset(self.programs), self._identify, clock=lambda: self.now)

    def _identify(self):
        found, self.identified = self.identified, {}
        return found

    def after(self, seconds):
        """Look every half second for so long; return what is abandoned then."""
        found = self.watch.abandoned()
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            found = self.watch.abandoned()
        return found


@pytest.fixture
def scene():
    return Scene()


def test_who_sent_a_goal_is_remembered_until_the_goal_is_watched(scene):
    scene.programs, scene.identified = {b'A', b'B'}, {'goal': b'A'}
    scene.after(1.0)
    scene.watch.add('goal')
    assert scene.after(5.0) == []
    scene.programs = {b'B'}
    assert scene.after(GONE_S + 1.0) == ['goal']


def test_a_sender_that_was_not_seen_when_its_goal_came_counts_once_it_is(scene):
    scene.programs = {b'B'}
    scene.watch.add('goal')
    scene.programs, scene.identified = {b'A', b'B'}, {'goal': b'A'}
    scene.after(1.0)
    scene.programs = {b'A'}
    assert scene.after(60.0) == []
    scene.programs = set()
    assert scene.after(GONE_S + 1.0) == ['goal']


def test_a_goal_is_abandoned_when_its_client_has_been_gone_for_a_while(scene):
    scene.programs = {b'A'}
    scene.watch.add('goal')
    assert scene.after(60.0) == []
    scene.programs = set()
    assert scene.after(GONE_S - 0.5) == []
    assert scene.after(0.5) == ['goal']
    scene.watch.forget('goal')
    assert scene.after(60.0) == []


def test_a_client_that_vanishes_for_a_moment_is_not_gone(scene):
    scene.programs = {b'A'}
    scene.watch.add('goal')
    for _ in range(5):
        scene.programs = set()
        assert scene.after(GONE_S - 0.5) == []
        scene.programs = {b'A'}
        assert scene.after(0.5) == []


def test_a_goal_of_which_no_client_was_ever_seen_is_not_abandoned(scene):
    scene.watch.add('goal')
    scene.programs = {b'A'}  # somebody else
    scene.after(5.0)
    scene.programs = set()
    assert scene.after(60.0) == []


def test_programs_that_came_later_keep_no_goal_alive_and_lose_none(scene):
    scene.programs = {b'A'}
    scene.watch.add('goal of A')
    scene.programs = {b'A', b'B'}
    scene.watch.add('goal of A or B')
    scene.programs = {b'B', b'C'}
    assert scene.after(60.0) == ['goal of A']
    scene.programs = {b'C'}
    assert scene.after(60.0) == ['goal of A', 'goal of A or B']


@pytest.mark.parametrize('said, abandoned', [
    ({'goal': b'A'}, True), ({'goal': b'B'}, False), ({'other': b'A'}, False),
    ({'goal': b'a GUID in another way'}, False)])
def test_who_sent_a_goal_may_become_known_later(said, abandoned):
    scene = Scene()
    identified = [said]
    scene.watch = ClientWatch(lambda: frozenset(scene.programs), lambda: identified.pop() if identified else {},
                              clock=lambda: scene.now)
    scene.programs = {b'A', b'B'}
    scene.watch.add('goal')
    scene.programs = {b'B'}
    assert scene.after(10.0) == (['goal'] if abandoned else [])


def doomed(node, folder):
    profile = folder / 'lease.xml'
    profile.write_text(LEASE)
    return subprocess.Popen([sys.executable, '-c', CLIENT, node.server, str(LONG)],
                            env={**os.environ, 'FASTDDS_DEFAULT_PROFILES_FILE': str(profile),
                                 'FASTRTPS_DEFAULT_PROFILES_FILE': str(profile)})


@pytest.mark.slow
def test_the_goals_of_a_killed_client_are_canceled_and_those_of_others_are_not(tmp_path):
    """Over DDS, with a lease of 2 s instead of 20: the running goal, and one that waits."""
    with NodeProcess() as node:
        node.start()
        if not hasattr(ActionServer, 'configure_introspection'):
            node.actions.destroy()  # this program would count as a possible sender, because it was there before
        killed = doomed(node, tmp_path)
        try:  # an answer of 3 tokens went before, with which the start found that goals are answered
            ids = wait_until(lambda: (found := list(dict.fromkeys(
                m.request_id for m in node.statuses if m.request_id)))[2:] and found[-2:])
            wait_until(lambda: any(m.phase == RequestStatus.PHASE_DECODE for m in node.statuses))
            with node.another_client() as other:
                sent = other.send(make_goal(budget_s=300.0, max_new_tokens=20))
                killed.send_signal(signal.SIGKILL)
                ends = wait_until(lambda: (found := {
                    m.request_id: m for m in node.statuses if m.request_id in ids
                    and m.phase == RequestStatus.PHASE_DONE}) and len(found) == 2 and found)
                assert {m.error_code for m in ends.values()} == {Result.CANCELED}
                assert sent.result()[1].error_code == Result.NONE, 'the goal of another client went on'
        finally:
            killed.kill()
            killed.wait()
        assert node.log.count('its client is gone') == 2
