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

"""Start the timebill node and, unless autostart:=false, configure and activate it.

ros2 launch timebill_ros timebill.launch.py model:=<path or hub id> worker_python:=<venv>/bin/python
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, OpaqueFunction, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

# Launch arguments that override the parameter of the same name, if they are given.
OVERRIDES = {
    'model': 'directory or hub id of a Hugging Face causal LM',
    'length_predictor': 'directory of a trained length predictor',
    'profile': 'YAML profile of this device and model',
    'worker_python': 'Python interpreter with torch and transformers, for the inference process',
}


def arguments():
    default_params = PathJoinSubstitution([FindPackageShare('timebill_ros'), 'config', 'timebill.yaml'])
    return [
        *(DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: as in params_file')
          for name, text in OVERRIDES.items()),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='true: ROS time comes from /clock; empty: as in params_file'),
        DeclareLaunchArgument('params_file', default_value=default_params,
                              description='YAML file with parameters; its section must fit the full name'),
        DeclareLaunchArgument('autostart', default_value='true', choices=['true', 'false'],
                              description='configure the node and then activate it'),
        DeclareLaunchArgument('node_name', default_value='timebill', description='name of the node'),
        DeclareLaunchArgument('enclave', default_value='', description='SROS 2 enclave of the node; empty: none'),
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn, error or fatal, or <logger>:=<level>'),
    ]


def overrides(context):
    """Return the overrides that were given; an empty one would hide the value from params_file."""
    # Typed, because launch would otherwise read a directory called "7" as a number.
    kinds = {**dict.fromkeys(OVERRIDES, str), 'use_sim_time': bool}
    return {name: ParameterValue(LaunchConfiguration(name), value_type=kind)
            for name, kind in kinds.items() if LaunchConfiguration(name).perform(context)}


def start(context):
    enclave = LaunchConfiguration('enclave').perform(context)
    node = LifecycleNode(
        package='timebill_ros',
        executable='timebill_node',
        name=LaunchConfiguration('node_name'),
        namespace=LaunchConfiguration('namespace'),
        parameters=[ParameterFile(LaunchConfiguration('params_file')), overrides(context)],
        ros_arguments=['--log-level', LaunchConfiguration('log_level'), *(['--enclave', enclave] if enclave else [])],
        output='screen',
        emulate_tty=True,
    )
    if LaunchConfiguration('autostart').perform(context) != 'true':
        return [node]

    def change_state(transition_id):
        return EmitEvent(event=ChangeState(
            lifecycle_node_matcher=matches_action(node), transition_id=transition_id))

    def when(start_state, goal_state, action):
        return RegisterEventHandler(OnStateTransition(
            target_lifecycle_node=node, start_state=start_state, goal_state=goal_state, entities=[action]))

    stays = LogInfo(msg='timebill: configure failed, see the error above. The node stays unconfigured and '
                        'answers no goal; mend the cause, then configure and activate it.')
    return [
        # Only from configuring: a node that an operator deactivates becomes inactive too, and must stay inactive.
        when('configuring', 'inactive', change_state(Transition.TRANSITION_ACTIVATE)),
        when('configuring', 'unconfigured', stays),
        when('configuring', 'errorprocessing', stays),
        node,
        # Sent at once, because launch_ros waits until the node offers the service.
        change_state(Transition.TRANSITION_CONFIGURE),
    ]


def generate_launch_description():
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])
