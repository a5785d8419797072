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


"""A head on looks at answers: the regression of hidden_state_head.py, with a weight for the answer's own states.

Of few looks the prompt's state alone tells more than together with the answer's own ones, which are twice as many
numbers and, near the end of the model, say more of the next token than of what is left. Of many looks they add to it.
So the weight of an answer's own states is chosen from OWN: the largest gain over the marginal, of labels left out.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from timebill_ros.length.hidden_state_head import LEAST_SCALE, HiddenStateHead, fit
from timebill_ros.length.label_grid import Labels

OWN = (0.0, 0.3, 1.0)  # weights of an answer's own states, each number of which then varies so much beside the prompt's


def fit_looks(states: np.ndarray, prompt_width: int, labels: Labels) -> HiddenStateHead:
    """Fit a head to the states of looks [n, S], float32, the first `prompt_width` numbers of which are the prompt's.

    ValueError as `fit` raises it.
    """
    part = (labels.weights / labels.weights.sum()).astype(np.float32)
    deviation = np.sqrt(part @ np.square(states - part @ states))
    scale = 1 / np.maximum(deviation, LEAST_SCALE * (np.median(deviation) or 1.0))
    heads = []
    for weight in OWN:
        factors = scale.copy()
        factors[prompt_width:] *= weight
        head = fit(states * factors, labels, standardised=False)
        heads.append(replace(head, weights=np.asfortranarray(head.weights * factors[:, None])))
    return max(heads, key=lambda head: head.gain[0])
