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

"""What a training run leaves while it goes on."""
import json

import pytest

from timebill_ros.training.run_files import LOG_FILE, Checkpoints, ProgressFile, alone_in


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_checkpoint_is_due_by_the_clock_and_by_what_writing_one_costs():
    clock, written = Clock(), []

    def write():
        written.append(clock.now_s)
        clock.now_s += 3.0

    checkpoints = Checkpoints(write, 30.0, clock)
    for clock.now_s in (110.0, 129.0, 131.0):
        checkpoints.write_if_due()
    assert written == [131.0]
    for clock.now_s in (165.0, 193.0, 195.0):  # 60 s after the last one was written, which had taken 3 s
        checkpoints.write_if_due()
    assert written == [131.0, 195.0]


def test_progress_is_a_line_now_and_then_and_one_at_the_end_of_a_phase(tmp_path):
    clock = Clock()
    told = ProgressFile(tmp_path, clock)
    for done, clock.now_s in enumerate((100.0, 101.0, 109.0, 111.0, 112.0), start=1):
        told.tell('labels', done, 5, length=0.5)
    lines = [json.loads(line) for line in (tmp_path / LOG_FILE).read_text().splitlines()]
    assert [line['done'] for line in lines] == [1, 4, 5]
    assert lines[0] == {'phase': 'labels', 'done': 1, 'of': 5, 'length': 0.5}


def test_one_run_at_a_time_works_in_a_directory(tmp_path):
    with alone_in(tmp_path), pytest.raises(ValueError, match='another training is at work in'), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass
