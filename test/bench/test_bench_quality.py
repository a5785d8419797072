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

"""`timebill bench quality` on a random model: complete, by the engine's parts, and resumed without a second answer."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
from safetensors.torch import load_file, save_file

from timebill_ros.bench import quality
from timebill_ros.bench.answers import RATIOS, answer, entries_to_keep, request_for
from timebill_ros.bench.quality_curves import SHARES
from timebill_ros.cli.main import main
from timebill_ros.inference.eviction import SCORERS
from timebill_ros.inference.model import CausalLM
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.tasks.text_tasks import Asking
from timebill_ros.training.word_tokenizer import build_tokenizer, save_tokenizer

ROOT = Path(__file__).parents[2]
N_TASKS, N_NEW = 4, 12
SOURCE = TaskSource(None, N_TASKS, Asking(max_new_tokens=N_NEW))
OPTIONS = {'chunk_tokens': 256, 'max_eviction_ratio': 0.95}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """A random model that knows the words of the task: it answers nothing right, but differently for every cache."""
    tokenizer = build_tokenizer(8192)
    path = tiny_models.build(tmp_path_factory.mktemp('quality') / 'model', 'qwen2', chat=False,
                             vocab_size=len(tokenizer), max_position_embeddings=8192)
    save_tokenizer(tokenizer, path)
    weights = load_file(path / 'model.safetensors')
    weights['lm_head.weight'][[tiny_models.EOS, tokenizer.eos_token_id]] = 0  # no answer ends before it tells anything
    save_file(weights, path / 'model.safetensors', {'format': 'pt'})
    return path


@pytest.fixture(scope='module')
def model(directory):
    return CausalLM(str(directory), device='cpu', threads=1, other_variants='int8')


def test_a_restored_prompt_is_answered_as_a_fresh_one(model):
    assert len(quality.cells_of(['a', 'b'], ['snapkv', 'recent'])) == 2 * (1 + 2 * (len(RATIOS) - 1))
    cells = [('float32', '', 0.0), ('float32', 'snapkv', 0.5), ('float32', 'recent', 0.9), ('int8', 'snapkv', 0.95)]
    assert set(cells) <= set(quality.cells_of(list(model.variants), ['snapkv', 'recent']))
    for task in SOURCE.load()[:2]:
        request = request_for(task, N_NEW)
        ids = model.tokenize(model.render(request), is_chat=True)
        entries = list(quality.answers(model, task, cells, **OPTIONS))
        assert [tuple(entry['cell']) for entry in entries] == cells
        assert len({entry['text'] for entry in entries}) > 2, 'answers that could not tell one cache from another'
        for entry in entries:
            variant, scorer, ratio = entry['cell']
            model.scorer = SCORERS[scorer or 'snapkv']()
            assert entry['n_keep'] == entries_to_keep(len(ids), ratio, 0.95)
            model.reset()
            logits = model.prefill(ids, chunk_tokens=256)
            model.use_variant(variant)
            model.evict(entry['n_keep'])
            assert answer(model, request, logits, n_x=len(ids), n_kv=entry['n_keep']) == entry['text']
            model.use_variant(model.variant)
        whole = entries[0]
        assert len(whole['cuts']) == len(SHARES) and 'cuts' not in entries[1]
        assert whole['cuts'][0] == '' and whole['cuts'][-1] == whole['text']
        assert all(whole['text'].startswith(part) for part in whole['cuts'])


@pytest.mark.slow
def test_the_command_makes_a_table_and_goes_on_where_it_stopped(directory, tmp_path, capsys):
    out = tmp_path / 'made' / 'quality.json'
    arguments = ['bench', 'quality', '--model', str(directory), '--max-new-tokens', str(N_NEW), '--processes', '2',
                 '--compile-step', 'never', '--prefill-chunk-tokens', '128', '--scorers', 'snapkv', 'random', '--out',
                 str(out)]
    assert main([*arguments, '--limit', str(N_TASKS - 1)]) == 0
    journal = out.with_suffix('.answers.jsonl')
    first = journal.read_text()
    assert main([*arguments, '--limit', str(N_TASKS)]) == 0
    result, text = json.loads(out.read_text()), journal.read_text()
    cells = 1 + 2 * (len(RATIOS) - 1)
    assert text.startswith(first) and text.count('\n') == 1 + N_TASKS * cells
    assert f'{(N_TASKS - 1) * cells} of {N_TASKS * cells} answers are in' in capsys.readouterr().out
    table = QualityTable.load(out)
    assert set(table.variants) == {'float32'} and [ratio for ratio, _ in table.variants['float32']] == list(RATIOS)
    assert result['machine']['device'].endswith('1 thread') and result['n'] == N_TASKS
    found = quality.collect(SOURCE.load(), [json.loads(line) for line in text.splitlines()[1:]],
                            quality.cells_of(['float32'], ['snapkv', 'random']))
    assert (result['rows'], result['by_prompt_tokens']) == quality.summaries(found, ['float32'], ['snapkv', 'random'])
    for row in result['rows']:
        assert row['eviction_ratio'] or {**row, 'scorer': 'snapkv'} in result['rows']
        for score in ('step_accuracy', 'exact_match', 'token_f1'):
            low, high = row[f'{score}_interval']
            assert 0 <= low <= row[score] <= high <= 1
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    with pytest.raises(SystemExit):
        main([*arguments, '--scorers', 'nothing'])
    assert main([*arguments, '--limit', '1', '--prefill-chunk-tokens', '64']) == 1
    assert "holds answers of {'chunk_tokens'" in capsys.readouterr().err


def test_means_and_intervals():
    row = quality.summary([{'score': value} for value in (0.4, 0.5, 0.6) * 12])
    assert row['n'] == 36 and row['score'] == pytest.approx(0.5)
    assert row['score_interval'] == pytest.approx([0.5 - 0.02705, 0.5 + 0.02705], abs=1e-4)
    assert quality.summary([{'score': 0.3}])['score_interval'] == [0.0, 1.0]


def test_a_model_without_room_for_a_task_is_a_sentence(directory, tmp_path, capsys):
    assert main(['bench', 'quality', '--model', str(directory), '--max-context-tokens', '128', '--limit', '2',
                 '--compile-step', 'never', '--prefill-chunk-tokens', '128', '--out', str(tmp_path / 'q.json')]) == 1
    assert 'no task fits the model; task test 1 of family' in capsys.readouterr().err


@pytest.mark.parametrize(('option', 'value'), [('--tasks', '/nowhere.jsonl'), ('--template', '/nowhere.txt')])
def test_a_file_that_is_not_there_is_a_sentence(option, value, capsys):
    assert main(['bench', 'quality', option, value]) == 1
    assert value in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--limit', '--processes', '--max-new-tokens'])
def test_nothing_to_measure_is_a_sentence(option, capsys):
    with pytest.raises(SystemExit):
        main(['bench', 'quality', option, '-1'])
    assert option in (told := capsys.readouterr().err) and "'-1' is no whole number" in told


@pytest.mark.slow
def test_ctrl_c_ends_every_process(directory, tmp_path):
    command = [sys.executable, str(ROOT / 'scripts' / 'timebill'), 'bench', 'quality', '--model', str(directory),
               '--limit', '400', '--processes', '2', '--compile-step', 'never', '--out', str(tmp_path / 'quality.json')]
    parent = subprocess.Popen(command, env={**os.environ, 'PYTHONPATH': str(ROOT)}, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        # Two processes and multiprocessing's tracker of resources. While they start, the signal is ignored.
        wait_for(lambda: len(members(parent.pid)) == 4 and not ignores_ctrl_c(parent.pid))
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        output, _ = parent.communicate(timeout=60)
        assert parent.returncode == 130 and 'Traceback' not in output
        wait_for(lambda: not members(parent.pid))
    finally:
        if members(parent.pid):
            os.killpg(parent.pid, signal.SIGKILL)


def members(group: int) -> list[int]:
    """Processes of a group, zombies left out."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, of_group = path.read_text().rpartition(')')[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(of_group) == group and state != 'Z':
            found.append(int(path.parent.name))
    return found


def ignores_ctrl_c(pid: int) -> bool:
    mask = Path(f'/proc/{pid}/status').read_text().split('SigIgn:')[1].split()[0]
    return bool(int(mask, 16) & 1 << signal.SIGINT - 1)


def wait_for(condition, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, 'waited in vain'
        time.sleep(0.05)
