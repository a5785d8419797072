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

"""Which layer's hidden states tell most of the lengths of answers, for one model and its prompts.

A head is fitted to the states of each layer. The one whose predictions of labels that were left out are best is taken:
by how much their CRPS is below that of a prediction that reads no prompt.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from timebill_ros.length.hidden_state_head import FEWEST, fit
from timebill_ros.length.label_grid import Labels, bucket_size_for


@dataclass(frozen=True)
class LayerChoice:
    """The chosen depth, in layers, and the gain of each: tokens of CRPS, with its standard error."""

    depth: int
    gains: dict[int, tuple[float, float]]


def choose_layer(states: dict[int, np.ndarray], lengths: np.ndarray, whole: np.ndarray) -> LayerChoice:
    """Choose among normalised states [n, H] by depth, for answers of `lengths` [n] tokens, `whole` [n] or cut then.

    With fewer than FEWEST labels it is the middle one.
    """
    depths = sorted(states)
    if len(lengths) < FEWEST:
        return LayerChoice(depths[len(depths) // 2], {})
    labels = Labels(lengths, whole, bucket_size_for(lengths))
    gains = {depth: fit(np.asarray(states[depth], dtype=np.float32), labels).gain for depth in depths}
    return LayerChoice(max(depths, key=lambda depth: gains[depth][0]), gains)
