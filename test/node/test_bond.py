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

"""The bond with a lifecycle manager: when it is made and ended, and what is told. bondpy is a stand-in."""
import signal
import sys
import threading
import time
import types
from types import SimpleNamespace

import pytest
import rclpy
from node_client import wait_until
from node_process import NodeProcess
from rclpy.executors import SingleThreadedExecutor
from scripted_model import ROOT
from std_msgs.msg import String

from timebill_ros.node import bond as bond_module
from timebill_ros.node.bond import Bond

STAND_IN = {'PYTHONPATH': str(ROOT / 'test' / 'bond_stand_in')}


class FakeBond:
    made = []

    def __init__(self, node, topic, bond_id, on_broken, on_formed):
        self.of = node, topic, bond_id
        self.on_broken, self.on_formed = on_broken, on_formed
        self.calls, self.sub, self.pub = [], 'sub', 'pub'
        self.thread = SimpleNamespace(join=lambda timeout: self.calls.append('join'))
        self.disconnect_timer = SimpleNamespace(cancel=lambda: self.calls.append('cancel'))
        self.made.append(self)

    def start(self):
        self.calls.append(('start', self.heartbeat_period, self.heartbeat_timeout))

    def break_bond(self):
        self.calls.append('break')

    def wait_until_broken(self, timeout):
        self.calls.append(('wait', timeout.nanoseconds * 1e-9))

    def shutdown(self):
        self.calls.append('shutdown')
        self.on_broken()  # as bondpy does at the end of its own side


class Node:
    def __init__(self):
        self.told, self.destroyed = [], []
        self.destroy_subscription = self.destroy_publisher = self.destroyed.append

    def get_name(self):
        return 'timebill'

    def get_namespace(self):
        return '/robot'

    def get_logger(self):
        return SimpleNamespace(info=lambda text: self.told.append(('info', text)),
                               warning=lambda text: self.told.append(('warning', text)))


@pytest.fixture
def bondpy(monkeypatch):
    module = types.ModuleType('bondpy.bondpy')
    module.Bond = FakeBond
    monkeypatch.setattr(FakeBond, 'made', [])
    monkeypatch.setitem(sys.modules, 'bondpy', types.ModuleType('bondpy'))
    monkeypatch.setitem(sys.modules, 'bondpy.bondpy', module)
    return FakeBond.made


def test_without_a_topic_there_is_none_and_nothing_is_said(bondpy):
    node = Node()
    bond = Bond(node, '')
    bond.start()
    bond.stop()
    assert not bondpy and not node.told


@pytest.mark.parametrize('topic', ['bond of mine', 'bond//timebill', '1bond'])
def test_a_topic_that_cannot_be_is_told_at_configure(topic):
    with pytest.raises(ValueError, match=f'bond_topic must be the name of a topic, got .{topic}'):
        Bond(Node(), topic)


def test_without_bondpy_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'bondpy', None)  # so that it cannot be imported
    monkeypatch.delitem(sys.modules, 'bondpy.bondpy', raising=False)
    node = Node()
    bond = Bond(node, 'bond')
    for _ in range(2):
        bond.start()
        bond.stop()
    ((level, text),) = node.told
    assert level == 'warning' and "bond_topic is 'bond'" in text and 'Install the ROS 2 package bondpy' in text
    assert 'bond_timeout of the lifecycle manager to 0.0' in text


def test_it_has_the_name_of_the_node_and_ends_clean(bondpy):
    node = Node()
    bond = Bond(node, 'bond/timebill')
    bond.start()
    bond.start()  # no second one
    (first,) = bondpy
    assert first.of == (node, 'bond/timebill', 'timebill')
    assert first.calls == [('start', bond_module.HEARTBEAT_S, bond_module.NEVER_S)]
    first.on_formed()
    bond.stop()
    bond.stop()
    assert first.calls[1:] == ['break', ('wait', bond_module.LAST_WORDS_S), 'shutdown', 'join', 'cancel']
    assert node.destroyed == ['sub', 'pub'], 'from the lists of the node too'
    assert [level for level, _ in node.told] == ['info'], 'an end of its own is nothing to warn of'
    bond.start()
    assert len(bondpy) == 2, 'the next activate makes a new one'


@pytest.mark.parametrize(('formed', 'text'), [
    (True, "the lifecycle manager has ended the bond on 'bond'"),
    (False, "no lifecycle manager has formed a bond on 'bond': is its bond_timeout above 0")])
def test_an_end_by_the_manager_is_told(bondpy, formed, text):
    node = Node()
    bond = Bond(node, 'bond')
    bond.start()
    if formed:
        bondpy[0].on_formed()
    bondpy[0].on_broken()
    assert node.told[-1][0] == 'warning' and text in node.told[-1][1]
    bond.stop()


class Manager:
    """Hears a bond's topic, and answers as a lifecycle manager does."""

    def __init__(self, namespace):
        self.heard = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node('manager', namespace=namespace, context=self._context)
        self._node.create_subscription(String, 'bond', self._on_status, 10)
        self._answers = self._node.create_publisher(String, 'bond', 10)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _on_status(self, message):
        if not message.data.startswith('manager'):
            self.heard.append(message.data)
            self._answers.publish(String(data=f'manager {message.data}'))

    def close(self):
        self._executor.shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def test_a_manager_hears_the_node_while_it_is_active(tmp_path):
    with NodeProcess(worker='scripted', bond_topic='bond', environment=STAND_IN) as node:
        manager = Manager(node.server.rpartition('/')[0])
        try:
            assert node.configure(), node.log
            time.sleep(0.5)
            assert not manager.heard, 'a node that is not active has no bond'
            assert node.activate(), node.log
            wait_until(lambda: manager.heard.count('alive timebill') >= 3)
            wait_until(lambda: "has formed the bond on 'bond'" in node.log)
            assert node.deactivate()
            wait_until(lambda: manager.heard[-1] == 'dead timebill')
            n = manager.heard.count('alive timebill')
            time.sleep(3 * bond_module.HEARTBEAT_S)  # more than one last word may be on its way
            assert manager.heard.count('alive timebill') == n and manager.heard[-1] == 'dead timebill'
            assert node.activate(), node.log
            wait_until(lambda: manager.heard[-1] == 'alive timebill')
            assert node.stop(signal.SIGINT) == 0
            wait_until(lambda: manager.heard[-1] == 'dead timebill')
        finally:
            manager.close()
    assert 'warn' not in node.log.lower(), node.log
