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

"""The ten model families that people run answer as transformers' own generation does, token for token.

Each is a small model with random weights and what its real ones have: grouped queries, norms of queries and keys,
soft-capped logits, sliding windows, multipliers, tied embeddings, rotary embeddings of their kind.
"""
import functools
import time

import pytest
import tiny_models
import torch
import transformers

from timebill_ros.codes import FinishReason
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_state import PromptState
from timebill_ros.planning.tracker import Tracker
from timebill_ros.request import Request
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.worker.streamer import Streamer

N_X, N_NEW = 70, 24
TIE = 1e-4  # two best logits this near count as equal

_SIZES = dict(vocab_size=tiny_models.VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
              num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=tiny_models.CONTEXT,
              bos_token_id=None, eos_token_id=tiny_models.EOS, pad_token_id=0)
_MIXED = ['sliding_attention', 'full_attention', 'sliding_attention']
_LLAMA_3 = dict(rope_type='llama3', factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64, rope_theta=500_000.0)
# family -> (configuration class, what its real models have)
FAMILIES = {
    'qwen2': ('Qwen2Config', dict(hidden_size=48, num_attention_heads=6, tie_word_embeddings=True)),
    'qwen3': ('Qwen3Config', dict(head_dim=16, tie_word_embeddings=True)),
    'llama3': ('LlamaConfig', dict(num_attention_heads=8, rope_scaling=_LLAMA_3, rope_theta=500_000.0,
                                   tie_word_embeddings=True)),
    'smollm2': ('LlamaConfig', dict(hidden_size=72, num_attention_heads=9, num_key_value_heads=3, rope_theta=100_000.0,
                                    tie_word_embeddings=True)),
    'gemma2': ('Gemma2Config', dict(head_dim=16, sliding_window=24, layer_types=_MIXED, query_pre_attn_scalar=24,
                                    attn_logit_softcapping=2.0, final_logit_softcapping=5.0)),
    'gemma3': ('Gemma3TextConfig', dict(head_dim=16, sliding_window=24, layer_types=_MIXED, query_pre_attn_scalar=16)),
    'phi3': ('Phi3Config', dict(num_key_value_heads=4, sliding_window=24)),
    'mistral': ('MistralConfig', dict(head_dim=16, sliding_window=None)),
    'granite': ('GraniteConfig', dict(embedding_multiplier=4.0, attention_multiplier=0.2, residual_multiplier=0.5,
                                      logits_scaling=4.0, tie_word_embeddings=True)),
    'olmo2': ('Olmo2Config', dict(num_key_value_heads=4, tie_word_embeddings=False)),
}
EVICTED = [name for name in FAMILIES if name != 'phi3']  # its windows bound the whole cache


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Give the directory of a family's model."""
    root = tmp_path_factory.mktemp('families')

    @functools.cache
    def build(family):
        name, entries = FAMILIES[family]
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(
            getattr(transformers, name)(**{**_SIZES, **entries})).eval()
        with torch.no_grad():
            # transformers' own spread of 0.02 leaves attention nearly uniform, in which errors would not show. A tied
            # embedding that weighs more than the layers would answer with the token that it was given.
            spread = 0.04 if model.config.tie_word_embeddings else 0.6
            for key, weight in model.named_parameters():
                if weight.dim() >= 2:
                    weight.normal_(0, spread if 'embed' in key else 1.2 * weight.shape[-1] ** -0.5)
        model.generation_config.eos_token_id = tiny_models.EOS
        model.save_pretrained(root / family)
        tiny_models.tokenizer().save_pretrained(root / family)
        return root / family

    return build


@pytest.fixture(scope='module')
def reference(directory):
    """Give what transformers generates for a family: token ids [n] and the logits [n, V] that each was drawn from."""
    @functools.cache
    def generate(family):
        # Eager attention: PyTorch's leaves out soft-capping.
        model = transformers.AutoModelForCausalLM.from_pretrained(directory(family), attn_implementation='eager',
                                                                  dtype=torch.float32).eval()
        ids = tiny_models.prompt_ids(N_X)
        made = model.generate(torch.tensor([ids]), max_new_tokens=N_NEW, do_sample=False, output_logits=True,
                              return_dict_in_generate=True)
        return made.sequences[0, N_X:].tolist(), torch.cat(made.logits)

    return generate


