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

"""`timebill bench quality` on a random model: complete, by the engine's parts, the same however it is split up."""
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
from timebill_ros.cli.main import main
from timebill_ros.inference.eviction import SCORERS, Random
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.tasks import site_log
from timebill_ros.training.word_tokenizer import build_tokenizer, save_tokenizer

ROOT = Path(__file__).parents[2]
N_TASKS, N_NEW = 5, 12
OPTIONS = {'chunk_tokens': 256, 'max_eviction_ratio': 0.95, 'max_new_tokens': N_NEW}


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
    return CausalLM(str(directory), device='cpu', threads=1)


@pytest.fixture(scope='module')
def tasks():
    return site_log.tasks('test', N_TASKS)


@pytest.fixture(scope='module')
def texts(model, tasks):
    return [quality.answers(model, task, **OPTIONS) for task in tasks]


def test_a_restored_prompt_is_answered_as_a_fresh_one(model, tasks, texts):
    for task, given in zip(tasks[:2], texts, strict=False):
        request = quality.request_for(task, N_NEW)
        ids = model.tokenize(model.render(request), is_chat=True)
        for (scorer, ratio), text in given.items():
            model.scorer = Random(task.seed) if scorer == 'random' else SCORERS[scorer]()
            n_keep = quality.entries_to_keep(len(ids), ratio, 0.95)
            model.reset()
            logits = model.prefill(ids, chunk_tokens=256)
            model.evict(n_keep)
            assert {model.cache.get_seq_length(layer) for layer in model.cache.evictable_layers()} == {n_keep}
            assert quality.answer(model, request, logits, n_x=len(ids), n_kv=n_keep) == text
        assert len(set(given.values())) > 8, 'answers that could not tell one cache from another'


@pytest.mark.parametrize(('n_x', 'ratio', 'n_keep'), [
    (1000, 0.0, 1000), (1000, 0.9, 100), (1000, 0.95, 50), (1003, 0.25, 752), (1003, 0.95, 51), (1000, 0.99, 50),
    (32, 0.9, 32), (33, 0.9, 3)])
def test_the_share_of_entries_that_is_kept(n_x, ratio, n_keep):
    assert quality.entries_to_keep(n_x, ratio, 0.95) == n_keep


@pytest.mark.slow
def test_the_command_writes_all_rows_and_a_plot(directory, tasks, texts, tmp_path, capsys, monkeypatch):
    summaries, by_two = quality.summaries, []
    monkeypatch.setattr(quality, 'summaries', lambda *arguments: by_two.append(arguments) or summaries(*arguments))
    out = tmp_path / 'made' / 'quality.json'
    assert main(['bench', 'quality', '--model', str(directory), '--tasks', str(N_TASKS), '--max-new-tokens', str(N_NEW),
                 '--processes', '2', '--compile-step', 'never', '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    assert result['machine']['device'].endswith('1 thread') and result['tasks'] == N_TASKS
    families = {'all': N_TASKS, **{name: sum(task.family == name for task in tasks) for name in site_log.FAMILIES}}
    wanted = {(scorer, ratio, family) for scorer in SCORERS for ratio in quality.RATIOS
              for family, n in families.items() if n}
    rows = {(row['scorer'], row['eviction_ratio'], row['family']): row for row in result['rows']}
    assert len(result['rows']) == len(rows) and rows.keys() == wanted
    assert by_two == [(tasks, texts)], "two processes' answers are not those of one"
    assert (result['rows'], result['by_prompt_tokens']) == summaries(tasks, texts)
    for (_, ratio, family), row in rows.items():
        assert row['n'] == families[family]
        assert ratio or {**row, 'scorer': 'snapkv'} == rows['snapkv', 0.0, family]
        for score in quality.SCORES:
            low, high = row[f'{score}_interval']
            assert 0 <= low <= row[score] <= high <= 1
    assert sum(row['n'] for row in result['by_prompt_tokens']) == N_TASKS
    assert out.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    assert 'key_norm' in capsys.readouterr().out


def test_means_and_intervals():
    tasks = [site_log.generate(seed, split='test', family='find', n_tokens=n) for seed, n in ((0, 150), (1, 1500))]
    right, wrong = ({(scorer, ratio): text for scorer in SCORERS for ratio in quality.RATIOS}
                    for text in (tasks[0].answer, ''))
    rows, by_prompt_tokens = quality.summaries(tasks, [right, wrong])
    assert len(rows) == 2 * len(SCORERS) * len(quality.RATIOS)
    assert all((row['n'], row['step_accuracy'], row['step_accuracy_interval']) == (2, 0.5, [0, 1]) for row in rows)
    assert [(row['prompt_tokens'], row['exact_match']) for row in by_prompt_tokens] == [([200, 1000], 1),
                                                                                         ([1000, 2000], 0)]
    row = quality.summary([dict.fromkeys(quality.SCORES, value) for value in (0.4, 0.5, 0.6) * 12])
    assert row['token_f1_interval'] == pytest.approx([0.5 - 0.02705, 0.5 + 0.02705], abs=1e-4)


def test_a_model_without_room_for_a_task_is_a_sentence(directory, tasks):
    small = CausalLM(str(directory), device='cpu', threads=1, max_context_tokens=256)
    with pytest.raises(ModelError, match=r'task 0 of the test split: the prompt has 1\d\d\d tokens'):
        quality.answers(small, tasks[0], **OPTIONS)


def test_nothing_to_measure_is_a_sentence(capsys):
    assert main(['bench', 'quality', '--tasks', '0']) == 1
    assert '0 tasks' in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_every_process(directory, tmp_path):
    command = [sys.executable, str(ROOT / 'scripts' / 'timebill'), 'bench', 'quality', '--model', str(directory),
               '--tasks', '400', '--processes', '2', '--compile-step', 'never', '--out', str(tmp_path / 'quality.json')]
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
