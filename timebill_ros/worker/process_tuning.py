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

"""Settings of this process that keep other work away from the model: memory, cores, priorities."""
from __future__ import annotations

import ctypes
import logging
import os

log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next request, in blocks of up to 32 MiB, the largest that it can keep.

    By default glibc gives large blocks back to the kernel, which hands them out again page by page. That was seen to
    take a tenth of the time of a prefill of 1000 tokens, and half the time of scoring a cache. Returns False where the
    C library is another one.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(mmap_threshold, 32 << 20), mallopt(trim_threshold, 1 << 30), mallopt(top_pad, 64 << 20)])


def parse_cores(text: str) -> set[int]:
    """Return the cores of a text: '0,2-3' -> {0, 2, 3}. ValueError with the text for anything else."""
    try:
        cores: set[int] = set()
        for part in text.split(','):
            first, dash, last = part.strip().partition('-')
            cores |= set(range(int(first), int(last if dash else first) + 1))
        if not cores or min(cores) < 0:
            raise ValueError
        return cores
    except ValueError:
        raise ValueError(f'cpu_affinity must be cores as in 0,2-3, got {text!r}') from None


def use_cores(text: str) -> None:
    """Bind this thread, and those it starts from now on, to the cores of `text`; empty: leave it as it is.

    Call it before torch is imported, because torch counts the cores then. ValueError for cores that this process may
    not use.
    """
    if not text:
        return
    cores = parse_cores(text)
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        raise ValueError(f'cpu_affinity {text!r} cannot be had: {error.strerror}; this process may use cores '
                         f'{sorted(os.sched_getaffinity(0))}') from error


def be_nice(value: int) -> None:
    """Raise the niceness of this thread, and of those it starts from now on, to `value`: other programs go first."""
    if value:
        os.setpriority(os.PRIO_PROCESS, 0, max(value, os.getpriority(os.PRIO_PROCESS, 0)))


def be_ordinary() -> None:
    """Give up a real-time priority that this process has inherited: loading a model would stop everything else."""
    if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def be_real_time(priority: int) -> bool:
    """Run this thread, but none that it starts, under SCHED_FIFO with `priority`; 0: leave it as it is.

    Where that is not permitted, log a warning, leave it as it is, and return False.
    """
    if not priority:
        return True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
        return True
    except OSError as error:
        log.warning('realtime_priority %d is not permitted (%s): it needs CAP_SYS_NICE, or an rtprio limit as in '
                    '/etc/security/limits.conf; going on without', priority, error.strerror)
        return False
