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

"""The length predictor's training script: from prompts to a predictor that loads, stopped and gone on with."""
import json
import math
import os
import signal
from pathlib import Path

import pytest
import tiny_models
import torch
from tiny_training import TINY_PREDICTOR, train_command, train_predictor
from transformers import AutoConfig

from timebill_ros.cli import train_length_predictor as command
from timebill_ros.cli.termination import Terminated, termination_as_interrupt
from timebill_ros.inference import named_models
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.length import length_predictor
from timebill_ros.length.calibration import SCORES_FILE, load_scores
from timebill_ros.tasks.site_log import generate
from timebill_ros.tasks.site_log_scores import write_jsonl
from timebill_ros.training import train_length_predictor
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.predictor_training import PredictorTraining
from timebill_ros.training.run_files import end_after_step


def test_length_predictor_training_from_start_to_a_loadable_predictor(trained, tmp_path):
    model = trained[0] / 'model'
    facts = train_predictor(TINY_PREDICTOR, model, tmp_path, baselines=True, checkpoint_every_s=0.0)
    history, left = facts.pop('losses'), facts.pop('left')
    assert left == 0
    assert len(history) == facts['training']['steps'] > 20
    predictor = length_predictor.load(tmp_path / 'length_predictor')
    assert predictor.facts == facts
    assert predictor.n_buckets == math.ceil(24 / 4) and predictor.max_input_tokens == 128
    _, *lines = (tmp_path / 'responses.jsonl').read_text().splitlines()
    responses = [json.loads(line)['responses'] for line in lines]
    assert len(responses) == 24 and all(len(row) == 2 for row in responses)
    baselines = Baselines.load(tmp_path / 'length_predictor')
    assert set(baselines.predict(torch.zeros(32))) == {'regression', '3 buckets', '2 buckets', '1 buckets',
                                                       '5 classes', '10 classes'}
    # Run again: everything is there already, nothing is trained twice, and the same predictor results.
    again = train_predictor(TINY_PREDICTOR, model, tmp_path, baselines=True)
    assert again.pop('losses') == []
    assert again['training']['validation_mae'] == facts['training']['validation_mae']


def test_length_predictor_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(trained, tmp_path):
    model = trained[0] / 'model'
    whole = train_predictor(TINY_PREDICTOR, model, tmp_path / 'a')['losses']
    stopped = train_predictor(TINY_PREDICTOR, model, tmp_path / 'b', steps=13)
    first = stopped['losses']
    assert stopped['left'] == len(whole) - 13
    second = train_predictor(TINY_PREDICTOR, model, tmp_path / 'b')['losses']
    assert len(first) == 13 and first + second == pytest.approx(whole, rel=1e-4)
    with pytest.raises(ValueError, match='baselines False, not baselines True: remove it, or choose another --out'):
        train_predictor(TINY_PREDICTOR, model, tmp_path / 'b', baselines=True)


