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

"""`timebill bench budgets`: every case is answered once, also after a stop, and the result has every row."""
import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_models
from mock_model import TIMES, FakeClock, MockModel, MockPredictions
from transformers import AutoModelForCausalLM

from timebill_ros import settings
from timebill_ros.bench import budget_measurement, budgets, timed_answers
from timebill_ros.bench.budget_measurement import Measurement
from timebill_ros.bench.budget_results import families_of, how, place, results_of
from timebill_ros.bench.budget_rows import rows_of
from timebill_ros.bench.finished_answers import BESIDE, FIRST, QUANTILES, Cases, FinishedAnswers
from timebill_ros.bench.known_lengths import KnownLengths
from timebill_ros.bench.live_answers import PLANNERS, LiveRun
from timebill_ros.bench.skip_next import SEEDS
from timebill_ros.cli.main import main
from timebill_ros.codes import Strategy
from timebill_ros.engine import Engine
from timebill_ros.inference.model_directory import fingerprint
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.tracker import Tracker
from timebill_ros.resources import quality_table_path
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.training.journal import Journal, read

ANSWER = b'abcdefghijklmnopqrst'
TASKS = [ScoredTask(str(i), 'ab'[i % 2], [{'role': 'user', 'content': 'x' * (100 + 300 * i)}], 100,
                    lambda text: {'score': len(text) / len(ANSWER)}) for i in range(6)]
N_METHODS, N_CASES = 3, 2 * len(QUANTILES)


NARROW = Cases()


class Model(MockModel):
    """It answers its script again for every prompt."""

    def reset(self):
        self.calls.clear()
        super().reset()


@pytest.fixture
def clock(monkeypatch):
    """The clock of all models here; recordings, which take the real one by default, go by it too."""
    clock, record = FakeClock(), timed_answers.record
    monkeypatch.setattr(budget_measurement, 'record',
                        lambda *arguments, **options: record(*arguments, clock=clock, **options))
    return clock


def engines_of(clock, cases):
    """Return what stands for LiveMethods, on mocks."""
    model, saved = Model(clock, ANSWER), []
    rules = {'quality': QualityRule(QualityTable.load(quality_table_path())), 'paper': PaperRule()}
    engines = {method: Engine(model, MockPredictions(clock, 21), TIMES, Tracker('fixed', k=1.0), clock=clock,
                              rule=rules.get(method, rules['quality']), drop_infeasible='kill',
                              prefill_chunk_tokens=100)
               for method in cases.live}
    if 'oracle' in engines:
        engines['oracle'].lengths = KnownLengths()
    return SimpleNamespace(loaded=SimpleNamespace(engine=engines['quality']), engines=engines,
                           save=lambda: saved.append(1), saved=saved)


def measure(clock, path, *, n_live=4, stop_after=None, cases=NARROW):
    """Run the measurement on mocks, and stop it after so many answers."""
    live = engines_of(clock, cases)

    def advance():
        count[0] += 1
        if count[0] == stop_after:
            raise KeyboardInterrupt
    count = [0]
    with Journal(path, {'model': 'mock'}) as journal:
        measurement = Measurement(live, journal, TASKS, n_live, 0.03,
                                  {'chunk_tokens': 100, 'max_eviction_ratio': 0.95}, advance, cases)
        measurement.run()
    assert len(live.saved) == n_live
    return measurement, count[0]


def test_every_case_is_answered_once(clock, tmp_path):
    measurement, n = measure(clock, tmp_path / 'journal')
    assert n == measurement.total == measurement.done == len(TASKS) * N_METHODS + 4 * (1 + 2 * N_CASES)
    assert [task.key for task in measurement.live_tasks] == ['0', '1', '2', '3']
    assert {key for key in measurement.recorded if key[0] == '0'} == {
        ('0', 'vanilla', FIRST), *(('0', method, BESIDE) for method in ('vanilla', 'fixed_50', 'fixed_95'))}
    unhurried = [TIMES.prefill(n_x) + TIMES.steps.decode(n_x, 21) for n_x in range(100, 1300, 300)]
    assert measurement.budgets_s[2] == pytest.approx((unhurried[1] + unhurried[2]) / 2 + 0.03, abs=1e-3)


