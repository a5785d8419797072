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

"""`timebill bench deadlines`, `k-sweep`, `wcet` and `parallel`: files, rows, and the commands on a small model."""
import json

import pytest
import tiny_models

from timebill_ros.bench import deadlines, k_sweep
from timebill_ros.bench.deadlines import load, run, slug
from timebill_ros.bench.wcet import summary
from timebill_ros.cli.main import main


class Source:
    def __init__(self, name):
        self.name = name


def found(model, tasks, score):
    return {'machine': {'model': model, 'device': 'cpu'}, 'tasks': tasks, 'n': 1, 'rows': [
        {'method': method, 'strategy': 'KILL', 'budget_s': 1.0, 'family': 'all', 'score': score, 'completion': 0.5,
         'score_lo': score, 'score_hi': score} for method in ('vanilla', 'quality', 'fixed_50')]}


def test_a_run_takes_the_place_of_its_own_test_bed(monkeypatch, tmp_path):
    out, told = tmp_path / 'deadlines.json', []
    for tasks, score in (('tasks_test.jsonl.gz', 0.1), ('site log, test split', 0.2), ('tasks_test.jsonl.gz', 0.3)):
        monkeypatch.setattr(deadlines, 'measure', lambda values, answers, tasks=tasks, score=score, **_: (
            told.append(answers.name), found('small', tasks, score))[1])
        assert run({}, out, source=Source(tasks), n_live=1) == 0
    result = json.loads(out.read_text())
    assert {row['test_bed']: row['score'] for row in result['rows']} == {
        'small, tasks_test.jsonl.gz': 0.3, 'small, site log, test split': 0.2}
    assert len(result['rows']) == 6 and result['test_beds'].keys() == {row['test_bed'] for row in result['rows']}
    assert told == ['deadlines_tasks_test.answers.jsonl', 'deadlines_site_log_test_split.answers.jsonl', told[0]]
    assert {path.name for path in tmp_path.glob('*.png')} == {
        'deadlines_tasks_test.png', 'deadlines_site_log_test_split.png'}


@pytest.mark.parametrize('text', ['', '[]', '{"rows": []}', '{"rows": 1, "test_beds": {}}'])
def test_another_file_is_not_written_over(tmp_path, text):
    path = tmp_path / 'other.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'other\.json holds no rows of this bench'):
        load(path)


def test_names_of_files():
    assert slug('tasks_test.jsonl.gz') == 'tasks_test' and slug('site log, test split') == 'site_log_test_split'


def test_a_violation_is_a_request_beyond_its_worst_case():
    rows = [{'took_s': 1.0 + i, 'wcet_s': 2.5, 'prefill_s': 0.1, 'prefill_estimated_s': 0.11, 'n': 5 - i,
             'step_s': 0.01, 'step_estimated_s': 0.012} for i in range(4)]
    told = summary(rows, 0.05)
    assert (told['n'], told['violations'], told['violation_rate'], told['epsilon']) == (4, 2, 0.5, 0.05)
    assert told['prefill_error'] == pytest.approx(0.1) and told['step_error'] == pytest.approx(0.2)
    assert told['wcet_over_took'] == pytest.approx((2.5 / 2 + 2.5 / 3) / 2)
    assert told['interval'][0] < 0.5 < told['interval'][1]


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tasks')
    rows = [{'prompt': ' '.join(f'w{6 + (7 * i + j) % 100}' for j in range(40 + 10 * i)), 'answers': ['w7'],
             'metric': 'subspan', 'max_new_tokens': 16, 'family': 'ab'[i % 2]} for i in range(4)]
    (folder / 'tasks.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    return folder, ['--model', str(tiny_models.directory('qwen2')), '--compile-step', 'never', '--threads', '1'], [
        '--tasks', str(folder / 'tasks.jsonl')]


@pytest.mark.slow
def test_the_commands_share_their_answers(arguments):
    folder, model, tasks = arguments
    shared = ['--answers', str(folder / 'shared.answers.jsonl'), '--live-limit', '2']
    for bench in ('budgets', 'deadlines', 'k-sweep', 'reversible'):
        assert main(['bench', bench, *model, *tasks, *shared, '--out', str(folder / f'{bench}.json')]) == 0
    rows = json.loads((folder / 'deadlines.json').read_text())['rows']
    assert {row['method'] for row in rows} == {'vanilla', 'fixed_25', 'fixed_50', 'fixed_75', 'fixed_95', 'int8',
                                               'quality', 'paper', 'oracle'}
    assert {row['strategy'] for row in rows} == {'TRUNCATE', 'KILL', 'SKIP_NEXT'}
    both = json.loads((folder / 'reversible.json').read_text())
    assert {row['method'] for row in both['rows']} == {'vanilla', 'int8', 'quality', 'in_place'}
    assert {row['other'] for row in both['over_budgets']} == {'in_place'}
    swept = json.loads((folder / 'k-sweep.json').read_text())['rows']
    assert {row['k'] for row in swept if row['method'] in k_sweep.FACTORS} == set(range(1, 9))
    assert {row['budget_quantile'] for row in swept} == {0.1, 0.3} and {row['strategy'] for row in swept} == {'KILL'}
    assert (folder / 'k-sweep.png').exists() and (folder / 'deadlines_tasks.png').exists()


@pytest.mark.slow
def test_wcet_and_parallel(arguments):
    folder, model, tasks = arguments
    assert main(['bench', 'wcet', *model, *tasks, '--requests', '3', '--out', str(folder / 'wcet.json')]) == 0
    told = json.loads((folder / 'wcet.json').read_text())
    assert told['n'] == len(told['rows']) == 3 and all(0 < row['estimated_s'] <= row['wcet_s'] for row in told['rows'])
    assert main(['bench', 'parallel', *model, '--lengths', '32', '64', '--rounds', '2', '--out',
                 str(folder / 'parallel.json')]) == 0
    rows = json.loads((folder / 'parallel.json').read_text())['rows']
    assert {(row['way'], row['n_x']) for row in rows} == {
        (way, n) for way in ('prefill alone', "the target's states") for n in (32, 64)}
    assert (folder / 'wcet.png').exists() and (folder / 'parallel.png').exists()
