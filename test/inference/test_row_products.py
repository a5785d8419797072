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

"""Products of one token, computed row by row, against PyTorch's own."""
import pytest
import torch

from timebill_ros.inference.row_products import in_memory, row_products


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(('n', 'k'), [(8, 64), (13, 96), (4, 20000), (3, 4097)])
def test_it_is_the_product(n, k, dtype):
    torch.manual_seed(0)
    weight, x = torch.randn(n, k).to(dtype), torch.randn(1, 1, k).to(dtype)
    torch.testing.assert_close(row_products(x, weight), weight.float() @ x.float().flatten(), rtol=1e-4, atol=1e-3)


def test_what_is_put_in_memory_stays_what_it_is():
    x = torch.randn(3, 4, 5)
    for view in (x, x.transpose(0, 2), x[:, 1:3]):
        assert torch.equal(in_memory(view), view) and in_memory(view).is_contiguous()