def test_a_stopped_run_goes_on_and_has_the_same_result(clock, tmp_path):
    whole, _ = measure(clock, tmp_path / 'whole')
    done = 0
    for stop_after in (3, 5, 40, 20):
        with pytest.raises(KeyboardInterrupt):
            measure(clock, tmp_path / 'journal', stop_after=stop_after)
        done += stop_after
    again, n = measure(clock, tmp_path / 'journal')
    assert n == whole.total - done and again.budgets_s == pytest.approx(whole.budgets_s)
    assert len(again.journal.entries) == len(whole.journal.entries) == whole.total + 1
    assert results_of(again).keys() == results_of(whole).keys()


def test_what_was_measured_of_each_method(clock, tmp_path):
    results = results_of(measure(clock, tmp_path / 'journal')[0])
    assert len(results) == (N_METHODS + 2) * N_CASES
    for (method, strategy, _), by_task in results.items():
        assert list(by_task) == [task.key for task in TASKS[:4 if method in PLANNERS else 6]]
        assert not any(held.late for held in by_task.values())
        for held in by_task.values():
            assert held.score == 1.0 or not held.natural
            # The quality rule may cap an answer that KILL would lose.
            assert strategy != 'KILL' or method == 'quality' or held.score == held.natural
    shares = [sum(held.natural for held in results['vanilla', 'TRUNCATE', quantile].values()) for quantile in QUANTILES]
    assert shares == [1, 1, 2, 3, 3], 'a budget is a quantile of the unhurried time of the live tasks'
    # With lengths and times that are known, the paper's rule comes to the end more often than plain generation does.
    for quantile in QUANTILES:
        paper, vanilla = (sum(results[method, 'KILL', quantile][task.key].natural for task in TASKS[:4])
                          for method in ('paper', 'vanilla'))
        assert paper >= vanilla


def test_without_live_tasks_the_planners_have_no_rows(clock, tmp_path):
    measurement, n = measure(clock, tmp_path / 'journal', n_live=0)
    assert n == len(TASKS) * N_METHODS
    assert {method for method, *_ in results_of(measurement)} == {'vanilla', 'fixed_50', 'fixed_95'}


WIDE = Cases(ratios=(0.25, 0.5, 0.95), few_ratios=(0.25,), live=('quality', 'paper', 'oracle'),
             strategies=(Strategy.TRUNCATE, Strategy.KILL, Strategy.SKIP_NEXT))


def test_a_wider_measurement_goes_on_from_a_narrower_one(clock, tmp_path):
    narrow, _ = measure(clock, tmp_path / 'journal')
    wide, n = measure(clock, tmp_path / 'journal', cases=WIDE)
    assert n == wide.total - narrow.total == 4 + 4 * len(QUANTILES) * (3 * 3 - 2 * 2)
    results = results_of(wide)
    assert len(results['fixed_25', 'KILL', 0.5]) == 4 and len(results['fixed_50', 'KILL', 0.5]) == 6
    again = measure(clock, tmp_path / 'journal')[0]
    assert again.done == again.total and results_of(again).keys() == results_of(narrow).keys()


def test_shared_answers_are_those_that_runs_give(clock, tmp_path, monkeypatch):
    shared, _ = measure(clock, tmp_path / 'shared', cases=WIDE)
    monkeypatch.setattr(LiveRun, 'under', lambda *_: None)
    every, _ = measure(clock, tmp_path / 'every', cases=WIDE)
    assert every.answered.keys() == shared.answered.keys() and not every.shared
    for key, answer in every.answered.items():
        # Instants differ in their last bits, and so may what an eviction keeps, by an entry or two.
        same = replace(shared.answered[key], late_s=answer.late_s, eviction_ratio=answer.eviction_ratio)
        assert same == answer, key
        assert shared.answered[key].late_s == pytest.approx(answer.late_s, abs=1e-3), key
        assert shared.answered[key].eviction_ratio == pytest.approx(answer.eviction_ratio, abs=0.01), key
    told, counted = how(shared), Counter(key[1:3] for key in shared.shared)
    assert told['live_answers'] == len(every.answered) == told['live_runs'] + sum(counted.values())
    assert told['shared_answers'] == {f'{method}, {strategy}': n for (method, strategy), n in counted.items()}
    assert len(shared.shared) > len(every.answered) / 2, 'most are shared'
    assert {strategy for _, strategy in counted} == {'TRUNCATE', 'KILL', 'SKIP_NEXT'}
    rows = rows_of(results_of(shared), families_of(shared), dict(zip(QUANTILES, shared.budgets_s, strict=True)), {})
    assert sum(row['shared'] for row in rows if row['family'] == 'all' and row['strategy'] != 'SKIP_NEXT') == sum(
        n for (_, strategy), n in counted.items() if strategy != 'SKIP_NEXT')


