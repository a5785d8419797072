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

"""The documentation says what the code says: generated parts are current, links and named files exist."""
import ast
import re
import sys
from pathlib import Path

import pytest

from timebill_ros.codes import ErrorCode
from timebill_ros.settings import PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [*DOCS, ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'resource' / 'demo' / 'README.md']
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Names of the package that are no modules.
INTERFACES = {'action', 'msg', 'srv'}


@pytest.fixture
def generated(monkeypatch):
    """Return what scripts/generate_docs.py would write: {path: text}."""
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    import generate_docs
    return generate_docs.generate()


def test_generated_parts_are_current(generated):
    stale = [str(path.relative_to(ROOT)) for path, text in generated.items() if path.read_text() != text]
    assert stale == [], 'run `make docs`'


def test_every_block_is_used_and_none_is_empty(generated):
    import generate_docs
    text = ''.join(page.read_text() for page in PAGES)
    used = re.findall(r'<!-- generated: ([^>]+) -->\n(.*?)<!-- end -->', text, re.DOTALL)
    assert all(block.strip() for _, block in used)
    interfaces = {f'{path.parent.name}/{path.name}' for folder in INTERFACES for path in (ROOT / folder).iterdir()}
    assert sorted(name for name, _ in used) == sorted({*generate_docs.BLOCKS, *interfaces})


def anchors(path):
    """Return the anchors that GitHub makes of a page's headings."""
    text = re.sub(r'```.*?```', '', path.read_text(), flags=re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for link in re.findall(r'\]\(([^)]+)\)', text):
        if re.match(r'https?:', link):
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f'{link} leads nowhere'
        assert not anchor or anchor in anchors(target), f'{link}: no such heading'


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_files_and_modules_that_are_named_exist(page):
    text = page.read_text()
    paths = re.findall(r'`((?:timebill_ros|test|scripts|docs|config|launch|results|resource|action|msg|srv)/[\w./-]+)`',
                       text)
    paths += [path for path in re.findall(r'`([\w/]+\.py)`', text) if '/' not in path]
    names = {path.name for path in (ROOT / 'timebill_ros').rglob('*.py')} | \
            {path.name for path in (ROOT / 'test').rglob('*.py')} | {'setup.py'}
    for path in paths:
        if re.match('timebill_ros/(action|msg|srv)/', path):
            continue  # the name of an interface
        assert (ROOT / path).exists() if '/' in path else path in names, f'{path} does not exist'
    for name in re.findall(r'\btimebill_ros((?:\.\w+)+)', text):
        parts = name[1:].split('.')
        if parts[0] in (*INTERFACES, 'egg'):
            continue
        # The last one may be a function or a class of the module.
        assert any(is_module(parts[:end]) for end in (len(parts), len(parts) - 1) if end), \
            f'timebill_ros{name} does not exist'


def is_module(parts):
    path = (ROOT / 'timebill_ros').joinpath(*parts)
    return path.with_suffix('.py').is_file() or (path / '__init__.py').is_file()


def members():
    """Return the methods and fields of every class of the package, by the class's name."""
    found = {}
    for path in (ROOT / 'timebill_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                names = found.setdefault(node.name, set())
                names |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                names |= {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
    return found


def test_methods_that_the_structure_names_exist():
    known = members()
    named = re.findall(r'`([A-Z]\w+)\.(\w+)`', (ROOT / 'docs' / 'structure.md').read_text())
    assert len(named) > 20
    assert [f'{owner}.{name}' for owner, name in named if name not in known.get(owner, ())] == []


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


@pytest.mark.parametrize('code', list(ErrorCode), ids=lambda code: code.name)
def test_every_error_code_is_explained(code):
    text = (ROOT / 'docs' / 'operating.md').read_text()
    row = re.search(rf'^\| {int(code)} \| `{code.name}` \| (.+)$', text, re.MULTILINE)
    assert row and len(row[1]) > 20


@pytest.mark.parametrize('parameter', PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_is_explained(parameter):
    assert f'| `{parameter.name}` |' in (ROOT / 'docs' / 'parameters.md').read_text()


def test_every_room_is_explained():
    rooms = {str(path.parent.relative_to(ROOT)) for path in (ROOT / 'timebill_ros').rglob('__init__.py')}
    text = (ROOT / 'docs' / 'structure.md').read_text()
    missing = [room for room in rooms - {'timebill_ros'} if f'`{room.removeprefix("timebill_ros/")}/`' not in text]
    assert missing == []


def test_the_changelog_is_of_this_package():
    lines = (ROOT / 'CHANGELOG.rst').read_text().splitlines()
    assert lines[1] == 'Changelog for package timebill_ros' and lines[0] == lines[2] and set(lines[0]) == {'^'}
