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

"""Reading a model's files: each failure is one sentence, and the context is what parameter and model allow."""
import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from timebill_ros.inference.hub import is_here
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.model_loading import ModelFiles, explained


def files(kind='qwen2'):
    return ModelFiles(str(tiny_models.directory(kind)), torch.device('cpu'), 'float32', trust_remote_code=False,
                      allow_unsafe_weights=False)


@pytest.mark.parametrize(('wanted', 'context'), [(100, 100), (10 ** 6, tiny_models.CONTEXT)])
def test_the_context_is_what_parameter_and_model_allow(wanted, context):
    assert files().max_context(wanted) == context


def test_sharded_weights_are_those_of_one_file(tmp_path):
    whole = tiny_models.directory('qwen2')
    directory = tiny_models.copy_of('qwen2', tmp_path)
    (directory / 'model.safetensors').unlink()
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(directory, max_shard_size='20KB')
    shards = sorted(directory.glob('model-*.safetensors'))
    assert len(shards) > 2 and not (directory / 'model.safetensors').exists()
    ids = tiny_models.prompt_ids(40)
    logits = [CausalLM(str(path), device='cpu', threads=1).prefill(ids, chunk_tokens=64) for path in (whole, directory)]
    torch.testing.assert_close(*logits)
    shards[1].unlink()
    with pytest.raises(ModelError, match=f'lacks {shards[1].name}, of the {len(shards)} files'):
        CausalLM(str(directory), device='cpu')


# -- a revision of a hub id ------------------------------------------------------------------------------------------

def test_a_directory_has_no_revisions():
    with pytest.raises(ModelError, match="model_revision is 'v1', but model .* is a directory"):
        CausalLM(str(tiny_models.directory('qwen2')), device='cpu', revision='v1')


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Put two commits of a model into a cache of the hub, as a download leaves them: 'main' and 'v1' by name."""
    commits = {'main': 'a' * 40, 'v1': 'b' * 40}
    repository = tmp_path / 'models--somebody--model'
    for seed, (name, commit) in enumerate(commits.items()):
        tiny_models.build(repository / 'snapshots' / commit, 'qwen2', seed=seed)
        (repository / 'refs').mkdir(exist_ok=True)
        (repository / 'refs' / name).write_text(commit)
    for module in ('huggingface_hub.constants', 'transformers.utils.hub.constants'):
        monkeypatch.setattr(f'{module}.HF_HUB_CACHE', str(tmp_path))
    return repository, commits


@pytest.mark.parametrize('revision', ['', 'v1', 'b' * 40])
def test_config_weights_tokenizer_and_fingerprint_are_of_the_revision(revision, hub):
    repository, commits = hub
    commit = commits[revision or 'main'] if len(revision) < 40 else revision
    (repository / 'snapshots' / commit / 'chat_template.jinja').write_text('only here')
    model = CausalLM('somebody/model', device='cpu', threads=1, revision=revision)
    assert model.fingerprint == f'somebody/model@{commit}' and model.tokenizer.chat_template == 'only here'
    ids = tiny_models.prompt_ids(40)
    same = CausalLM(str(repository / 'snapshots' / commit), device='cpu', threads=1)
    assert torch.equal(model.prefill(ids, chunk_tokens=64), same.prefill(ids, chunk_tokens=64))


def test_a_revision_that_is_not_here_is_said(hub):
    with pytest.raises(ModelError, match='somebody/model cannot be loaded'):
        CausalLM('somebody/model', device='cpu', revision='v2')
    assert is_here('somebody/model', 'v1') and not is_here('somebody/model', 'v2')


def test_weights_come_with_the_attention_that_is_asked_for():
    assert files().read_weights('eager').config._attn_implementation == 'eager'
    assert files().read_weights().dtype == torch.float32


def test_what_transformers_raises_becomes_a_sentence():
    with pytest.raises(ModelError, match='model x cannot be loaded: KeyError: '), explained('x'):
        raise KeyError('vocab_size')
    with pytest.raises(ModelError, match='^a sentence$'), explained('x'):
        raise ModelError('a sentence')


# -- memory that is too short ----------------------------------------------------------------------------------------

def no_memory(self, *args, **options):
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 77 bytes.")


@pytest.mark.parametrize('kind', ['qwen2', 'gpt_oss'])
@pytest.mark.parametrize('target', ['timebill_ros.inference.kv_cache.SlotLayer.lazy_initialization',
                                    'timebill_ros.inference.foreign_cache.Recomputed.forward',
                                    'timebill_ros.inference.foreign_cache.Chunked.forward',
                                    'timebill_ros.inference.model_loading.AutoModelForCausalLM.from_pretrained'])
def test_a_model_that_does_not_fit_fails_with_its_sizes_and_never_loses_eviction_for_it(kind, target, monkeypatch):
    monkeypatch.setattr(target, no_memory)
    if kind == 'qwen2' and 'foreign' in target:
        assert CausalLM(str(tiny_models.directory(kind)), device='cpu').supports_eviction
        return
    with pytest.raises(ModelError, match='^OUT_OF_MEMORY') as raised:
        CausalLM(str(tiny_models.directory(kind)), device='cpu', dtype='float32', max_context_tokens=400)
    sentence = str(raised.value)
    cache = 2 * 3 * 2 * 8 * 4 * 401  # keys and values, layers, KV heads, width, bytes, slots
    for part in ('max_context_tokens', '400 tokens', f'{cache / 2 ** 20:.1f} MiB', 'weights', 'float32', '77 bytes'):
        assert part in sentence
