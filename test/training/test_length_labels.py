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

"""The target's responses to prompts: in batches, sampled, and spread over processes."""
import pytest
import torch
from transformers import AutoModelForCausalLM

from timebill_ros.tasks.site_log import generate
from timebill_ros.training import length_labels
from timebill_ros.training.prompts import Prompt
from timebill_ros.training.site_log_prompts import site_log_prompt


@pytest.fixture(scope='module')
def target(trained):
    return AutoModelForCausalLM.from_pretrained(trained[0] / 'model', use_safetensors=True).eval()


def prompts(tokenizer, n: int) -> list[Prompt]:
    return [site_log_prompt(generate(i, n_tokens=40 + 7 * i), tokenizer) for i in range(n)]


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


@pytest.mark.slow
def test_answers_do_not_depend_on_the_number_of_processes(trained, tokenizer, monkeypatch):
    texts = [prompt.text for prompt in prompts(tokenizer, 4)]
    options = {'device': 'cpu', 'max_new_tokens': 8, 'temperature': 1.0, 'samples': 2, 'seed': 3}
    done: list[int] = []
    alone = length_labels.answer_all(trained[0] / 'model', texts, **options,
                                     on_answer=lambda number, row: done.append(number))
    assert done == [0, 1, 2, 3] and all(len(row) == 2 for row in alone)
    monkeypatch.setattr(length_labels, '_PROMPTS_PER_PROCESS', 2)
    monkeypatch.setattr(length_labels, 'available_cores', lambda: 2)
    assert length_labels.answer_all(trained[0] / 'model', texts, **options) == alone
    numbered = length_labels.answer_all(trained[0] / 'model', texts[2:], numbers=(2, 3), **options)
    assert numbered == alone[2:], 'a prompt is seeded by its number, whatever was answered before'


def test_batches_hold_every_prompt_once_and_keep_to_their_size():
    lengths = [5, 90, 40, 41, 7, 300, 6]
    batches = list(length_labels.length_sorted_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100 for batch in batches)
    assert batches[0] == [5]  # longer than a whole batch: alone
