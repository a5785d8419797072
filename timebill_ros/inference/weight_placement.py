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

"""Getting a model's weights to its device without holding them twice.

Where accelerate is installed, transformers reads each tensor from its file to the device. Otherwise it reads all of
them to the host's memory, and they are moved from there. On a Jetson both are the same memory: a piece that has moved
must be given back before the next one moves.
"""
from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator

import torch
from torch import nn
from transformers.utils import is_accelerate_available

log = logging.getLogger(__name__)

GIVE_BACK_BYTES = 256 << 20  # moved since freed memory was last given back to the system


class WeightPlacement:
    """Where the weights of a model are to be. `options`: keywords for transformers' `from_pretrained`."""

    def __init__(self, device: torch.device):
        self._device, self.options = device, {}
        if device.type != 'cpu' and is_accelerate_available():
            self.options = {'device_map': {'': device}}
        elif device.type != 'cpu':
            log.info('weights are read to the memory of the host first: the package accelerate is not installed')

    def complete(self, model: nn.Module) -> None:
        """Move what is not on the device yet, tensor by tensor; what is tied stays tied."""
        moved: dict[int, torch.Tensor] = {}
        waiting = 0  # bytes
        for module in model.modules():
            for name, tensor, is_weight in _own_tensors(module):
                if tensor.device.type == self._device.type:
                    continue
                if id(tensor) not in moved:
                    there = tensor.detach().to(self._device)
                    moved[id(tensor)] = nn.Parameter(there, requires_grad=False) if is_weight else there
                    waiting += tensor.nbytes
                setattr(module, name, moved[id(tensor)])
                del tensor
                if waiting >= GIVE_BACK_BYTES:
                    give_back()
                    waiting = 0
        if moved:
            give_back()


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor, bool]]:
    """Yield (name, tensor, whether it is a weight) of a module without those inside it, and keep none of them alive."""
    for tensors, is_weight in ((module.named_parameters, True), (module.named_buffers, False)):
        for name in [name for name, _ in tensors(recurse=False)]:
            yield name, getattr(module, name), is_weight


def give_back() -> None:
    """Have glibc return freed memory to the system; the worker has told it to keep much (process_tuning.py).

    Otherwise 400 MiB of SmolLM2-135M in float32 (513 MiB) were left behind.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        log.debug('another C library keeps what it keeps')
