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

"""The clients that the documentation prints, run as they are printed against a node on the embedded model."""
import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from timebill_ros.client import Client
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()
PAGES = ('README.md', 'docs/interfaces.md')  # the package's own client, and one of plain rclpy


def client_of(page):
    """Return the one Python block of a page."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / page).read_text(), re.DOTALL)
    assert len(blocks) == 1, page
    return blocks[0]


def test_the_client_in_the_readme_works_as_printed(tmp_path):
    printed = {}
    blocks = {page: client_of(page) for page in PAGES}
    with (tmp_path / 'log').open('w') as log:
        node = subprocess.Popen(
            [sys.executable, '-m', 'timebill_ros.node.main', '--ros-args', '-p', 'autostart:=true',
             '-p', 'self_profile_s:=3.0', '-p', 'compile_step:=never', '-p', f'cache_dir:={tmp_path}'],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        with Client() as client:
            client.wait_until_active(120.0, alive=lambda: node.poll() is None)
        for page, block in blocks.items():
            (tmp_path / 'client.py').write_text(block)
            printed[page] = subprocess.run(
                [sys.executable, str(tmp_path / 'client.py')], timeout=60, check=True, stdout=subprocess.PIPE,
                text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}).stdout
    finally:
        node.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(20)
        node.kill()
        node.wait()
    task = site_log.generate(0, split='test', family='bring', n_tokens=300, n_asked=3)  # as printed there
    for page, text in printed.items():
        assert step_accuracy(task, text) > 0.5, page + text + (tmp_path / 'log').read_text()


def test_every_file_that_the_readme_names_exists():
    named = re.findall(r'\]\((?!http)([^)#]+)', README) + [
        'timebill_ros/' + name for name in re.findall(r'`(\w+\.py)`', README)]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