def test_ctrl_c_loses_no_step(trained, tmp_path, monkeypatch):
    model = trained[0] / 'model'
    whole = train_predictor(TINY_PREDICTOR, model, tmp_path / 'a')['losses']
    step = PredictorTraining.train_step
    first: list[float] = []

    def interrupted(run, examples, rate):
        if run.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        parts = step(run, examples, rate)
        first.append(parts['length'])
        return parts

    monkeypatch.setattr(PredictorTraining, 'train_step', interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_predictor(TINY_PREDICTOR, model, tmp_path / 'b')
    assert len(first) == 7, 'the step that it came in is finished'
    monkeypatch.setattr(PredictorTraining, 'train_step', step)
    second = train_predictor(TINY_PREDICTOR, model, tmp_path / 'b')['losses']
    assert first + second == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(('number', 'expected'), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_has_its_usual_effect_once_the_step_is_done(number, expected):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with termination_as_interrupt(), pytest.raises(expected) as raised, end_after_step() as is_to_end:
            os.kill(os.getpid(), number)
            assert is_to_end()
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.type is expected


@pytest.mark.slow
def test_by_default_the_first_layers_of_the_target_learn_from_greedy_answers(tmp_path, capsys):
    target = tiny_models.build(tmp_path / 'target', 'llama')
    (tmp_path / 'prompts.jsonl').write_text(''.join(json.dumps({'prompt': f'word {i}'}) + '\n' for i in range(12)))
    arguments = ['--target', str(target), '--prompts', str(tmp_path / 'prompts.jsonl'), '--device', 'cpu',
                 '--max-new-tokens', '16']
    assert train_command([*arguments, '--states', '--out', str(tmp_path / 'labels.safetensors')]) == 0
    answers = tmp_path / 'labels.answers.jsonl'
    before = answers.read_bytes()
    assert train_command([*arguments, '--out', str(tmp_path / 'out'), '--answers', str(answers)]) == 0
    assert answers.read_bytes() == before, 'the answers that gave the labels are used, and none is made again'
    predictor = length_predictor.load(tmp_path / 'out' / 'length_predictor')
    n_layers = AutoConfig.from_pretrained(target).num_hidden_layers
    training = predictor.facts['training']
    assert predictor.backbone.config.num_hidden_layers == training['layers'] == max(1, round(n_layers / 4)) < n_layers
    assert training['config']['max_new_tokens'] == 16 and predictor.n_buckets == 2
    assert 0.0 <= training['share_cut'] <= 1.0
    assert {'validation_crps', 'validation_log_loss', 'validation_crps_of_marginal'} <= set(training)
    told = [json.loads(line) for line in (tmp_path / 'out' / 'log.jsonl').read_text().splitlines()]
    assert [line['done'] == line['of'] for line in told if line['phase'] == 'labels'][-1]


def test_length_predictor_training_on_a_prompt_file(trained, tmp_path):
    write_jsonl([generate(i, n_tokens=50) for i in range(12)], tmp_path / 'prompts.jsonl')
    config = {**TINY_PREDICTOR, 'epochs_on_references': 0, 'epochs_on_labels': 1}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert train_command(['--target', str(trained[0] / 'model'), '--prompts', str(tmp_path / 'prompts.jsonl'),
                          '--config', str(tmp_path / 'config.json'), '--out', str(tmp_path / 'out'),
                          '--bucket-size', '8', '--device', 'cpu']) == 0
    distribution = length_predictor.load(tmp_path / 'out' / 'length_predictor').predict('log :')
    assert (distribution.n_buckets, distribution.bucket_size) == (3, 8)
    scores = load_scores(tmp_path / 'out' / 'length_predictor' / SCORES_FILE)
    assert scores and all(score >= 0 for score in scores), 'those of the prompts held out'
    with pytest.raises(FileNotFoundError, match='--baselines'):
        Baselines.load(tmp_path / 'out' / 'length_predictor')


@pytest.mark.parametrize(('own', 'warned'), [(3.9, False), (4.0, True), (7.5, True)])
def test_a_predictor_no_better_than_the_constant_median_is_said_so(own, warned, trained, tmp_path, monkeypatch, capsys):
    training = {'validation_prompts': 20, 'validation_mae': own, 'validation_mae_of_constant_median': 4.0}
    monkeypatch.setattr(train_length_predictor, 'train', lambda *args, **options: {'training': training})
    write_jsonl([generate(i, n_tokens=50) for i in range(4)], tmp_path / 'prompts.jsonl')
    assert train_command(['--target', str(trained[0] / 'model'), '--prompts', str(tmp_path / 'prompts.jsonl'),
                          '--out', str(tmp_path / 'out'), '--device', 'cpu']) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == training, 'standard output stays JSON'
    if warned:
        assert 'no better than a constant' in printed.err and f'{own} tokens' in printed.err and '4.0' in printed.err
    else:
        assert 'no better' not in printed.err


def test_a_small_language_model_predicts_for_a_target_of_another_architecture(tmp_path):
    """The paper's setting, at small size: a Qwen2 reads the rendered prompt in its own tokens."""
    target_dir = tiny_models.build(tmp_path / 'target', 'llama')
    backbone = tiny_models.build(tmp_path / 'backbone', 'qwen2')
    (tmp_path / 'prompts.jsonl').write_text(''.join(json.dumps({'prompt': f'word {i}'}) + '\n' for i in range(12)))
    config = json.loads(Path(train_length_predictor.__file__).with_name('length_predictor_paper.json').read_text())
    assert (config['bucket_size'], config['max_new_tokens'] // config['bucket_size']) == (16, 512)
    config.update(max_new_tokens=32, autocast='float32', batch_tokens=300)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert train_command([
        '--target', str(target_dir), '--backbone', str(backbone), '--prompts', str(tmp_path / 'prompts.jsonl'),
        '--config', str(tmp_path / 'config.json'), '--out', str(tmp_path / 'out'), '--device', 'cpu']) == 0
    predictor = length_predictor.load(tmp_path / 'out' / 'length_predictor')
    assert predictor.backbone.config.model_type == 'qwen2'
    assert predictor.facts['training']['backbone'] == 'backbone' and predictor.facts['target']['name'] == 'target'
    assert predictor.predict('word 3').n_buckets == 2


def test_ctrl_c_says_what_is_kept_and_wrong_options_are_refused_early(tmp_path, monkeypatch, capsys):
    prompts = tmp_path / 'prompts.jsonl'
    prompts.write_text('{"prompt": "a word"}\n')
    arguments = ['--target', str(tmp_path), '--prompts', str(prompts), '--out', str(tmp_path / 'out')]

    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, '_run', stopped)
    assert train_command(arguments) == 130
    assert 'the same command goes on' in capsys.readouterr().err
    assert train_command([*arguments, '--states']) == 1
    assert '--out must end with .safetensors with --states' in capsys.readouterr().err
    for wrong in (['--steps', '-3'], ['--layers', '-1'], ['--limit', '0'], ['--prompts', str(tmp_path / 'no.jsonl')]):
        with pytest.raises(SystemExit):
            train_command([*arguments, *wrong])
        assert wrong[0] in capsys.readouterr().err


def test_a_target_may_be_named(monkeypatch, tmp_path):
    monkeypatch.setattr(named_models, 'find_named', lambda name, cache: tmp_path)
    assert command._directory_of(Path('smollm2')) == tmp_path
    assert command._directory_of(tmp_path) == tmp_path
    with pytest.raises(ModelError, match='there is no directory some/model: .*smollm2'):
        command._directory_of(Path('some/model'))
    monkeypatch.setattr(named_models, 'find_named', lambda name, cache: None)
    with pytest.raises(ModelError, match='timebill get-model smollm2'):
        command._directory_of(Path('smollm2'))
