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

"""Whether a step computes what the model's modules compute, over every length of the cache that it may be used at.

Two kinds of content are compared. The entries of a real sequence, as prefill left them, show wrong positions: of
SmolLM2-135M in bfloat16, a position off by one changes logits by 4 to 12 %, off by 1,000 by half and more, and rounding
by 0.7 %. For longer caches the entries are repeated, a few of them weigh as much as many, and so one entry too few or
too many shows among thousands. In both, the slots that must be hidden hold values a thousand times larger.

How large a difference rounding makes is not guessed from a data type but measured for each kind of content: the modules
in their own precision against the same modules in float32.
"""
from __future__ import annotations

import contextlib
import logging
import math
import operator
import time
from collections.abc import Iterator, Sequence
from statistics import median

import torch
from torch import nn

from timebill_ros.inference.int8_linear import ProductInt8Linear
from timebill_ros.inference.kv_cache import SlotCache
from timebill_ros.inference.packed_int4 import PackedInt4Linear
from timebill_ros.inference.steps.interface import Step, StepUnavailable
from timebill_ros.inference.steps.modules import ModuleStep

log = logging.getLogger(__name__)

N_STEPS = 2  # steps in a row at each length: the second reads what the first wrote
N_REAL = 4  # and over the entries of a real sequence
NOISE = 4.0  # a step may differ this many times as much as rounding; two roundings differ by 1.4 times one
MEASURED = (256, 1024)  # entries over which rounding is measured, beside those that are there
LEAST = 3e-4  # relative difference that is always allowed: the square root of float32's precision
MOST = 0.25  # and that never is
LOUD = 1000.0  # values in hidden slots are this many times as large
SHARE = 16  # a marked entry weighs as much as one in so many of all entries
TIMED_S = 1.0  # longest time for timing all kinds of step together
TIMED_STEPS = 30


class StepDiffers(StepUnavailable):
    """A step does not compute what the modules compute."""


class Comparison:
    """Compares steps with `modules`, on the same cache, which holds m >= 2 entries of varied tokens.

    `token` and `position`, int64 [1, 1], are the tensors that steps are called with. `close` leaves the cache as it
    was. StepUnavailable where the modules compute no finite logits.
    """

    def __init__(self, modules: ModuleStep, token: torch.Tensor, position: torch.Tensor):
        self.modules, self._token, self._position = modules, token, position
        self.cache = modules.cache
        self._lengths = self.cache.lengths
        self._entries = [layer.snapshot() for layer in self.cache.layers]
        self._n_tokens = modules.model.get_input_embeddings().num_embeddings
        most = self.cache.capacity - N_STEPS
        self.tolerance_real = self._measure_tolerance([self.n_entries])
        self._measured = sorted({min(n, most) for n in MEASURED} - {self.n_entries})
        self.tolerance = self._measure_tolerance(self._measured)

    @property
    def n_entries(self) -> int:
        """Entries that the cache held before the comparison."""
        return self._lengths[0]

    @torch.inference_mode()
    def check(self, step: Step, n: int) -> None:
        """Compare steps over a cache of `n` >= 2 entries with those of the modules. StepDiffers with the difference."""
        tolerance = self.tolerance_real if n == self.n_entries else self.tolerance
        expected, got = self._run(self.modules, n), self._run(step, n)
        differences = _middle_and_worst(got, expected)
        if any(map(operator.gt, differences, tolerance)):
            # Two ways of rounding may lie on either side of what is exact, and over many entries rounding may make more
            # of a difference. That is measured only where it counts: the cache in float32 takes as much memory again,
            # and time.
            exact = self._exact(n)
            if exact is not None:
                differences = tuple(map(min, differences, _middle_and_worst(got, exact)))
            if n not in (self.n_entries, *self._measured):
                here = self._from_type(expected) if exact is None else _allowed([_middle_and_worst(expected, exact)])
                tolerance = tuple(map(max, tolerance, here))
        for found, allowed in zip(differences, tolerance, strict=True):
            if not found <= allowed:  # NaN differs
                raise StepDiffers(f'over {n} cache entries its logits differ from those of the modules by {found:.2g} '
                                  f'of their size, and rounding explains {allowed:.2g}')

    @torch.inference_mode()
    def times(self, steps: Sequence[Step], n: int) -> list[float]:
        """Time steps over `n` entries against each other, interleaved: median seconds of each."""
        self._fill(n)

        def timed(step: Step) -> float:
            self.cache.lengths = [n] * len(self._lengths)
            start_s = time.perf_counter()
            logits, _ = step(self._token, self._position)
            logits.argmax().item()  # waits for the device
            return time.perf_counter() - start_s

        self._put(0, n)
        for step in steps:
            timed(step)
        taken: list[list[float]] = [[] for _ in steps]
        until_s = time.perf_counter() + TIMED_S
        while len(taken[0]) < TIMED_STEPS and time.perf_counter() < until_s or not taken[0]:
            for step, seconds in zip(steps, taken, strict=True):
                seconds.append(timed(step))
        return [median(seconds) for seconds in taken]

    @torch.inference_mode()
    def close(self) -> None:
        """Put back what the cache held. Every other slot becomes zero."""
        for layer, (keys, values) in zip(self.cache.layers, self._entries, strict=True):
            layer.keys.zero_()
            layer.values.zero_()
            layer.restore(keys, values)

    # -- what steps run on ---------------------------------------------------------------------------------------

    def _run(self, step: Step, n: int) -> list[torch.Tensor]:
        """Return what steps in a row give over `n` entries: logits [V] and, where there is one, hidden state [H]."""
        self._fill(n)
        return self._step_on(step, n)

    def _step_on(self, step: Step, n: int) -> list[torch.Tensor]:
        found = []
        for i in range(min(N_REAL if n == self.n_entries else N_STEPS, self.cache.capacity - n)):
            self._put(i, n)
            found += [output.clone() for output in step(self._token, self._position) if output is not None]
        return found

    def _put(self, i: int, n: int) -> None:
        # The odd factor spreads tokens over the vocabulary; positions lie past the entries, as after eviction.
        self._token.fill_((4729 * (i + 1) + 31 * n) % self._n_tokens)
        self._position.fill_(min(n + i + n % 7, self.cache.capacity - 1))

    def _fill(self, n: int) -> None:
        """Fill the cache with `n` entries, and all slots after them with what must be hidden."""
        for layer, entries in zip(self.cache.layers, self._entries, strict=True):
            _fill_layer(layer.keys, layer.values, entries, n)
            layer.length = n

    # -- rounding ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _measure_tolerance(self, lengths: Sequence[int]) -> tuple[float, float]:
        """Return the relative differences that rounding explains over caches of these lengths: (middle, worst)."""
        found = []
        for n in lengths:
            expected = self._run(self.modules, n)
            if not all(output.isfinite().all() for output in expected):
                raise StepUnavailable('its modules compute no finite logits on varied tokens')
            exact = self._exact(n)
            if exact is None:
                return self._from_type(expected)
            found.append(_middle_and_worst(expected, exact))
        return _allowed(found)

    @staticmethod
    def _from_type(outputs: Sequence[torch.Tensor]) -> tuple[float, float]:
        return (min(max(LEAST, torch.finfo(outputs[0].dtype).eps ** 0.5), MOST),) * 2

    def _exact(self, n: int) -> list[torch.Tensor] | None:
        """Return what the modules give over `n` entries in float32; None where they cannot be taken there."""
        try:
            with in_float32(self.modules.model):
                return self._run_in_float32(n)
        except Exception as error:  # weights of a library, for instance
            log.info('rounding is taken from the type of the logits, because it could not be measured: %s', error)
            return None

    def _run_in_float32(self, n: int) -> list[torch.Tensor]:
        cache = SlotCache(n + N_REAL + 1, [layer.sliding_window for layer in self.cache.layers])
        for layer, (keys, values) in zip(cache.layers, self._entries, strict=True):
            layer.lazy_initialization(keys.float(), values.float())
            _fill_layer(layer.keys, layer.values, (keys, values), n)
            layer.length = n
        return self._step_on(ModuleStep(self.modules.model, cache), n)


