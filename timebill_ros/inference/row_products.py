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

"""Products of a weight and one token, in the form of which PyTorch's compiler makes the quickest loops for a CPU.

BLAS libraries are made for matrices: for one row they were seen to read weights at a quarter of the memory's pace (and
half-precision weights slower still); a fused loop reaches that pace.
"""
from __future__ import annotations

import torch

SHORT_SUM = 4096  # numbers; Inductor sums this many or more in cascades, which takes half as long again


def row_products(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the products of each row of `weight`, [N, K], with x: [N], float32. Long rows are summed in parts."""
    n, k = weight.shape
    parts = next((parts for parts in range(1, k // 64) if k % parts == 0 and k // parts < SHORT_SUM), 1)
    # Otherwise the compiler would compute x, and all that goes into x, for every row.
    whole = in_memory(x.to(torch.float32).reshape(1, parts, k // parts))
    return (weight.view(n, parts, -1).to(torch.float32) * whole).sum(-1).sum(-1)


def in_memory(x: torch.Tensor) -> torch.Tensor:
    """Return x, contiguous, as the compiler computes it once: it takes what is strided for a buffer."""
    strides, size = [], 1
    for n in reversed(x.shape):
        strides.insert(0, size)
        size = size * n
    return x.contiguous().as_strided(x.shape, strides)
