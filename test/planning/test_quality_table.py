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

"""Quality tables as JSON files: what is read from one, and that anything else is refused by name."""
import json

import pytest

from timebill_ros.planning.quality_table import PromptClass, QualityTable


def document(**changes):
    return {'format': 1, 'variants': {'float32': [[0.0, 1.0], [0.95, 0.3]]}, 'cut': [[0, 0], [1, 1]], **changes}


def test_a_table_is_read(tmp_path):
    path = tmp_path / 'quality.json'
    path.write_text(json.dumps(document(machine='something else that the file may hold')))
    table = QualityTable.load(path)
    assert table.of('float32', 0.0) == 1.0 and table.of('float32', 0.475) == pytest.approx(0.65)
    assert table.of('float32', 0.99) == pytest.approx(0.3) and table.of('int4', 0.0) == 0.0


CLASSES = [{'prompt_tokens': [100, 600], 'variants': {'float32': [[0, 0.8], [1, 0.0]]}},
           {'prompt_tokens': [600, 4000], 'variants': {'float32': [[0, 0.6], [1, 0.4]]}}]


def test_a_prompt_has_the_quality_of_its_class(tmp_path):
    path = tmp_path / 'quality.json'
    whole = {'float32': [[0.0, 0.7], [1.0, 0.2]], 'int8': [[0.0, 0.5], [1.0, 0.1]]}
    path.write_text(json.dumps(document(variants=whole, classes=CLASSES)))
    table = QualityTable.load(path)
    found = [table.of('float32', 0.5, n_x) for n_x in (None, 10, 100, 599, 600, 9999)]
    assert found == pytest.approx([0.45, 0.4, 0.4, 0.4, 0.5, 0.5])
    assert table.of('int8', 0.0, 300) == 0.5, 'measured, but not in this class'
    path.write_text(json.dumps(table.to_dict()))
    assert QualityTable.load(path) == table


@pytest.mark.parametrize('data', [
    document(classes=CLASSES[::-1]), document(classes=[{**CLASSES[0], 'prompt_tokens': [5, 5]}]),
    document(classes=[{**CLASSES[0], 'prompt_tokens': [5]}]), document(classes=[{**CLASSES[0], 'prompt_tokens': [
        5, float('inf')]}]), document(classes=[CLASSES[0], {}]), document(classes=3),
    document(classes=[{**CLASSES[0], 'variants': {'float32': [[0, 2], [1, 1]]}}]),
    [], {}, document(format=7), document(cut=[[0, 0]]), document(cut=[[1, 1], [0, 0]]), document(variants=3),
    document(variants={'float32': [[0.0, 1.5], [1, 0]]}), document(variants={'float32': [[0.0, 'x'], [1, 0]]}),
    document(variants={'float32': [[0.0, float('nan')], [1, 0]]}), document(variants={'float32': [[0, 1, 2], [1, 0]]}),
])
def test_a_file_that_is_no_table_is_refused_by_name(data, tmp_path):
    path = tmp_path / 'quality.json'
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match='quality.json cannot be used'):
        QualityTable.load(path)


def test_a_file_that_is_missing_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match='nowhere.json cannot be used'):
        QualityTable.load(tmp_path / 'nowhere.json')


def test_weights_that_keep_4_bits_have_their_own_curve_where_there_is_one():
    of_8, of_4 = ((0.0, 0.6), (0.9, 0.1)), ((0.0, 0.8), (0.9, 0.2))
    table = QualityTable({'float32': of_4, 'int8': of_8, 'int8 of 4 bits': of_4}, ((0.0, 0.0), (1.0, 1.0)),
                         (PromptClass(0, 100, {'int8': of_8}),))
    assert table.of('int8', 0.0) == table.for_weights([]).of('int8', 0.0) == 0.6
    assert table.for_weights(['int8']).of('int8', 0.0) == 0.8
    assert table.for_weights(['int8']).of('int8', 0.0, 50) == 0.6, 'this class has none for such weights'
    assert table.for_weights(['int4']) == table
