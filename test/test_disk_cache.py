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

"""The cache directory: what lies in it, what is in use, and what goes where there is too much."""
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from timebill_ros import disk_cache
from timebill_ros.disk_cache import PARTIAL, clear, in_making, keep_within, partial_folder, things, why_removed
from timebill_ros.resources import write_whole

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cache(tmp_path):
    """Two models of 4 and 3 MiB, a compiled step of 2 MiB and a profile of 100 bytes; the later, the older."""
    made = [('models/a/model.safetensors', 4 * MIB), ('models/b/model.safetensors', 3 * MIB),
            ('steps/one.pt2', 2 * MIB), ('profiles/p.yaml', 100)]
    for age, (name, size) in enumerate(made):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        for aged in (path, path.parent if name.startswith('models') else path):
            os.utime(aged, (1e9 - age, 1e9 - age))
    return tmp_path


@pytest.fixture
def used(cache):
    """A function that has another process use a thing of the cache until the test ends."""
    processes = []

    def use(name: str) -> None:
        code = 'import sys; from pathlib import Path; from timebill_ros.disk_cache import use; ' \
               'print(use(Path(sys.argv[1])), flush=True); input()'
        process = subprocess.Popen([sys.executable, '-c', code, str(cache / name)], cwd=ROOT, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == 'True\n'

    yield use
    for process in processes:
        process.communicate('\n', timeout=20)


def names(found) -> list[str]:
    return [thing.name for thing in found]


def test_things_are_listed_with_size_and_use(cache):
    found = things(cache)
    assert names(found) == ['models/a', 'models/b', 'steps/one.pt2', 'profiles/p.yaml']
    assert [thing.kind for thing in found] == ['model', 'model', 'compiled step', 'profile']
    assert [thing.bytes for thing in found] == [4 * MIB, 3 * MIB, 2 * MIB, 100]
    assert not any(thing.in_use for thing in found) and found[0].used_s == 1e9
    assert things(cache / 'nowhere') == []


def test_use_is_seen_and_makes_a_thing_the_newest(cache, used):
    used('models/b')
    found = things(cache)
    assert names(found)[0] == 'models/b' and [thing.in_use for thing in found] == [True, False, False, False]


@pytest.mark.parametrize(('limit_mib', 'gone'), [
    (9.1, []), (8.0, ['steps/one.pt2']), (5.0, ['steps/one.pt2', 'models/b']),
    (0.0, ['steps/one.pt2', 'models/b', 'models/a'])])  # never the small profile
def test_what_was_used_longest_ago_goes_first(cache, limit_mib, gone):
    assert names(keep_within(cache, limit_mib * MIB)) == gone
    assert set(names(things(cache))) == {'models/a', 'models/b', 'steps/one.pt2', 'profiles/p.yaml'} - set(gone)


def test_what_a_process_uses_stays(cache, used):
    used('models/b')
    used('steps/one.pt2')
    assert names(keep_within(cache, 0.0)) == ['models/a']
    removed, kept = clear(things(cache))
    assert names(removed) == ['profiles/p.yaml'] and sorted(names(kept)) == ['models/b', 'steps/one.pt2']
    assert (cache / 'models/b/model.safetensors').stat().st_size == 3 * MIB


def test_use_ends_with_the_process(cache, used):
    process = subprocess.run([sys.executable, '-c', 'import os, sys; from pathlib import Path; from timebill_ros.'
                              'disk_cache import use; use(Path(sys.argv[1])); os.abort()', str(cache / 'models/a')],
                             cwd=ROOT, stderr=subprocess.DEVNULL)
    assert process.returncode < 0 and 'models/a' in names(keep_within(cache, 0.0))


def test_what_is_gone_cannot_be_used(cache):
    assert not disk_cache.use(cache / 'models/none')


def test_a_directory_in_making_appears_whole_or_not_at_all(cache):
    with in_making(cache / 'models/c') as partial:
        (partial / 'config.json').write_text('{}')
        assert partial.name.endswith(PARTIAL) and not (cache / 'models/c').exists()
        assert names(keep_within(cache, 100 * MIB)) == []  # somebody makes it
    assert (cache / 'models/c/config.json').read_text() == '{}'
    with pytest.raises(ZeroDivisionError), in_making(cache / 'models/d') as partial:
        raise ZeroDivisionError
    with in_making(cache / 'models/c') as partial:  # again: it takes the place of the one that is there
        (partial / 'other').write_text('')
    assert sorted(path.name for path in (cache / 'models').iterdir()) == ['a', 'b', 'c']
    assert [path.name for path in (cache / 'models/c').iterdir()] == ['other']


def test_what_was_left_half_made_goes(cache):
    (cache / f'models/e.17{PARTIAL}').mkdir()
    gone, = keep_within(cache, 100 * MIB)
    assert gone.name == f'models/e.17{PARTIAL}' and 'half made' in why_removed(gone, 20.0)
    assert 'limit' not in why_removed(gone, 20.0)


def test_a_folder_for_a_part_of_the_work_is_its_makers_alone(cache):
    with pytest.raises(ZeroDivisionError), partial_folder(cache / 'downloads/package') as folder:
        (folder / 'half').write_bytes(bytes(100))
        assert names(keep_within(cache, 0.0)) == ['steps/one.pt2', 'models/b', 'models/a']
        removed, kept = clear(things(cache))
        assert (folder / 'half').is_file() and names(kept) == [f'downloads/{folder.name}']
        raise ZeroDivisionError
    assert list((cache / 'downloads').iterdir()) == []


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(cache, monkeypatch):
    flock, removed = fcntl.flock, []

    def late(descriptor, operation):
        if not removed:
            removed.extend((cache / 'downloads').iterdir())
            removed[0].rmdir()
        flock(descriptor, operation)

    monkeypatch.setattr(disk_cache.fcntl, 'flock', late)
    with partial_folder(cache / 'downloads/package') as folder:
        assert folder == removed[0] and folder.is_dir()


def test_a_file_that_is_written_whole_stays_meanwhile(cache, monkeypatch):
    replace = Path.replace
    monkeypatch.setattr(Path, 'replace', lambda path, target: keep_within(cache, 0.0) and replace(path, target))
    write_whole(cache / 'profiles/new.yaml', b'text')
    assert (cache / 'profiles/new.yaml').read_bytes() == b'text'


def test_nothing_stays_of_a_file_that_cannot_be_written(cache, monkeypatch):
    def full(path, target):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'replace', full)
    with pytest.raises(OSError, match='No space.*/profiles/new.yaml'):
        write_whole(cache / 'profiles/new.yaml', b'text')
    assert names(things(cache)).count('profiles/p.yaml') == 1 and len(list((cache / 'profiles').iterdir())) == 1
