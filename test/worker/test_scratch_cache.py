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

"""A cache_dir that cannot be written to: the worker goes on with a folder of its own, and one warning says why."""
from __future__ import annotations

import errno
import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from node_client import wait_until
from scripted_model import parameters
from worker_listener import Listener

from timebill_ros import settings
from timebill_ros.dispatch.worker_process import WorkerProcess
from timebill_ros.worker import scratch_cache
from timebill_ros.worker.scratch_cache import usable_cache

KEPT = {'profiles': 'case.yaml', 'state': 'case.json', 'steps': 'key.pt2', 'tuning': 'chunk.json'}


def read_only(tmp_path, monkeypatch):
    """A read-only disk; tests may run as root, whom permissions do not stop."""
    folder = filled(tmp_path / 'cache')
    refuse(monkeypatch, OSError(errno.EROFS, 'Read-only file system', str(folder)), below=folder)
    return folder


def full(tmp_path, monkeypatch):
    folder = filled(tmp_path / 'cache')
    refuse(monkeypatch, OSError(errno.ENOSPC, 'No space left on device'), below=folder)
    return folder


def nearly_full(tmp_path, monkeypatch):
    """Now there is room for the files that are tried, but not for what a start makes."""
    folder = filled(tmp_path / 'cache')
    monkeypatch.setattr(scratch_cache.shutil, 'disk_usage', lambda path: SimpleNamespace(total=1 << 30, free=300 << 10))
    return folder


def a_file(tmp_path, monkeypatch):
    (tmp_path / 'cache').touch()
    return tmp_path / 'cache'


def below_a_file(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    return tmp_path / 'file' / 'cache'


def not_even_made(tmp_path, monkeypatch):
    return Path('/proc/nowhere/cache')


def a_file_for_a_part(tmp_path, monkeypatch):
    folder = filled(tmp_path / 'cache')
    (folder / 'state' / 'case.json').unlink()
    (folder / 'state').rmdir()
    (folder / 'state').touch()
    return folder


UNWRITABLE = [read_only, full, nearly_full, a_file, below_a_file, not_even_made, a_file_for_a_part]


def filled(folder):
    for part, name in KEPT.items():
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_text(part)
    (folder / 'steps').chmod(0o700)
    return folder


def refuse(monkeypatch, error, below):
    make = tempfile.TemporaryFile

    def refusing(*arguments, dir, **named):
        if Path(dir).is_relative_to(below):
            raise error
        return make(*arguments, dir=dir, **named)

    monkeypatch.setattr(tempfile, 'TemporaryFile', refusing)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / 'scratch'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


@pytest.mark.parametrize('make', UNWRITABLE)
def test_one_warning_names_the_folder_and_the_reason(make, tmp_path, monkeypatch, scratch, caplog):
    folder = make(tmp_path, monkeypatch)
    stand_in = usable_cache(folder)
    assert stand_in.parent == scratch
    record, = caplog.records
    assert record.levelno == logging.WARNING
    assert f'cache_dir {folder} cannot be written to (' in record.message
    assert any(reason in record.message for reason in ('Read-only', 'No space', '0.3 MiB are free', 'Not a directory',
                                                       'exists', 'No such file')), record.message


@pytest.mark.parametrize('make', UNWRITABLE)
@pytest.mark.parametrize('part', KEPT)
def test_each_thing_that_is_kept_is_read_and_can_be_written(part, make, tmp_path, monkeypatch, scratch):
    folder = make(tmp_path, monkeypatch)
    stand_in = usable_cache(folder)
    if (folder / part / KEPT[part]).is_file():
        assert (stand_in / part / KEPT[part]).read_text() == part
    (stand_in / part / 'new').write_text('new')
    (stand_in / part / 'new').replace(stand_in / part / KEPT[part])
    assert not (folder / part / KEPT[part]).is_file() or (folder / part / KEPT[part]).read_text() == part


def test_a_disk_that_does_not_tell_its_room_counts_as_having_some(tmp_path, monkeypatch, scratch):
    monkeypatch.setattr(scratch_cache.shutil, 'disk_usage', lambda path: SimpleNamespace(total=0, free=0))
    assert usable_cache(tmp_path / 'cache') == tmp_path / 'cache'


def test_a_folder_that_can_be_written_to_is_used(tmp_path, scratch, caplog):
    assert usable_cache(tmp_path / 'new' / 'cache') == tmp_path / 'new' / 'cache'
    assert not caplog.records and not list(scratch.iterdir())
    assert not list((tmp_path / 'new' / 'cache').iterdir())


def test_steps_that_others_may_have_put_there_are_not_taken_over(tmp_path, monkeypatch, scratch):
    folder = read_only(tmp_path, monkeypatch)
    (folder / 'steps').chmod(0o777)
    stand_in = usable_cache(folder)
    assert not (stand_in / 'steps' / 'key.pt2').exists()
    assert (stand_in / 'tuning' / 'chunk.json').exists()


def test_nowhere_to_write_at_all(tmp_path, monkeypatch, caplog):
    folder = a_file(tmp_path, monkeypatch)
    monkeypatch.setattr(tempfile, 'tempdir', '/proc/nowhere')
    assert usable_cache(folder) == folder
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


@pytest.mark.slow
def test_a_worker_gets_ready_although_it_can_keep_nothing(tmp_path, caplog):
    (tmp_path / 'file').touch()
    listener = Listener()
    process = WorkerProcess('', listener)
    process.send({'op': 'configure', 'settings': settings.check(parameters(
        profile='', keep_state=True, cache_dir=str(tmp_path / 'file')))})
    wait_until(lambda: {'ready', 'failed'} & {event['event'] for event in listener.events})
    process.close()
    event = listener.wait('ready')
    assert event['one_time_s'] == 0.0  # a restart has it all to do again
    assert [record.levelno for record in caplog.records if 'cache_dir' in record.message] == [logging.WARNING]
