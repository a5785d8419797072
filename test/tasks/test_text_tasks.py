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

"""Real-text tasks from files: what is read, and that whatever else is told with its line."""
import gzip
import json
import pickle

import pytest

from timebill_ros.tasks import text_tasks
from timebill_ros.tasks.text_tasks import Asking, balanced, load

ROW = {'prompt': 'How?', 'answers': ['so'], 'metric': 'f1', 'max_new_tokens': 32, 'family': 'reading', 'gold_at': 0.5}
LONG = {'input': 'Who?', 'context': 'Ann {input} won.', 'answers': ['Ann'], 'length': 3, 'dataset': 'hotpotqa',
        'language': 'en', 'all_classes': None, '_id': 'x'}


def write(path, *rows, pack=False):
    text = ''.join((row if isinstance(row, str) else json.dumps(row)) + '\n' for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if pack else text.encode())
    return path


@pytest.mark.parametrize('pack', [False, True])
def test_a_row_with_a_prompt(tmp_path, pack):
    task, = load(write(tmp_path / 'tasks.jsonl', '', ROW, pack=pack))
    assert task.messages == [{'role': 'user', 'content': 'How?'}]
    assert (task.family, task.max_new_tokens) == ('reading', 32)
    assert task.scores('So.') == {'score': 1.0} and task.score('no') == 0.0
    assert pickle.loads(pickle.dumps(task)).score('so') == 1.0  # processes are handed tasks


def test_longbench_rows_are_asked_as_it_publishes(tmp_path):
    other = {**LONG, 'dataset': 'trec', 'answers': ['City'], 'all_classes': ['City', 'Food']}
    asked, typed = load(write(tmp_path / 'tasks.jsonl', LONG, other))
    assert 'given passages.\nAnn {input} won.\n\nAnswer' in asked.messages[0]['content']
    assert asked.messages[0]['content'].endswith('Question: Who?\nAnswer:')
    assert (asked.family, asked.max_new_tokens, asked.score('Ann')) == ('hotpotqa', 32, 1.0)
    assert typed.score('City\nQuestion: Food?\nType: Food') == 1.0, 'the first line is the answer'


def test_what_the_user_says_fills_in(tmp_path):
    path = write(tmp_path / 'tasks.jsonl', {**LONG, 'dataset': 'lcc'})
    task, = load(path, asking=Asking('{context} - {input}', 'subspan', 7))
    assert task.messages[0]['content'] == 'Ann {input} won. - Who?'
    assert (task.family, task.max_new_tokens, task.score('It is Ann, of course')) == ('lcc', 7, 1.0)
    for asking, missing in ((Asking('{context}', 'subspan'), 'max_new_tokens'), (Asking('{context}'), 'metric')):
        with pytest.raises(ValueError, match=f'line 1: {missing}'):
            load(path, asking=asking)
    with pytest.raises(ValueError, match=r"line 1: it has no prompt, and there is no template for the dataset 'lcc'"):
        load(path)
    with pytest.raises(ValueError, match='neither'):
        Asking('Answer!')
    with pytest.raises(ValueError, match="'bleu'"):
        Asking(metric='bleu')


@pytest.mark.parametrize(('row', 'told'), [
    ('{"prompt"', 'it is no JSON'), ('[' * 100_000, 'it is no JSON'), ('[]', 'must be an object'),
    ('\udcff', 'it is no JSON'), ({**ROW, 'prompt': 3}, 'prompt must be a text'),
    ({**ROW, 'metric': 'bleu'}, "metric 'bleu' is none of subspan"),
    ({**ROW, 'answers': []}, 'answers must hold'), ({**ROW, 'answers': [' ']}, 'answers must hold'),
    ({**ROW, 'answers': 'so'}, 'answers must be a list'), ({**ROW, 'answers': [1]}, 'answers must be a list'),
    ({**ROW, 'answers': ['so'] * 1001}, 'answers must be a list'),
    ({**ROW, 'max_new_tokens': 0}, 'max_new_tokens must'), ({**ROW, 'max_new_tokens': 1.5}, 'max_new_tokens must'),
    ({**ROW, 'max_new_tokens': 1 << 21}, 'max_new_tokens must'), ({**ROW, 'max_new_tokens': True}, 'max_new_tokens'),
])
def test_a_bad_line_is_told_by_its_number(row, told, tmp_path):
    path = tmp_path / 'tasks.jsonl'
    text = row if isinstance(row, str) else json.dumps(row)
    path.write_bytes(f'{json.dumps(ROW)}\n\n{text}\n'.encode(errors='surrogateescape'))
    with pytest.raises(ValueError, match=f'tasks.jsonl, line 3: .*{told}'):
        load(path)


def test_what_is_read_is_bounded(tmp_path, monkeypatch):
    path = write(tmp_path / 'tasks.jsonl', ROW, ROW, ROW)
    for name, most, told in (('MAX_ROWS', 2, 'line 3: more than 2 rows'), ('MAX_FILE', 150, 'line 2: more than 150 b'),
                             ('MAX_LINE', 50, 'line 1: more than 50 bytes in a line')):
        with monkeypatch.context() as patch, pytest.raises(ValueError, match=told):
            patch.setattr(text_tasks, name, most)
            load(path)


def test_a_file_without_tasks_and_a_damaged_one(tmp_path):
    with pytest.raises(ValueError, match='holds no tasks'):
        load(write(tmp_path / 'tasks.jsonl', ''))
    packed = write(tmp_path / 'tasks.jsonl.gz', *[{**ROW, 'prompt': str(i)} for i in range(500)], pack=True)
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(ValueError, match='line 5[0-9]{2}: the gzipped file is damaged|line 4[0-9]{2}'):
        load(packed)
    with pytest.raises(OSError):
        load(tmp_path / 'nowhere.jsonl')


def test_a_limit_takes_the_first_of_each_family(tmp_path):
    rows = [{**ROW, 'family': family, 'prompt': f'{family}{i}'} for i in range(4) for family in 'aab']
    tasks = load(write(tmp_path / 'tasks.jsonl', *rows))
    assert [task.messages[0]['content'] for task in balanced(tasks, 4)] == ['a0', 'a0', 'b0', 'b1']
    assert len({task.key for task in tasks}) == len(tasks), 'equal rows are different tasks'
    assert [task.family for task in balanced(tasks, 11)].count('b') == 4
    assert balanced(tasks, 0) == balanced(tasks, 99) == tasks
    assert [t.key for t in load(tmp_path / 'tasks.jsonl', limit=4)] == [t.key for t in balanced(tasks, 4)]


def test_a_task_keeps_its_key_unless_it_changes(tmp_path):
    key = load(write(tmp_path / 'a', ROW))[0].key
    assert load(write(tmp_path / 'b', {**ROW, 'id': 7}, {**ROW, 'prompt': 'x'}))[0].key == key
    for change in ({'prompt': 'x'}, {'answers': ['x']}, {'metric': 'subspan'}, {'max_new_tokens': 31}):
        assert load(write(tmp_path / 'b', {**ROW, **change}))[0].key != key
