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

"""Models of public shapes with random weights."""
from timebill_ros.bench import shapes
from timebill_ros.bench.device import bytes_of_step
from timebill_ros.inference import devices
from timebill_ros.inference.model import CausalLM


def test_a_shape_is_a_model_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: False)
    model = CausalLM(str(shapes.write(tmp_path / 'm', 'tiny')), device='cpu', threads=1, max_context_tokens=64)
    assert model.variant == 'bfloat16' and model.max_context == 64
    n_weights = sum(p.numel() for p in model.model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.model.buffers())  # of the positions
    assert bytes_of_step(model, 0) == 2 * n_weights + buffers, 'its embedding is its head too'
    assert bytes_of_step(model, 10) - bytes_of_step(model, 0) == 10 * 4 * 2 * 2 * 32 * 2
