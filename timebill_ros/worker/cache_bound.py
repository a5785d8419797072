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

"""The bound of cache_dir, held once the worker is ready: by then it uses what it needs."""
from __future__ import annotations

import logging
from pathlib import Path

from timebill_ros import disk_cache
from timebill_ros.resources import compiler_directory

log = logging.getLogger(__name__)


def hold_bound(cache: Path, limit_gib: float) -> None:
    """Remove from `cache` what is too much for `limit_gib`, and what stayed half made; the log says what went, and why.

    A log line says too where what is in use alone exceeds the bound. Nothing is raised: goals are served all the same.
    """
    try:
        disk_cache.use(compiler_directory(str(cache)))
        removed = disk_cache.keep_within(cache, limit_gib * 2 ** 30)
        held = sum(thing.bytes for thing in disk_cache.things(cache)) / 2 ** 30
    except OSError as error:
        log.warning('cache_dir %s cannot be kept within cache_limit_gib: %s', cache, error)
        return
    for thing in removed:
        log.info('removed %s from cache_dir: %s', thing.name, disk_cache.why_removed(thing, limit_gib))
    if held > limit_gib:
        log.warning('cache_dir %s holds %.2f GiB, more than cache_limit_gib (%g): what is left is in use', cache, held,
                    limit_gib)
