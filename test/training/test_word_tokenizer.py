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

"""The embedded model's tokenizer: a word is a token, and decoding returns the text."""
import pytest
from transformers import AutoTokenizer

from timebill_ros.tasks.site_log import FAMILIES, generate, vocabulary
from timebill_ros.training.word_tokenizer import ROLES, save_tokenizer


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
