import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from timebill_ros import length_predictor
from timebill_ros.training import evaluate, length_labels, train_length_predictor, train_target
from timebill_ros.training.length_labels import Prompt
from timebill_ros.training.site_log import FAMILIES, generate, vocabulary, write_jsonl
from timebill_ros.training.tokenizer import ROLES, build_tokenizer, save_tokenizer
from timebill_ros.training.train_length_predictor import Example, collate, losses

DEMO = Path(__file__).parents[1] / 'resource' / 'demo'

TINY_TARGET = {
    'seed': 0,
    'model': {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 2,
              'num_key_value_heads': 1, 'head_dim': 32, 'rope_theta': 10000.0, 'max_position_embeddings': 512},
    'learning_rate': 0.003, 'final_learning_rate': 0.0003, 'warmup_steps': 5, 'weight_decay': 0.01,
    'autocast': 'float32',
    'stages': [
        {'n_objects': 8, 'n_places': 4, 'move_probability': 0.0, 'max_asked': 2, 'n_tokens': [30, 40], 'batch': 8,
         'pass': 2.0, 'max_steps': 20},
        {'n_objects': 16, 'n_places': 8, 'move_probability': 0.3, 'max_asked': 3, 'n_tokens': [30, 60], 'batch': 8,
         'pass': 2.0, 'max_steps': 20},
    ],
}
TINY_PREDICTOR = {
    'seed': 0, 'bucket_size': 4, 'max_new_tokens': 24, 'max_input_tokens': 128, 'temperatures': [0.0, 0.7],
    'reference_prompts': 160, 'labelled_prompts': 24, 'prompt_tokens': [30, 60], 'epochs_on_references': 2,
    'epochs_on_labels': 2, 'validation_share': 0.25, 'batch_tokens': 900, 'learning_rate': 0.005,
    'label_learning_rate': 0.002, 'warmup_steps': 5, 'weight_decay': 0.01, 'language_model_weight': 0.5,
    'remaining_weight': 0.5, 'autocast': 'float32',
}


