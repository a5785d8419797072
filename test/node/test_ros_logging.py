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

"""What the parts without ROS log, on its way to ROS; and what the worker logs, in /rosout."""
import logging
import re

import pytest
from node_client import wait_until
from node_process import NodeProcess
from rcl_interfaces.msg import Log
from rclpy.logging import LoggingSeverity
from rclpy.qos import DurabilityPolicy, QoSProfile

from timebill_ros.node import ros_logging


class Logger:
    """Stands in for rclpy's."""

    def __init__(self, level):
        self.level, self.lines = level, []

    def get_effective_level(self):
        return self.level

    def __getattr__(self, severity):
        return lambda text: self.lines.append((severity, text))


@pytest.fixture
def package():
    package = logging.getLogger('timebill_ros')
    before = package.handlers, package.level, package.propagate
    yield package
    package.handlers, package.level, package.propagate = before


@pytest.mark.parametrize(('level', 'told'), [
    (LoggingSeverity.DEBUG, ['debug', 'info', 'warning', 'error', 'fatal']),
    (LoggingSeverity.INFO, ['info', 'warning', 'error', 'fatal']),
    (LoggingSeverity.WARN, ['warning', 'error', 'fatal']),
    (LoggingSeverity.ERROR, ['error', 'fatal']),
    (LoggingSeverity.FATAL, ['fatal']),
])
def test_lines_go_to_ros_from_the_nodes_level_on(level, told, package):
    logger = Logger(level)
    ros_logging.bridge(logger)
    assert package.getEffectiveLevel() == int(level)  # a worker is started with it
    for number in (10, 20, 30, 40, 50):
        logging.getLogger('timebill_ros.dispatch.supervisor').log(number, 'line %d', number)
    assert [severity for severity, _ in logger.lines] == told
    assert all(re.fullmatch(r'line \d0', text) for _, text in logger.lines)


@pytest.mark.slow
def test_the_workers_lines_are_in_rosout():
    with NodeProcess(self_profile_s=1.0) as node:
        heard = []
        node._node.create_subscription(Log, '/rosout', heard.append, QoSProfile(
            depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        assert node.configure(), node.log
        line = wait_until(lambda: next((line for line in list(heard) if line.msg.startswith('worker: ')), None))
        assert (line.level, line.name) == (20, node.server[1:].replace('/', '.'))
        assert 'lengths are predicted from hidden states' in line.msg and line.stamp.sec > 0
        assert re.search(r'\[INFO\] \[\d+\.\d+\] \[.*\]: worker: lengths are predicted', node.log)
