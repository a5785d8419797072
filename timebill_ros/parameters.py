"""settings.py's table as ROS parameters: declared with bounds and units, checked when they change."""
from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from timebill_ros import settings


def declare(node) -> None:
    """Declare every parameter, and `autostart`, which concerns the program and not the engine."""
    for parameter in settings.PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
    node.declare_parameter('autostart', False, ParameterDescriptor(
        description='Configure and activate without a lifecycle manager, when run as a plain program.'))


def values(node) -> dict:
    """Every setting; ValueError for one out of bounds."""
    return settings.check({p.name: node.get_parameter(p.name).value for p in settings.PARAMETERS})


def check_change(parameters, *, configured: bool) -> dict:
    """The settings among `parameters`, by name. ValueError, with the value, for one that may not be set (now)."""
    changed = {}
    for parameter in parameters:
        known = settings.BY_NAME.get(parameter.name)
        if known is None:
            continue  # use_sim_time and the like
        known.check(parameter.value)
        if configured and not known.live:
            raise ValueError(f'{parameter.name} takes effect at configure; clean the node up first')
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
