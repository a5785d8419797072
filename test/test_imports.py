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

"""Which module may import which: the order of the rooms, no circle, and no process that loads what it must not.

The rooms and their order are in scripts/rooms.py, which prints them too. What a process really loads is seen in a fresh
interpreter, because this one has imported everything.
"""
import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'timebill_ros'
TORCH = {'torch', 'transformers', 'tokenizers', 'safetensors'}
QT = {'python_qt_binding', 'PyQt5', 'rqt_gui_py'}
ROS = {'rclpy', 'builtin_interfaces', 'action_msgs', 'lifecycle_msgs', 'diagnostic_msgs', 'rcl_interfaces',
       'rosgraph_msgs', 'std_msgs', 'std_srvs', 'timebill_ros.action', 'timebill_ros.msg', 'timebill_ros.srv'}

_spec = importlib.util.spec_from_file_location('rooms', ROOT / 'scripts' / 'rooms.py')
rooms = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rooms)

FILES = rooms.files()
GRAPH = rooms.graph()  # read once: every test looks at it
by_name = pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


# -- by reading ------------------------------------------------------------------------------------------------------

@by_name
def test_a_module_imports_only_what_lies_below_it(path):
    name = rooms.module_name(path)
    upwards = sorted(other for other in GRAPH[name] if not rooms.may_import(name, other))
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle():
    assert rooms.circles() == []


def test_the_reader_sees_imports_in_functions_and_modules_in_strings(tmp_path):
    package = tmp_path / 'timebill_ros'
    for room in ('cli', 'worker', 'dispatch', 'inference'):
        (package / room).mkdir(parents=True)
        (package / room / '__init__.py').write_text('')
    (package / 'cli' / 'main.py').write_text('')
    (package / 'worker' / 'main.py').write_text('def late():\n    from timebill_ros.cli import main\n')
    (package / 'dispatch' / 'job.py').write_text("START = ['-m', 'timebill_ros.worker.main', '--fd', '3']\n")
    (package / 'inference' / 'a.py').write_text('from . import b\n')
    (package / 'inference' / 'b.py').write_text('import timebill_ros.inference.a\n')
    assert rooms.wrong(tmp_path) == [('timebill_ros.dispatch.job', 'timebill_ros.worker.main'),
                                     ('timebill_ros.worker.main', 'timebill_ros.cli.main')]
    assert [set(circle) for circle in rooms.circles(tmp_path)] == [
        {'timebill_ros.inference.a', 'timebill_ros.inference.b'}]


def test_the_one_exception_is_one_that_exists():
    for name, other in rooms.ALLOWED:
        assert other in GRAPH[name]


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    return frozenset(rooms.imports_of(path))


def reached(name: str) -> set[str]:
    """Return all that a module imports, directly or through other modules of the package."""
    modules, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module not in modules:
            modules.add(module)
            todo += [other for other in GRAPH[module] if (module, other) not in rooms.ALLOWED]
    return modules.union(*(imports_of(rooms.module_file(module)) for module in modules))


def packages(names: set[str]) -> set[str]:
    """Return the top-level names, and of this package's generated modules the first two parts."""
    return {'.'.join(name.split('.')[:2]) if name.startswith('timebill_ros.') else name.split('.')[0] for name in names}


@by_name
def test_neither_process_reaches_the_libraries_of_the_other(path):
    """The node process never needs torch, and what computes never rclpy: not even in a function that is called late."""
    name = rooms.module_name(path)
    room = rooms.room_of(name)
    if room in ('node', 'dispatch', 'rqt', 'monitoring'):
        assert not packages(reached(name)) & TORCH
    if room in ('worker', 'engine', 'planning', 'timing', 'length', 'inference', 'vocabulary', 'dispatch', 'tasks',
                'training'):
        assert not packages(reached(name)) & ROS


@by_name
def test_no_file_mixes_ros_and_torch(path):
    names = packages(imports_of(path))
    assert not (names & ROS and names & TORCH)


@pytest.mark.parametrize('path', [path for path in FILES if path.name == '__init__.py'],
                         ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_room_says_what_it_is_for_and_imports_nothing(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    if path.parent != PACKAGE:  # that one finds the generated messages
        assert len(tree.body) == 1 and len(ast.get_docstring(tree)) > 100


def test_no_file_lies_outside_of_the_rooms():
    """Those beside the rooms: the vocabulary, the engine, and what clients import."""
    beside = {path.name for path in PACKAGE.glob('*.py')}
    assert beside == {'__init__.py', 'codes.py', 'request.py', 'settings.py', 'deadline.py', 'admission.py',
                      'tool_admission.py', 'longest_instance.py', 'overrun.py', 'resources.py', 'forgotten.py',
                      'disk_cache.py', 'engine.py', 'client.py', 'behaviours.py'}
    assert set(rooms.lines()) == set(rooms.ORDER), 'a room that scripts/rooms.py does not know'


def test_no_file_is_long():
    folders = [ROOT / name for name in ('timebill_ros', 'test', 'scripts', 'launch', 'examples')]
    tracked = [path for folder in folders for path in folder.rglob('*.py')]
    assert {str(path.relative_to(ROOT)): n for path in tracked
            if (n := len(path.read_text().splitlines())) > 350} == {}


# -- by running ------------------------------------------------------------------------------------------------------

PURE = ['codes', 'request', 'settings', 'deadline', 'admission', 'overrun', 'resources', 'dispatch.channel',
        'dispatch.dispatcher', 'dispatch.supervisor', 'dispatch.worker_process', 'planning.planner', 'planning.replan',
        'planning.tracker', 'timing.execution_time', 'timing.fitting', 'timing.drift', 'length.length_distribution',
        'length.calibration', 'length.conformal', 'length.pessimistic_length', 'inference.text', 'inference.control',
        'tasks.site_log', 'tasks.site_log_scores', 'engine', 'worker.scripted', 'worker.cost_facts']


def imported_by(*modules):
    """Return the names in sys.modules after importing timebill_ros.<modules> in an interpreter of its own."""
    code = f'import sys, {", ".join(f"timebill_ros.{module}" for module in modules)}; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(('modules', 'wanted', 'forbidden'), [
    (['node.main', 'node.program', 'node.translation', 'node.diagnostics'],
     {'rclpy', 'timebill_ros.action', 'timebill_ros.dispatch.dispatcher'}, TORCH),
    (['worker.main', 'worker.loading', 'engine', 'timing.profiling'],
     {'torch', 'transformers', 'timebill_ros.inference.decode'}, ROS),
    (['worker.main'], set(), TORCH | ROS),  # so that a missing torch becomes a sentence to the node
    (['cli.main'], set(), TORCH | ROS | {'matplotlib'}),
    (['client'], {'rclpy'}, TORCH | {'py_trees'}),
    (['rqt.picture', 'rqt.geometry', 'rqt.starting', 'cli.monitor_picture'], {'timebill_ros.monitoring.wording'},
     TORCH | ROS | QT),
    (PURE, set(), TORCH | ROS),
], ids=['node', 'inference', 'worker before its model', 'command', 'client', 'pictures', 'pure'])
def test_what_a_process_imports(modules, wanted, forbidden):
    imported = imported_by(*modules)
    assert {f'timebill_ros.{module}' for module in modules} | wanted <= imported
    assert not imported & forbidden
