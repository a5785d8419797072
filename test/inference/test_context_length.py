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

"""How long a context a model's positions allow, and that long ones are computed as transformers computes them."""
from types import SimpleNamespace

import pytest
import tiny_models
import torch
import transformers

from timebill_ros.inference.context_length import DEFAULT_TOKENS, choose_context, longest_context, short_context
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError

YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=32768, rope_theta=1e6)
LLAMA_3 = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=8192, rope_theta=5e5)
FACTORS = dict(short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.0, 2.0, 4.0, 8.0])


def config(positions, scaling, **more):
    return SimpleNamespace(max_position_embeddings=positions, rope_parameters=scaling, **more)


@pytest.mark.parametrize(('made', 'longest'), [
    (config(2048, None), 2048), (config(2048, dict(rope_type='default')), 2048),
    (config(32768, YARN), 131072),  # as Qwen's model cards have users write it
    (config(131072, {**YARN, 'factor': 32.0, 'original_max_position_embeddings': 4096}), 131072),  # as gpt-oss has it
    (config(8192, dict(rope_type='yarn', factor=2.0)), 16384),
    (SimpleNamespace(max_position_embeddings=32768, rope_scaling=YARN), 131072),  # its name in transformers 4
    (SimpleNamespace(max_position_embeddings=8192, rope_scaling=dict(type='yarn', factor=2.0)), 16384),
    (config(131072, LLAMA_3), 131072), (config(4096, dict(rope_type='dynamic', factor=4.0)), 4096),
    (config(16384, dict(rope_type='linear', factor=4.0)), 16384),
    (config(131072, dict(rope_type='longrope', **FACTORS), original_max_position_embeddings=4096), 131072),
    (config(32768, dict(full_attention=YARN, sliding_attention=dict(rope_type='default'))), 131072),
    (SimpleNamespace(), None),
])
def test_the_longest_context_follows_the_scaling(made, longest):
    assert longest_context(made) == longest


@pytest.mark.parametrize(('made', 'wanted', 'context', 'said'), [
    (config(32768, None), 0, DEFAULT_TOKENS, ''), (config(2048, None), 0, 2048, ''), (config(2048, None), 500, 500, ''),
    (config(2048, None), 9000, 2048, 'positions of model m reach 2048 tokens'),
    (config(2048, dict(rope_type='dynamic', factor=4.0)), 9000, 2048, 'dynamic RoPE scaling is not used'),
    (config(32768, YARN), 100_000, 100_000, ''), (SimpleNamespace(), 0, DEFAULT_TOKENS, ''),
    (config(131072, dict(type='su', **FACTORS), original_max_position_embeddings=4096), 0, 4096, 'up to 131072'),
    (config(131072, dict(type='su', **FACTORS), original_max_position_embeddings=4096), 9000, 9000, ''),
    (config(4096, dict(rope_type='longrope', **FACTORS), original_max_position_embeddings=4096), 0, 4096, ''),
])
def test_the_context_is_what_was_asked_for_as_far_as_positions_reach(made, wanted, context, said, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    assert choose_context('m', made, wanted) == context
    assert said in caplog.text and bool(said) == bool(caplog.records)


@pytest.mark.parametrize('wanted', [1, 63])
def test_a_context_that_is_too_short_to_work_with_is_refused(wanted):
    with pytest.raises(ModelError, match=f'must be 0, or 64 at least, got {wanted}'):
        choose_context('m', config(2048, None), wanted)


@pytest.fixture(scope='module')
def phi(tmp_path_factory):
    """Make a Phi-3 with a short context of 64 tokens and a long one of 512."""
    rope = dict(rope_type='longrope', rope_theta=10_000.0, **FACTORS)
    torch.manual_seed(0)
    made = transformers.Phi3Config(
        vocab_size=tiny_models.VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, sliding_window=None,
        original_max_position_embeddings=64, rope_scaling=rope, bos_token_id=None, eos_token_id=tiny_models.EOS,
        pad_token_id=0)
    model = transformers.AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() >= 2:
                weight.normal_(0, 0.6 if 'embed' in name else 1.2 * weight.shape[-1] ** -0.5)
    path = tmp_path_factory.mktemp('phi')
    model.save_pretrained(path)
    tiny_models.tokenizer().save_pretrained(path)
    return path


@pytest.mark.parametrize(('max_context_tokens', 'n_prompt'), [(64, 30), (0, 30), (512, 100), (200, 65)])
def test_longrope_is_that_of_generate_on_either_side_of_its_border(max_context_tokens, n_prompt, phi):
    """In chunks, the first of which ends before the border; transformers reads the prompt in one pass."""
    assert short_context(transformers.AutoConfig.from_pretrained(phi)) == 64
    model = CausalLM(str(phi), device='cpu', threads=1, dtype='float32', max_context_tokens=max_context_tokens)
    assert model.max_context == (max_context_tokens or 64)
    reference = transformers.AutoModelForCausalLM.from_pretrained(phi, attn_implementation='eager').eval()
    ids = tiny_models.prompt_ids(n_prompt)
    logits = model.prefill(ids, chunk_tokens=20)
    for _ in range(5):
        with torch.inference_mode():
            torch.testing.assert_close(logits, reference(torch.tensor([ids])).logits[0, -1], rtol=1e-3, atol=1e-3)
        ids.append(int(logits.argmax()))
        logits = model.step(torch.tensor(ids[-1]), len(ids) - 1)


def test_the_two_sets_of_factors_are_told_apart_by_that_test(phi):
    """The same prompt under a short and a long context: the answers differ, so a mixture would show."""
    short, long = (CausalLM(str(phi), device='cpu', threads=1, dtype='float32', max_context_tokens=n)
                   for n in (64, 512))
    ids = tiny_models.prompt_ids(60)
    assert (short.prefill(ids, chunk_tokens=20) - long.prefill(ids, chunk_tokens=20)).abs().max() > 0.05
