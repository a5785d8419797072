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

"""Every Python, CMake and script file begins with the licence header, word for word."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('timebill_ros', 'test', 'scripts', 'launch', 'cmake', 'examples')
HEADER = '\n'.join(Path(__file__).read_text().split('\n\n', 1)[0].splitlines()) + '\n'


def files():
    """Return the files of the package that carry a header."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*')
             if path.is_file() and '__pycache__' not in path.parts
             and (path.suffix in ('.py', '.cmake') or path.parent.name == 'scripts')]
    return sorted([*found, ROOT / 'setup.py'])


def test_this_header_is_the_apache_licence():
    assert HEADER.startswith('# Copyright 2026 timebill_ros authors\n#\n# Licensed under the Apache License, ')
    assert HEADER.endswith('# limitations under the License.\n') and len(HEADER.splitlines()) == 13
    assert 'Apache License' in (ROOT / 'LICENSE').read_text()


@pytest.mark.parametrize('path', files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_begins_with_the_header(path):
    text = path.read_text()
    if text.startswith('#!'):
        text = text.partition('\n')[2]
    has_header, rest = text.startswith(HEADER), text[len(HEADER):]
    assert has_header
    assert rest[:1] in ('', '\n'), 'a blank line ends the header'


def test_contributors_are_told_the_licence():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    assert 'be under the Apache 2 License' in text and '5. Submission of Contributions.' in text
