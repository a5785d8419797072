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

"""What an engine is put together with, as far as it is not tested elsewhere: ranges for a profiler."""
import logging
from types import SimpleNamespace

import pytest

from timebill_ros.inference.nvtx import NvtxRanges
from timebill_ros.inference.ranges import Ranges
from timebill_ros.worker.assembly import ranges_on


@pytest.mark.parametrize(('device', 'asked', 'kind'), [
    ('cuda', True, NvtxRanges), ('cuda', False, Ranges), ('cpu', True, Ranges), ('cpu', False, Ranges)])
def test_ranges_are_marked_on_cuda_where_they_are_asked_for(device, asked, kind, caplog):
    with caplog.at_level(logging.WARNING, logger='timebill_ros'):
        assert type(ranges_on(SimpleNamespace(type=device), asked=asked)) is kind
    assert ('nvtx_ranges has no effect: the model is on cpu' in caplog.text) == (asked and device == 'cpu')
