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

"""Work spread over processes: every result comes back, and a process that ends early is an error."""
import os

import pytest

from timebill_ros.inference.model_directory import ModelError
from timebill_ros.training.parallel import spread


def double(share, offset):
    for item in share:
        if item == 'dies':
            os._exit(3)
        if item == 'fails':
            raise ModelError('a sentence')
        yield 2 * item + offset


def test_every_item_comes_back_once():
    assert sorted(spread(double, list(range(7)), 2, 100)) == [100 + 2 * i for i in range(7)]


@pytest.mark.parametrize(('item', 'sentence'), [('fails', 'a sentence'), ('dies', 'code 3')])
def test_a_process_that_ends_early_is_an_error(item, sentence):
    results = spread(double, [1, item], 1, 0)
    assert next(results) == 2
    with pytest.raises(ModelError, match=sentence):
        next(results)
