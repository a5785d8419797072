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

"""The file of finished answers: what is read back, what is dropped and what is refused."""
import json

import pytest

from timebill_ros.training.journal import Journal, beside, read


def test_entries_are_there_again(tmp_path):
    path = beside(tmp_path / 'new' / 'result.json')
    assert path.name == 'result.answers.jsonl'
    with Journal(path, {'model': 'm', 'ratio': (1, 2)}) as journal:
        journal.add({'text': 'a\nb', 'n': 1})
        assert json.loads(path.read_text().splitlines()[-1]) == {'text': 'a\nb', 'n': 1}, 'not before the end'
    with Journal(path, {'model': 'm', 'ratio': (1, 2)}) as journal:
        assert journal.entries == [{'text': 'a\nb', 'n': 1}]
        journal.add({'n': 2})
    with Journal(path, {'model': 'm', 'ratio': (1, 2)}) as journal:
        assert [entry['n'] for entry in journal.entries] == [1, 2]


@pytest.mark.parametrize('cut', [1, 5, 12])
def test_a_line_that_was_cut_is_dropped(tmp_path, cut):
    path = tmp_path / 'journal'
    with Journal(path, {}) as journal:
        journal.add({'n': 1})
        journal.add({'n': 22222})
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, {}) as journal:
        assert journal.entries == [{'n': 1}]
        journal.add({'n': 3})
    with Journal(path, {}) as journal:
        assert journal.entries == [{'n': 1}, {'n': 3}]


def test_reading_leaves_the_file_as_it_is(tmp_path):
    path = tmp_path / 'journal'
    with Journal(path, {'model': 'm'}) as journal:
        journal.add({'n': 1})
    text = path.read_text() + '{"n": 2'  # as another process writes it just now
    path.write_text(text)
    assert read(path) == ({'journal': 1, 'model': 'm'}, [{'n': 1}]) and path.read_text() == text
    path.write_text('')
    with pytest.raises(ValueError, match='journal is empty'):
        read(path)


def test_a_header_that_was_cut_begins_anew(tmp_path):
    path = tmp_path / 'journal'
    path.write_text('{"jour')
    with Journal(path, {'model': 'm'}):
        assert path.read_text() == '{"journal": 1, "model": "m"}\n'


@pytest.mark.parametrize(('text', 'told'), [
    ('{"journal": 1, "model": "other"}\n', "answers of {'model': 'other'}, not of {'model': 'm'}; delete it"),
    ('{"journal": 2, "model": "m"}\n', "answers of {'journal': 2}"), ('{"journal": 1}\n', "{'model': None}"),
    ('{"journal": 1, "model": "m", "more": 3}\n', "{'more': 3}"), ('hello\n', 'is no list of finished answers'),
    ('{"journal": 1, "model": "m"}\nhello\n', 'is no list of finished answers'), ('3\n', 'is no list'),
])
def test_other_files_are_refused_and_left_alone(tmp_path, text, told):
    path = tmp_path / 'journal'
    path.write_text(text)
    with pytest.raises(ValueError, match='journal') as error:
        Journal(path, {'model': 'm'})
    assert told in str(error.value) and path.read_text() == text
