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

import json
import math
from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length import length_predictor
from timebill_ros.length.calibration import SCORES_FILE, load_scores
from timebill_ros.tasks.patrol import OBJECTS, PLACES
from timebill_ros.tasks.site_log import generate
from timebill_ros.tasks.site_log_scores import write_jsonl
from timebill_ros.training import length_labels, train_length_predictor
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_labels import Prompt
from timebill_ros.training.train_length_predictor import Example, collate

TINY_PREDICTOR = {
    'seed': 0, 'bucket_size': 4, 'max_new_tokens': 24, 'max_input_tokens': 128, 'temperature': 0.7, 'samples': 2,
    'reference_prompts': 160, 'reference_tokens': [40, 60], 'labelled_prompts': 24, 'labelled_tokens': 50,
    'epochs_on_references': 2, 'epochs_on_labels': 2, 'validation_share': 0.25, 'batch_tokens': 900,
    'learning_rate': 0.005, 'label_learning_rate': 0.002, 'warmup_steps': 5, 'weight_decay': 0.01,
    'language_model_weight': 0.5, 'remaining_weight': 0.5, 'baselines_weight': 0.1, 'autocast': 'float32',
}


@pytest.fixture(scope='module')
def target(trained):
    return AutoModelForCausalLM.from_pretrained(trained[0] / 'model', use_safetensors=True).eval()


def prompts(tokenizer, n: int) -> list[Prompt]:
    return [train_length_predictor.site_log_prompt(generate(i, n_tokens=40 + 7 * i), tokenizer) for i in range(n)]


def test_batched_responses_are_those_of_one_prompt_at_a_time(target, tokenizer):
    texts = [prompt.text for prompt in prompts(tokenizer, 6)]
    for expected in ((), (3, 100, 9, 9, 1, 12)):
        batched = length_labels.generate_responses(target, tokenizer, texts, max_new_tokens=12, expected=expected,
                                                   max_batch_tokens=200)
        for text, (response,) in zip(texts, batched, strict=True):
            ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
            alone = target.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:].tolist()
            assert response == alone
            assert tokenizer.eos_token_id not in response[:-1] and 1 <= len(response) <= 12


def test_sampled_responses_differ_with_the_seed_and_not_without(target, tokenizer):
    texts = [prompt.text for prompt in prompts(tokenizer, 4)]
    a, b, c = (length_labels.generate_responses(target, tokenizer, texts, max_new_tokens=8, temperature=1.5, samples=3,
                                                seed=seed) for seed in (1, 1, 2))
    assert a == b != c
    assert all(len(row) == 3 for row in a) and any(row[0] != row[1] for row in a)


def test_answers_do_not_depend_on_the_number_of_processes(trained, tokenizer, monkeypatch):
    texts = [prompt.text for prompt in prompts(tokenizer, 4)]
    options = {'device': 'cpu', 'max_new_tokens': 8, 'temperature': 1.0, 'samples': 2, 'seed': 3}
    done: list[int] = []
    alone = length_labels.answer_all(trained[0] / 'model', texts, on_progress=done.append, **options)
    assert done == [1, 2, 3, 4] and all(len(row) == 2 for row in alone)
    monkeypatch.setattr(length_labels, '_PROMPTS_PER_PROCESS', 2)
    monkeypatch.setattr(length_labels, 'available_cores', lambda: 2)
    assert length_labels.answer_all(trained[0] / 'model', texts, **options) == alone


def test_batches_hold_every_prompt_once_and_keep_to_their_size():
    lengths = [5, 90, 40, 41, 7, 300, 6]
    batches = list(length_labels.length_sorted_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100 for batch in batches)
    assert batches[0] == [5]  # longer than a whole batch: alone