@pytest.fixture(scope='module')
def tokenizer():
    return build_tokenizer(512)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A tiny target after its whole short training, and the losses on the way."""
    out = tmp_path_factory.mktemp('target')
    return out, train_target.train(TINY_TARGET, out, save_every=10)


def mean(values):
    return sum(values) / len(values)


# --- tokenizer

def test_every_word_is_one_token_and_decodes_to_itself(tokenizer):
    for word in vocabulary():
        ids = tokenizer.encode(word, add_special_tokens=False)
        assert len(ids) == 1 and tokenizer.decode(ids) == word


@pytest.mark.parametrize('family', FAMILIES)
def test_decoding_returns_the_text_and_a_streams_pieces_add_up_to_it(tokenizer, family):
    for seed in range(20):
        task = generate(seed, family=family, n_tokens=80)
        for text in (task.content, task.answer):
            ids = tokenizer.encode(text, add_special_tokens=False)
            decoded = [tokenizer.decode(ids[:n]) for n in range(len(ids) + 1)]
            assert decoded[-1] == text
            for shorter, longer in zip(decoded, decoded[1:], strict=False):
                assert longer.startswith(shorter)
        assert len(tokenizer.encode(task.content, add_special_tokens=False)) == task.n_tokens
        assert len(tokenizer.encode(task.answer, add_special_tokens=False)) + 1 == task.n_answer_tokens


def test_chat_template(tokenizer):
    messages = [{'role': 'system', 'content': 'log :'}, {'role': 'user', 'content': 'find mug'}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == '<|system|> log : <|end|> <|user|> find mug <|end|> <|assistant|>'
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids[0] == tokenizer.convert_tokens_to_ids(ROLES[0]) and ids[-1] == tokenizer.convert_tokens_to_ids(ROLES[2])
    assert ids.count(tokenizer.eos_token_id) == 2 and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == ['log', ':', 'find', 'mug']
    with pytest.raises(Exception, match='robot'):
        tokenizer.apply_chat_template([{'role': 'robot', 'content': 'mug'}], tokenize=False)


def test_a_saved_tokenizer_loads_as_any_other(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    task = generate(0, n_tokens=80)
    assert again.encode(task.content, add_special_tokens=False) == tokenizer.encode(
        task.content, add_special_tokens=False)
    assert again.decode(again.encode(task.answer)) == task.answer
    assert (again.eos_token, again.pad_token, again.unk_token) == ('<|end|>', '<|pad|>', '<|unknown|>')
    assert again.encode('ghost mug') == [again.unk_token_id, again.convert_tokens_to_ids('mug')]
    assert set(ROLES) <= set(again.all_special_tokens)
    assert again.apply_chat_template(task.messages, tokenize=False, add_generation_prompt=True).endswith(ROLES[2])


# --- target

def test_target_training_lowers_the_loss_and_passes_through_the_curriculum(trained):
    out, history = trained
    assert len(history) == 40
    assert mean(history[15:20]) < mean(history[:5]) - 0.5
    facts = json.loads((out / 'model' / 'training.json').read_text())
    assert facts['steps'] == 40 and [stage['steps'] for stage in facts['stages']] == [20, 20]
    assert facts['config'] == TINY_TARGET and facts['hardware']


def test_the_target_loads_as_any_other(trained):
    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out / 'model', use_safetensors=True)
    config = json.loads((out / 'model' / 'config.json').read_text())
    # Both transformers 4 and 5 have to find the rotary base.
    assert config['rope_theta'] == config['rope_parameters']['rope_theta'] == 10000.0
    assert model.config.model_type == 'qwen2' and model.generation_config.eos_token_id == model.config.eos_token_id
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    out_ids = model.generate(input_ids=torch.tensor([[4, 5, 6]]), max_new_tokens=3)
    assert out_ids.shape[1] > 3


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(trained, tmp_path):
    _, whole = trained
    first = train_target.train(TINY_TARGET, tmp_path, steps=23)
    second = train_target.train(TINY_TARGET, tmp_path)
    assert first + second == pytest.approx(whole, rel=1e-4)


def test_a_checkpoint_of_another_shape_is_refused(trained):
    out, _ = trained
    other = {**TINY_TARGET, 'model': {**TINY_TARGET['model'], 'hidden_size': 64}}
    with pytest.raises(ValueError, match='another shape'):
        train_target.train(other, out)


def test_first_heads_start_as_attention_to_the_tokens_before(tokenizer):
    torch.manual_seed(0)
    shape = json.loads(train_target.DEFAULT_CONFIG.read_text())['model']
    model = train_target.build_model(shape, tokenizer)
    model.set_attn_implementation('eager')
    ids, _ = train_target.make_batch(TINY_TARGET['stages'][0], 0, tokenizer, 0)
    weights = model(input_ids=ids[:2], output_attentions=True).attentions[0]  # [batch, head, query, key]
    query = torch.arange(5, 30)
    for head, offset in ((0, 1), (1, 2)):
        assert weights[:, head, query, query - offset].min() > 0.9


def test_lookups_are_the_words_read_off_the_log(tokenizer):
    batch, in_answer = train_target.make_batch(TINY_TARGET['stages'][1], 3, tokenizer, 0)
    lookup_ids = torch.tensor(tokenizer.convert_tokens_to_ids(['@shelf1', 'closed']))
    perfect = torch.nn.functional.one_hot(batch.roll(-1, 1), len(tokenizer)).float() * 50
    loss, right = train_target.loss_and_lookups(perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert loss.item() == pytest.approx(0, abs=1e-3) and right == 1
    _, right = train_target.loss_and_lookups(-perfect, batch, in_answer, tokenizer.pad_token_id, lookup_ids)
    assert right == 0


# --- length labels

def test_batched_responses_are_those_of_one_prompt_at_a_time(trained, tokenizer):
    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out / 'model', use_safetensors=True).eval()
    texts = [length_labels.render(generate(i, n_tokens=30 + 7 * i).messages, tokenizer) for i in range(6)]
    batched = length_labels.generate_responses(model, tokenizer, texts, max_new_tokens=12, max_batch_tokens=200)
    for text, response in zip(texts, batched, strict=True):
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        alone = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1]:].tolist()
        assert response == alone
        assert tokenizer.eos_token_id not in response[:-1] and 1 <= len(response) <= 12


def test_sampled_responses_differ_with_the_seed_and_not_without(trained, tokenizer):
    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out / 'model', use_safetensors=True).eval()
    texts = [length_labels.render(generate(i, n_tokens=40).messages, tokenizer) for i in range(4)]
    a, b, c = (length_labels.generate_responses(model, tokenizer, texts, max_new_tokens=8, temperature=1.5, seed=seed)
               for seed in (1, 1, 2))
    assert a == b != c


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
    path.write_text('{"prompt": "find mug"}\n{"text": "find mug"}\n')
    with pytest.raises(ValueError, match='line 2'):
        length_labels.read_prompts(path, tokenizer)
    path.write_text('')
    with pytest.raises(ValueError, match='no prompts'):
        length_labels.read_prompts(path, tokenizer)


# --- length predictor

def test_collate_counts_what_remains_of_each_response():
    ids, remaining, last = collate([Example([5, 6, 7], [8, 9]), Example([5], [6])], pad_id=0)
    assert ids.tolist() == [[5, 6, 7, 8, 9], [5, 6, 0, 0, 0]]
    assert remaining.tolist() == [[0, 0, 2, 1, 0], [1, 0, 0, 0, 0]]
    assert last.tolist() == [2, 0]


def test_losses_vanish_for_the_right_logits_and_only_for_them():
    ids, remaining, last = collate([Example([5, 6, 7], [8, 9, 1]), Example([5, 3], [6])], pad_id=0)
    right = {'length_logits': torch.nn.functional.one_hot(((remaining - 1).clamp(min=0) // 2), 3).float() * 60,
             'lm_logits': torch.nn.functional.one_hot(ids.roll(-1, 1), 10).float() * 60}
    for name, part in losses(**right, ids=ids, remaining=remaining, last=last, bucket_size=2).items():
        assert part.item() == pytest.approx(0, abs=1e-3), name
    wrong = losses(**{name: -value for name, value in right.items()}, ids=ids, remaining=remaining, last=last,
                   bucket_size=2)
    assert all(part.item() > 10 for part in wrong.values())


def test_length_predictor_training_lowers_every_part_of_the_loss(trained, tmp_path):
    out, _ = trained
    run = train_length_predictor.PredictorTraining(TINY_PREDICTOR, out / 'model', tmp_path)
    prompts = train_length_predictor.site_log_prompts(TINY_PREDICTOR, run.tokenizer)[:12]
    examples = [run.reference_example(prompt) for prompt in prompts]
    parts = [run.train_step(examples, 0.003) for _ in range(60)]
    for name in ('length', 'remaining', 'language_model'):
        assert parts[-1][name] < 0.75 * parts[0][name], name


def test_length_predictor_training_from_start_to_a_loadable_predictor(trained, tmp_path):
    out, _ = trained
    facts = train_length_predictor.train(TINY_PREDICTOR, out / 'model', tmp_path, save_every=5)
    history = facts.pop('losses')
    assert len(history) == facts['training']['steps'] > 20
    predictor = length_predictor.load(tmp_path / 'length_predictor')
    assert predictor.facts == facts
    assert predictor.n_buckets == math.ceil(24 / 4) and predictor.max_input_tokens == 128
    responses = [json.loads(line)['responses'] for line in (tmp_path / 'responses.jsonl').read_text().splitlines()]
    assert len(responses) == 24 and all(len(row) == 2 for row in responses)
    # Run again: everything is there already, nothing is trained twice, and the same predictor results.
    again = train_length_predictor.train(TINY_PREDICTOR, out / 'model', tmp_path)
    assert again.pop('losses') == []
    assert again['training']['validation_mae'] == facts['training']['validation_mae']


def test_length_predictor_training_on_a_prompt_file(trained, tmp_path):
    out, _ = trained
    write_jsonl([generate(i, n_tokens=40) for i in range(12)], tmp_path / 'prompts.jsonl')
    config = {**TINY_PREDICTOR, 'labelled_prompts': 12, 'epochs_on_references': 0, 'epochs_on_labels': 1}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    train_length_predictor.main(['--target', str(out / 'model'), '--prompts', str(tmp_path / 'prompts.jsonl'),
                                 '--config', str(tmp_path / 'config.json'), '--out', str(tmp_path / 'out'),
                                 '--device', 'cpu'])
    distribution = length_predictor.load(tmp_path / 'out' / 'length_predictor').predict('log :')
    assert distribution.n_buckets == 6


# --- what is committed

def test_the_committed_model_and_predictor_are_small_and_complete():
    files = [path for path in DEMO.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert not [path for path in files if path.suffix in ('.bin', '.pt', '.pkl')]
    model = json.loads((DEMO / 'model' / 'config.json').read_text())
    assert model['model_type'] == 'qwen2' and model['max_position_embeddings'] >= 8192
    assert json.loads((DEMO / 'model' / 'training.json').read_text())['config'] == json.loads(
        train_target.DEFAULT_CONFIG.read_text())


def test_the_committed_model_plans_and_its_predictor_beats_a_constant():
    report = evaluate.evaluate(DEMO / 'model', DEMO / 'length_predictor', per_cell=4)
    assert report['all']['n'] == 60
    assert report['all']['step_accuracy'] >= 0.9
    assert report['all']['length']['mae'] < 0.5 * report['all']['length']['constant_median_mae']
