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

"""Whether the quick steps of this device can be trusted: wrong ones are planted and must be refused.

    python -m timebill_ros.bench.step_check --shape tiny --out folder

Each fault is one that a step of fixed size can really have. On a CPU a stand-in takes the place of CUDA graphs: it
repeats the same kernels into the same tensors. So there the comparison is checked, and not the graphs themselves.
"""
from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
import transformers

from timebill_ros.bench import shapes
from timebill_ros.bench.check_command import run_check
from timebill_ros.bench.machine import describe, write
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.steps import captured, chain_comparison
from timebill_ros.inference.steps.comparison import Comparison, StepDiffers
from timebill_ros.inference.steps.interface import Step

N_PROMPT = 34  # tokens of the sequence that steps are compared over
N_ANSWER = 48  # greedy tokens that must be those of the modules


class Planted(Step):
    """A step with a fault. fault(cache, n, token, position) -> (entries that it sees, token, position)."""

    kind = 'planted'

    def __init__(self, step: Step, cache, fault: Callable):
        self._step, self._cache, self._fault = step, cache, fault

    def __call__(self, token, position):
        n = self._cache.lengths[0]
        seen, token, position = self._fault(self._cache, n, token, position)
        self._cache.lengths = [seen] * len(self._cache.layers)
        outputs = self._step(token, position)
        self._cache.lengths = [n + 1] * len(self._cache.layers)
        return outputs


def _last_bucket_wrong(cache, n, token, position):
    return n - 40 if n > cache.capacity - 3 else n, token, position


FAULTS = {
    'none': lambda cache, n, token, position: (n, token, position),
    'positions off by 1,000': lambda cache, n, token, position: (n, token, position + 1000),
    'sees only itself': lambda cache, n, token, position: (0, token, position),
    'sees five slots': lambda cache, n, token, position: (5, token, position),
    'shows a hidden slot': lambda cache, n, token, position: (min(n + 1, cache.capacity - 1), token, position),
    'the last bucket is wrong': _last_bucket_wrong,
}


