"""How many CPU threads compute, and what they do while they wait. No torch: some of it must come before torch."""
from __future__ import annotations

import os

# Up to this size of weights one thread decodes: a step takes about a millisecond, and letting a second thread take
# part in its hundred small operations costs as much as it saves, and far more once anything else wants the core.
SMALL_WEIGHTS = 16 * 2 ** 20  # bytes


def available_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def sleep_while_waiting() -> None:
    """Have OpenMP's threads sleep at its barriers instead of spinning. Only before torch is imported.

    Spinning threads starve each other as soon as anything else runs: on two cores beside a competing load, prefill
    on two threads took four times as long as with threads that sleep. OMP_WAIT_POLICY in the environment wins.
    """
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def for_decoding(requested: int, weight_bytes: int) -> int:
    """Threads of a decode step: as requested, or (0) by the size of the weights."""
    return requested or (1 if weight_bytes <= SMALL_WEIGHTS else available_cores())


def for_prefill(threads: int, beside: int) -> int:
    """Threads of prefill while `beside` others predict: one core each, because a thread that shares its core makes
    all others wait for it."""
    return max(1, min(threads, available_cores() - beside))
