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

"""docs/nav2.md says what the interfaces say: error codes, ports and strategies of the tree, XML and YAML that parse."""
import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs' / 'nav2.md').read_text()
GOAL, RESULT, _ = re.split('^---$', (ROOT / 'action' / 'Generate.action').read_text(), flags=re.MULTILINE)
# What BtActionNode of Nav2 looks for in the result of an action, by name, from Lyrical on.
OF_NAV2 = {'NONE', 'UNKNOWN', 'TIMEOUT', 'GOAL_REJECTED', 'SEND_GOAL_FAILURE'}


def block(kind):
    (found,) = re.findall(rf'```{kind}\n(.*?)```', PAGE, re.DOTALL)
    return found


def constants(part):
    return {name: int(number) for name, number in re.findall(r'^uint(?:8|16) (\w+)=(\d+)', part, re.MULTILINE)}


def test_the_action_has_the_error_codes_that_nav2_looks_for_and_the_page_has_their_numbers():
    rows = {name: int(number) for name, number in re.findall(r'^\| `([A-Z_]+)` \| (\d+) \|', PAGE, re.MULTILINE)}
    assert set(rows) == OF_NAV2
    assert rows.items() <= constants(RESULT).items()
    # The types that BtActionNode writes to the blackboard.
    assert re.search(r'^uint16 error_code ', RESULT, re.MULTILINE)
    assert re.search(r'^string error_msg ', RESULT, re.MULTILINE)


def test_the_tree_gives_the_node_ports_that_it_has():
    root = ElementTree.fromstring(block('xml'))
    assert root.attrib['main_tree_to_execute'] in {tree.attrib['ID'] for tree in root.findall('BehaviorTree')}
    (ask,) = root.iter('Ask')
    declared = set(re.findall(r'BT::(?:Input|Output)Port<[^>]+>\("(\w+)"', block('cpp')))
    assert set(ask.attrib) <= declared | {'server_name', 'server_timeout'}  # these two are BtActionNode's own
    assert constants(GOAL)['STRATEGY_TRUNCATE'] == int(ask.attrib['strategy'])
    # The tree gives up later than the node, or it would throw away an answer that came in time.
    (timeout,) = root.iter('Timeout')
    budget_ms, accepted_ms = 1000 * float(ask.attrib['budget_s']), float(ask.attrib['server_timeout'])
    assert budget_ms + accepted_ms <= float(timeout.attrib['msec'])


def test_the_cpp_uses_fields_and_constants_that_there_are():
    text = block('cpp')
    assert text.startswith('// Not compiled')
    fields = set(re.findall(r'goal_\.(\w+)', text)) | set(re.findall(r'result_\.result->(\w+)', text))
    assert fields
    for field in fields:
        assert re.search(rf'^[\w/]+(?:\[\])? {field}\b', GOAL + RESULT, re.MULTILINE), field
    for name in re.findall(r'Goal::([A-Z_]+)', text):
        assert name in constants(GOAL)


def test_the_settings_can_be_read():
    settings = yaml.safe_load(block('yaml'))['bt_navigator']['ros__parameters']
    assert settings['plugin_lib_names'][0] in PAGE.split('## Error codes')[0].split('## The node of the tree')[1]
