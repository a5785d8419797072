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

"""What became of goals with a form: every kind of ending, from lines as the bench writes them."""
import json

import pytest

pytest.importorskip('jsonschema')
from timebill_ros.bench.structured_rows import (  # noqa: E402
    KEPT,
    MISSING,
    NO_TIME,
    UNMET,
    WHOLE,
    Need,
    has_time,
    is_valid,
    judge,
    needs,
    result_of,
    something_is_left,
)

MARGIN_S, NEED = 0.03, Need(0.2, 0.02)
GOOD = '{"name": "cup", "count": 2}'


def line(**changed):
    return {'kind': 'goal', 'number': 0, 'schema': 'flat', 'prompt': 0, 'on_cut': 'drop', 'share': 0.5, 'budget_s': 1.0,
            'temperature': 0.0, 'error': 'NONE', 'finish': 'DEADLINE', 'text': GOOD, 'written': GOOD[:-1], 'added': 1,
            'dropped': 0, 'late_s': -0.03, 'took_s': 0.97, 'closing_s': 0.01, 'verdict': 'FITS', 'prompt_tokens': 100,
            'generated_tokens': 12, 'forced_tokens': 1, 'time_to_first_token_s': 0.2, 'prefill_s': 0.18,
            'decode_s': 0.2, 'grammar_s': 0.001, 'mask_s': 0.01, **changed}


def failed(**changed):
    return line(**{'error': 'DEADLINE_MISSED', 'text': '', 'added': 0, 'written': '{"na', **changed})


@pytest.mark.parametrize(('piece', 'kind'), [
    (line(), KEPT), (line(finish='EOS', added=0), WHOLE), (line(finish='LENGTH'), KEPT),
    (failed(), MISSING), (failed(finish='LENGTH', error='INVALID_GOAL'), MISSING),
    (failed(written='{"name": "cup", "pl'), UNMET),  # the name was complete
    (failed(on_cut='close'), UNMET),
    (failed(written='', time_to_first_token_s=None, budget_s=0.25), NO_TIME),
    (failed(written='', time_to_first_token_s=None, budget_s=0.27), UNMET),
    (failed(written='', finish='ERROR', error='INFEASIBLE', time_to_first_token_s=None, budget_s=0.1), NO_TIME),
    (failed(on_cut='close', time_to_first_token_s=0.95), NO_TIME),  # its own prompt took long
])
def test_how_a_goal_ended(piece, kind):
    assert judge(piece, NEED, MARGIN_S).kind == kind


def test_a_text_that_breaks_its_schema_is_no_valid_result():
    assert judge(line(), NEED, MARGIN_S).is_valid
    for text in ('{"count": 2}', '{"name": "cup", "count": 1000}', '{"name": "cup"', '', '{"name": "cup", "other": 1}'):
        assert not is_valid(text, 'flat') and judge(line(text=text), NEED, MARGIN_S).is_valid is False
    assert judge(failed(), NEED, MARGIN_S).is_valid is None


@pytest.mark.parametrize(('written', 'left'), [
    ('', False), ('{', False), ('{"name": "c', False), ('{"name": "c"', True), ('{"name": "c", "count": 1', True),
    ('{"name": "\u597d\ufffd', False), ('{"name": "c",', True)])
def test_whether_something_is_left(written, left):
    assert something_is_left(written, 'flat') is left


def test_half_a_number_is_not_complete():
    assert not something_is_left('{"target": {"name": "a", "pose": {"x": 1, "y": 1', 'nested')
    assert something_is_left('{"target": {"name": "a", "pose": {"x": 1, "y": 1}', 'nested')


def test_what_a_prompt_needs_is_measured():
    found = needs([line(kind='unhurried'), line(time_to_first_token_s=0.4), line(time_to_first_token_s=0.3),
                   failed(time_to_first_token_s=None, decode_s=None)])
    assert found == {('flat', 0): Need(0.3, 0.02)}
    assert has_time(line(budget_s=0.261), NEED, MARGIN_S) and not has_time(line(budget_s=0.259), NEED, MARGIN_S)


def test_rows_and_bars():
    pieces = [line(kind='unhurried', number=-1, finish='EOS'), line(number=1, dropped=2), failed(number=2),
              line(number=3, text='{"count": 2}'), line(number=4, late_s=0.001, on_cut='close', share=1.49),
              line(number=5, schema='enums', text='{"action": "ask", "place": "hall"}', finish='EOS', added=0)]
    result = result_of(pieces, MARGIN_S)
    json.dumps(result, allow_nan=False)
    rows = {(row['on_cut'], row['schema']): row for row in result['rows']}
    assert rows['drop', 'all']['n'] == 4 and rows['close', 'all']['n'] == 1 and rows['drop', 'nested']['n'] == 0
    assert rows['drop', 'flat'] == {
        'on_cut': 'drop', 'schema': 'flat', 'n': 3, 'whole': 0, 'cut_and_kept': 2, 'member_missing': 1, 'no_time': 0,
        'unmet': 0, 'invalid': 1, 'late': 0, 'own_share': pytest.approx((26 + 11) / (27 + 12)),
        'own_share_of_all': pytest.approx((26 + 11) / (27 + 12)), 'dropped_items': 2, 'lost_items': 1}
    assert [bar['value'] for bar in result['bars']] == [1, 0, 1]
    assert [bar['met'] for bar in result['bars']] == [False, True, False]
    assert [piece['number'] for piece in result['wrong']] == [3, 4]
    last = [row for row in result['budgets'] if (row['on_cut'], row['schema']) == ('close', 'all')]
    assert [row['n'] for row in last] == [0] * 9 + [1] and last[-1]['to'] == pytest.approx(1.5)
    assert result['unhurried'] == [{'schema': 'flat', 'prompt': 0, 'took_s': 0.97, 'tokens': 12, 'finish': 'EOS'}]
