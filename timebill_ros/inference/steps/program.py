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

"""A compiled program, loaded from its file: tensors in, tensors out."""
from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from timebill_ros import disk_cache
from timebill_ros.inference.steps import ahead_of_time


class Program:
    """The program in the file `package`, see compiling.py.

    `weights`: tensors by the names that they had in the trace; the program reads them where they are. None: all that
    it needs is in the file. `run` takes and returns a list of tensors.
    """

    def __init__(self, package: Path, weights: dict[str, torch.Tensor] | None, device: torch.device):
        self._program = ahead_of_time.load(package)
        disk_cache.use(package)  # it stays in the cache while this process may start again from it
        if weights is not None:
            constants = package.with_suffix('.safetensors')
            self.weights = {**weights, **(load_file(constants, str(device)) if constants.is_file() else {})}
            ahead_of_time.share_weights(self._program, self.weights)
        self.run = ahead_of_time.runner(self._program)
