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

"""Start the timebill node. Unless autostart:=false, it configures and activates itself, once.

ros2 launch timebill_ros timebill.launch.py model:=<path, hub id or GGUF> worker_python:=<venv>/bin/python

The node gets the parameters that were given and no others, so that a params_file, or a SetParameter of the group that
includes this file, sets the rest. Of two that set the same parameter the later one counts: SetParameter, the machine's
file, params_file, arguments. Transitions are the node's own: a launch that watches for states by the node's name
would also drive another node of that name, and one that an operator has taken over.
"""
import os
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

# Parameter files for kinds of machines, by name; each says what was tried on such a machine.
MACHINES = {path.stem: str(path)
            for path in sorted((Path(__file__).absolute().parents[1] / 'config' / 'machines').glob('*.yaml'))}

# Launch arguments that override the parameter of the same name, if they are given.
OVERRIDES = {
    'model': 'directory or hub id of a Hugging Face causal LM, a GGUF file, smollm2 or embedded',
    'length_predictor': 'directory of a trained length predictor',
    'profile': 'YAML profile of this device and model',
    'worker_python': 'Python interpreter with torch and transformers, for the inference process',
    'device': 'device of the model, as torch names it: auto, cpu, cuda or cuda:1',
    'cpu_affinity': 'CPU cores that the inference process may use, for instance 0,2-3',
    'worker': 'model, or scripted: answers of a file and no model, for the tests of other programs',
    'script': 'YAML file with these answers, of worker:=scripted',
    'bond_topic': 'topic of the bond with a lifecycle manager of Nav2: bond, where bondpy is installed',
}


def arguments():
    return [
        *(DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: as in params_file')
          for name, text in OVERRIDES.items()),
        DeclareLaunchArgument('machine', default_value='', choices=['', *MACHINES],
                              description='parameters for a kind of machine: config/machines/<machine>.yaml of the '
                                          'package; empty: none'),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='true: ROS time comes from /clock; empty: as in params_file'),
        DeclareLaunchArgument('params_file', default_value='',
                              description='YAML file with parameters; its section must fit the full name. Empty: none. '
                                          'config/timebill.yaml of the package names every parameter'),
        DeclareLaunchArgument('autostart', default_value='true', choices=['true', 'false'],
                              description='the node configures and activates itself, and ends where that fails'),
        DeclareLaunchArgument('node_name', default_value='timebill', description='name of the node'),
        DeclareLaunchArgument('enclave', default_value='', description='SROS 2 enclave of the node; empty: none'),
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node'),
        DeclareLaunchArgument('log_level', default_value='',
                              description='debug, info, warn, error or fatal, or <logger>:=<level>; empty: info'),
    ]


def parameters(context):
    """Return what is given: the files, then the arguments and autostart, each stronger than those before it.

    RuntimeError ends the launch where params_file cannot be read: launch_ros would warn and start the node without it.
    """
    given = {name: LaunchConfiguration(name).perform(context)
             for name in (*OVERRIDES, 'use_sim_time', 'machine', 'params_file')}
    if given['params_file'] and not (os.path.isfile(given['params_file']) and os.access(given['params_file'], os.R_OK)):
        raise RuntimeError(f'params_file {given["params_file"]!r} is no file that can be read, as seen from '
                           f'{os.getcwd()}: name one, or leave the argument out')
    files = [MACHINES.get(given['machine'], ''), given['params_file']]
    # Typed, because launch would otherwise read a directory called "7" as a number.
    kinds = {**dict.fromkeys(OVERRIDES, str), 'use_sim_time': bool}
    values = {name: ParameterValue(LaunchConfiguration(name), value_type=kind)
              for name, kind in kinds.items() if given[name]}
    values['autostart'] = LaunchConfiguration('autostart').perform(context) == 'true'
    return [*(ParameterFile(file) for file in files if file), values]


def start(context):
    options = {name: LaunchConfiguration(name).perform(context) for name in ('log_level', 'enclave')}
    return [Node(
        package='timebill_ros',
        executable='timebill_node',
        name=LaunchConfiguration('node_name'),
        namespace=LaunchConfiguration('namespace'),
        parameters=parameters(context),
        ros_arguments=[word for name, value in options.items() if value
                       for word in (f'--{name.replace("_", "-")}', value)],
        output='screen',
        emulate_tty=True,
    )]


def generate_launch_description():
    return LaunchDescription([*arguments(), OpaqueFunction(function=start)])