def test_prompt_files(tokenizer, tmp_path):
    path = tmp_path / 'prompts.jsonl'
    task = generate(0, n_tokens=40)
    write_jsonl([task], path)
    path.write_text(path.read_text() + '\n{"prompt": "find mug"}\n')
    first, second = length_labels.read_prompts(path, tokenizer)
    assert first == Prompt(length_labels.render(task.messages, tokenizer), task.answer)
    assert second == Prompt('<|user|> find mug <|end|> <|assistant|>')
    for bad in ('{"text": "find mug"}', '{"messages": [{"role": "assistant", "content": "mug"}]}', '["find mug"]'):
        path.write_text('{"prompt": "find mug"}\n' + bad + '\n')
        with pytest.raises(ValueError, match='line 2'):
            length_labels.read_prompts(path, tokenizer)
    path.write_text('')
    with pytest.raises(ValueError, match='no prompts'):
        length_labels.read_prompts(path, tokenizer)


def test_data_sets(tokenizer, tmp_path):
    datasets = pytest.importorskip('datasets')
    talk = [{'role': 'user', 'content': 'find mug'}, {'role': 'assistant', 'content': 'mug @shelf1'}]
    rows = [{'conversation_a': talk, 'question': 'find saw'}, {'conversation_a': talk[:1], 'question': 'list mug'}]
    (tmp_path / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / 'saved')
    for source in (str(tmp_path / 'rows.jsonl'), str(tmp_path / 'saved')):
        # What follows the user's last message is the answer, not the prompt.
        talks = length_labels.read_dataset(source, tokenizer, column='conversation_a')
        assert talks == [Prompt('<|user|> find mug <|end|> <|assistant|>')] * 2
        asked = length_labels.read_dataset(source, tokenizer, column='question', limit=1)
        assert asked == [Prompt('<|user|> find saw <|end|> <|assistant|>')]
        with pytest.raises(ValueError, match='row 0.*prompt.*conversation_a'):
            length_labels.read_dataset(source, tokenizer)


# --- length predictor

def test_partial_lengths_stand_where_the_instruction_could_have_stopped(tokenizer):
    for seed in range(40):
        task = generate(seed, n_tokens=80)
        prompt = train_length_predictor.site_log_prompt(task, tokenizer)
        assert len(prompt.partial) == (len(task.partial_lengths) if len(task.partial_lengths) > 1 else 0)
        named = [word for word in task.instruction.split() if word in (PLACES if task.family == 'route' else OBJECTS)]
        assert [prompt.text[:at].split()[-1] for at, _ in prompt.partial] == named[:len(prompt.partial)]


