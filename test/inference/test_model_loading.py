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
