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

"""A GGUF file becomes an ordinary model directory once, and computes what the model computed that it was made of."""
import json
import logging

import numpy as np
import pytest
import tiny_gguf
import torch
from tiny_gguf import original_llama
from transformers import AutoModelForCausalLM

from timebill_ros.inference.gguf_files import conversion, source
from timebill_ros.inference.gguf_files.conversion import converted
from timebill_ros.inference.gguf_files.gguf_file import GgufFile
from timebill_ros.inference.gguf_files.rope_scaling import llama3_factors
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.start_progress import StartProgress
from timebill_ros.inference.tokenizer import load_tokenizer

IDS = torch.tensor([[5, 17, 300, 42, 8, 99, 256, 3, 3, 77, 120, 61]])


@pytest.mark.parametrize(('precision', 'tied', 'stored', 'tolerance'), [
    ('F32', True, torch.float32, 1e-5), ('F32', False, torch.float32, 1e-5), ('F16', True, torch.bfloat16, 0.05),
    ('Q8_0', False, torch.bfloat16, 0.1), ('Q4_1', True, torch.bfloat16, 0.6)])
def test_it_computes_what_the_original_does(precision, tied, stored, tolerance, tmp_path):
    model = original_llama(tied=tied)
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', model, precision=precision)
    directory = converted(path, tmp_path / 'models')
    again, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert again.dtype == stored and not info['missing_keys']
    with torch.no_grad():
        want, got = model(IDS).logits, again.float().eval()(IDS).logits
    assert (want - got).abs().max() < tolerance * want.abs().max()
    assert load_tokenizer(directory)('robot')['input_ids']
    assert again.generation_config.eos_token_id == 2


@pytest.mark.parametrize('knows_it', [True, False])
def test_a_transformers_that_would_keep_the_blocks_is_asked_to_unpack_them(knows_it, tmp_path, monkeypatch):
    asked = []

    def from_pretrained(*names, **options):
        asked.append(options.get('quantization_config'))
        raise ValueError('far enough')

    monkeypatch.setattr(conversion.AutoModelForCausalLM, 'from_pretrained', from_pretrained)
    monkeypatch.setattr(conversion.transformers, 'GgufConfig', dict if knows_it else None, raising=False)
    with pytest.raises(ModelError, match='far enough'):
        converted(tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama()), tmp_path / 'models')
    assert asked == [{'dequantize': True} if knows_it else None]


def test_it_is_done_once_and_found_again_by_content(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama())
    directory = converted(path, tmp_path / 'models')
    assert directory.parent == tmp_path / 'models' and directory.name.startswith('tiny-')
    assert 'is converted into the directory' in caplog.text
    monkeypatch.setattr(conversion, 'GgufFile', None)  # nothing is read again
    assert converted(path, tmp_path / 'models') == directory
    copy = tmp_path / 'copy.gguf'
    copy.write_bytes(path.read_bytes())
    assert converted(copy, tmp_path / 'models') == directory
    monkeypatch.setattr(source, 'sha256', None)  # nor are gigabytes, where size and time are as they were
    assert converted(copy, tmp_path / 'models') == directory


def test_a_directory_of_another_format_is_made_again(tmp_path):
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama())
    directory = converted(path, tmp_path / 'models')
    facts = json.loads((directory / source.SOURCE_FILE).read_text())
    (directory / source.SOURCE_FILE).write_text(json.dumps({**facts, 'format': 0}))
    (directory / 'tokenizer.json').unlink()
    assert converted(path, tmp_path / 'models') == directory
    assert (directory / 'tokenizer.json').is_file()


def test_nothing_stays_of_a_conversion_that_fails(tmp_path, monkeypatch):
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama())
    monkeypatch.setattr(conversion, 'rebuild_tokenizer', lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        converted(path, tmp_path / 'models')
    assert list((tmp_path / 'models').iterdir()) == []


def test_it_tells_how_far_it_is(tmp_path, monkeypatch):
    progress = StartProgress()
    told = []
    monkeypatch.setattr(conversion, 'this_start', progress)
    monkeypatch.setattr(progress, 'tell', lambda detail, share=None: told.append((detail, share)))
    converted(tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama()), tmp_path / 'models')
    assert progress.makes_anew and 'vocabulary' in told[0][0]
    shares = [share for detail, share in told if share is not None and 'million weights' in detail]
    assert shares[-1] == 1.0 and min(shares) < 0.2


def test_several_ends_go_into_the_generation_config(tmp_path):
    directory = converted(tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama(), eot=0), tmp_path / 'models')
    assert json.loads((directory / 'generation_config.json').read_text())['eos_token_id'] == [0, 2]


def test_the_table_of_llama_3_becomes_its_parameters(tmp_path):
    scaling = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
               'original_max_position_embeddings': 8192}
    model = original_llama(rope_parameters={'rope_theta': 10000.0, **scaling}, head_dim=16)
    table = llama3_factors(8, 10000.0, scaling).astype(np.float32)
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', model, tensors={'rope_freqs.weight': table})
    again = AutoModelForCausalLM.from_pretrained(converted(path, tmp_path / 'models')).eval()
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, again(IDS).logits, atol=1e-4)
    other = tiny_gguf.llama(tmp_path / 'other.gguf', model, tensors={'rope_freqs.weight': table[::-1].copy()})
    with pytest.raises(ModelError, match='that is not that of Llama 3.1'):
        converted(other, tmp_path / 'models')


def test_linear_scaling_is_kept_and_another_kind_refused(tmp_path):
    linear = {'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4.0}
    path = tiny_gguf.llama(tmp_path / 'linear.gguf', original_llama(), metadata=linear)
    config = json.loads((converted(path, tmp_path / 'models') / 'config.json').read_text())
    assert config['rope_parameters'] == {'rope_theta': 10000.0, 'rope_type': 'linear', 'factor': 4.0}
    yarn = {**linear, 'llama.rope.scaling.type': 'yarn'}
    path = tiny_gguf.llama(tmp_path / 'yarn.gguf', original_llama(), metadata=yarn)
    with pytest.raises(ModelError, match="in the way 'yarn'.*factor 4.*Name the directory of the original"):
        converted(path, tmp_path / 'models')


def test_what_does_not_fit_is_refused_with_numbers(tmp_path, monkeypatch):
    path = tiny_gguf.llama(tmp_path / 'tiny.gguf', original_llama())
    monkeypatch.setattr(conversion, 'free_bytes', lambda device: 1 << 10)
    with pytest.raises(ModelError, match=r'takes \S+ MiB of memory, and 0.0 MiB are free'):
        converted(path, tmp_path / 'models')
    assert GgufFile(path).n_elements > 10_000
