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

"""Weights of another precision beside the model's own: same prompt, same cache, nearly the same answer."""
import copy
import sys
from types import SimpleNamespace

import pytest
import tiny_models
import torch
import transformers

from timebill_ros.inference import devices
from timebill_ros.inference.int8_linear import Int8Linear, ProductInt8Linear
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.steps.comparison import in_float32
from timebill_ros.inference.steps.modules import ModuleStep
from timebill_ros.inference.variants import HalfLinear, Int4Linear, _in_half, as_stored, make, parse
from timebill_ros.resources import cache_directory
from timebill_ros.timing.profiling import identity

STEPS = cache_directory() / 'steps'


@pytest.mark.parametrize(('names', 'found'), [('', []), ('int8', ['int8']), (' int8 , int4,int8', ['int8', 'int4'])])
def test_names(names, found):
    assert parse(names) == found


@pytest.mark.parametrize('names', ['int3', 'int8;int4', 'float32'])
def test_unknown_names_are_refused(names):
    with pytest.raises(ValueError, match='is none of int8, int4, bfloat16, float16'):
        parse(names)


@pytest.mark.parametrize(('dtype', 'variant', 'steps'), [
    ('float32', 'int8', None), ('bfloat16', 'int8', None), ('float32', 'float16', None), ('bfloat16', 'float16', None),
    ('float32', 'int4', None),
    *(pytest.param(*case, STEPS, marks=pytest.mark.slow) for case in (('float32', 'int4'), ('bfloat16', 'int8')))])
def test_a_variant_shares_the_cache_and_its_logits_are_close(dtype, variant, steps):
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype=dtype,
                     other_variants=variant, compiled_steps=steps)
    assert list(model.variants) == [dtype, variant] and list(model.fast_steps) == ([dtype, variant] if steps else [])
    ids = tiny_models.prompt_ids(100)
    logits_of = {}
    for name in model.variants:
        model.use_variant(dtype)
        model.reset()
        logits = model.prefill(ids, chunk_tokens=37)
        model.evict(60)
        model.use_variant(name)
        logits_of[name] = model.step(logits.argmax(), 100).float().clone()
        assert model.cache.get_seq_length() == 61
    assert not torch.equal(logits_of[dtype], logits_of[variant])
    alike = torch.nn.functional.cosine_similarity(logits_of[dtype], logits_of[variant], dim=0)
    assert alike > (0.9 if variant == 'int4' else 0.99)
    model.use_variant(dtype)
    with pytest.raises(KeyError):
        model.use_variant('none')


def test_int4_holds_the_level_nearest_to_every_weight_by_the_scale_of_its_group():
    linear, n_groups = torch.nn.Linear(96, 5), 3
    quantized = Int4Linear(linear)
    assert quantized.weight.numel() == 5 * 96 // 2
    weight = linear.weight.detach()
    scale = torch.stack([weight[:, g::n_groups].abs().amax(dim=1) for g in range(n_groups)], dim=1) / 7
    rounded = torch.stack([(weight[:, k] / scale[:, k % n_groups]).round() * scale[:, k % n_groups]
                           for k in range(96)], dim=1)
    assert (rounded - weight).abs().max() <= scale.max() / 2 + 1e-6
    for rows in (1, 4):  # one token, and several
        x = torch.randn(1, rows, 96)
        torch.testing.assert_close(quantized(x), x @ rounded.T + linear.bias, rtol=1e-4, atol=1e-5)
    narrow = torch.nn.Sequential(torch.nn.Linear(33, 4))
    narrow.dtype = torch.float32
    assert isinstance(make(narrow, 'int4', torch.device('cpu'))[0], Int8Linear)


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3'])
@pytest.mark.parametrize('dtype', ['int8', 'int4'])
def test_a_model_may_have_such_weights_itself(kind, dtype):
    """Prefill goes through them too; the cache keeps the precision of the checkpoint."""
    name, ids = str(tiny_models.directory(kind)), tiny_models.prompt_ids(60)
    model, whole = (CausalLM(name, device='cpu', threads=1, dtype=each) for each in (dtype, 'auto'))
    assert list(model.variants) == [dtype] and model.variant == dtype and model.dtype == whole.dtype
    assert not any(isinstance(module, torch.nn.Linear) for module in model.model.modules())
    assert {layer.keys.dtype for layer in model.cache.layers} == {whole.dtype}
    found = []
    for each in (model, whole):
        each.reset()
        logits = each.prefill(ids, chunk_tokens=37)
        each.evict(40)
        found.append(torch.cat([logits, each.step(torch.tensor(ids[0]), 60)]).float())
    assert not torch.equal(*found)
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > (0.8 if dtype == 'int4' else 0.99)


