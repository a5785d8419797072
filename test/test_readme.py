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

"""The clients that the documentation prints, and the examples, run as they stand: the node has the embedded model."""
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from timebill_ros.client import Client
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
MARK = '<!-- test/test_readme.py runs this block as it stands -->'


def client_of(page):
    """Return the one Python block of a page that is printed to be run."""
    blocks = re.findall(MARK + r'\n```python\n(.*?)```', (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) == 1, page
    return blocks[0]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return a function that runs a program beside a node called /timebill, and returns what it printed."""
    folder = tmp_path_factory.mktemp('readme')
    with (folder / 'log').open('w') as log:
        node = subprocess.Popen(
            [sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '-p', 'autostart:=true',
             '-p', 'self_profile_s:=3.0', '-p', 'compile_step:=never', '-p', f'cache_dir:={folder}'],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def run(code, *arguments):
        (folder / 'client.py').write_text(code)
        done = subprocess.run([sys.executable, str(folder / 'client.py'), *arguments], timeout=60, text=True,
                              capture_output=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})
        assert done.returncode == 0, done.stderr + (folder / 'log').read_text()
        return done.stdout

    try:
        with Client() as client:
            client.wait_until_active(120.0, alive=lambda: node.poll() is None)
        yield run
    finally:
        node.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(20)
        node.kill()
        node.wait()


def example(name):
    return (ROOT / 'examples' / f'{name}.py').read_text()


def test_the_client_in_the_readme_works_as_printed(run):
    block = client_of('README.md')
    assert example('ask').endswith(block), 'examples/ask.py is this client'
    assert 'take mug' in run(block)


def test_the_plain_client_works_as_printed(run):
    task = site_log.generate(0, split='test', family='bring', n_tokens=300, n_asked=3)  # as printed there
    assert step_accuracy(task, run(client_of('docs/interfaces.md'))) > 0.5


@pytest.mark.parametrize('name', ['planner', 'behaviour_tree'])
def test_an_example_takes_the_models_answer_or_its_default_action(run, name):
    if name == 'behaviour_tree':
        pytest.importorskip('py_trees')
    assert 'take mug' in run(example(name), '--ros-args', '-p', 'budget_s:=20.0')
    assert run(example(name), '--ros-args', '-p', 'budget_s:=0.02').startswith('stop (')


def test_every_file_that_the_readme_names_exists():
    named = re.findall(r'\]\((?!http)([^)#]+)', README) + [
        'timebill_ros/' + name for name in re.findall(r'`(\w+\.py)`', README)]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
