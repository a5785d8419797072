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

"""`qos_overrides` parameters: those of this node's own topics take effect or are refused, others get a warning.

rclpy reads `qos_overrides.<topic>.publisher.<policy>` where a publisher or subscription is made with `OPTIONS`. It
checks nothing before, and knows no such options for the topics of an action.
"""
from __future__ import annotations

from collections.abc import Mapping

from rclpy.parameter import Parameter
from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

PREFIX = 'qos_overrides.'
# What a policy may be. A depth is any whole number from 1 up.
VALUES = {'history': ('keep_last', 'keep_all'), 'depth': None, 'reliability': ('reliable', 'best_effort'),
          'durability': ('volatile', 'transient_local')}
OPTIONS = QoSOverridingOptions([QoSPolicyKind[policy.upper()] for policy in VALUES])
# The topics whose policies can be overridden, as this node calls them.
ENTITIES = (('/diagnostics', 'publisher'), ('~/status', 'publisher'), ('~/stats', 'publisher'),
            ('/clock', 'subscription'))


def check(node, given: Mapping[str, object]) -> None:
    """Raise RuntimeError, with a sentence, for an override of this node's own topics that cannot take effect.

    `given`: values by the full names of parameters. Overrides of other topics get a warning each. They may come from a
    file that several nodes share.
    """
    served = {(node.resolve_topic_name(topic), entity) for topic, entity in ENTITIES}
    for name, value in given.items():
        if not name.startswith(PREFIX):
            continue
        path, _, policy = name.removeprefix(PREFIX).rpartition('.')
        topic, _, entity = path.rpartition('.')
        if (topic, entity) in served:
            _check_policy(name, policy, value)
            continue
        can = ', '.join(f'{PREFIX}{topic}.{entity}' for topic, entity in sorted(served))
        if path.startswith((f'{node.get_fully_qualified_name()}/', *(own for own, _ in served))):
            raise RuntimeError(f'{name} cannot take effect; this node can override: {can}')
        node.get_logger().warning(f'{name} is ignored, because it concerns none of: {can}')


def _check_policy(name: str, policy: str, value) -> None:
    if policy not in VALUES:
        raise RuntimeError(f'{name} cannot take effect; the policies that can be overridden are {", ".join(VALUES)}')
    choices = VALUES[policy]
    if choices is not None and value not in choices:
        raise RuntimeError(f'{name} must be one of {", ".join(choices)}, got {value!r}')
    if choices is None and (type(value) is not int or value < 1):
        raise RuntimeError(f'{name} must be a whole number from 1 up, got {value!r}')


def of_topic(node, topic: str) -> list[Parameter]:
    """Return the overrides that `node` was given for one topic, to be handed to another node of this program."""
    prefix = f'{PREFIX}{node.resolve_topic_name(topic)}'
    return [Parameter(f'{prefix}.{name}', value=parameter.value)
            for name, parameter in node.get_parameters_by_prefix(prefix).items()]
