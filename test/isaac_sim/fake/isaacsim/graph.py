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

"""Stand-ins for OmniGraph and for the node types of the ROS 2 bridge that the program uses."""
from __future__ import annotations

from isaacsim import kit

# The attributes of each type, and by which extension it comes ('' : Kit).
TYPES = {
    'omni.graph.action.OnPlaybackTick': (
        '', {'outputs:tick', 'outputs:deltaSeconds', 'outputs:time', 'outputs:frame'}),
    'isaacsim.core.nodes.IsaacReadSimulationTime': (
        'isaacsim.core.nodes', {'inputs:resetOnStop', 'outputs:simulationTime'}),
    'isaacsim.ros2.bridge.ROS2PublishClock': (
        'isaacsim.ros2.bridge', {'inputs:context', 'inputs:execIn', 'inputs:nodeNamespace', 'inputs:qosProfile',
                                 'inputs:queueSize', 'inputs:timeStamp', 'inputs:topicName'})}


class OmniGraphError(Exception):
    pass


class Node:
    def __init__(self, kind: str):
        if kind not in TYPES:
            raise OmniGraphError(f'no node type {kind}')
        extension, self._attributes = TYPES[kind]
        if extension and not kit.extensions.is_extension_enabled(extension):
            raise OmniGraphError(f'{kind} comes with {extension}, which is not enabled')
        self.kind, self.values, self.sources = kind, {}, {}  # sources: input -> (node, output)

    def check(self, attribute: str) -> str:
        if attribute not in self._attributes:
            raise OmniGraphError(f'{self.kind} has no {attribute}')
        return attribute


class Evaluator:
    """Evaluates the graphs at each update."""

    def __init__(self):
        self.nodes: dict[str, Node] = {}
        self._ros = self._node = None
        self._publishers: dict[str, object] = {}
        self._time_s = self._since_stop_s = 0.0

    def __call__(self, state: str, dt_s: float) -> None:
        self._time_s += dt_s
        self._since_stop_s = 0.0 if state == 'stopped' else self._since_stop_s + dt_s
        if state == 'stopped':  # the bridge's nodes let their publishers go
            self._free()
        if state != 'playing':
            return
        for path, node in self.nodes.items():
            source = node.sources.get('inputs:execIn')
            if node.kind.endswith('ROS2PublishClock') and source and source[1] == 'outputs:tick':
                self._publish(path, node)

    def _publish(self, path: str, node: Node) -> None:
        if path not in self._publishers:  # that is all that its first tick does
            self._publishers[path] = self._make(node.values.get('inputs:topicName', 'clock'))
            return
        publisher, source = self._publishers[path], node.sources.get('inputs:timeStamp')
        if publisher.get_subscription_count():
            seconds = 0.0
            if source:
                resets = source[0].values.get('inputs:resetOnStop', False)
                seconds = self._since_stop_s if resets else self._time_s
            message = self._ros['Clock']()
            message.clock.sec, message.clock.nanosec = divmod(round(seconds * 1e9), 10 ** 9)
            publisher.publish(message)

    def _make(self, topic: str):
        if self._node is None:
            import rclpy
            from rosgraph_msgs.msg import Clock
            self._ros = {'Clock': Clock, 'context': rclpy.Context()}
            rclpy.init(args=[], context=self._ros['context'])
            self._node = rclpy.create_node('isaac_sim_bridge', context=self._ros['context'])
        return self._node.create_publisher(self._ros['Clock'], topic, 10)

    def _free(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def close(self) -> None:
        if self._node is not None:
            self._free()
            self._node.destroy_node()


class Controller:
    class Keys:
        CREATE_NODES, CONNECT, SET_VALUES = 'create_nodes', 'connect', 'set_values'

    @staticmethod
    def edit(graph, edits):
        if graph['evaluator_name'] != 'execution':
            raise OmniGraphError('an action graph has the evaluator "execution"')
        unknown = set(edits) - {'create_nodes', 'connect', 'set_values'}
        if unknown:
            raise OmniGraphError(f'unknown edits: {unknown}')
        made = {name: Node(kind) for name, kind in edits.get('create_nodes', [])}

        def split(path):
            name, attribute = path.split('.')
            return made[name], made[name].check(attribute)

        for path, value in edits.get('set_values', []):
            node, attribute = split(path)
            node.values[attribute] = value
        for source, target in edits.get('connect', []):
            (from_node, output), (to_node, value) = split(source), split(target)
            if not output.startswith('outputs:') or not value.startswith('inputs:'):
                raise OmniGraphError(f'{source} cannot be connected to {target}')
            to_node.sources[value] = from_node, output
        evaluator.nodes.update({f'{graph["graph_path"]}/{name}': node for name, node in made.items()})


evaluator = Evaluator()


def install() -> None:
    kit.module('omni.graph.core', Controller=Controller, OmniGraphError=OmniGraphError)
