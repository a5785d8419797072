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

"""config/sros2/timebill.policy.xml against the ROS graph.

The policy allows what a running node and its client have, and no more.
"""
import importlib.util
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import pytest
import rclpy
from node_client import WAIT_S
from node_process import NodeProcess
from rclpy.action import get_action_client_names_and_types_by_node, get_action_server_names_and_types_by_node
from scripted_model import ROOT
from terminal import Terminal

POLICY = ROOT / 'config' / 'sros2' / 'timebill.policy.xml'
NODE, CLIENT, MANAGER = '/timebill', '/timebill_client', '/lifecycle_manager_timebill'
# Element -> its attributes, from the schema of ros2/sros2.
RULES = {'topics': {'publish', 'subscribe'}, 'services': {'reply', 'request'}, 'actions': {'execute', 'call'}}
SIMULATED = ['-p', 'use_sim_time:=true']  # so that /clock is among the subscriptions
WITH_A_BOND = {'bond_topic': 'bond', 'environment': {'PYTHONPATH': str(ROOT / 'test' / 'bond_stand_in')}}
SETTLED_S = 3.0  # how long the graph must look the same before it counts
# `timebill monitor` in a terminal is the widest client: a Client that hears status and stats as well. The command line
# takes no ROS arguments of its own; rclpy reads them from sys.argv.
MONITOR = """
import sys
from timebill_ros.cli.main import main
server, *ros_arguments = sys.argv[1:]
sys.argv[1:] = ['--ros-args', *ros_arguments]
sys.exit(main(['monitor', '--server', server]))
"""


def enclaves() -> dict[str, ElementTree.Element]:
    return {enclave.get('path'): enclave for enclave in ElementTree.parse(POLICY).getroot().iter('enclave')}


def resolved(name: str, namespace: str, node: str) -> str:
    """Resolve a name as sros2 does when it makes permissions from a policy."""
    inside = namespace.rstrip('/') + '/'
    return name if name.startswith('/') else inside + (node + name[1:] if name.startswith('~') else name)


def allowed(path: str, namespace: str | None = None) -> dict[str, set[str]]:
    """What an enclave allows, by rule ('publish', ...). `namespace` stands in for the one that the profiles name."""
    names: dict[str, set[str]] = {rule: set() for rules in RULES.values() for rule in rules}
    for profile in enclaves()[path].iter('profile'):
        for group in profile:
            for rule in group.attrib:
                names[rule] |= {resolved(element.text, namespace or profile.get('ns'), profile.get('node'))
                                for element in group}
    return names


def observed(observer, namespace: str, name: str) -> dict[str, set[str]]:
    """What a node has in the graph, by rule. An action stands for its topics and services, as it does in a policy."""
    def plain(found) -> set[str]:
        return {name for name, _ in found if '/_action/' not in name}

    return {'publish': plain(observer.get_publisher_names_and_types_by_node(name, namespace)),
            'subscribe': plain(observer.get_subscriber_names_and_types_by_node(name, namespace)),
            'reply': plain(observer.get_service_names_and_types_by_node(name, namespace)),
            'request': plain(observer.get_client_names_and_types_by_node(name, namespace)),
            'execute': plain(get_action_server_names_and_types_by_node(observer, name, namespace)),
            'call': plain(get_action_client_names_and_types_by_node(observer, name, namespace))}


def settled(observer, namespace: str, name: str) -> dict[str, set[str]]:
    """What a node has once nothing more is discovered."""
    end, since, last = time.monotonic() + WAIT_S, time.monotonic(), None
    while last is None or time.monotonic() < since + SETTLED_S:
        assert time.monotonic() < end, f'{namespace}/{name} does not settle: {last}'
        found = None
        if (name, namespace) in observer.get_node_names_and_namespaces():
            found = observed(observer, namespace, name)
        if found != last:
            since, last = time.monotonic(), found
        time.sleep(0.1)
    return last