@contextlib.contextmanager
def notes() -> Iterator[list[str]]:
    """Collect what is logged about the choice of steps: which kind is used, and why another is not."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    logger, handler = logging.getLogger('timebill_ros.inference.steps'), Collect()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def stand_in(device: torch.device) -> Callable:
    """Stand in for CUDA graphs (steps/captured.py) where there are none: run the call again, into the same tensors."""
    def capture(call):
        call()  # as before a capture
        return call
    return capture


# What may go wrong between two steps, where the host sets nothing. fault(state) is done before each launch.
CHAIN_FAULTS = {
    'none between steps': lambda state: None,
    'another token goes in': lambda state: state.token.fill_(3),
    'the position is one too far': lambda state: state.position.add_(1),
    'the slot is one too early': lambda state: state.slot.sub_(1),
    'the host is told the token before': lambda state: state.count.sub_(1),
}


def check_chain(model: CausalLM, step: captured.CapturedStep) -> list[dict]:
    """Plant every fault between the steps of tokens that `step` draws itself; rows as `check` returns them."""
    launch, rows = step.launch, []
    for name, fault in CHAIN_FAULTS.items():
        def faulty(position, fault=fault):
            fault(step.state)
            launch(position)

        step.launch, said = faulty, ''
        model.reset()
        model.prefill([(11 + 37 * i) % shapes.WORDS for i in range(N_PROMPT)], chunk_tokens=N_PROMPT)
        try:
            chain_comparison.check(step, model.cache, N_PROMPT)
        except StepDiffers as error:
            said = str(error)
        rows.append({'fault': name, 'refused': bool(said), 'said': said,
                     'right': bool(said) == (not name.startswith('none'))})
    step.launch = launch
    return rows


def check(model: CausalLM, step: Step) -> list[dict]:
    """Plant every fault into `step`, the quick step of `model`, whose cache holds N_PROMPT entries.

    A row is right where a fault is refused, and where none is not.
    """
    rows = []
    with closing(Comparison(model._reader, model._token, model._position)) as comparison:
        capacity = model.cache.capacity
        for name, fault in FAULTS.items():
            said = ''
            try:
                for n in sorted({comparison.n_entries, *(length - 1 for length in captured.buckets(capacity))}):
                    comparison.check(Planted(step, model.cache, fault), n)
            except StepDiffers as error:
                said = str(error)
            rows.append({'fault': name, 'refused': bool(said), 'said': said, 'right': bool(said) == (name != 'none')})
    return rows


@torch.inference_mode()
def answers_alike(model: CausalLM, step: Step) -> dict:
    """Compare greedy answers through the modules and through `step`, before and after slots were left full of NaN."""
    prompt = [(11 + 37 * i) % shapes.WORDS for i in range(N_PROMPT)]

    def answer(through: Step) -> list[int]:
        model.reset()
        token, found = model.prefill(prompt, chunk_tokens=N_PROMPT).argmax(), []
        for i in range(N_ANSWER):
            model._token.copy_(token.view(1, 1))
            model._position.fill_(N_PROMPT + i)
            token = through(model._token, model._position)[0].argmax()
            found.append(int(token))
        return found

    expected, got = answer(model._reader), answer(step)
    for layer in model.cache.layers:
        layer.values[:, :, :N_PROMPT + N_ANSWER] = torch.nan
    after = answer(step)
    same = [sum(a == b for a, b in zip(one, expected, strict=True)) for one in (got, after)]
    # In half precision two ways of rounding may choose another token, and then the answers go apart for good. So a
    # difference says little; an answer that changes because of what another left in the cache is a fault.
    return {'tokens': N_ANSWER, 'as_modules': same[0], 'as_modules_after_nan': same[1], 'right': got == after}


def run(shape: str, device: str, out: Path) -> bool:
    """Check one shape and write `out`/steps_<shape>.json; return whether everything was right."""
    on = choose_device(device)
    transformers.utils.logging.disable_progress_bar()  # the log is no terminal
    with tempfile.TemporaryDirectory(prefix='timebill_steps_') as folder, notes() as said:
        directory = shapes.write(Path(folder) / shape, shape)
        # On a CPU the step of the modules is what the stand-in captures, so none need be compiled.
        model = CausalLM(str(directory), device=device, max_context_tokens=2048,
                         compiled_steps=Path(folder) / 'steps' if on.type == 'cuda' else None)
        model.cache.clear_on_reset()
        model.reset()
        model.prefill([(11 + 37 * i) % shapes.WORDS for i in range(N_PROMPT)], chunk_tokens=N_PROMPT)
        step, graphs = model.steps[model.variant], 'CUDA graphs'
        if on.type != 'cuda':
            captured.capturer, graphs = stand_in, 'a stand-in for CUDA graphs'
            step = captured.CapturedStep(model._reader, model.cache)
        rows = check(model, step)
        if isinstance(step, captured.CapturedStep):
            rows += check_chain(model, step)
        alike = answers_alike(model, step)
        kinds = {name: one.kind for name, one in model.steps.items()}
    right = all(row['right'] for row in rows) and alike['right']
    write(out / f'steps_{shape}.json', {'machine': describe(model), 'shape': shape, 'steps': kinds, 'checked': graphs,
                                        'notes': said, 'faults': rows, 'answers': alike, 'right': right})
    print(f'{shape} on {on}: steps are {", ".join(kinds.values())}; {graphs} checked')
    for sentence in said:
        print(f'  {sentence}')
    for row in rows:
        print(f'  {"ok   " if row["right"] else "WRONG"} planted: {row["fault"]}. {row["said"] or "not refused"}')
    print(f'  {"ok   " if alike["right"] else "WRONG"} {alike["as_modules"]} of {N_ANSWER} greedy tokens are those of '
          f'the modules, {alike["as_modules_after_nan"]} after NaN was left in the cache')
    return right


if __name__ == '__main__':
    sys.exit(run_check(__doc__, run))