def test_results_of_what_is_finished(clock, tmp_path):
    """Every method's rows are of the same whole tasks, and no file is written."""
    with pytest.raises(KeyboardInterrupt):
        measure(clock, tmp_path / 'journal', stop_after=4 + 2 * (3 + 2 * N_CASES) + 5)
    before = (tmp_path / 'journal').read_bytes()
    with open(tmp_path / 'journal', 'ab') as file:
        file.write(b'{"kind": "rec')  # as another process writes it just now
    _, pieces = read(tmp_path / 'journal')
    found = FinishedAnswers(Model(clock), pieces, TASKS, 4, 0.03, NARROW)
    assert [task.key for task in found.finished_live_tasks()] == ['0', '1']
    assert [task.key for task in found.finished_tasks()] == ['0', '1', '2']
    results = results_of(found)
    assert list(results['quality', 'KILL', 0.5]) == ['0', '1'] and len(results['fixed_95', 'KILL', 0.5]) == 3
    assert (tmp_path / 'journal').read_bytes() == before + b'{"kind": "rec'
    with pytest.raises(ValueError, match='no task is finished'):
        results_of(FinishedAnswers(Model(clock), [], TASKS, 4, 0.03, NARROW))


def test_families_take_turns(clock, tmp_path):
    """So that a measurement that is not finished holds tasks of all families."""
    measurement, _ = measure(clock, tmp_path / 'journal')
    assert [task.family for task in measurement.live_tasks] == ['a', 'b', 'a', 'b']
    first = [entry['key'][0] for entry in measurement.journal.entries if entry['kind'] != 'budgets']
    assert list(dict.fromkeys(first)) == ['0', '1', '2', '3', '4', '5'] and first[:4] == ['0', '1', '2', '3']


def test_under_skip_next_late_answers_are_whole_and_cost_those_that_arrive_meanwhile(clock, tmp_path):
    measurement, _ = measure(clock, tmp_path / 'journal', cases=WIDE)
    results, families = results_of(measurement), families_of(measurement)
    for method in ('vanilla', 'fixed_25', 'fixed_95', 'quality', 'paper', 'oracle'):
        generous, hopeless = (results[method, 'SKIP_NEXT', quantile] for quantile in (0.9, 0.1))
        assert generous.keys() == {place(str(i), seed) for i in range(4) for seed in SEEDS} <= families.keys()
        # The longest live task alone may be late, and costs the next of each order.
        assert sum(held.natural for held in generous.values()) >= len(generous) - len(SEEDS)
        assert all(held.score == 1.0 and (not held.late or key.startswith('3 ')) for key, held in generous.items()
                   if held.natural)
        served = [held for held in hopeless.values() if held.natural]
        assert all(held.score == 1.0 for held in served) and len(served) < len(hopeless)
        assert any(held.late for held in served) and not any(held.score for held in hopeless.values()
                                                             if not held.natural)


def test_the_oracle_comes_to_the_end_as_often_as_any_rule(clock, tmp_path):
    results = results_of(measure(clock, tmp_path / 'journal', cases=WIDE)[0])
    for quantile in QUANTILES:
        ended = {method: sum(held.natural for held in results[method, 'TRUNCATE', quantile].values())
                 for method in ('oracle', 'quality')}
        assert ended['oracle'] >= ended['quality']


FEW = Cases(ratios=(0.5,), live=(), quantiles=(0.1, 0.9))


@pytest.fixture
def finished(tmp_path):
    """Return (settings, journal, tasks) of a run on a small model, all of whose answers are finished."""
    directory = str(tiny_models.directory('qwen2'))
    tasks = [ScoredTask(str(i), 'a', [{'role': 'user', 'content': 'w7 w8'}], 4,
                        lambda text: {'score': ('w9' in text) / 2 + ('w10' in text) / 2}) for i in range(2)]
    values = settings.check({'model': directory, 'variants': 'int8'})
    facts = budgets._facts(values, tasks, model=fingerprint(directory), precision='float32', device='some machine',
                           chunk_tokens=64)
    with Journal(tmp_path / 'journal', facts) as journal:
        journal.add({'kind': 'budgets', 'budgets_s': [0.5, 0.6, 0.7, 0.8, 2.0]})
        for method in ('vanilla', 'fixed_50', 'int8'):
            for task in tasks:
                journal.add({'kind': 'recorded', 'key': [task.key, method, FIRST],
                             'answer': {'n_x': 2, 'ids': [9, 10, 1], 'at_s': [0.3, 0.6, 1.0]}})
    return values, tmp_path / 'journal', tasks


