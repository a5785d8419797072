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

"""Checkpoints that were quantised before: each runs, or is refused with what to install or to use instead."""
import importlib.util
import json
import sys
import types

import pytest
import tiny_models
import torch
import transformers
from safetensors.torch import load_file, save_file

from timebill_ros.inference import quantized
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError

CPU = torch.device('cpu')
AWQ = {'quant_method': 'awq', 'bits': 4, 'group_size': 128, 'version': 'gemm', 'zero_point': True}
GPTQ = {'quant_method': 'gptq', 'bits': 4, 'group_size': 128, 'desc_act': False, 'sym': True}
COMPRESSED = {'quant_method': 'compressed-tensors', 'format': 'pack-quantized', 'config_groups': {
    'group_0': {'targets': ['Linear'], 'weights': {'num_bits': 4, 'type': 'int'}, 'input_activations': None}}}
BNB = {'load_in_4bit': True, 'bnb_4bit_quant_type': 'nf4', 'bnb_4bit_compute_dtype': 'bfloat16'}
FP8 = {'quant_method': 'fp8', 'activation_scheme': 'dynamic', 'weight_block_size': [16, 16]}


def check(entries, device=CPU):
    config = transformers.Qwen2Config(quantization_config=entries)
    return quantized.check('m', config, device, torch.bfloat16)


def no_package(package):
    return False


# -- what to install, and what serves instead ------------------------------------------------------------------------

@pytest.mark.parametrize(('entries', 'label', 'packages'), [
    (AWQ, 'awq, 4 bits', (quantized._AWQ, 'accelerate')), (GPTQ, 'gptq, 4 bits', ('gptqmodel', 'optimum')),
    (COMPRESSED, 'compressed-tensors, 4 bits', ('compressed-tensors',)),
    (BNB, 'bitsandbytes, 4 bits', ('bitsandbytes', 'accelerate')),
    ({'quant_method': 'bitsandbytes', 'load_in_8bit': True}, 'bitsandbytes, 8 bits', ('bitsandbytes', 'accelerate')),
    (FP8, 'fp8', ('accelerate', 'triton')),
    ({'quant_method': 'fbgemm_fp8'}, 'fbgemm_fp8', ('fbgemm-gpu', 'accelerate')),
    ({'quant_method': 'torchao'}, 'torchao', ('torchao',))])
def test_a_missing_package_is_named_with_what_serves_instead(entries, label, packages, monkeypatch):
    monkeypatch.setattr(quantized, 'is_installed', no_package)
    with pytest.raises(ModelError) as caught:
        check(entries)
    sentence = str(caught.value)
    for part in (f'quantised ({label})', f'install {" ".join(packages)} in the environment of worker_python', 'GGUF',
                 transformers.__version__):
        assert part in sentence
    assert '\n' not in sentence


@pytest.mark.parametrize('entries', [{'quant_method': 'fbgemm_fp8'}, FP8, {'quant_method': 'mxfp4'}])
def test_kernels_that_need_a_gpu_are_refused_or_replaced_on_a_cpu(entries, monkeypatch):
    """Also on a machine with a GPU where the model is told to run on the CPU: transformers looks at the machine."""
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    if quantized.METHODS[entries['quant_method']].expander:
        made = check(entries)
        assert made.expanded and made.options['quantization_config'].dequantize
    else:
        with pytest.raises(ModelError, match=r'need an NVIDIA GPU of compute capability 9\.0, and the device is cpu'):
            check(entries)


def test_a_gpu_that_is_too_old_for_fp8_gets_expanded_weights(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 7))  # a Jetson Orin
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    assert check(FP8, torch.device('cuda')).expanded
    with pytest.raises(ModelError, match=r'capability 9\.0'):
        check({'quant_method': 'fbgemm_fp8'}, torch.device('cuda'))


def test_compressed_tensors_count_as_expanded_because_that_library_does_it(monkeypatch):
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    monkeypatch.setattr(quantized, '_ask_transformers', lambda *asked: False)
    made = check(COMPRESSED)
    assert made.expanded and made.bits == 4 and 'quantization_config' not in made.options


def test_transformers_that_cannot_expand_is_said(monkeypatch):
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    monkeypatch.setattr(quantized.transformers, 'FineGrainedFP8Config', lambda **ignored: object())
    with pytest.raises(ModelError, match='cannot expand it: install a newer one'):
        check(FP8)


@pytest.mark.parametrize(('entries', 'words'), [
    (AWQ, 'ImportError|RuntimeError|ValueError'), (GPTQ, 'ImportError|RuntimeError'),
    (BNB, 'ImportError|RuntimeError|PackageNotFoundError'), ({'quant_method': 'nonesuch'}, 'nonesuch'),
    ({'bits': 4}, 'quantised'), ({'quant_method': 'eetq'}, 'eetq')])
