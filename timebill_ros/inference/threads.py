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

"""How many CPU threads compute, and what they do while they wait.

This file does not import torch: `wait_briefly` must be called before torch is imported.
"""
from __future__ import annotations

import os

# Up to this size of weights one thread decodes. Such a step takes about a millisecond; a second thread for its hundred
# small operations costs as much as it saves, and far more as soon as another program wants the core.
SMALL_WEIGHTS = 16 * 2 ** 20  # bytes


def available_cores() -> int:
    """Return how many cores this process may use; in a container that is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


# How often a thread of GNU OpenMP looks at a barrier before it sleeps: some ten microseconds. A decode step of 0.5
# billion int8 weights on two cores, which has 240 barriers, took 23 ms with no spins, 13.5 ms with these and 12.5 ms
# with fifty times as many; beside a program that keeps one core busy it took 21, 26 and 120 ms.
SPINS = '400'


def wait_briefly() -> None:
    """Have OpenMP's threads spin only for an instant at barriers, then sleep. Call this before torch is imported.

    By default they spin on, and starve each other as soon as anything else runs. OMP_WAIT_POLICY and GOMP_SPINCOUNT in
    the environment take precedence.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'
        os.environ.setdefault('GOMP_SPINCOUNT', SPINS)


def for_decoding(requested: int, weight_bytes: int) -> int:
    """Return the threads of a decode step: as requested, or for 0 by the size of the weights."""
    return requested or (1 if weight_bytes <= SMALL_WEIGHTS else available_cores())


def for_prefill(threads: int, beside: int) -> int:
    """Return the threads of prefill while `beside` other threads predict: each thread gets a core of its own.

    A thread that shares its core makes all others wait for it.
    """
    return max(1, min(threads, available_cores() - beside))
