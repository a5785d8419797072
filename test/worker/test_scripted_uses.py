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

"""Counts of a script's answers go on in the process that follows a crashed one, and begin anew at configure."""
from __future__ import annotations

import os
from pathlib import Path

from timebill_ros.worker.scripted_uses import Uses

SCRIPT = Path('/s.yaml')


def test_counts_survive_a_crash_and_not_a_configure(tmp_path):
    first = Uses(tmp_path, SCRIPT, anew=True)
    first.count(3)
    first.count(3)
    assert (first.of(3), first.of(0)) == (2, 0)
    second = Uses(tmp_path, SCRIPT, anew=False)
    assert (second.of(3), second.of(0)) == (2, 0)
    second.count(0)
    assert Uses(tmp_path, SCRIPT, anew=False).of(0) == 1
    assert Uses(tmp_path, SCRIPT, anew=True).of(3) == 0 and list(tmp_path.iterdir()) == []


def test_a_configure_removes_what_nodes_that_are_gone_have_left(tmp_path):
    (tmp_path / '999999999-a.json').write_text('{}')  # larger than any process id of Linux
    (tmp_path / f'{os.getpid()}-a.json').write_text('{"1": 1}')  # a node that lives
    Uses(tmp_path, SCRIPT, anew=True)
    assert [path.name for path in tmp_path.iterdir()] == [f'{os.getpid()}-a.json']


def test_two_scripts_of_one_process_do_not_meet(tmp_path):
    first, second = Uses(tmp_path, SCRIPT, anew=True), Uses(tmp_path, Path('/other.yaml'), anew=True)
    first.count(1)
    second.count(2)
    assert Uses(tmp_path, SCRIPT, anew=False).of(2) == 0 and Uses(tmp_path, SCRIPT, anew=False).of(1) == 1


def test_a_file_that_cannot_be_used_costs_no_goal(tmp_path, caplog):
    first = Uses(tmp_path, SCRIPT, anew=True)
    first.count(1)
    path, = tmp_path.iterdir()
    path.write_text('[1')
    assert Uses(tmp_path, SCRIPT, anew=False).of(1) == 0
    (tmp_path / 'file').write_text('')
    uses = Uses(tmp_path / 'file', SCRIPT, anew=False)
    uses.count(1)
    assert uses.of(1) == 1 and 'is forgotten where this process is replaced' in caplog.text
