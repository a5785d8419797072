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

"""Where a bench's tasks come from."""
import json
import pickle
from pathlib import Path

import pytest

from timebill_ros.tasks import site_log
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.tasks.text_tasks import Asking


def test_the_site_log_is_there_without_a_file():
    source = TaskSource(None, 3)
    tasks = source.load()
    assert [task.messages for task in tasks] == [task.messages for task in site_log.tasks('test', 3)]
    assert tasks[0].max_new_tokens == 512
    assert TaskSource(None, 1, Asking(max_new_tokens=9)).load()[0].max_new_tokens == 9
    assert len({task.key for task in tasks}) == 3 and source.name == 'site log, test split'


def test_a_file_is_loaded_again_by_another_process(tmp_path):
    path = tmp_path / 'tasks.jsonl'
    path.write_text(json.dumps({'input': 'q', 'answers': ['a']}) + '\n')
    source = TaskSource(path, 0, Asking('{input}', 'f1', 5))
    again = pickle.loads(pickle.dumps(source))
    assert [task.key for task in again.load()] == [task.key for task in source.load()] and source.name == 'tasks.jsonl'


def test_a_limit_below_zero_is_refused():
    with pytest.raises(ValueError, match='-1'):
        TaskSource(Path('x'), -1)
