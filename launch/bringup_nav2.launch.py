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

"""The node under a lifecycle manager of Nav2 of its own, beside the one of navigation.

ros2 launch timebill_ros bringup_nav2.launch.py model:=<path or hub id> worker_python:=<venv>/bin/python

Other arguments are those of timebill.launch.py. The manager configures and activates the node; docs/nav2.md says why
it is one of its own, and has a behaviour tree that asks the node. Needs the package nav2_lifecycle_manager.
"""
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

NODE = str(Path(__file__).absolute().parent / 'timebill.launch.py')
BOND_TIMEOUT_S = 4.0  # Nav2's default


def manager(context):
    name = LaunchConfiguration('node_name').perform(context)
    bonded = bool(LaunchConfiguration('bond_topic').perform(context))
    return [Node(
        package='nav2_lifecycle_manager',
        executable='lifecycle_manager',
        name=f'lifecycle_manager_{name}',
        namespace=LaunchConfiguration('namespace'),
        parameters=[{
            'node_names': [name],
            'autostart': LaunchConfiguration('manager_autostart').perform(context) == 'true',
            # Without a bond of the node's the manager must not wait for one: it would give up the bringup.
            'bond_timeout': BOND_TIMEOUT_S if bonded else 0.0,
            'use_sim_time': LaunchConfiguration('use_sim_time').perform(context).lower() == 'true',
        }],
        output='screen',
    )]


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('manager_autostart', default_value='true', choices=['true', 'false'],
                              description='the manager configures and activates the node at once; false: it waits for '
                                          'its service manage_nodes to be called'),
        # Two that both drive the node's states would be in each other's way.
        IncludeLaunchDescription(PythonLaunchDescriptionSource(NODE), launch_arguments=[('autostart', 'false')]),
        OpaqueFunction(function=manager),
    ])
