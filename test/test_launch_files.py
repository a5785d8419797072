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

"""The launch files as they are written, where launch is not installed: descriptions, installation, documentation."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'launch').glob('*.py'))


def calls(tree, name):
    return [node for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name]


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_every_argument_has_a_default_and_a_description(file):
    arguments = calls(ast.parse(file.read_text()), 'DeclareLaunchArgument')
    assert arguments
    for argument in arguments:
        assert {'default_value', 'description'} <= {keyword.arg for keyword in argument.keywords}, argument.lineno


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_ros2_launch_finds_it_and_the_documentation_has_its_command(file):
    assert file.name.endswith('.launch.py')
    command = f'ros2 launch timebill_ros {file.name}'
    assert command in ast.get_docstring(ast.parse(file.read_text()))
    assert command in (ROOT / 'docs' / 'deploying.md').read_text()
