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

"""A tiny language model with scripted answers, and the parameters of a node that serves it.

"one" is answered with "two three" and the end; any other prompt is answered without end. The profile beside the model
is made by hand, so that a node starts in seconds and its plans do not depend on how busy the machine is. Run as a
program, this file builds the model; a test process does so without importing torch.
"""
from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTEXT_TOKENS = 16384
STEP_S = 1e-3  # the profile's decode step
PREFILL_S = 2e-4  # the profile's prefill, per token
LONG = 16000  # tokens of a response that takes many seconds

_SPECIAL = ['<unk>', '<|im_start|>', '<|im_end|>']
_WORDS = _SPECIAL + ['\n', 'one', 'two', 'three', 'user', 'assistant', 'system'] + [f'w{i}' for i in range(40)]
_ID = {word: index for index, word in enumerate(_WORDS)}


@functools.cache
def tiny_model() -> Path:
    """The model's directory, built once per test session; profile.yaml in it fits."""
    directory = Path(tempfile.mkdtemp(prefix='model_', dir=os.environ['HOME']))  # conftest.py removes it
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    subprocess.run([sys.executable, __file__, str(directory)], cwd=ROOT, env={**os.environ, 'PYTHONPATH': path},
                   check=True)
    return directory


def parameters(**changed) -> dict:
    """The parameters of a quick node that plans by its profile alone, whatever it served before.

    Its steps are not compiled, because compiled steps are so fast that no answer lasts until a deadline.
    """
    return {'model': str(tiny_model()), 'profile': str(tiny_model() / 'profile.yaml'), 'threads': 1,
            'cache_dir': str(tiny_model() / 'cache'), 'self_profile_s': 1.0, 'max_context_tokens': CONTEXT_TOKENS,
            'prefill_chunk_tokens': 16, 'compile_step': 'never', 'pessimistic_length': 'fixed', 'track_timing': False,
            'keep_state': False, **changed}


def _save_tokenizer(directory: str) -> None:
    """One token per word."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.WordLevel(_ID, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(' +'), 'removed'), pre_tokenizers.Split('\n', 'isolated')])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token='<unk>', eos_token='<|im_end|>',
        additional_special_tokens=['<|im_start|>'],
        chat_template='{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}'
                      '{% if add_generation_prompt %}<|im_start|>assistant{% endif %}').save_pretrained(directory)


def _save_model(directory: str) -> None:
    """Random weights, in which hidden dimensions 0 to 3 pass through the layers unchanged.

    Dimension 0 is a bias; dimensions 1 to 3 stand for "one", "two" and "three".
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(_WORDS), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT_TOKENS, tie_word_embeddings=False,
        eos_token_id=_ID['<|im_end|>'], bos_token_id=None, pad_token_id=None))
    with torch.no_grad():
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.normal_()
        head.normal_()
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:4] = layer.mlp.down_proj.weight[:4] = 0
        embedding[:, :4] = head[:, :4] = 0
        embedding[:, 0] = 10
        head[:len(_SPECIAL), 0] = head[[_ID[word] for word in ('one', 'two', 'three')], 0] = -1000
        for dimension, (word, following) in enumerate(
                [('one', 'two'), ('two', 'three'), ('three', '<|im_end|>')], 1):
            embedding[_ID[word], dimension] = 50
            head[_ID[following], dimension] = 2000
    model.save_pretrained(directory)


def _save_profile(directory: str) -> None:
    from timebill_ros import settings
    from timebill_ros.timing.execution_time import ExecutionTimes
    from timebill_ros.timing.profile import Profile
    from timebill_ros.timing.profiling import identity
    from timebill_ros.worker.loading import load_model
    loaded = load_model(settings.check({'model': directory, 'threads': 1, 'compile_step': 'never'}))[0]
    Profile(identity(loaded, None), ExecutionTimes(a=0.0, b=PREFILL_S, c=1e-3, p=0.0, q=STEP_S), 'today').save(
        directory + '/profile.yaml')


def main() -> None:
    directory = sys.argv[1]
    _save_tokenizer(directory)
    _save_model(directory)
    _save_profile(directory)


if __name__ == '__main__':
    main()
