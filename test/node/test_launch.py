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

"""The launch file, run with a stand-in for the node: what it passes on; autostart happens once, and in the node."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('launch_ros')

LAUNCH_FILE = pathlib.Path(__file__).resolve().parents[2] / 'launch' / 'timebill.launch.py'

# A lifecycle node that writes what happens to it to a file, one JSON value per line.
STAND_IN = """#!{python}
import json
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


class StandIn(LifecycleNode):
    def __init__(self):
        super().__init__('stand_in')
        self.declare_parameters('', [('model', ''), ('profile', ''), ('autostart', False), ('queue_size', 0)])
        self.write(['up', self.get_fully_qualified_name(), self.value('model'), self.value('profile'),
                    self.get_parameter('use_sim_time').value])
        self.write(['enclave', sys.argv[sys.argv.index('--enclave') + 1] if '--enclave' in sys.argv else None])
        self.write(['given', sorted(self._parameter_overrides)])
        self.write(['values', {{name: value.value for name, value in self._parameter_overrides.items()}}])
        self.todo = self.value('model').partition(':')[2].split()
        self.create_timer(0.5, self.operate)
        if self.value('autostart') and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def value(self, name):
        return self.get_parameter(name).value

    def write(self, event):
        with open({events!r}, 'a') as file:
            file.write(json.dumps(event) + '\\n')

    def on_configure(self, state):
        self.write('configure')
        bad = self.value('model') == 'bad'
        return TransitionCallbackReturn.FAILURE if bad else TransitionCallbackReturn.SUCCESS

    def on_activate(self, state):
        self.write('activate')
        return super().on_activate(state)

    def operate(self):
        # What an operator does: the transitions that the model's name names after a colon.
        if self.todo:
            getattr(self, 'trigger_' + self.todo.pop(0))()

    def on_cleanup(self, state):
        self.write('cleanup')
        return super().on_cleanup(state)

    def on_deactivate(self, state):
        self.write('deactivate')
        return super().on_deactivate(state)


rclpy.init(args=sys.argv)
try:
    rclpy.spin(StandIn())
except (KeyboardInterrupt, ExternalShutdownException):
    pass
"""

RUN_LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import SetParameter
path, *arguments = sys.argv[1:]
service = LaunchService()
in_group = [SetParameter(*argument.removeprefix('group:').split(':=', 1)) for argument in arguments
            if argument.startswith('group:')]
service.include_launch_description(LaunchDescription([GroupAction([*in_group, IncludeLaunchDescription(
    PythonLaunchDescriptionSource(path),
    launch_arguments=[argument.split(':=', 1) for argument in arguments if not argument.startswith('group:')])])]))
sys.exit(service.run())
"""


