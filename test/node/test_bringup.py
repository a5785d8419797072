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

"""The launch files, run with stand-ins for all programs: which of them start, with which names and parameters."""
import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

pytest.importorskip('launch_ros')

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Writes its arguments, and what is in its parameter files, then ends. The later of two values counts, as in rcl.
STAND_IN = """#!{python}
import json, sys, yaml
arguments, parameters = sys.argv[1:], {{}}
for option, file in zip(arguments, arguments[1:]):
    if option == '--params-file':
        for section in yaml.full_load(open(file)).values():  # a list is a !!python/tuple there
            parameters.update(section['ros__parameters'])
with open({seen!r}, 'a') as out:
    out.write(json.dumps({{'program': {program!r}, 'arguments': arguments, 'parameters': parameters}}) + chr(10))
"""

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *arguments = sys.argv[1:]
service = LaunchService()
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    PythonLaunchDescriptionSource(path), launch_arguments=[argument.split(':=', 1) for argument in arguments])]))
sys.exit(service.run())
"""
PROGRAMS = {'timebill_ros': 'timebill_node', 'nav2_lifecycle_manager': 'lifecycle_manager'}


@pytest.fixture
def launched(tmp_path):
    """Return a function that runs a launch file until all its programs have ended, and returns what they saw."""
    seen, prefix = tmp_path / 'seen', tmp_path / 'prefix'
    for package, program in PROGRAMS.items():
        path = prefix / 'lib' / package / program
        marker = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
        for file, text in ((path, STAND_IN.format(python=sys.executable, seen=str(seen), program=program)),
                           (marker, '')):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        path.chmod(0o755)
    index = os.pathsep.join(filter(None, [str(prefix), os.environ.get('AMENT_PREFIX_PATH')]))

    def run(file, *arguments):
        done = subprocess.run([sys.executable, '-c', RUN, str(ROOT / 'launch' / file), *arguments], timeout=120,
                              env={**os.environ, 'AMENT_PREFIX_PATH': index, 'ROS_LOG_DIR': str(tmp_path)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert seen.exists(), done.stdout
        print(done.stdout)  # pytest shows it where a test fails
        return sorted((json.loads(line) for line in seen.read_text().splitlines()), key=lambda one: one['arguments'])

    return run


def name_of(one):
    """Return the full name of the node that a program was told to be."""
    words = dict(word.split(':=') for word in one['arguments'] if word.startswith('__'))
    return f'{words.get("__ns", "/")}/{words["__node"]}'.replace('//', '/')


def test_two_robots_have_their_namespaces_and_cores(launched):
    seen = {name_of(one): one['parameters'] for one in launched(
        'bringup_two_robots.launch.py', 'model:=7', 'cores1:=0', 'cores2:=1', 'robot2:=arm')}
    assert seen == {'/robot1/timebill': {'model': '7', 'cpu_affinity': '0', 'autostart': True},
                    '/arm/timebill': {'model': '7', 'cpu_affinity': '1', 'autostart': True}}


def test_one_robot_alone(launched):
    assert [name_of(one) for one in launched('bringup_two_robots.launch.py', 'robots:=1')] == ['/robot1/timebill']


def test_a_manager_of_nav2_drives_the_node(launched):
    seen = {one['program']: one for one in launched('bringup_nav2.launch.py', 'node_name:=planner', 'namespace:=arm')}
    assert name_of(seen['timebill_node']) == '/arm/planner'
    assert name_of(seen['lifecycle_manager']) == '/arm/lifecycle_manager_planner'
    assert seen['timebill_node']['parameters']['autostart'] is False  # the manager does it
    assert seen['lifecycle_manager']['parameters'] == {
        'node_names': ['planner'], 'autostart': True, 'bond_timeout': 0.0, 'use_sim_time': False}


def test_a_manager_waits_for_a_bond_where_the_node_makes_one(launched):
    seen = {one['program']: one for one in launched('bringup_nav2.launch.py', 'bond_topic:=bond')}
    assert seen['timebill_node']['parameters']['bond_topic'] == 'bond'
    assert seen['lifecycle_manager']['parameters']['bond_timeout'] == 4.0


def test_a_simulator_is_started_and_the_node_follows_its_clock(launched, tmp_path):
    # Its end would end the node's stand-in too, so it lasts until that has written what it saw.
    command = f"bash -c 'touch {tmp_path}/started; until [ -s {tmp_path}/seen ]; do sleep 0.1; done'"
    (one,) = launched('bringup_simulation.launch.py', f'simulator:={command}')
    assert one['parameters']['use_sim_time'] is True and (tmp_path / 'started').exists()


@pytest.mark.parametrize('file', sorted((ROOT / 'config' / 'machines').glob('*.yaml')), ids=lambda path: path.stem)
def test_a_machine_brings_its_parameters_and_arguments_are_stronger(file, launched):
    (one,) = launched('timebill.launch.py', f'machine:={file.stem}', 'device:=cuda:7')
    given = yaml.safe_load(file.read_text())['/**']['ros__parameters']
    assert one['parameters'] == {**given, 'device': 'cuda:7', 'autostart': True}


def test_a_params_file_is_stronger_than_a_machine(launched, tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    max_context_tokens: 1024\n')
    (one,) = launched('timebill.launch.py', 'machine:=cpu_workstation', f'params_file:={file}')
    assert one['parameters']['max_context_tokens'] == 1024 and one['parameters']['device'] == 'cpu'


@pytest.mark.parametrize('file', sorted((ROOT / 'launch').glob('*.py')), ids=lambda path: path.name)
def test_a_params_file_that_does_not_exist_ends_the_launch(file, tmp_path):
    done = subprocess.run([sys.executable, '-c', RUN, str(file), f'params_file:={tmp_path}/none.yaml'],
                          capture_output=True, text=True, timeout=60, env={**os.environ, 'ROS_LOG_DIR': str(tmp_path)})
    assert done.returncode == 1, done.stderr
    assert f"params_file '{tmp_path}/none.yaml' is no file that can be read" in done.stdout + done.stderr
    assert 'process started' not in done.stdout + done.stderr


@pytest.mark.parametrize('file', sorted((ROOT / 'launch').glob('*.py')), ids=lambda path: path.name)
def test_every_launch_file_tells_all_arguments(file):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    told = PythonLaunchDescriptionSource(str(file)).get_launch_description(LaunchContext()).get_launch_arguments()
    # What `ros2 launch --show-args` prints; a bringup's are its own and those of the file that it includes.
    assert {'model', 'machine', 'namespace', 'log_level'} <= {argument.name for argument in told}
    assert all(len(argument.description) > 10 for argument in told)
