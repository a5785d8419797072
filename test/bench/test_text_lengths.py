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

"""The comparison of length predictors on prompts from files: kinds, splits, and the whole of it, gone on with."""
import json

import numpy as np
import pytest
import tiny_models

from timebill_ros.bench import length_predictor, state_rows, text_lengths
from timebill_ros.bench.text_lengths import OTHERS, Asked, Sources, compare, left_out_kinds, with_common_kinds
from timebill_ros.training.answering import Answer, Target
from timebill_ros.training.prompts import Prompt

LIMIT = 64


def asked(n, seed=0, kinds=('a', 'b', 'c', 'd')):
    """Prompts of which only the states tell the lengths of the answers; a few are cut at the limit."""
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        state = draw.normal(size=12).astype(np.float16)
        length = int(2 ** (4 + state[0] + 0.2 * draw.normal())) + 1
        answer = Answer(str(i), 20, {2: state}, min(length, LIMIT), length <= LIMIT)
        found.append(Asked(Prompt(f'find w{draw.integers(5)}'), kinds[i % len(kinds)], answer))
    return found


def test_states_are_better_where_only_they_tell(monkeypatch):
    monkeypatch.setattr(state_rows, 'CHECKPOINTS', (50, 100))
    found = compare(asked(150), asked(80, seed=1), 2, LIMIT)
    rows = {row['method']: row for row in found.rows() if row['family'] == 'all'}
    assert set(rows) == {'constant median', 'TF-IDF and prompt length', 'states, after 50 goals',
                         'states, after 100 goals', 'states, offline'}
    for measure, share in (('mae', 0.8), ('crps', 0.8), ('log_loss', 0.9)):
        best = rows['states, offline'][measure]
        assert all(best < share * rows[rival][measure] for rival in ('constant median', 'TF-IDF and prompt length'))
    sure = [row for row in found.differences() if row['ours'] == 'states, offline' and row['family'] == 'all']
    assert len(sure) == 6 and all(row['difference'][2] < 0 for row in sure), 'both rivals, three measures'


def test_kinds_that_are_rare_are_taken_together_and_half_of_the_others_left_out():
    judged = asked(60, kinds=('a', 'b', 'c')) + asked(20, kinds=('d',)) + asked(5, kinds=('e',))
    learned, judged = with_common_kinds(asked(8, kinds=('a', 'e')), judged)
    assert {one.kind for one in judged} == {'a', 'b', 'c', 'd', OTHERS}
    assert {one.kind for one in learned} == {'a', OTHERS}
    assert left_out_kinds(judged) == ['b', 'd'], 'of a, b, c and d, which are equally frequent'


def files(folder, n):
    paths = []
    for part in range(2):
        paths.append(folder / f'{part}.jsonl')
        paths[-1].write_text(''.join(json.dumps({
            'prompt': ' '.join(f'w{6 + (i * (7 + part) + k) % 90}' for k in range(3 + i % 12)),
            'source': f'{"ab"[i % 2]}_{i}'}) + '\n' for i in range(n)))
    return paths


@pytest.mark.slow
def test_the_whole_comparison_and_that_nothing_is_answered_twice(tmp_path, answering_here):
    target = Target(str(tiny_models.directory('qwen2')), 'cpu', max_new_tokens=LIMIT)
    paths, out = files(tmp_path, 52), tmp_path / 'deep' / 'lengths.json'
    out.parent.mkdir()
    rows = [{'method': 'oracle', 'split': split, 'family': 'all', 'mae': 9.0} for split in ('matched', 'shifted')]
    out.write_text(json.dumps({'rows': rows, 'reliability': {split: [
        {'level': 0.5, 'share_interpolated': 0.5, 'share_planned': 0.6}] for split in ('matched', 'shifted')}}))
    assert length_predictor.run_text(target, Sources(*paths, 52, 40, tmp_path / 'answers.jsonl'), out) == 0
    result = json.loads(out.read_text())
    assert [row['method'] for row in result['rows'] if row['bed'] == 'site log'] == ['oracle', 'oracle'], 'they stay'
    methods = {row['method'] for row in result['rows'] if row['bed'] == 'text'}
    assert methods == {'constant median', 'TF-IDF and prompt length', 'states, after 50 goals', 'states, offline'}
    facts = result['beds']['text']
    assert (facts['goals_learned_from'], facts['prompts_judged'], facts['depth']) == (52, 40, 2)
    assert facts['kinds_left_out_when_shifted'] in (['a'], ['b'])
    assert all(len(row['difference']) == 3 for row in result['differences'])
    assert {row['tokens'] for row in result['remaining']} <= {16, 32} and out.with_suffix('.png').exists()
    again = length_predictor.run_text(target, Sources(*paths, 52, 40, tmp_path / 'answers.jsonl'), out)
    assert again == 0 and len(answering_here) == 1, 'the journal had it all'


def test_too_few_prompts_are_refused(tmp_path, answering_here):
    target = Target(str(tiny_models.directory('qwen2')), 'cpu', max_new_tokens=2)
    with pytest.raises(ValueError, match='3 prompts of .*0.jsonl and 4 of .*1.jsonl fit the model: at least 8'):
        text_lengths.measure(target, Sources(*files(tmp_path, 4), 3, 4, tmp_path / 'answers.jsonl'))
