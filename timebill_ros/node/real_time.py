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

"""Real-time priority for the node's own threads, those that watch deadlines and deliver results.

They take little time, but they need it at once: on cores that other programs fill, an ordinary thread that wakes up at
a deadline was seen to wait for tens of milliseconds.
"""
from __future__ import annotations

import os
from pathlib import Path

TASKS = Path('/proc/self/task')  # Linux: a folder for each thread of this process


def run_at(priority: int) -> str:
    """Run all threads of this process under SCHED_FIFO with `priority`, and those that they start; 0: change nothing.

    Return why that cannot be had, as a sentence, or an empty text.
    """
    if not priority:
        return ''
    try:
        for thread in sorted(int(entry.name) for entry in TASKS.iterdir()):
            try:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
            except ProcessLookupError:  # it has ended since
                continue
    except (OSError, AttributeError) as error:  # AttributeError: not on Linux
        return (f'node_realtime_priority {priority} is not permitted ({getattr(error, "strerror", None) or error}): it '
                'needs CAP_SYS_NICE, or an rtprio limit as in /etc/security/limits.conf; going on without')
    return ''
