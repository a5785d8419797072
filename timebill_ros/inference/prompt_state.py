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

"""The hidden state of a prompt's last token, read while prefill computes it anyway.

It is what the decoder layer at about two thirds of the depth returns. Length predictions from layers between the half
and six sevenths of the depth of SmolLM2-135M were equally good.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from timebill_ros.inference.steps.layer_calls import find_layers


class PromptState:
    """Reads the state that prefill computes for the last token. `depth`: so many layers have contributed to it.

    NotSplit where the model has no single list of decoder layers.
    """

    def __init__(self, model: nn.Module):
        decoder = model.get_decoder()
        n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
        owner, name = find_layers(decoder, n_layers)
        self.depth = max(1, round(2 * n_layers / 3))
        self._layer: nn.Module = getattr(owner, name)[self.depth - 1]
        self._host: torch.Tensor | None = None  # [H] float32; page-locked for a GPU, which writes to it by itself

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the state of the last token of each forward pass inside; there is no wait for the device."""
        hook = self._layer.register_forward_hook(self._keep)
        try:
            yield
        finally:
            hook.remove()

    def _keep(self, module, inputs, output) -> None:
        state = (output if isinstance(output, torch.Tensor) else output[0])[0, -1]  # of [1, L, H]
        if self._host is None or self._host.shape != state.shape:  # while loading, in the warm-up
            with torch.inference_mode(False):  # a tensor made in inference mode may be written to in no other mode
                self._host = torch.zeros(state.shape, pin_memory=state.device.type == 'cuda')
        self._host.copy_(state, non_blocking=True)

    def read(self) -> np.ndarray:
        """Return the state [H] (float32) that was kept last, once the stream of prefill has been waited for."""
        if self._host is None:
            raise ValueError('no state was read yet')
        return self._host.numpy().copy()
