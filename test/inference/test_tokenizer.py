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

"""A tokenizer comes out as its files describe it, whatever model it stands beside."""
import json

import pytest
import tiny_models

from timebill_ros.inference import tokenizer


@pytest.mark.parametrize('kind', ['qwen2', 'llama', 'gemma3', 'mamba'])
@pytest.mark.parametrize('declared', ['PreTrainedTokenizerFast', 'TokenizersBackend'])
def test_a_directory_that_declares_only_its_file_gets_just_that(kind, declared, tmp_path):
    directory = tiny_models.copy_of(kind, tmp_path)
    config = json.loads((directory / 'tokenizer_config.json').read_text())
    (directory / 'tokenizer_config.json').write_text(json.dumps({**config, 'tokenizer_class': declared}))
    loaded = tokenizer.load_tokenizer(directory)
    assert loaded('w9 nonesuch w10 <eos>')['input_ids'] == [9, 2, 10, tiny_models.EOS]
    assert len(loaded) == tiny_models.VOCABULARY and loaded.eos_token_id == tiny_models.EOS
    assert loaded.chat_template == tiny_models.TEMPLATE


@pytest.mark.parametrize('change', [
    dict(tokenizer_class='Qwen2Tokenizer'), dict(tokenizer_class=None),
    dict(auto_map={'AutoTokenizer': ['own.Own', None]}), 'no config', 'no file',
], ids=str)
def test_everything_else_is_left_to_transformers(change, tmp_path, monkeypatch):
    directory = tiny_models.copy_of('qwen2', tmp_path)
    path = directory / 'tokenizer_config.json'
    if isinstance(change, str):
        (path if change == 'no config' else directory / 'tokenizer.json').unlink()
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    asked = []
    monkeypatch.setattr(tokenizer.AutoTokenizer, 'from_pretrained', lambda *args, **named: asked.append((args, named)))
    tokenizer.load_tokenizer(str(directory), trust_remote_code=True)
    assert asked == [((str(directory),), dict(trust_remote_code=True))]
