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

"""What can go wrong with a scripted answer: one function a fault, and its row in FAULTS."""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from timebill_ros.codes import ErrorCode, GoalError


def crash() -> None:
    """End this process as the kernel does where memory is short: its goal ends with WORKER_LOST."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    """Do nothing any more, for ever: the node ends the goal at its deadline, and replaces this process."""
    threading.Event().wait()


def error() -> None:
    """End the goal with UNKNOWN. After three goals that end so the node replaces this process."""
    raise GoalError(ErrorCode.UNKNOWN, 'the script has this answer fail (fault: error)')


def out_of_memory() -> None:
    """End the goal with OUT_OF_MEMORY; the process goes on."""
    raise MemoryError('the script has this answer fail (fault: out_of_memory)')


FAULTS: dict[str, Callable[[], None]] = {
    'crash': crash, 'hang': hang, 'error': error, 'out_of_memory': out_of_memory}
