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

"""Measuring what a request that gives way costs: its sequence is put aside and taken up again."""
from __future__ import annotations

import time

from timebill_ros.inference.model import CausalLM
from timebill_ros.timing.fitting import Points


def measure(model: CausalLM, n_kv: int) -> Points:
    """Measure 'pause' with the `n_kv` entries that the cache holds, which it holds afterwards too.

    Nothing is measured where there is no room for so many.
    """
    if model.asides is None or n_kv > model.asides.room:
        return {}
    start = time.perf_counter()
    aside = model.asides.put()
    model.synchronize()
    model.asides.take_up(aside)
    model.synchronize()
    seconds = time.perf_counter() - start
    model.asides.let_go(aside)
    return {'pause': [[n_kv, seconds]]}
