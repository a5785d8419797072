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

"""matplotlib is needed by the plots alone, and where it is missing a sentence says what to install."""
import subprocess
import sys
from pathlib import Path

import pytest

import timebill_ros.bench
from timebill_ros.bench.optional_plots import plots_if_installed

ROOT = Path(__file__).parents[2]


def test_plots_where_matplotlib_is_installed(capsys):
    assert callable(plots_if_installed().timeline)
    assert capsys.readouterr().err == ''


def test_a_sentence_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # so that importing it fails
    monkeypatch.delitem(sys.modules, 'timebill_ros.bench.plots', raising=False)
    monkeypatch.delattr(timebill_ros.bench, 'plots', raising=False)
    assert plots_if_installed() is None
    sentence = capsys.readouterr().err
    assert 'pip install matplotlib' in sentence and sentence.count('\n') == 1


@pytest.mark.slow
def test_nothing_but_the_plots_imports_matplotlib():
    files = [path for room in ('cli', 'bench') for path in (ROOT / 'timebill_ros' / room).glob('*.py')]
    modules = ['.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in files
               if not path.stem.endswith(('plots', '__main__')) or path.stem == 'optional_plots']
    code = f'import sys; sys.modules["matplotlib"] = None; import {", ".join(modules)}'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
