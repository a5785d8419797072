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

"""Mistakes in a YAML file are told with file, line, key, value and what to do."""
from __future__ import annotations

import pytest

from timebill_ros.worker.checked_yaml import MAX_CHARACTERS, SWITCH, TEXT, CheckedYaml, Keys, YamlError, number, whole

KEYS = Keys({'name': TEXT, 'on': SWITCH, 'n': whole(1, 9), 'wait': number(5, 'seconds'),
             'parts': [Keys({'name': TEXT, 'n': whole(0, 9)}, needed=('name',))]}, needed=('name',))


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / 'file.yaml'
        path.write_text(text)
        return path
    return write


def test_what_is_as_its_table_says_comes_back(written):
    path = written('name: a\non: false\nn: 3\nwait: 2\nparts:\n  - {name: b}\n  - name: c\n    n: 0\n')
    file = CheckedYaml(path, KEYS)
    assert file.value == {'name': 'a', 'on': False, 'n': 3, 'wait': 2, 'parts': [{'name': 'b'}, {'name': 'c', 'n': 0}]}
    assert str(file.wrong(('parts', 1, 'n'), 'is odd')) == f'{file.path}, line 8: parts[1].n is odd'


@pytest.mark.parametrize('text, line, words', [
    ('name: a\nsurprise: 1', 2, 'surprise is not known; here may be name, on, n, wait, parts'),
    ('name: a\nn: 1\nn: 2', 3, 'n is there twice'),
    ('n: 1', 1, 'must have name, which is missing'),
    ('name: a\nparts:\n  - n: 1', 3, 'parts[0] must have name'),
    ('name: a\nparts:\n  - {name: b}\n  - {name: c, m: 1}', 4, 'parts[1].m is not known'),
    ('name: 7', 1, "name must be a text; got '7': put it between quotes"),
    ('name: yes', 1, "got 'yes': put it between quotes"),
    ('name:', 1, "name must be a text; got ''"),
    ('name: a\non: 1', 2, "on must be true or false; got '1'"),
    ('name: a\nn: 10', 2, "n must be a whole number from 1 to 9; got '10'"),
    ('name: a\nn: true', 2, "got 'true'"),
    ('name: a\nwait: .nan', 2, 'wait must be a number of seconds from 0 to 5'),
    ('name: a\nwait: -1', 2, "got '-1'"),
    ('name: a\nwait: [1]', 2, 'got a list'),
    ('name: a\nwait: 2026-99-99', 2, 'wait must be a number'),
    ('name: !!python/object:os.system a', 1, 'name must be a text'),
    ('name: a\nparts: b', 2, "parts must be a list of one item or more, each after a dash; got 'b'"),
    ('name: a\nparts: []', 2, 'got an empty list'),
    ('name: a\nparts: [b]', 2, "parts[0] must have keys, of name, n; got 'b'"),
    ('- name', 1, 'the file must have keys'),
    ('name: "a', 1, 'this is not YAML'),
    ('name: a\n[]: 1', 2, 'is not known'),
])
def test_a_mistake_is_told_where_it_is(written, text, line, words):
    path = written(text)
    with pytest.raises(YamlError) as caught:
        CheckedYaml(path, KEYS)
    assert str(caught.value).startswith(f'{path}, line {line}: ') and words in str(caught.value)


def test_what_is_no_file_of_ours(written, tmp_path):
    for path, words in [(tmp_path / 'none', 'cannot be read: No such file'),
                        (tmp_path, 'cannot be read: Is a directory'), (written(''), 'is empty; it must have name')]:
        with pytest.raises(YamlError, match=words):
            CheckedYaml(path, KEYS)
    path = written('')
    path.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(YamlError, match='is not a text in UTF-8'):
        CheckedYaml(path, KEYS)
    with pytest.raises(YamlError, match='too long'):
        CheckedYaml(written('#' * (MAX_CHARACTERS + 1)), KEYS)
    with pytest.raises(YamlError, match='nested too deeply'):
        CheckedYaml(written('[' * 5000), KEYS)


def test_aliases_do_not_explode(written):
    """Each line holds the one before ten times: 10 to the power of 20 in all."""
    lines = ['a: &a0 [b]'] + [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, 20)]
    with pytest.raises(YamlError, match='a is not known'):
        CheckedYaml(written('\n'.join(lines)), KEYS)