class Launched:
    """A launch in a session of its own, with an install prefix that holds nothing but the stand-in."""

    def __init__(self, tmp_path, *arguments):
        self.events_file = tmp_path / 'events'
        prefix = tmp_path / 'prefix'
        program = prefix / 'lib' / 'timebill_ros' / 'timebill_node'
        params = prefix / 'share' / 'timebill_ros' / 'config' / 'timebill.yaml'
        marker = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'timebill_ros'
        for path, text in (
            (program, STAND_IN.format(python=sys.executable, events=str(self.events_file))),
            (params, '/**:\n  ros__parameters:\n    model: from_file\n    profile: from_file\n'),
            (marker, ''),
        ):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        program.chmod(0o755)
        index = os.pathsep.join(filter(None, [str(prefix), os.environ.get('AMENT_PREFIX_PATH')]))
        self.process = subprocess.Popen(
            [sys.executable, '-c', RUN_LAUNCH, str(LAUNCH_FILE),
             *(argument.replace('FILE', str(params)) for argument in arguments)],
            env={**os.environ, 'AMENT_PREFIX_PATH': index},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)

    def events(self):
        return [json.loads(line) for line in self.events_file.read_text().splitlines()] \
            if self.events_file.exists() else []

    def wait_for(self, event, timeout_s=30):
        end = time.monotonic() + timeout_s
        while not any(event in (seen, seen[0]) for seen in self.events()):
            if time.monotonic() > end or self.process.poll() is not None:
                self.stop()
                pytest.fail(f'{event!r} not seen, only {self.events()}; output:\n{self.output}')
            time.sleep(0.05)

    def stop(self):
        """End it with Ctrl-C as a terminal sends it; afterwards `output` holds what was printed."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.output, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.output, _ = self.process.communicate()


@pytest.fixture
def launch(tmp_path):
    started = []

    def start(*arguments):
        started.append(Launched(tmp_path / str(len(started)), *arguments))
        return started[-1]

    yield start
    for launched in started:
        launched.stop()


# Long enough that a transition that must not happen would have happened.
SETTLE_S = 1.5


def settled(launched):
    time.sleep(SETTLE_S)
    return [event for event in launched.events() if isinstance(event, str)]


def test_autostart_configures_then_activates(launch):
    launched = launch()
    launched.wait_for('activate')
    assert settled(launched) == ['configure', 'activate']


@pytest.mark.parametrize(('arguments', 'up', 'given'), [
    (['params_file:=FILE'], ['/timebill', 'from_file', 'from_file', False], ['autostart', 'model', 'profile']),
    # A directory called 7 is still a string.
    (['params_file:=FILE', 'model:=7', 'node_name:=planner', 'namespace:=arm', 'use_sim_time:=true', 'enclave:=/arm'],
     ['/arm/planner', '7', 'from_file', True], ['autostart', 'model', 'profile', 'use_sim_time']),
    ([], ['/timebill', '', '', False], ['autostart']),
    (['group:model:=of_group', 'group:queue_size:=7'], ['/timebill', 'of_group', '', False],
     ['autostart', 'model', 'queue_size']),
    (['group:model:=of_group', 'group:use_sim_time:=true', 'model:=given'], ['/timebill', 'given', '', True],
     ['autostart', 'model', 'use_sim_time']),
])
def test_the_node_gets_what_was_given_and_nothing_else(arguments, up, given, launch):
    launched = launch('autostart:=false', *arguments)
    launched.wait_for('given')
    seen = {event[0]: event[1:] for event in launched.events()}
    assert seen['up'] == up and seen['given'] == [given]
    assert seen['enclave'] == ['/arm' if 'enclave:=/arm' in arguments else None]


@pytest.mark.parametrize(('argument', 'device'), [('model:=embedded', 'cpu'), ('device:=cuda:1', 'cuda:1')])
def test_a_machine_is_stronger_than_a_group_and_weaker_than_an_argument(argument, device, launch):
    launched = launch('autostart:=false', 'group:device:=of_group', 'machine:=cpu_workstation', argument)
    launched.wait_for('values')
    (values,) = (event[1] for event in launched.events() if event[0] == 'values')
    assert values['device'] == device and values['worker_nice'] == 5


def test_without_autostart_the_node_stays_unconfigured(launch):
    launched = launch('autostart:=false')
    launched.wait_for('given')
    assert settled(launched) == []


def test_a_failed_configure_goes_no_further(launch):
    launched = launch('model:=bad')
    launched.wait_for('configure')
    assert settled(launched) == ['configure']


@pytest.mark.parametrize('todo', ['deactivate', 'deactivate cleanup configure'])
def test_what_an_operator_does_stays_as_he_left_it(todo, launch):
    launched = launch(f'model:=operated:{todo}')
    launched.wait_for(todo.split()[-1] if ' ' not in todo else 'cleanup')
    assert settled(launched) == ['configure', 'activate', *todo.split()]


def test_a_launch_leaves_a_node_of_the_same_name_alone(launch):
    """For instance one that another launch started, and that an operator configures."""
    launch().wait_for('activate')
    other = launch('autostart:=false', 'model:=operated:configure')
    other.wait_for('configure')
    assert settled(other) == ['configure']