def assert_same(tokens, reference):
    """Compare with the reference, up to where its two best logits are as good as equal."""
    expected, logits = reference
    for n, (token, right) in enumerate(zip(tokens, expected, strict=False)):
        best = logits[n].topk(2).values
        if token != right:
            assert best[0] - best[1] < TIE, f'token {n} is {token} instead of {right}: {tokens} {expected}'
            return
    assert len(tokens) == len(expected)
    assert len(set(expected)) > 4, 'an answer that could not tell right from wrong'


def run(model, text, n_new=N_NEW):
    """Answer `text` through the engine, streaming: (outcome, token ids, streamed text)."""
    sent = []

    class Channel:
        def send(self, message):
            sent.append(message)

    engine = Engine(model, None, ExecutionTimes(a=0, b=0, c=0, p=0, q=0), Tracker('fixed', k=5),
                    prefill_chunk_tokens=37)
    now = time.monotonic()
    request = Request('id', now, now + 600.0, prompt=text, max_new_tokens=n_new)
    control = Control(Deadline(request.deadline_s))
    streamer = Streamer(Channel())
    streamer.start()
    with streamer.streaming(model.tokenizer, request, control):
        outcome = engine.run(request, control)
        end = time.monotonic() + 20.0
        while time.monotonic() < end and max((m['n'] for m in sent if m['event'] == 'text'), default=0) < \
                control.n_tokens:
            time.sleep(0.01)
    return outcome, control.tokens[:control.n_tokens], ''.join(m['delta'] for m in sent if m['event'] == 'text')


@pytest.mark.parametrize('family', FAMILIES)
def test_the_answer_is_that_of_generate_and_so_is_the_stream(family, directory, reference):
    model = CausalLM(str(directory(family)), device='cpu', threads=1, dtype='float32')
    assert model.supports_eviction == (family in EVICTED), model.eviction_refusal
    outcome, tokens, streamed = run(model, ' '.join(f'w{i}' for i in tiny_models.prompt_ids(N_X)))
    assert outcome.finish_reason in (FinishReason.EOS, FinishReason.LENGTH), outcome
    assert_same(tokens, reference(family))
    assert streamed == outcome.text != ''


@pytest.mark.parametrize('family', FAMILIES)
def test_the_state_that_prefill_leaves_is_the_hidden_state_of_transformers(family, directory):
    model, ids = CausalLM(str(directory(family)), device='cpu', threads=1, dtype='float32'), tiny_models.prompt_ids(N_X)
    model.prompt_state = PromptState(model.model)
    model.prefill(ids, chunk_tokens=37)
    reference = transformers.AutoModelForCausalLM.from_pretrained(directory(family), attn_implementation='eager',
                                                                  dtype=torch.float32).eval()
    with torch.no_grad():
        states = reference(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    expected, before = (states[i][0, -1].numpy() for i in (model.prompt_state.depth, model.prompt_state.depth - 1))
    found = model.prompt_state.read()
    assert abs(found - expected).max() < 2e-3 * abs(expected).max() < 0.1 * abs(found - before).max()


@pytest.mark.slow  # a step of any size takes half a minute of computing time to compile, two thirds of it in g++
@pytest.mark.parametrize('family', FAMILIES)
def test_compiled_steps_answer_as_generate_does(family, directory, reference, tmp_path):
    model = CausalLM(str(directory(family)), device='cpu', threads=1, dtype='float32', max_context_tokens=128,
                     compiled_steps=tmp_path)
    assert [step.kind for step in model.fast_steps.values()] == ['compiled'], \
        [path.read_text() for path in tmp_path.glob('*.json')]
    outcome, tokens, streamed = run(model, ' '.join(f'w{i}' for i in tiny_models.prompt_ids(N_X)))
    assert_same(tokens, reference(family))
    assert streamed == outcome.text != ''
