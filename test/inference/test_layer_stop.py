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

"""A forward pass stops before a layer, and only inside the block that asks for it."""
import pytest
import torch

from timebill_ros.inference.layer_stop import Stopped, stop_before_layers


@pytest.mark.parametrize('stop_at', [1, 2, 3])
def test_a_pass_stops_before_the_layer_that_asked(stop_at):
    layers = torch.nn.Sequential(*(torch.nn.Identity() for _ in range(3)))
    asked, ran = [], []
    for i, layer in enumerate(layers):
        layer.register_forward_hook(lambda module, inputs, output, i=i: ran.append(i))

    def should_stop():
        asked.append(1)
        return len(asked) >= stop_at

    with pytest.raises(Stopped), stop_before_layers(layers, should_stop):
        layers(torch.zeros(1))
    assert ran == list(range(stop_at - 1))
    layers(torch.zeros(1))
    assert len(asked) == stop_at, 'nobody asks later'
