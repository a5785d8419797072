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

"""config/layouts: the files are what their programs read, and every field that they show is one of a message."""
import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from timebill_ros.rqt.axes import AXES
from timebill_ros.rqt.starting import PLUGIN

ROOT = Path(__file__).resolve().parents[1]
LAYOUTS = ROOT / 'config' / 'layouts'
MESSAGES = {'status': 'RequestStatus', 'stats': 'DeadlineStats'}


def fields(message: str) -> set[str]:
    """Return the names of a message's fields."""
    text = (ROOT / 'msg' / f'{message}.msg').read_text()
    return set(re.findall(r'^[\w/]+ +(\w+)\s*(?:#|$)', text, re.MULTILINE))


@pytest.mark.parametrize('name', ['plotjuggler.xml', 'foxglove.json'])
def test_what_is_shown_is_there(name):
    shown = re.findall(r'/timebill/(\w+)[./](\w+)', (LAYOUTS / name).read_text())
    assert len(shown) >= 4
    assert [(topic, field) for topic, field in shown if field not in fields(MESSAGES[topic])] == []


def perspective(group: dict) -> dict:
    """Return a group of rqt's settings as rqt imports it: values by evaluation, groups in groups."""
    values = {key: ast.literal_eval(value['repr']) for key, value in group['keys'].items()}
    assert all(value['type'] == 'repr' for value in group['keys'].values())
    return {**values, **{name: perspective(inner) for name, inner in group['groups'].items()}}


def test_the_perspective_runs_this_plugin_and_sets_what_it_restores():
    plugins = perspective(json.loads((LAYOUTS / 'rqt.perspective').read_text()))['pluginmanager']
    assert plugins['running-plugins'][PLUGIN] == [1]
    given = {name.removeprefix('plugin__').rsplit('__', 1)[0].replace('__', '/') for name in plugins if '__' in name}
    assert given <= set(plugins['running-plugins'])
    ours = plugins[f'plugin__{PLUGIN.replace("/", "__")}__1']['plugin']
    assert ours['server'] == '/timebill' and ours['bars'] in AXES
    source = (ROOT / 'timebill_ros' / 'rqt' / 'plugin.py').read_text()
    assert set(re.findall(r"set_value\('(\w+)'", source)) == set(ours)


def test_the_layout_of_plotjuggler_names_topics_and_shares():
    root = ElementTree.parse(LAYOUTS / 'plotjuggler.xml').getroot()
    (plugin,) = root.iter('plugin')
    assert plugin.attrib['ID'] == root.find('previouslyLoaded_Streamer').attrib['name']
    topics = plugin.find('selected_topics')
    assert topics.attrib['value'].split(';') == [topic.attrib['name'] for topic in topics] == [
        '/timebill/stats', '/timebill/status']
    for splitter in root.iter('DockSplitter'):
        sizes = [float(size) for size in splitter.attrib['sizes'].split(';')]
        assert len(sizes) == int(splitter.attrib['count']) == len(splitter) and sum(sizes) == pytest.approx(1.0)


def test_the_layout_of_foxglove_places_every_panel_once():
    layout = json.loads((LAYOUTS / 'foxglove.json').read_text())

    def placed(part):
        return [part] if isinstance(part, str) else [*placed(part['first']), *placed(part['second'])]

    assert sorted(placed(layout['layout'])) == sorted(layout['configById'])
