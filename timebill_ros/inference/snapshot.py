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

"""A copy of a prefilled prompt, which a model can go back to."""
from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Snapshot:
    """A prefilled prompt: what decoding attends to, and what a scorer chooses by."""

    states: list[tuple[torch.Tensor, torch.Tensor]]  # per layer its filled keys and values, [1, H_kv, N, D] each
    queries: dict[int, torch.Tensor | None]  # layer -> the prompt's last queries, [1, H_q, <= MAX_WINDOW, D]
    n_prompt: int  # entries
