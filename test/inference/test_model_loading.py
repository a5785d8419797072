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

from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.model_loading import ModelFiles, explained


def files(kind='qwen2'):
    return ModelFiles(str(tiny_models.directory(kind)), torch.device('cpu'), 'float32', trust_remote_code=False,
                      allow_unsafe_weights=False)


@pytest.mark.parametrize(('wanted', 'context'), [(100, 100), (10 ** 6, tiny_models.CONTEXT)])
def test_the_context_is_what_parameter_and_model_allow(wanted, context):
    assert files().max_context(wanted) == context


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
