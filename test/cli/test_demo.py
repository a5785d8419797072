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

"""The demonstration as a program: its node always ends, and its answers are shown with or without a picture."""
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_demo_goals import make_row

from timebill_ros import client
from timebill_ros.bench import optional_plots, plots
from timebill_ros.cli import demo, demo_site_log, demo_text
from timebill_ros.inference import named_models


def test_timeline_is_drawn(tmp_path):
    plots.timeline([make_row(), make_row(verdict='INFEASIBLE')], tmp_path / 'deep' / 'timeline.png')
    assert (tmp_path / 'deep' / 'timeline.png').read_bytes().startswith(b'\x89PNG')


def test_stop_ends_a_process_that_ignores_ctrl_c(monkeypatch):
    code = 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print("up", flush=True); time.sleep(60)'
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    process.stdout.readline()
    monkeypatch.setattr(demo, 'STOP_TIMEOUT_S', 0.5)
    demo.stop(process)
    assert process.returncode == -9
    process.stdout.close()


@pytest.fixture
def without_node(monkeypatch):
    """The demonstration with a node that is active at once and two goals that have been answered."""
    commands = []
    node = SimpleNamespace(wait_until_active=lambda timeout_s, alive: None)
    monkeypatch.setattr(demo, 'isolate', lambda: None)
    monkeypatch.setattr(demo, 'stop', lambda process: None)
    monkeypatch.setattr(demo.subprocess, 'Popen', lambda arguments, **options: commands.append(arguments))
    monkeypatch.setattr(client, 'Client', lambda: nullcontext(node))
    for asks in (demo_site_log, demo_text):
        monkeypatch.setattr(asks, 'send_goals', lambda client: [make_row(), make_row(finish_reason='DEADLINE')])
    return commands


def run(out: Path, model: str = 'embedded') -> int:
    return demo.run(SimpleNamespace(out=out, model=model))


def test_answers_are_written_shown_and_drawn(without_node, tmp_path, capsys):
    assert run(tmp_path / 'made') == 0
    results, picture = tmp_path / 'made' / 'results.json', tmp_path / 'made' / 'timeline.png'
    assert len(json.loads(results.read_text())) == 2 and picture.read_bytes().startswith(b'\x89PNG')
    assert capsys.readouterr().out.endswith(
        f'2 goals, 2 promised, 1 promises broken; written to {results} and {picture}\n')


def test_without_matplotlib_answers_are_written_and_shown(without_node, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(optional_plots, 'plots_if_installed', lambda: shown.append(capsys.readouterr().out))
    assert run(tmp_path) == 0
    assert 'steps right' in shown[0] and make_row()['text'].split()[0] in shown[0]
    assert len(json.loads((tmp_path / 'results.json').read_text())) == 2
    assert capsys.readouterr().out.endswith(f'1 promises broken; written to {tmp_path / "results.json"}\n')
    assert not (tmp_path / 'timeline.png').exists()


def test_too_many_broken_promises_are_an_exit_status(without_node, tmp_path, monkeypatch):
    monkeypatch.setattr(optional_plots, 'plots_if_installed', lambda: None)
    monkeypatch.setattr(demo_site_log, 'send_goals', lambda client: [make_row(finish_reason='DEADLINE')] * 2)
    assert run(tmp_path) == 1


@pytest.mark.parametrize(('named', 'is_in_cache', 'served'), [
    ('', True, 'smollm2'), ('', False, 'embedded'), ('embedded', True, 'embedded'), ('/a/model', True, '/a/model')])
def test_the_real_model_is_shown_where_it_is_here(named, is_in_cache, served, without_node, tmp_path, capsys,
                                                  monkeypatch):
    monkeypatch.setattr(named_models, 'find_named', lambda name, cache: tmp_path if is_in_cache else None)
    monkeypatch.setattr(optional_plots, 'plots_if_installed', lambda: None)
    assert run(tmp_path, named) == 0
    assert f'model:={served}' in without_node[0]
    told = capsys.readouterr().out
    assert ('"timebill get-model smollm2" takes it there' in told) is (not named and not is_in_cache)
    assert ('a robot uses a larger model' in told) is (served != 'embedded')
    assert ('steps right' in told) is (served == 'embedded')
    assert ('  1.000 s  generous' in told) is (served != 'embedded')