def written(values, path, tasks):
    return budgets.measure(values, path, source=SimpleNamespace(load=lambda: tasks, name='tasks'), n_live=0, cases=FEW,
                           finished_only=True)


def test_rows_of_finished_answers_need_no_weights(finished, monkeypatch, capsys):
    values, path, tasks = finished
    monkeypatch.setattr(AutoModelForCausalLM, 'from_pretrained', None)
    before = path.read_bytes()
    result = written(values, path, tasks)
    scores = {(row['method'], row['strategy'], row['budget_quantile']): row['score'] for row in result['rows']
              if row['family'] == 'all'}
    assert scores == {(method, strategy, quantile): score for method in ('vanilla', 'fixed_50', 'int8')
                      for strategy, quantile, score in (('TRUNCATE', 0.1, 0.5), ('KILL', 0.1, 0.0),
                                                        ('TRUNCATE', 0.9, 1.0), ('KILL', 0.9, 1.0))}
    assert result['machine']['device'] == 'some machine' and result['machine']['dtype'] == 'float32'
    assert (result['n'], result['of']) == (2, 2) and path.read_bytes() == before
    assert '6 of 6 answers are finished; 2 of 2 tasks have all of theirs' in capsys.readouterr().out


def test_options_other_than_the_runs_are_named(finished):
    values, path, tasks = finished
    for name, other in (('delivery_margin_s', 0.05), ('variants', ''), ('dtype', 'int8'), ('promise_quality', 0.5)):
        with pytest.raises(ValueError, match='give the same options as the run that answers'):
            written({**values, name: other}, path, tasks)
    with pytest.raises(ValueError, match=r"'tasks': .* give the same options"):
        written(values, path, tasks[:1])
    with pytest.raises(ValueError, match=r'none does not exist\. --answers names the file'):
        written(values, path.with_name('none'), tasks)


def test_a_limit_below_zero_is_a_sentence(capsys):
    with pytest.raises(SystemExit):
        main(['bench', 'budgets', '--live-limit', '-1'])
    assert '--live-limit' in (told := capsys.readouterr().err) and "'-1' is no whole number" in told


@pytest.mark.slow
def test_the_command_on_a_real_model(tmp_path, capsys, monkeypatch):
    path, out = tmp_path / 'tasks.jsonl', tmp_path / 'budgets.json'
    rows = [{'prompt': ' '.join(f'w{6 + (7 * i + j) % 100}' for j in range(40 + 10 * i)), 'answers': ['w7'],
             'metric': 'subspan', 'max_new_tokens': 16, 'family': 'ab'[i % 2]} for i in range(4)]
    path.write_text('\n'.join(map(json.dumps, rows)))
    arguments = ['bench', 'budgets', '--model', str(tiny_models.directory('qwen2')), '--tasks', str(path),
                 '--live-limit', '2', '--compile-step', 'never', '--threads', '1', '--out', str(out)]
    assert main(arguments) == 0
    told, result = capsys.readouterr().out, json.loads(out.read_text())
    journal = out.with_suffix('.answers.jsonl').read_text()
    assert main(arguments) == 0
    assert out.with_suffix('.answers.jsonl').read_text() == journal
    again = json.loads(out.read_text())
    assert (again['rows'], again['bars']) == (result['rows'], result['bars'])
    methods = {'vanilla': '', 'fixed_50': '', 'fixed_95': '', 'int8': 'int8', 'quality': 'int8', 'paper': ''}
    assert {row['method']: row['variants'] for row in result['rows']} == methods
    assert len(result['rows']) == len(methods) * N_CASES * 3 and len(result['bars']) == 4
    assert result['n'] == 4 and result['n_live'] == 2 and result['machine']['device']
    assert 'quality - vanilla' in told
    with monkeypatch.context() as patched:
        patched.setattr(budgets, 'LiveMethods', None)
        assert main([*arguments, '--finished']) == 0
    finished = json.loads(out.read_text())
    assert (finished['rows'], finished['bars']) == (result['rows'], result['bars'])
    assert all(finished['machine'][name] == result['machine'][name] for name in ('device', 'model', 'dtype'))
    assert out.with_suffix('.answers.jsonl').read_text() == journal
    rows.pop()
    path.write_text('\n'.join(map(json.dumps, rows)))
    assert main(arguments) == 1
    assert 'delete it to begin anew' in capsys.readouterr().err