def _fill_layer(all_keys: torch.Tensor, all_values: torch.Tensor, entries: tuple[torch.Tensor, torch.Tensor],
                n: int) -> None:
    """Fill slots, [1, H_kv, slots, D], with `n` entries made of those given, [1, H_kv, m, D], and with loud ones.

    Where `n` is m, the entries are those given.
    """
    keys, values = entries
    m, slots = keys.shape[2], all_keys.shape[2]
    source = torch.arange(slots, device=keys.device) % m
    all_keys.copy_(keys[:, :, source])
    all_values.copy_(values[:, :, source])
    all_values[:, :, n:] *= LOUD
    all_keys[:, :, n:] = keys[:, :, :1]  # the first entry, which most heads attend to most
    if n == m:
        return
    for i, slot in enumerate(sorted({0, n // 2, n - 1})):  # without these, one of thousands of entries would not show
        all_keys[:, :, slot] = keys[:, :, 0]
        all_values[:, :, slot] = max(1.0, n / SHARE) * values[:, :, (slot + 5 * i + 1) % m]


def _allowed(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the relative differences that are allowed where rounding made the (middle, worst) `found`."""
    middle, worst = (min(max(LEAST, NOISE * max(column)), MOST) for column in zip(*found, strict=True))
    return middle, worst


def _middle_and_worst(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Return the median and the maximum of the vectors' relative distances; (NaN, NaN) where one is NaN.

    Rounding now and then makes a large difference. A step that is always wrong makes one every time.
    """
    found = [float((one.float() - other.float()).norm() / other.float().norm())
             for one, other in zip(got, expected, strict=True)]
    return (median(found), max(found)) if not any(map(math.isnan, found)) else (math.nan, math.nan)


@contextlib.contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Have each module of `model` compute in float32, with its weights taken there only while it runs.

    So it needs memory for one module's weights, not for a second model. Weights of other classes than torch's own
    (quantized ones) stay as they are; products of packed weights are computed in float32 too.
    """
    saved: dict[nn.Module, dict] = {}

    def before(module, inputs):
        saved[module] = {}
        for name, tensor in module._parameters.items():
            if tensor is not None and type(tensor.data) is torch.Tensor and tensor.dtype in (torch.bfloat16,
                                                                                            torch.float16):
                saved[module][name] = tensor
                module._parameters[name] = nn.Parameter(tensor.float(), requires_grad=False)

    def after(module, inputs, outputs):
        module._parameters.update(saved.pop(module))

    products = [module for module in model.modules() if isinstance(module, (PackedInt4Linear, ProductInt8Linear))]
    hooks = []
    for module in model.modules():
        if module._parameters:
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after, always_call=True))
    try:
        for module in products:
            module.computes_in = torch.float32
        yield
    finally:
        for module in products:
            del module.computes_in  # the class has it
        for hook in hooks:
            hook.remove()
        for module, tensors in saved.items():  # one whose call failed before its hook could run
            module._parameters.update(tensors)