def expected(path: str, namespace: str) -> dict[str, set[str]]:
    """What `path` should have here: the harness remaps /diagnostics, and Humble describes no types."""
    names = allowed(path, namespace)
    if '/diagnostics' in names['publish']:
        names['publish'] = names['publish'] - {'/diagnostics'} | {f'{namespace}/diagnostics'}
    if importlib.util.find_spec('rclpy.type_description_service') is None:
        names['reply'] = {name for name in names['reply'] if not name.endswith('/get_type_description')}
    return names


def differences(path: str, namespace: str, found: dict[str, set[str]]) -> list[str]:
    names = expected(path, namespace)
    return [f'{why}: {rule} {name}' for rule in found for why, some in (
        ('the policy lacks', found[rule] - names[rule]), ('only in the policy', names[rule] - found[rule]))
            for name in sorted(some)]


@pytest.fixture(scope='module')
def server():
    with NodeProcess(arguments=SIMULATED, **WITH_A_BOND) as server:
        yield server.start()


@pytest.fixture(scope='module')
def observer():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('observer', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_node(server, observer):
    namespace, name = server.server.rsplit('/', 1)
    found = settled(observer, namespace, name)
    assert found['execute'] == {f'{server.server}/generate'}  # so the graph was read at all
    assert not differences(NODE, namespace, found)


def test_a_client(server, observer):
    namespace = server.server.rsplit('/', 1)[0]
    with Terminal() as terminal:
        monitor = subprocess.Popen([sys.executable, '-c', MONITOR, server.server, *SIMULATED, '-r',
                                    f'__ns:={namespace}'], cwd=ROOT, stdout=terminal.output,
                                   env={**os.environ, 'TERM': 'xterm-256color'})
        try:
            found = settled(observer, namespace, 'timebill_client')
        finally:
            monitor.kill()
            monitor.wait()
    assert found['call'] == {f'{server.server}/generate'}
    assert not differences(CLIENT, namespace, found)


def test_what_one_asks_the_other_answers():
    node, client, manager = allowed(NODE), allowed(CLIENT), allowed(MANAGER)
    for other in (client, manager):
        assert other['request'] <= node['reply'] and other['call'] <= node['execute']
        assert other['subscribe'] - {'/clock', '/parameter_events'} <= node['publish']
    # A client is not to change the node; a manager changes its state and sends it no goals.
    assert client['request'] == {'/timebill/estimate_time', '/timebill/prepare', '/timebill/get_state'}
    assert manager['request'] == {'/timebill/change_state', '/timebill/get_state'} and not manager['call']


def test_structure():
    """The policy follows policy.xsd of ros2/sros2; beyond the schema, no name has spaces around it or a wildcard."""
    root = ElementTree.parse(POLICY).getroot()
    assert (root.tag, root.attrib, [child.tag for child in root]) == ('policy', {'version': '0.2.0'}, ['enclaves'])
    # The tools take a comment between enclaves for an enclave without a path, and fail.
    with_comments = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    assert len(ElementTree.parse(POLICY, with_comments).getroot().find('enclaves')) == len(root[0])
    found = list(root[0])
    assert [enclave.get('path') for enclave in found] == [NODE, CLIENT, MANAGER]
    for enclave in found:
        assert enclave.tag == 'enclave' and [child.tag for child in enclave] == ['profiles']
        for profile in enclave[0]:
            assert (profile.tag, set(profile.attrib)) == ('profile', {'ns', 'node'})
            for group in profile:
                assert group.tag in RULES and len(group) and set(group.attrib.values()) == {'ALLOW'}
                assert set(group.attrib) <= RULES[group.tag]
                names = [element.text for element in group]
                assert {element.tag for element in group} == {group.tag[:-1]} and len(set(names)) == len(names)
                assert all(re.fullmatch(r'(~?/)?[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*', name) for name in names), names


@pytest.mark.parametrize(('name', 'full'), [
    ('~/status', '/robot/timebill/status'), ('timebill/status', '/robot/timebill/status'), ('/clock', '/clock')])
def test_names_resolve(name, full):
    assert resolved(name, '/robot', 'timebill') == full