def test_the_cache_of_quantized_weights_is_in_the_precision_of_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: False)
    name = tiny_models.copy_of('qwen2', tmp_path / 'half')
    stored = CausalLM(str(name), device='cpu', threads=1).model.to(torch.bfloat16)
    stored.save_pretrained(name)
    model = CausalLM(str(name), device='cpu', threads=1, dtype='int8')
    model.prefill(tiny_models.prompt_ids(20), chunk_tokens=20)
    assert {layer.keys.dtype for layer in model.cache.layers} == {torch.bfloat16}
    assert model.step(torch.tensor(7), 20).dtype == torch.float32


@pytest.fixture
def stored_in_half(tmp_path, monkeypatch):
    """A model that is stored in bfloat16, which this processor emulates, whatever it is."""
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: dtype in (torch.bfloat16, torch.float16))
    name = tiny_models.copy_of('qwen2', tmp_path / 'half')
    transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16).save_pretrained(name)
    return name


def test_steps_read_weights_in_half_precision_that_prefill_computes_in_float32(stored_in_half):
    """They are the same numbers, so that tokens are the same; all else is shared."""
    model = CausalLM(str(stored_in_half), device='cpu', threads=1)
    assert model.variant == 'float32' and model.model.timebill_stored == torch.bfloat16
    half, reads = as_stored(model.model)
    layers = [module for module in half.modules() if isinstance(module, HalfLinear)]
    assert reads == 'bfloat16' and {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    assert len(layers) == sum(isinstance(module, torch.nn.Linear) for module in model.model.modules())
    assert half.model.embed_tokens.weight is model.model.model.embed_tokens.weight
    x = torch.randn(1, 3, layers[0].weight.shape[1])
    whole = next(module for module in model.model.modules() if isinstance(module, torch.nn.Linear))
    assert torch.equal(layers[0](x), whole(x))


def test_a_layer_whose_weights_are_finer_than_they_are_said_to_be_stored_stays_in_float32(stored_in_half):
    model = CausalLM(str(stored_in_half), device='cpu', threads=1).model
    finer = model.model.layers[0].mlp.up_proj
    with torch.no_grad():
        finer.weight[0, 0] = 1.0 + 2.0 ** -20
    half, _ = as_stored(model)
    assert type(half.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert type(half.model.layers[0].mlp.down_proj) is HalfLinear


def test_without_memory_for_them_or_a_need_no_such_weights_are_made(stored_in_half, monkeypatch):
    monkeypatch.setattr('timebill_ros.inference.memory_budget.variant_bytes',
                        lambda names, weights: 1 << 50 if list(names) else 0)
    model = CausalLM(str(stored_in_half), device='cpu', threads=1).model
    assert as_stored(model) == (model, '')
    monkeypatch.undo()
    for dtype in ('auto', 'int8'):
        model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, dtype=dtype).model
        assert as_stored(model) == (model, '')


@pytest.mark.slow
def test_the_compiled_step_says_that_it_reads_half_precision(stored_in_half):
    model = CausalLM(str(stored_in_half), device='cpu', threads=1, compiled_steps=STEPS)
    assert model.fast_steps['float32'].reads == 'bfloat16'
    assert identity(model, None).compiled == 'float32 from bfloat16'
    ids = tiny_models.prompt_ids(30)
    found = []
    for step in (model.fast_steps['float32'], ModuleStep(model.model, model.cache)):
        model.reset()
        model.prefill(ids, chunk_tokens=32)
        found.append(step(torch.tensor([[ids[0]]]), torch.tensor([[30]]))[0].clone())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('kind', 'options', 'sentence'), [
    ('qwen2', {'dtype': 'int8', 'other_variants': 'int4'}, r'not quantised yet, and these are \(int8\)'),
    ('mamba', {'dtype': 'int8'}, 'dtype int8 needs a cache of ours')])
def test_quantized_weights_that_cannot_be_had_are_refused(kind, options, sentence):
    with pytest.raises(ModelError, match=sentence):
        CausalLM(str(tiny_models.directory(kind)), device='cpu', threads=1, **options)


def test_a_variant_shares_what_it_does_not_quantize():
    model = CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, other_variants='int8')
    assert model.variants['int8'].model.embed_tokens.weight is model.model.model.embed_tokens.weight
    assert not any(isinstance(module, torch.nn.Linear) for module in model.variants['int8'].modules())


@pytest.mark.parametrize('kind', ['qwen2', 'gemma3', 'gemma2'])
def test_weights_in_half_precision_cost_less_than_activations_in_it(kind):
    """A variant of a model in bfloat16 computes in float32: it comes nearer to what the weights say."""
    name, ids = str(tiny_models.directory(kind)), tiny_models.prompt_ids(40)
    whole = CausalLM(name, device='cpu', threads=1, dtype='bfloat16').model
    input_ids = torch.tensor([ids])
    with torch.inference_mode():
        variant = make(whole, 'float16', torch.device('cpu'))
        exact = copy.deepcopy(whole).float()(input_ids).logits
        errors = [(model(input_ids).logits.float() - exact).norm() for model in (variant, whole)]
        assert variant(input_ids).logits.dtype == torch.float32
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(('options', 'sentence'), [
    ({'other_variants': 'int3'}, "'int3' is none of"),
    ({'other_variants': 'bfloat16', 'dtype': 'bfloat16'}, 'runs in bfloat16 already'),
])
def test_what_cannot_be_made_is_said(options, sentence):
    with pytest.raises(ModelError, match=sentence):
        CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1, **options)


