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

"""`timebill forget` says what it removed, for which model and profile, and what running nodes do."""
from timebill_ros.cli.main import main
from timebill_ros.planning import forgetting
from timebill_ros.planning.tracker import Tracker


def test_forget_removes_what_is_kept_and_says_so(tmp_path, capsys):
    path = tmp_path / 'state' / 'a.json'
    Tracker(profile={'date': '2026-01-02', 'identity': {'device': 'a CPU'}}).save(path, 'tiny')
    assert main(['forget', '--cache-dir', str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert not path.exists()
    assert f'removed {path}' in out and 'tiny on a CPU (profile of 2026-01-02' in out
    assert f'A node that runs with cache_dir {tmp_path} forgets before its next goal' in out


def test_forget_says_where_nothing_is_kept_and_writes_nothing(tmp_path, capsys):
    assert main(['forget', '--cache-dir', str(tmp_path / 'none')]) == 0
    assert capsys.readouterr().out == f'nothing is kept in {tmp_path / "none"}\n'
    assert not (tmp_path / 'none').exists()


def test_what_was_removed_is_said_where_nodes_cannot_be_told(tmp_path, capsys, monkeypatch):
    path = tmp_path / 'state' / 'a.json'
    Tracker(profile={'date': '2026-01-02', 'identity': {'device': 'a CPU'}}).save(path, 'tiny')
    monkeypatch.setattr(forgetting, '_why_unmarked', lambda cache: 'No space left on device')
    assert main(['forget', '--cache-dir', str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert f'removed {path}' in told.out and f'timebill forget: {tmp_path} cannot be written to (No space' in told.err


def test_the_default_is_the_users_cache(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert main(['forget']) == 0
    assert f'nothing is kept in {tmp_path / "timebill_ros"}' in capsys.readouterr().out
