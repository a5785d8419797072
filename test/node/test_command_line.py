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

"""What `timebill_node` understands of its command line, and what it says at its start."""
import pytest

from timebill_ros.node import command_line


@pytest.mark.parametrize(('arguments', 'named'), [
    ([], ''),
    (['--ros-args', '-p', 'model:=/somewhere', '-p', 'autostart:=true'], ''),
    (['--ros-args', '-r', '__node:=planner', '--'], ''),
    (['__node:=planner'], ''),  # ROS 2 understands it still
    (['--ros-args', '-p', 'autostart:=true', '--', '--ros-args', '--log-level', 'debug'], ''),
    (['start'], 'start'),
    (['--autostart'], '--autostart'),
    (['-p', 'model:=/somewhere'], '-p model:=/somewhere'),
    (['model:=/somewhere'], 'model:=/somewhere'),  # ROS 2 takes it for a remapping, and the parameter stays as it was
    (['autostart:=true', '--ros-args', '-p', 'queue_size:=4'], 'autostart:=true'),
    (['--ros-args', '-p', 'queue_size:=4', '--', 'use_sim_time:=true'], 'use_sim_time:=true'),
])
def test_what_is_not_understood_is_refused(arguments, named):
    refusal = command_line.refusal(arguments)
    assert bool(refusal) == bool(named)
    if named:
        assert refusal.startswith(f'not understood: {named}; parameters come after --ros-args')


@pytest.mark.parametrize(('arguments', 'asked'), [
    ([], False), (['--help'], True), (['-h'], True), (['--ros-args', '-p', 'autostart:=true', '--help'], True)])
def test_help_is_asked_for(arguments, asked):
    assert command_line.asks_for_help(arguments) is asked


def test_what_a_node_says_names_it():
    for say in (command_line.waits_for, command_line.serves, command_line.autostart_failed):
        assert '/arm/planner' in say('/arm/planner')
    assert '--server' not in command_line.serves('/timebill')
