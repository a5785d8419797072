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

"""How often measurements of reused prompts are repeated, and that a model is as it was afterwards."""
import pytest
from mock_model import FakeClock

from timebill_ros.bench.prefix_ways import repeats, without_store


@pytest.mark.parametrize(('each_s', 'seconds', 'least', 'expected'), [
    (1.0, 100.0, 2, 9), (1.0, 3.5, 2, 3), (1.0, 3.0, 2, 3), (50.0, 3.0, 2, 2), (50.0, 0.0, 4, 4), (50.0, 1.0, 0, 1)])
def test_there_are_as_many_repeats_as_fit_and_some_at_least(each_s, seconds, least, expected):
    clock, made = FakeClock(), []
    for i in repeats(9, seconds, least=least, clock=clock):
        made.append(i)
        clock.now += each_s
    assert made == list(range(expected))


class Model:
    prefixes, tiles = 'store', 'tiles'

    def use_tiles(self, tiles):
        self.tiles = tiles


@pytest.mark.parametrize('tiles', [True, False])
def test_the_store_comes_back(tiles):
    model = Model()
    with pytest.raises(RuntimeError), without_store(model, tiles=tiles):
        assert model.prefixes is None and model.tiles == ('tiles' if tiles else None)
        raise RuntimeError
    assert (model.prefixes, model.tiles) == ('store', 'tiles')
