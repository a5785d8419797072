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

"""What the measurements of prompts that are reused share: the ways to read a prompt, and how long to repeat."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from timebill_ros.deadline import Clock
from timebill_ros.inference.model import CausalLM

BEFORE, NOTHING, REUSED = 'before', 'from nothing', 'reused'


@contextlib.contextmanager
def without_store(model: CausalLM, *, tiles: bool) -> Iterator[None]:
    """Read prompts from their beginning inside, with attention in tiles, where the model has it, or PyTorch's."""
    store, model.prefixes, mine = model.prefixes, None, model.tiles
    if not tiles:
        model.use_tiles(None)
    try:
        yield
    finally:
        model.use_tiles(mine)
        model.prefixes = store


def repeats(most: int, seconds: float, *, least: int = 2, clock: Clock = time.monotonic) -> Iterator[int]:
    """Yield 0 to `most` - 1, but after `least` none that would end later than `seconds` after the first began."""
    started = clock()
    for i in range(most):
        if i >= max(least, 1) and (clock() - started) * (i + 1) / i > seconds:
            return
        yield i
