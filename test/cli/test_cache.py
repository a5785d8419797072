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

"""`timebill cache`: the list, and what clearing removes."""
import os

import pytest

from timebill_ros.cli.main import main


@pytest.fixture
def cache(tmp_path):
    for name, size in (('models/tiny-0123/model.safetensors', 3 << 20), ('profiles/p.yaml', 100), ('state/s.json', 9)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size))
    os.utime(tmp_path / 'profiles/p.yaml', (1e9, 1e9))
    return tmp_path


def run(cache, *arguments: str) -> int:
    return main(['cache', '--cache-dir', str(cache), *arguments])


def test_the_list_says_what_how_large_and_when(cache, capsys):
    assert run(cache) == 0
    head, *rows, together, where = capsys.readouterr().out.splitlines()
    assert head.split() == ['name', 'what', 'MiB', 'last', 'used'] and where == f'in {cache}'
    row = next(row for row in rows if 'models/' in row)
    assert row.split() == ['models/tiny-0123', 'model', '3.0', 'just', 'now']
    assert rows[-1].startswith('profiles/p.yaml') and rows[-1].endswith(' days ago')
    assert together.split() == ['together', '3.0'] and len(rows) == 3


def test_an_empty_cache_is_said(tmp_path, capsys):
    assert run(tmp_path) == 0 and capsys.readouterr().out == f'nothing in {tmp_path}\n'


@pytest.mark.parametrize(('chosen', 'left'), [
    (['tiny-0123'], {'profiles/p.yaml', 'state/s.json'}), (['models'], {'profiles/p.yaml', 'state/s.json'}),
    (['profiles/p.yaml', 's.json'], {'models/tiny-0123/model.safetensors'}), (['all'], set())])
def test_what_is_named_is_removed(cache, capsys, chosen, left):
    assert run(cache, '--clear', *chosen) == 0
    assert {str(path.relative_to(cache)) for path in cache.rglob('*') if path.is_file()} == left
    assert capsys.readouterr().out.count('removed ') == 3 - len(left)


def test_a_wrong_name_removes_nothing(cache, capsys):
    assert run(cache, '--clear', 'profiles', 'nonsense') == 1
    assert "'nonsense' is not in" in capsys.readouterr().err and (cache / 'profiles/p.yaml').exists()


def test_what_is_used_stays_and_is_said(cache, capsys):
    from timebill_ros.disk_cache import use
    assert use(cache / 'models/tiny-0123')
    assert run(cache, '--clear', 'all') == 1
    assert 'models/tiny-0123 stays: a process uses it' in capsys.readouterr().out
    assert (cache / 'models/tiny-0123/model.safetensors').exists()
