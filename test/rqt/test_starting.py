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

"""`timebill monitor --rqt`: rqt with the plugin alone, or a sentence."""
import os
import sys

import pytest

from timebill_ros.cli.main import main
from timebill_ros.rqt import starting


def test_without_rqt_there_is_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv('PATH', '/nowhere')
    assert starting.start('/timebill') == 1
    told = capsys.readouterr().err
    assert 'rqt is not on the path' in told and 'timebill monitor' in told and 'Traceback' not in told


def test_the_command_says_so_too(monkeypatch, capsys):
    pytest.importorskip('rclpy')
    monkeypatch.setenv('PATH', '/nowhere')
    assert main(['monitor', '--rqt']) == 1
    assert starting.MISSING in capsys.readouterr().err


def test_rqt_is_started_with_the_plugin_and_the_server(monkeypatch, tmp_path):
    heard = tmp_path / 'heard'
    program = tmp_path / 'rqt'
    program.write_text(f'#!{sys.executable}\nimport sys\nopen({str(heard)!r}, "w").write(" ".join(sys.argv[1:]))\n'
                       'sys.exit(3)\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path) + os.pathsep + os.environ['PATH'])
    assert starting.start('/robot/timebill') == 3
    assert heard.read_text() == '--force-discover --standalone timebill_ros/Deadlines --args --server /robot/timebill'
