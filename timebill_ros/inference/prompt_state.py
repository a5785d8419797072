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

It is what one decoder layer returns. Which layer tells most of the answer's length depends on the model; two thirds of
the depth is where to look before anything was measured (for SmolLM2-135M every layer between the half and six sevenths
was equally good), and CANDIDATES are where labels are read to choose from (training/layer_choice.py).
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from timebill_ros.inference.steps.layer_calls import find_layers

USUAL = 2 / 3  # of the depth
CANDIDATES = (1 / 2, USUAL, 5 / 6)


def depth_at(n_layers: int, share: float = USUAL) -> int:
    """Return after how many of `n_layers` layers this share of the depth is passed, at least 1."""
    return max(1, round(share * n_layers))


def _layers(model: nn.Module) -> Sequence[nn.Module]:
    """Return the decoder layers. NotSplit where the model has no single list of them."""
    decoder = model.get_decoder()
    owner, name = find_layers(decoder, model.config.get_text_config(decoder=True).num_hidden_layers)
    return getattr(owner, name)


class PromptState:
    """Reads the state that prefill computes for the last token. `depth`: so many layers have contributed to it.

    NotSplit where the model has no single list of decoder layers, ValueError where it has fewer than `depth`.
    """

    def __init__(self, model: nn.Module, depth: int | None = None):
        layers = _layers(model)
        self.depth = depth_at(len(layers)) if depth is None else depth
        if not 1 <= self.depth <= len(layers):
            raise ValueError(f'there is no state behind layer {self.depth}: the model has {len(layers)}')
        self._layer: nn.Module = layers[self.depth - 1]
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


class CandidateStates:
    """Reads the states behind all layers that CANDIDATES name, in one pass, where a PromptState reads one."""

    def __init__(self, model: nn.Module):
        n_layers = len(_layers(model))
        self._states = [PromptState(model, depth)
                        for depth in sorted({depth_at(n_layers, share) for share in CANDIDATES})]

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """See PromptState."""
        with contextlib.ExitStack() as stack:
            for state in self._states:
                stack.enter_context(state.reading())
            yield

    def read(self) -> dict[int, np.ndarray]:
        """Return the state [H] at each depth."""
        return {state.depth: state.read() for state in self._states}