def test_what_transformers_says_against_it_is_told(entries, words, monkeypatch):
    """A package may be there and not serve; and there are methods that this node knows nothing of."""
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    if entries in (AWQ, GPTQ, BNB) and all(map(importlib.util.find_spec, quantized.METHODS[
            entries.get('quant_method', 'bitsandbytes')].packages)):
        pytest.skip('its packages are installed here')
    with pytest.raises(ModelError, match=words) as caught:
        check(entries)
    assert 'GGUF' in str(caught.value) and transformers.__version__ in str(caught.value)


def test_weights_that_are_not_quantised_need_nothing(monkeypatch):
    monkeypatch.setattr(quantized, 'is_installed', no_package)
    assert check(None) is None and check({}) is None


# -- through loading: what config.json says --------------------------------------------------------------------------

@pytest.mark.parametrize('entries', [AWQ, GPTQ, COMPRESSED, BNB, {'quant_method': 'fbgemm_fp8'}])
def test_a_directory_is_refused_before_its_weights_are_read(entries, tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, 'is_installed', no_package)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, 'from_pretrained',
                        lambda *args, **options: pytest.fail('weights were read'))
    directory = tiny_models.copy_of('qwen2', tmp_path)
    change_config(directory, quantization_config=entries)
    with pytest.raises(ModelError, match='^model .*qwen2 is quantised'):
        CausalLM(str(directory), device='cpu')


def change_config(directory, **entries):
    config = json.loads((directory / 'config.json').read_text())
    (directory / 'config.json').write_text(json.dumps({**config, **entries}))


@pytest.fixture
def triton(monkeypatch):
    """Put a stand-in in the place of triton, where it is not installed: transformers imports it and runs none of it."""
    monkeypatch.setattr(quantized, 'is_installed', lambda package: True)
    if importlib.util.find_spec('triton') is None:
        made, language = types.ModuleType('triton'), types.ModuleType('triton.language')
        made.jit, made.language, language.constexpr = (lambda function: function), language, int
        made.__version__ = '0'
        importlib.import_module('torch._inductor.codecache')  # without triton, as it would be
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, 'triton', made)
            patch.setitem(sys.modules, 'triton.language', language)
            importlib.import_module('transformers.integrations.finegrained_fp8')


@pytest.fixture(scope='module')
def fp8(tmp_path_factory):
    """Make two directories of one model: weights in FP8 with a scale for every 16 x 16, and those multiplied out."""
    root = tmp_path_factory.mktemp('fp8')
    small, plain = (tiny_models.build(root / name, 'qwen2') for name in ('small', 'plain'))
    stored, exact = load_file(small / 'model.safetensors'), load_file(plain / 'model.safetensors')
    for name in [name for name in stored if name.endswith('_proj.weight')]:
        weight = stored[name]
        rows, columns = weight.shape[0] // 16, weight.shape[1] // 16
        blocks = weight.view(rows, 16, columns, 16)
        scale = blocks.abs().amax(dim=(1, 3)) / 448.0
        codes = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
        stored[name], stored[f'{name}_scale_inv'] = codes.view_as(weight), scale
        exact[name] = (codes.float() * scale[:, None, :, None]).view_as(weight)
    save_file(stored, small / 'model.safetensors', metadata={'format': 'pt'})
    save_file(exact, plain / 'model.safetensors', metadata={'format': 'pt'})
    change_config(small, quantization_config=FP8)
    return small, plain


@pytest.mark.skipif(int(transformers.__version__.split('.')[0]) < 5, reason='transformers 4 cannot expand FP8')
def test_fp8_is_expanded_on_a_cpu_to_what_it_stands_for(fp8, triton, caplog):
    small, plain = (CausalLM(str(path), device='cpu', threads=1, dtype='float32', other_variants='int8')
                    for path in fp8)
    assert 'they are expanded to float32' in caplog.text
    ids = tiny_models.prompt_ids(60)
    logits = [model.prefill(ids, chunk_tokens=64) for model in (small, plain)]
    torch.testing.assert_close(*logits)
    assert set(small.variants) == {'float32', 'int8'}, 'expanded weights are weights as any other'


def test_quantised_weights_whose_config_does_not_say_so_are_refused(fp8, tmp_path):
    """Read as they are, they would be other numbers: nothing would fail, and every answer would be nonsense."""
    directory = tmp_path / 'lost'
    directory.mkdir()
    for file in fp8[0].iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    config = json.loads((directory / 'config.json').read_text())
    del config['quantization_config']
    (directory / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r'weights of model .* are quantised \(.*_scale_inv.*does not say how'):
        CausalLM(str(directory), device='cpu')


def test_variants_are_not_made_of_weights_that_stay_quantised(monkeypatch):
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1).model
    model.timebill_quantized = 'awq, 4 bits'
    from timebill_ros.inference.variants import make
    with pytest.raises(ValueError, match='not quantised yet, and these are .awq, 4 bits'):
        make(model, 'int8', CPU)
