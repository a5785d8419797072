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

"""What rqt finds of the plugin: package.xml and plugin.xml as rqt_gui reads them, and the class that they name.

rqt reads the exports named rqt_gui of every package.xml in share/, puts the package's share folder in place of
${prefix}, and takes classes of the file named there whose base_class_type is rqt_gui_py::Plugin.
"""
import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from timebill_ros.rqt.starting import PLUGIN

ROOT = Path(__file__).resolve().parents[2]
BASE = 'rqt_gui_py::Plugin'


def plugins(folder: Path) -> dict[str, dict]:
    """Return what rqt lists of the package with this share folder: its classes by their ids."""
    manifest = ElementTree.parse(folder / 'package.xml').getroot()
    package = manifest.findtext('name')
    found = {}
    for export in manifest.findall('export/rqt_gui'):
        file = Path(export.attrib['plugin'].replace('${prefix}', str(folder)))
        for library in ElementTree.parse(file).iter('library'):
            assert library.attrib['path']
            for element in library.iter('class'):
                if element.attrib['base_class_type'] == BASE:
                    found[f'{package}/{element.attrib["name"]}'] = {
                        'type': element.attrib['type'], 'label': element.findtext('qtgui/label'),
                        'groups': [group.findtext('label') for group in element.iter('group')]}
    return found


def installed_share() -> Path:
    spec = importlib.util.find_spec('timebill_ros.action')
    shares = [] if spec is None else [prefix / 'share' / 'timebill_ros' for prefix in Path(spec.origin).parents]
    return next((share for share in shares if (share / 'package.xml').is_file()), None)


@pytest.mark.parametrize('where', ['checkout', 'installed'])
def test_rqt_lists_the_plugin(where):
    folder = ROOT if where == 'checkout' else installed_share()
    if folder is None:
        pytest.skip('the package is not installed')
    assert plugins(folder) == {PLUGIN: {'type': 'timebill_ros.rqt.plugin.Deadlines', 'label': 'LLM Deadlines',
                                        'groups': ['Robot Tools']}}


def test_catkin_pkg_reads_the_export_as_rqt_does():
    package = pytest.importorskip('catkin_pkg.package').parse_package(str(ROOT / 'package.xml'))
    exports = [export for export in package.exports if export.tagname == 'rqt_gui']
    assert [export.attributes['plugin'] for export in exports] == ['${prefix}/plugin.xml']


def test_the_class_that_is_named_is_there():
    module, _, name = plugins(ROOT)[PLUGIN]['type'].rpartition('.')
    tree = ast.parse((ROOT / (module.replace('.', '/') + '.py')).read_text())
    (plugin,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    methods = {node.name for node in plugin.body if isinstance(node, ast.FunctionDef)}
    assert {'__init__', 'shutdown_plugin', 'save_settings', 'restore_settings'} <= methods
    assert [base.id for base in plugin.bases] == ['Plugin']


def test_no_package_of_qt_is_demanded():
    text = (ROOT / 'package.xml').read_text()
    depends = {element.text for element in ElementTree.fromstring(text) if element.tag.endswith('depend')}
    assert not {name for name in depends if 'qt' in name.lower()}


def test_without_rqt_the_module_says_what_is_missing():
    code = ("import sys; sys.modules['rqt_gui_py'] = None\n"
            'try:\n    import timebill_ros.rqt.plugin\nexcept ModuleNotFoundError as error:\n    print(error)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert 'install ros-<distribution>-rqt-gui-py' in done.stdout and 'timebill monitor' in done.stdout, done.stderr


def test_rqt_itself_lists_the_plugin(tmp_path):
    pytest.importorskip('rqt_gui.main', reason='rqt is not installed', exc_type=ImportError)
    share = installed_share()
    if share is None:
        pytest.skip('the package is not installed')
    code = 'import sys; from rqt_gui.main import Main; sys.exit(Main().main())'
    paths = os.pathsep.join(filter(None, [os.environ.get('AMENT_PREFIX_PATH'), str(share.parents[1])]))
    done = subprocess.run([sys.executable, '-c', code, '--force-discover', '--list-plugins'], capture_output=True,
                          text=True, timeout=120, cwd=tmp_path, env={
                              **os.environ, 'AMENT_PREFIX_PATH': paths, 'QT_QPA_PLATFORM': 'offscreen'})
    assert plugins(share)[PLUGIN]['type'] in done.stdout.splitlines(), done.stderr
