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

"""What the log says of the cache's bound."""
import logging
import os
from pathlib import Path

from timebill_ros import disk_cache
from timebill_ros.worker.cache_bound import hold_bound


def make(cache: Path, name: str, mib: int) -> Path:
    path = cache / 'models' / name
    path.mkdir(parents=True)
    (path / 'model.safetensors').write_bytes(bytes(mib << 20))
    os.utime(path, (1e9, 1e9))
    return path


def test_what_goes_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make(tmp_path, 'old', 3)
    hold_bound(tmp_path, 1.0)
    assert not caplog.records
    hold_bound(tmp_path, 1 / 1024)
    record, = caplog.records
    assert record.message.startswith('removed models/old from cache_dir: the cache held more than cache_limit_gib')
    assert not (tmp_path / 'models' / 'old').exists()


def test_what_stayed_half_made_goes_for_that_reason(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    make(tmp_path, f'half{disk_cache.PARTIAL}', 1)
    hold_bound(tmp_path, 20.0)
    record, = caplog.records
    assert record.message == 'removed models/half.partial from cache_dir: it was half made, and no process goes on ' \
        'with it'


def test_what_is_in_use_stays_and_the_excess_is_said(tmp_path, caplog):
    kept = make(tmp_path, 'used', 3)
    assert disk_cache.use(kept)
    hold_bound(tmp_path, 1 / 1024)
    record, = caplog.records
    assert 'holds 0.00 GiB, more than cache_limit_gib' in record.message and record.levelno == logging.WARNING
    assert (kept / 'model.safetensors').exists()


def test_a_cache_that_cannot_be_changed_is_a_warning(tmp_path, caplog, monkeypatch):
    def refuse(cache, limit):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(disk_cache, 'keep_within', refuse)
    hold_bound(tmp_path, 1.0)
    assert 'cannot be kept within cache_limit_gib' in caplog.text