def test_a_model_on_a_cache_of_its_own_has_no_variants():
    with pytest.raises(ModelError, match='variants need a cache of ours'):
        CausalLM(str(tiny_models.directory('mamba')), device='cpu', threads=1, other_variants='int8')


# -- memory ----------------------------------------------------------------------------------------------------------

def storages(*models) -> dict[int, int]:
    """Return the bytes of each piece of memory that holds weights of the models, by its address."""
    found = {}
    for model in models:
        for tensor in (*model.parameters(), *model.buffers()):
            storage = tensor.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = storage.nbytes()
    return found


def n_bytes(*models) -> int:
    return sum(storages(*models).values())


@pytest.fixture(params=[True, False], ids=['tied head', 'head of its own'])
def whole(request, tmp_path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        tiny_models.build(tmp_path, 'qwen2', tie_word_embeddings=request.param), dtype='float32').eval()


def linear_numbers(model) -> int:
    """Return the numbers in the linear layers of a model, a tied head included."""
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))


def vectors(model) -> int:
    """Return the numbers in norms and biases."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 1)


@pytest.mark.parametrize('variant', ['int8', 'float16'])
def test_a_variant_on_a_cpu_adds_the_weights_of_its_linear_layers_and_nothing_else(whole, variant):
    before = storages(whole)
    made = make(whole, variant, torch.device('cpu'))
    rows = sum(len(module.weight) for module in whole.modules() if isinstance(module, torch.nn.Linear))
    # A scale for each row, and where PyTorch's product of int8 is taken, a 1 in bfloat16 that it asks for
    ones = sum(2 * len(module.weight) for module in made.modules() if isinstance(module, ProductInt8Linear))
    added = linear_numbers(whole) * (1 if variant == 'int8' else 2) + (4 * rows + ones if variant == 'int8' else 0)
    assert n_bytes(whole, made) == sum(before.values()) + added
    assert storages(whole) == before, 'the model keeps its weights'


def test_half_precision_on_cuda_shares_the_embedding_and_keeps_the_tie_of_no_copy(whole):
    """The function is the one that CUDA takes; nothing in it needs a GPU."""
    made = _in_half(whole, torch.bfloat16)
    assert n_bytes(whole, made) == n_bytes(whole) + 2 * (linear_numbers(whole) + vectors(whole))
    ids = torch.tensor([tiny_models.prompt_ids(40)])
    with torch.inference_mode():
        logits, expected = made(ids).logits, copy.deepcopy(whole).bfloat16()(ids).logits
        assert logits.dtype == torch.bfloat16
        alike = torch.nn.functional.cosine_similarity(logits.float(), expected.float(), dim=-1)
        assert alike.min() > 0.98  # the other one's positions are in half precision too
        with in_float32(made):  # what rounding is measured by
            exact = made(ids).logits
        rounded = {name: parameter.bfloat16().float() for name, parameter in whole.named_parameters()
                   if 'embed' not in name}
        if whole.config.tie_word_embeddings:
            rounded['lm_head.weight'] = whole.lm_head.weight.bfloat16().float()
        torch.testing.assert_close(exact, torch.func.functional_call(whole, rounded, (ids,), tie_weights=False).logits,
                                   rtol=1e-4, atol=1e-4)


def test_torchao_is_given_a_model_whose_other_weights_are_shared(whole, monkeypatch):
    """The library replaces the weight of each linear layer; so does its stand-in."""
    class Quantized(torch.nn.Parameter):
        pass

    class Config:
        pass

    def quantize(model, config):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight = Quantized((module.weight.detach() * 99).to(torch.int8), requires_grad=False)

    monkeypatch.setitem(sys.modules, 'torchao', SimpleNamespace())
    monkeypatch.setitem(sys.modules, 'torchao.utils', SimpleNamespace(unwrap_tensor_subclass=lambda model: model))
    monkeypatch.setitem(sys.modules, 'torchao.quantization', SimpleNamespace(
        Int4WeightOnlyConfig=Config, Int8WeightOnlyConfig=Config, quantize_=quantize))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (8, 7))
    before = storages(whole)
    made = make(whole, 'int8', torch.device('cuda'))
    assert n_bytes(whole, made) == sum(before.values()) + linear_numbers(whole)
    assert storages(whole) == before and whole.lm_head.weight.dtype == torch.float32


def test_on_cuda_without_torchao_the_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torchao.quantization', None)
    with pytest.raises(ValueError, match='needs the package torchao'):
        make(torch.nn.Linear(2, 2), 'int8', torch.device('cuda'))
