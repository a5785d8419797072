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

"""Checkpoints that were quantised before: whether they run here, asked before anything is loaded.

config.json names the method under `quantization_config`. transformers runs each method through other libraries, and
some of them need an NVIDIA GPU. What cannot run is refused with a sentence that says what to install or to use instead.
"""
from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import transformers
from transformers.quantizers import AutoHfQuantizer

from timebill_ros.inference.model_directory import ModelError

log = logging.getLogger(__name__)

_REMEDY = ('name the weights of this model that are not quantised, or a GGUF file of them (the parameter variants '
           'quantises weights for decoding)')


@dataclass(frozen=True)
class Method:
    """What a method needs, by transformers' quantizers. The packages are those that pip installs.

    `gpu`: the lowest compute capability that its kernels run on; None: they run on a CPU too. `expander`: the class of
    transformers' options that has the weights expanded while they are loaded, where there is no such GPU. `expands`:
    the library has no kernels and expands weights before it uses them first.
    """

    packages: tuple[str, ...]
    gpu: tuple[int, int] | None = None
    expander: str = ''
    expands: bool = False


_AWQ = 'gptqmodel' if int(transformers.__version__.partition('.')[0]) >= 5 else 'autoawq'
METHODS = {
    'awq': Method((_AWQ, 'accelerate'), gpu=None if _AWQ == 'gptqmodel' else (7, 5)),
    'gptq': Method(('gptqmodel', 'optimum')),
    'compressed-tensors': Method(('compressed-tensors',), expands=True),
    'bitsandbytes': Method(('bitsandbytes', 'accelerate')),
    # transformers imports triton also where it only expands.
    'fp8': Method(('accelerate', 'triton'), gpu=(8, 9), expander='FineGrainedFP8Config'),
    'fbgemm_fp8': Method(('fbgemm-gpu', 'accelerate'), gpu=(9, 0)),
    'mxfp4': Method((), gpu=(7, 5), expander='Mxfp4Config'),
    'torchao': Method(('torchao',)),
}
_MODULES = {'autoawq': 'awq', 'fbgemm-gpu': 'fbgemm_gpu', 'compressed-tensors': 'compressed_tensors'}

# Endings of what quantised checkpoints store beside or instead of weights. A model that leaves them unused computes
# with numbers that are not its weights.
_PARTS = ('.qweight', '.qzeros', '.scales', '.weight_packed', '.weight_scale', '.weight_scale_inv', '.absmax', '.SCB',
          '.weight_zero_point', '.weight_blocks', '.quant_state')


@dataclass(frozen=True)
class Quantization:
    """How the weights of a quantised checkpoint are loaded. `expanded`: as ordinary weights, which take more memory.

    `bits`: of a weight as it is stored.
    """

    label: str
    expanded: bool
    bits: int
    options: dict = field(default_factory=dict)  # for from_pretrained


def is_installed(package: str) -> bool:
    """Whether Python finds the module of a package."""
    return importlib.util.find_spec(_MODULES.get(package, package)) is not None


def method_of(config) -> tuple[str, dict]:
    """Return (method, entries) as config.json declares them; ('', {}) for weights that are not quantised."""
    text_config = config.get_text_config(decoder=True)
    declared = getattr(config, 'quantization_config', None) or getattr(text_config, 'quantization_config', None)
    if not declared:
        return '', {}
    entries = dict(declared if isinstance(declared, dict) else declared.to_dict())
    method = entries.get('quant_method') or ''
    if entries.get('load_in_4bit') or entries.get('load_in_8bit'):  # older files name no method
        method = 'bitsandbytes'
    return str(getattr(method, 'value', method)) or 'unknown', entries


