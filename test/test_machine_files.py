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

"""config/machines: every file can be loaded, names declared parameters only, and says what was tried."""
import re
from pathlib import Path

import pytest
import yaml

from timebill_ros import settings

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'config' / 'machines').glob('*.yaml'))
TOPICS = ('Model:', 'Precision:', 'Power:', 'Predictor:')


def test_the_machines_that_the_documentation_lists_are_there():
    listed = re.findall(r'^\| `(\w+)` \|', (ROOT / 'docs' / 'deploying.md').read_text(), re.MULTILINE)
    assert sorted(listed) == [file.stem for file in FILES]


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_machine_file_holds_declared_parameters_within_bounds(file):
    sections = yaml.safe_load(file.read_text())
    assert list(sections) == ['/**']  # whatever the node is called, in whichever namespace
    given = sections['/**']['ros__parameters']
    assert settings.check(given).items() >= given.items()
    # What a robot serves, and from where, is its own business.
    assert not {'model', 'length_predictor', 'profile', 'worker_python', 'cache_dir', 'quality_table'} & set(given)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_machine_file_says_what_was_tried(file):
    head = file.read_text().split('/**:')[0]
    assert 'Not tried: ' in head
    assert all(f'# {topic} ' in head for topic in TOPICS)
    # No Jetson has run this package.
    assert ('# Tried: ' in head) == ('jetson' not in file.stem)
    # Where a GPU is expected, its lack must be told at configure.
    device = yaml.safe_load(file.read_text())['/**']['ros__parameters']['device']
    assert device == ('cpu' if file.stem.startswith('cpu') else 'cuda')