def test_collate_counts_what_remains_of_each_response():
    ids, remaining, last, labels, ends = collate(
        [Example([5, 6, 7], [8, 9], [2, 5], ((1, 4),)), Example([5], [6], [9])], 0, bucket_size=2, n_buckets=3)
    assert ids.tolist() == [[5, 6, 7, 8, 9], [5, 6, 0, 0, 0]]
    assert remaining.tolist() == [[0, 4, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert last.tolist() == [2, 0] and ends.tolist() == [5, 2]
    assert labels.tolist() == [[0.5, 0, 0.5], [0, 0, 1]]


def test_examples_are_compressed_as_in_the_node_and_keep_their_partial_lengths(trained, tmp_path, tokenizer):
    config = {**TINY_PREDICTOR, 'max_input_tokens': 40}
    run = train_length_predictor.PredictorTraining(config, trained[0] / 'model', tmp_path)
    task = next(task for task in (generate(i, n_tokens=120) for i in range(99)) if task.family == 'list')
    prompt = train_length_predictor.site_log_prompt(task, tokenizer)
    example = run.example(prompt, [run.reference_response(prompt)])
    assert len(example.prompt) == 40 and example.lengths == [task.n_answer_tokens]
    read = [tokenizer.decode(example.prompt[at]) for at, _ in example.partial]
    assert read == [word for word in task.instruction.split() if word in OBJECTS][-len(read):] and read


def test_length_predictor_training_lowers_every_part_of_the_loss(trained, tmp_path):
    run = train_length_predictor.PredictorTraining(TINY_PREDICTOR, trained[0] / 'model', tmp_path)
    references, _ = train_length_predictor.site_log_prompts({**TINY_PREDICTOR, 'reference_prompts': 12}, run.tokenizer)
    examples = [run.example(prompt, [run.reference_response(prompt)]) for prompt in references]
    run.compare_with_baselines([n for example in examples for n in example.lengths])
    parts = [run.train_step(examples, 0.003) for _ in range(60)]
    for name in ('length', 'partial', 'remaining', 'language_model', 'baselines'):
        assert parts[-1][name] < 0.8 * parts[0][name], name


def train_predictor(config: dict, target_dir: Path, out: Path, **options) -> dict:
    prompts = train_length_predictor.site_log_prompts(config, load_tokenizer(target_dir))
    return train_length_predictor.train(config, target_dir, out, *prompts, **options)


def test_length_predictor_training_from_start_to_a_loadable_predictor(trained, tmp_path):
    model = trained[0] / 'model'
    facts = train_predictor(TINY_PREDICTOR, model, tmp_path, baselines=True, save_every=5)
    history = facts.pop('losses')
    assert len(history) == facts['training']['steps'] > 20
    predictor = length_predictor.load(tmp_path / 'length_predictor')
    assert predictor.facts == facts
    assert predictor.n_buckets == math.ceil(24 / 4) and predictor.max_input_tokens == 128
    responses = [json.loads(line)['responses'] for line in (tmp_path / 'responses.jsonl').read_text().splitlines()]
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
    first = train_predictor(TINY_PREDICTOR, model, tmp_path / 'b', steps=13)['losses']
    second = train_predictor(TINY_PREDICTOR, model, tmp_path / 'b')['losses']
    assert len(first) == 13 and first + second == pytest.approx(whole, rel=1e-4)


def test_length_predictor_training_on_a_prompt_file(trained, tmp_path):
    write_jsonl([generate(i, n_tokens=50) for i in range(12)], tmp_path / 'prompts.jsonl')
    config = {**TINY_PREDICTOR, 'epochs_on_references': 0, 'epochs_on_labels': 1}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    train_length_predictor.main(['--target', str(trained[0] / 'model'), '--prompts', str(tmp_path / 'prompts.jsonl'),
                                 '--config', str(tmp_path / 'config.json'), '--out', str(tmp_path / 'out'),
                                 '--bucket-size', '8', '--device', 'cpu'])
    distribution = length_predictor.load(tmp_path / 'out' / 'length_predictor').predict('log :')
    assert (distribution.n_buckets, distribution.bucket_size) == (3, 8)
    scores = load_scores(tmp_path / 'out' / 'length_predictor' / SCORES_FILE)
    assert scores and all(score >= 0 for score in scores), 'those of the prompts held out'
    with pytest.raises(FileNotFoundError, match='--baselines'):
        Baselines.load(tmp_path / 'out' / 'length_predictor')


def test_a_small_language_model_predicts_for_a_target_of_another_architecture(tmp_path):
    """The paper's setting, at small size: a Qwen2 reads the rendered prompt in its own tokens."""
    target_dir = tiny_models.build(tmp_path / 'target', 'llama')
    backbone = tiny_models.build(tmp_path / 'backbone', 'qwen2')
    (tmp_path / 'prompts.jsonl').write_text(''.join(json.dumps({'prompt': f'word {i}'}) + '\n' for i in range(12)))
    config = json.loads(train_length_predictor.PAPER_CONFIG.read_text())
    assert (config['bucket_size'], config['max_new_tokens'] // config['bucket_size']) == (16, 512)
    config.update(max_new_tokens=32, autocast='float32', batch_tokens=300)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    train_length_predictor.main([
        '--target', str(target_dir), '--backbone', str(backbone), '--prompts', str(tmp_path / 'prompts.jsonl'),
        '--config', str(tmp_path / 'config.json'), '--out', str(tmp_path / 'out'), '--device', 'cpu'])
    predictor = length_predictor.load(tmp_path / 'out' / 'length_predictor')
    assert predictor.backbone.config.model_type == 'qwen2'
    assert predictor.facts['training']['backbone'] == 'backbone' and predictor.facts['target']['name'] == 'target'
    assert predictor.predict('word 3').n_buckets == 2
