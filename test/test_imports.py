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

"""Which process imports what: the node never torch, the worker never rclpy, pure modules neither.

Each module is imported in a fresh interpreter, because this one has imported everything.
"""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'timebill_ros'
TORCH = {'torch', 'transformers', 'tokenizers', 'safetensors'}
ROS = {'rclpy', 'builtin_interfaces', 'action_msgs', 'timebill_ros.action', 'timebill_ros.msg', 'timebill_ros.srv'}
PURE = ['planner', 'admission', 'deadline', 'request', 'settings', 'execution_time', 'calibration', 'channel',
        'dispatch', 'worker_process', 'resources', 'text']


def imported_by(*modules):
    """Names in sys.modules after importing timebill_ros.<modules> in an interpreter of its own."""
    code = f'import sys, {", ".join(f"timebill_ros.{module}" for module in modules)}; print(*sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(('modules', 'wanted', 'forbidden'), [
    (['server_node', 'translation', 'diagnostics'], {'rclpy', 'timebill_ros.action', 'timebill_ros.dispatch.dispatcher'}, TORCH),
    (['worker', 'loading', 'engine', 'profiling'], {'torch', 'transformers', 'timebill_ros.inference.decode'}, ROS),
    (['worker'], set(), TORCH | ROS),  # so that a missing torch becomes a sentence to the node
    (PURE, set(), TORCH | ROS),
], ids=['node', 'inference', 'worker before its model', 'pure'])
def test_what_a_process_imports(modules, wanted, forbidden):
    imported = imported_by(*modules)
    assert {f'timebill_ros.{module}' for module in modules} | wanted <= imported
    assert not imported & forbidden


def imports_of(path):
    """Top-level packages that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split('.')[0])
            if node.module == 'timebill_ros':
                names |= {f'timebill_ros.{alias.name}' for alias in node.names}
            elif node.module.startswith('timebill_ros.'):
                names.add('.'.join(node.module.split('.')[:2]))
    return names


@pytest.mark.parametrize('path', sorted(PACKAGE.rglob('*.py')), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_mixes_ros_and_torch(path):
    names = imports_of(path)
    assert not (names & ROS and names & TORCH)