def check(name: str, config, device: torch.device, dtype: torch.dtype) -> Quantization | None:
    """Return how the quantised weights of model `name` are loaded on `device`; None where they are not quantised.

    ModelError, with what to install or to name instead, where they cannot run here.
    """
    method, entries = method_of(config)
    if not method:
        return None
    bits = _bits(entries)
    label = f'{method}, {bits} bits' if bits else method
    known = METHODS.get(method, Method(()))
    if missing := [package for package in known.packages if not is_installed(package)]:
        raise ModelError(f'model {name} is quantised ({label}), which transformers {transformers.__version__} runs '
                         f'with {" and ".join(known.packages)}: install {" ".join(missing)} in the environment of '
                         f'worker_python, or {_REMEDY}')
    lacks = _gpu_that_lacks(known.gpu, device)
    if lacks and not known.expander:
        raise ModelError(f'model {name} is quantised ({label}), whose kernels need {lacks}: {_REMEDY}')
    options = {'device_map': {'': device}}
    if lacks:
        options['quantization_config'] = _expanding(known.expander, name, label, lacks)
        entries['dequantize'] = True
    expanded = _ask_transformers(name, label, entries, device, dtype)
    expanded = expanded or known.expands
    why = '' if known.expands else f', because their kernels need {lacks or "more than there is here"}'
    log.log(logging.WARNING if expanded else logging.INFO, 'the weights of %s are quantised (%s)%s', name, label,
            f': they are expanded to {str(dtype).removeprefix("torch.")}{why}' if expanded else '')
    return Quantization(label, expanded, bits or 8, options)


def _bits(entries: dict) -> int:
    """Return the bits of a weight by the entries of config.json; 0 where they do not say."""
    groups = entries.get('config_groups') or {}
    of_groups = [group.get('weights') for group in groups.values() if isinstance(group, dict)]
    bits = entries.get('bits') or min((int(weights['num_bits']) for weights in of_groups if weights), default=0)
    return bits or 4 * bool(entries.get('load_in_4bit')) or 8 * bool(entries.get('load_in_8bit'))


def _gpu_that_lacks(capability: tuple[int, int] | None, device: torch.device) -> str:
    """Return which GPU would be needed; empty where the device serves."""
    if capability is None or device.type == 'cuda' and torch.cuda.get_device_capability(device) >= capability:
        return ''
    return f'an NVIDIA GPU of compute capability {capability[0]}.{capability[1]}, and the device is {device}'


def _expanding(kind: str, name: str, label: str, lacks: str):
    """Return the options that have weights expanded. ModelError where this version of transformers cannot do that."""
    options = getattr(transformers, kind, dict)(dequantize=True)
    if not hasattr(options, 'dequantize'):  # older ones ignore what they do not know
        raise ModelError(f'model {name} is quantised ({label}), whose kernels need {lacks}, and transformers '
                         f'{transformers.__version__} cannot expand it: install a newer one, or {_REMEDY}')
    return options


def _ask_transformers(name: str, label: str, entries: dict, device: torch.device, dtype: torch.dtype) -> bool:
    """Have transformers check libraries and device as it does before it loads weights; return whether it expands them.

    ModelError with its own words where it refuses.
    """
    try:
        quantizer = AutoHfQuantizer.from_config(entries, pre_quantized=True)
        quantizer.validate_environment(dtype=dtype, torch_dtype=dtype, device_map={'': device}, weights_only=True)
    except Exception as error:  # each method refuses in its own way
        words = ' '.join(str(error).split())[:300].rstrip('.')
        raise ModelError(f'model {name} is quantised ({label}), and transformers {transformers.__version__} cannot run '
                         f'that here ({type(error).__name__}: {words}): {_REMEDY}') from error
    return bool(getattr(quantizer.quantization_config, 'dequantize', False))


def check_loaded(name: str, unused: Iterable[str]) -> None:
    """Raise ModelError where parts of quantised weights are among the tensors that the model left `unused`."""
    if parts := sorted(key for key in unused if key.endswith(_PARTS)):
        raise ModelError(f'the weights of model {name} are quantised ({", ".join(parts[:2])}), but its config.json '
                         'does not say how (quantization_config): they cannot be read')
