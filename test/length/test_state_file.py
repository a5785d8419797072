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

"""The facts of a file of hidden states are read without numpy and safetensors, and never more than a header."""
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from timebill_ros.length.state_file import HEADER_BYTES, facts_of


def test_the_facts_are_those_that_were_written(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file({'states': np.zeros((3, 4), np.float16)}, path, {'format': '1', 'model': 'tiny'})
    assert facts_of(path) == {'format': '1', 'model': 'tiny'}


@pytest.mark.parametrize('content', [b'', b'{', (HEADER_BYTES + 1).to_bytes(8, 'little') + b'{}' * HEADER_BYTES,
                                     (2).to_bytes(8, 'little') + b'{}', (1 << 62).to_bytes(8, 'little')])
def test_anything_else_is_refused_at_once(content, tmp_path):
    path = tmp_path / 'a.safetensors'
    path.write_bytes(content)
    with pytest.raises((ValueError, KeyError)):
        facts_of(path)


def test_nothing_but_the_standard_library_is_imported():
    names = 'numpy', 'safetensors', 'torch'
    code = f'import sys, timebill_ros.planning.forgetting; print([name for name in {names} if name in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'
