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

"""Two robots on one machine, each with a node of its own: /robot1/timebill and /robot2/timebill.

ros2 launch timebill_ros bringup_two_robots.launch.py model:=<path or hub id> cores1:=0-3 cores2:=4-7

Other arguments are those of timebill.launch.py and hold for both nodes. Each node has an inference process of its own,
with the model in memory twice. Give each its cores, or one robot's answers slow the other's down: the nodes notice that
and promise less. Before the very first start, start one robot alone (robots:=1), so that neither measures its profile
while the other compiles. With as many cores, the second one then finds what the first has compiled and measured.
"""
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression

NODE = str(Path(__file__).absolute().parent / 'timebill.launch.py')


def robot(number):
    """Return what is declared and started for one robot."""
    name, cores = f'robot{number}', f'cores{number}'
    return [
        DeclareLaunchArgument(name, default_value=name, description=f'namespace of robot {number}'),
        DeclareLaunchArgument(cores, default_value='',
                              description=f'CPU cores for the model of robot {number}, for instance 0-3; empty: all'),
        # A group, so that what one robot is given does not reach the other.
        GroupAction([IncludeLaunchDescription(
            PythonLaunchDescriptionSource(NODE),
            launch_arguments=[('namespace', LaunchConfiguration(name)), ('cpu_affinity', LaunchConfiguration(cores))],
        )], condition=IfCondition(PythonExpression([LaunchConfiguration('robots'), f' >= {number}']))),
    ]


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('robots', default_value='2', choices=['1', '2'], description='how many robots to start'),
        *robot(1),
        *robot(2),
    ])
