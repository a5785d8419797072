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

"""settings.py's table as ROS parameters: declared with bounds and units, checked when they change."""
from __future__ import annotations

from difflib import get_close_matches

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from timebill_ros import settings
from timebill_ros.node import qos_overrides

# Parameters that rclpy declares itself.
_RCLPY = ('use_sim_time', 'start_type_description_service')


def declare(node) -> None:
    """Declare every parameter, and `autostart`, which concerns the program and not the engine.

    `node` was made with automatically_declare_parameters_from_overrides, so the names that it was given are known, and
    an unknown one gets a warning. rclpy alone would ignore it in silence. RuntimeError for a quality of service that
    cannot be: see qos_overrides.py.
    """
    values_given = {name: parameter.value for name, parameter in node.get_parameters_by_prefix('').items()}
    qos_overrides.check(node, values_given)
    given = set(values_given)
    known = {parameter.name: (parameter.default, _descriptor(parameter)) for parameter in settings.PARAMETERS}
    known['autostart'] = (False, ParameterDescriptor(
        description='Configure and activate without a lifecycle manager, when run as a plain program.'))
    for name in sorted(given - set(known)):
        if name not in _RCLPY and not name.startswith(qos_overrides.PREFIX):
            near = get_close_matches(name, known, n=1)
            node.get_logger().warning(f'unknown parameter {name!r} is ignored' +
                                      (f'; did you mean {near[0]!r}?' if near else ''))
    for name, (default, descriptor) in known.items():
        if name in given:
            node.undeclare_parameter(name)  # and declare it again with its descriptor, which checks the given value
        meant = as_declared(default, values_given.get(name))
        if type(meant) is type(default):
            node.declare_parameter(name, meant, descriptor, ignore_override=True)
        else:  # nothing is given, or rclpy refuses what is
            node.declare_parameter(name, default, descriptor)


def as_declared(default, value):
    """Return a value from a command line or a file as the type of the default, where it can only be meant as that.

    YAML reads `miss_rate:=1` and `cpu_affinity:=0` as whole numbers. They are a number and a text.
    """
    if isinstance(value, bool):
        return value
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(default, str) and isinstance(value, (int, float)):
        return str(value)
    return value


def values(node) -> dict:
    """Return every setting; ValueError for one out of bounds."""
    return settings.check({p.name: node.get_parameter(p.name).value for p in settings.PARAMETERS})


def check_change(parameters, *, configured: bool, declared=lambda name: False) -> dict:
    """Return the settings among `parameters`, by name. ValueError, with the value, for one that may not be set now.

    `declared(name)`: whether the node has this parameter already. rclpy asks here also when it declares one.
    """
    changed = {}
    for parameter in parameters:
        at_start = parameter.name == 'autostart' or parameter.name.startswith(qos_overrides.PREFIX)
        if at_start and declared(parameter.name):
            raise ValueError(f'{parameter.name} takes effect at the start of the program only')
        known = settings.BY_NAME.get(parameter.name)
        if known is not None:
            known.check(parameter.value)
        # rclpy's clock would follow use_sim_time at once, and the deadlines of this configured node would not.
        is_fixed = not known.live if known is not None else parameter.name == 'use_sim_time'
        if configured and is_fixed:
            raise ValueError(f'{parameter.name} takes effect at configure; clean the node up first')
        if known is not None:
            changed[parameter.name] = parameter.value
    return changed


def _descriptor(parameter: settings.Parameter) -> ParameterDescriptor:
    notes = [parameter.description] + ([f'Unit: {parameter.unit}.'] if parameter.unit else [])
    descriptor = ParameterDescriptor(description=' '.join(notes),
                                     additional_constraints='one of ' + ', '.join(parameter.choices)
                                     if parameter.choices else '')
    if isinstance(parameter.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.low, to_value=parameter.high)]
    elif isinstance(parameter.default, int) and not isinstance(parameter.default, bool):
        descriptor.integer_range = [IntegerRange(from_value=parameter.low, to_value=parameter.high, step=1)]
    return descriptor
