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

"""What a release brings beside the code: workflows, issue forms, rosdoc2's configuration, the container's recipe."""
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / '.github' / 'workflows').glob('*.yml'))
FORMS = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml'))
DISTRIBUTIONS = ('humble', 'jazzy', 'kilted', 'lyrical', 'rolling')
DEPLOYING = (ROOT / 'docs' / 'deploying.md').read_text()


def load(path):
    # YAML 1.1 reads the key "on" as true.
    return {('on' if key is True else key): value for key, value in yaml.safe_load(path.read_text()).items()}


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_one_and_says_that_it_has_not_run(path):
    workflow = load(path)
    assert {'name', 'on', 'jobs'} <= set(workflow) and workflow['permissions'] == {'contents': 'read'}
    for job in workflow['jobs'].values():
        assert job['runs-on'] and job['timeout-minutes'] and job['steps']
        for step in job['steps']:
            assert len({'run', 'uses'} & set(step)) == 1
            assert re.fullmatch(r'[\w-]+/[\w-]+@v\d+(\.\d+)?', step.get('uses', 'a/b@v1'))
        # Every value of the matrix that is used is given.
        used = set(re.findall(r'\$\{\{ matrix\.(\w+)', yaml.safe_dump(job)))
        matrix = job.get('strategy', {}).get('matrix', {})
        assert used == set(matrix.get('include', [matrix])[0])
    assert ('Untried: it has not run yet' in path.read_text()) == ('Neither has run yet' in DEPLOYING)
    assert path.name in DEPLOYING


def test_every_distribution_is_built_on_its_ubuntu():
    job = load(ROOT / '.github' / 'workflows' / 'ros.yml')['jobs']['colcon']
    ubuntu = {row['distribution']: row['ubuntu'] for row in job['strategy']['matrix']['include']}
    assert tuple(ubuntu) == DISTRIBUTIONS
    versions = {'jammy': '22.04', 'noble': '24.04', 'resolute': '26.04'}
    for name, code in ubuntu.items():
        assert f'| {name.capitalize()} | {versions[code]} |' in DEPLOYING


def test_the_demonstration_runs_on_every_python_that_it_is_for():
    job = load(ROOT / '.github' / 'workflows' / 'python.yml')['jobs']['demo']
    assert job['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13']
    assert '## Python 3.10 to 3.13' in DEPLOYING
    # What the workflow says is what make takes.
    assert re.search(r'^PYTHON \?= ', (ROOT / 'Makefile').read_text(), re.MULTILINE)


def test_pins_hold_on_every_python():
    """Each pinned library has exactly one version for each Python."""
    lines = [line.split('#')[0].strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()]
    markers = {'python_version >= "3.11"': ('3.11', '3.12', '3.13'), 'python_version < "3.11"': ('3.10',),
               '': ('3.10', '3.11', '3.12', '3.13')}
    seen = [(re.split(r'[=\[]', line)[0], python) for line in lines if line
            for python in markers[line.partition(';')[2].strip()]]
    assert len(seen) == len(set(seen))
    assert {python for name, python in seen if name == 'numpy'} == set(markers[''])


@pytest.mark.parametrize('path', FORMS, ids=lambda path: path.name)
def test_an_issue_form_asks_what_can_be_answered(path):
    form = load(path)
    assert form['name'] and form['description'] and form['body']
    ids = [field['id'] for field in form['body']]
    assert len(ids) == len(set(ids))
    assert all(field['type'] in ('input', 'textarea') and field['attributes']['label'] for field in form['body'])


def test_rosdoc2_finds_its_configuration_and_every_page():
    (name,) = (element.text for element in ElementTree.parse(ROOT / 'package.xml').iter('rosdoc2'))
    kind, config = yaml.safe_load_all((ROOT / name).read_text())
    assert kind == {'type': 'rosdoc2 config', 'version': 1}
    (sphinx,) = (builder['sphinx'] for builder in config['builders'])
    docs = ROOT / sphinx['sphinx_sourcedir']
    lines = (docs / 'index.rst').read_text().splitlines()
    listed = {line.strip() for line in lines if re.fullmatch(r'   \w+', line)}
    assert len(listed) > 10 and listed <= {page.stem for page in docs.glob('*.md')} | {'standards'}
    assert '   *' in lines  # pages that came since
    names = {}
    exec((docs / 'conf.py').read_text(), names)  # as rosdoc2 does
    assert names['extensions'] and '.md' in names['source_suffix']


def test_the_container_names_files_that_are_installed_and_parameters_that_are():
    text = (ROOT / 'docker' / 'jetson.Dockerfile').read_text()
    assert '# Not tried: ' in text
    for name in re.findall(r'/timebill/share/timebill_ros/([\w/.]+)', text):
        assert (ROOT / name).is_file(), name
    # Only what these steps leave: a base that the user names, and no instruction that docker does not know.
    steps = [line.split()[0] for line in re.sub(r'\\\n', ' ', text).splitlines() if line and not line.startswith('#')]
    assert steps[:2] == ['ARG', 'FROM'] and set(steps) <= {
        'ARG', 'FROM', 'SHELL', 'RUN', 'COPY', 'VOLUME', 'ENV', 'ENTRYPOINT', 'CMD'}
    # The node is the first process, or docker's SIGTERM would not reach it.
    assert 'exec /timebill/lib/timebill_ros/timebill_node' in text
    ignored = (ROOT / '.dockerignore').read_text().split()
    assert {'.git', '.venv*', 'build'} <= set(ignored)


def test_the_quality_declaration_answers_every_requirement():
    text = (ROOT / 'QUALITY_DECLARATION.md').read_text()
    wanted = [f'{part}.{number}' for part, numbers in {
        1: ('i', 'ii', 'iii', 'iv', 'v', 'vi'), 2: ('i', 'ii', 'iii', 'iv', 'v'), 3: ('i', 'ii', 'iii', 'iv', 'v'),
        4: ('i', 'ii', 'iii', 'iv', 'v'), 5: ('i', 'ii', 'iii'), 7: ('i',)}.items() for number in numbers]
    assert [name for name in wanted if not re.search(rf'\[[^\]]*\b{name}\b', text)] == []
    assert '[6]' in text
    # A claim of stability goes with a version.
    version = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    assert ('not stable, below 1.0.0' in text) == version.startswith('0.')
