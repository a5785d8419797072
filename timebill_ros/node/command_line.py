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

"""The command line of `timebill_node`, and what the program says at its start. No rclpy."""
from __future__ import annotations

import sys
from collections.abc import Sequence

from timebill_ros import settings

HELP = """usage: timebill_node [--help] --ros-args [-p NAME:=VALUE ...] [--params-file FILE] [-r OLD:=NEW ...]

A ROS 2 lifecycle node. Its action ~/generate answers prompts with a language model, each by its deadline.

  -p autostart:=true        configure and activate at once; without it the node waits for a lifecycle manager
  -p model:=DIRECTORY       the model to serve, its hub id or a GGUF file; without it smollm2 where "timebill get-model
                            smollm2" was run, otherwise the embedded model, which plans over a site log only
  -p worker_python:=FILE    a Python that has torch and transformers; without it the one that runs the node
  --params-file FILE        YAML file with parameters; config/timebill.yaml of the package has all of them
  -r __node:=NAME           another name than timebill
  --log-level LEVEL         debug, info, warn, error or fatal

Then, from another shell: timebill ask "..." --budget 2
"""
SECTION, SECTION_END = '--ros-args', '--'


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether one of the arguments, without the program's name, asks for help and not for a node."""
    return bool({'-h', '--help'} & set(arguments))


def refusal(arguments: Sequence[str]) -> str:
    """Return why a node must not start with these arguments of the program; empty where it may.

    ROS 2 itself ignores what stands before --ros-args, and takes model:=X there for a remapping of names. The node
    would then serve another model than the one asked for.
    """
    wrong = [argument for argument in _outside(arguments) if ':=' not in argument or _is_parameter(argument)]
    if not wrong:
        return ''
    return f'not understood: {" ".join(wrong)}; parameters come after --ros-args, as in ' \
           '"timebill_node --ros-args -p model:=DIRECTORY"; see --help'


def _outside(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that are not between --ros-args and its end."""
    outside, is_inside = [], False
    for argument in arguments:
        if argument in (SECTION, SECTION_END):
            is_inside = argument == SECTION
        elif not is_inside:
            outside.append(argument)
    return outside


def _is_parameter(rule: str) -> bool:
    return rule.partition(':=')[0] in (*settings.BY_NAME, 'autostart', 'use_sim_time')


def missing(error: ModuleNotFoundError) -> str:
    """Return a sentence on a library of ROS that is missing, and where it is to be had."""
    return f'{sys.executable} has no {error.name}: source the ROS 2 installation and the built workspace first ' \
           '(install/setup.bash), or run .venv/bin/timebill_node of a checkout'


def waits_for(name: str) -> str:
    """Return what the node `name` (fully qualified) waits for when nobody has configured it yet."""
    return (f'{name} is unconfigured and answers no goal yet. It waits to be configured and activated: by a lifecycle '
            f'manager, or with "ros2 lifecycle set {name} configure" and then "ros2 lifecycle set {name} activate". '
            'Or start it with "--ros-args -p autostart:=true"')


def serves(name: str) -> str:
    """Return what the node `name` does once it is active."""
    server = '' if name == '/timebill' else f' --server {name}'
    return f'{name} is active and answers goals on {name}/generate; to try it: timebill ask "..." --budget 2{server}'


def autostart_failed(name: str) -> str:
    """Return what happens after configure or activate failed; the log's line before it says why they did."""
    return (f'autostart of {name} failed, see the error above; the node ends. Mend the cause and start it again, or '
            'start it without autostart: it then stays, and a lifecycle manager can try again')
