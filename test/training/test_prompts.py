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

"""Prompts are read from files and data sets, and what holds none is named."""
import gzip
import json

import pytest

from timebill_ros.tasks.site_log import generate
from timebill_ros.tasks.site_log_scores import write_jsonl
from timebill_ros.training.prompts import Prompt, read_dataset, read_prompts, render


def test_prompt_files(tokenizer, tmp_path):
    path = tmp_path / 'prompts.jsonl'
    task = generate(0, n_tokens=40)
    write_jsonl([task], path)
    path.write_text(path.read_text() + '\n{"prompt": "find mug"}\n')
    first, second = read_prompts(path, tokenizer)
    assert first == Prompt(render(task.messages, tokenizer), task.answer)
    assert second == Prompt('<|user|> find mug <|end|> <|assistant|>')
    for bad in ('{"text": "find mug"}', '{"messages": [{"role": "assistant", "content": "mug"}]}', '["find mug"]'):
        path.write_text('{"prompt": "find mug"}\n' + bad + '\n')
        with pytest.raises(ValueError, match='line 2'):
            read_prompts(path, tokenizer)
    path.write_text('')
    with pytest.raises(ValueError, match='no prompts'):
        read_prompts(path, tokenizer)


def test_data_sets(tokenizer, tmp_path):
    datasets = pytest.importorskip('datasets')
    talk = [{'role': 'user', 'content': 'find mug'}, {'role': 'assistant', 'content': 'mug @shelf1'}]
    rows = [{'conversation_a': talk, 'question': 'find saw'}, {'conversation_a': talk[:1], 'question': 'list mug'}]
    (tmp_path / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / 'saved')
    for source in (str(tmp_path / 'rows.jsonl'), str(tmp_path / 'saved')):
        # What follows the user's last message is the answer, not the prompt.
        talks = read_dataset(source, tokenizer, column='conversation_a')
        assert talks == [Prompt('<|user|> find mug <|end|> <|assistant|>')] * 2
        asked = read_dataset(source, tokenizer, column='question', limit=1)
        assert asked == [Prompt('<|user|> find saw <|end|> <|assistant|>')]
        with pytest.raises(ValueError, match='row 0.*prompt.*conversation_a'):
            read_dataset(source, tokenizer)


def test_a_gzipped_file_and_the_kinds_of_its_prompts(tokenizer, tmp_path):
    path = tmp_path / 'prompts.jsonl.gz'
    rows = [{'prompt': 'find mug', 'source': 'asked'}, {'prompt': 'find saw', 'source': 'x', 'kind': 'tools'},
            {'prompt': 'list mug', 'kind': 7}]
    path.write_bytes(gzip.compress(''.join(json.dumps(row) + '\n' for row in rows).encode()))
    assert [prompt.kind for prompt in read_prompts(path, tokenizer)] == ['asked', 'tools', '']
