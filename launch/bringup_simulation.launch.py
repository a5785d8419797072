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

"""The node on simulated time and, if you name its command, the simulator; both end when the simulator does.

ros2 launch timebill_ros bringup_simulation.launch.py model:=<path or hub id> simulator:="gz sim -r -s world.sdf"

Other arguments are those of timebill.launch.py. ROS time, and with it absolute deadlines and stamps, follow /clock;
somebody has to publish it, for instance a bridge (ros_gz_bridge, Isaac Sim's ROS 2 Publish Clock). Budgets are real
time all the same: docs/operating.md, "Clocks".
"""
import shlex
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

NODE = str(Path(__file__).absolute().parent / 'timebill.launch.py')


def simulator(context):
    command = shlex.split(LaunchConfiguration('simulator').perform(context))
    return [ExecuteProcess(cmd=command, output='screen',
                           on_exit=[EmitEvent(event=Shutdown(reason='the simulator has ended'))])] if command else []


def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument('simulator', default_value='',
                              description='command line of the simulator; empty: it runs already'),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(NODE), launch_arguments=[('use_sim_time', 'true')]),
        OpaqueFunction(function=simulator),
    ])
