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

"""`timebill bench structured --mask`: how long a step waits for the mask of the tokens that may come next.

The model has a public shape, random weights, and a large vocabulary that is made up. Steps come in pairs, over the same
token: one draws greedily from all tokens, the other from those that a grammar allows, in random order. Both follow a
text of JSON, so that masks of all kinds come: between values, and inside of texts. The difference is what the mask
costs: where an accelerator computes the step meanwhile, only what of it is not over by then.
"""
from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from rich.progress import track

from timebill_ros import settings
from timebill_ros.bench import byte_words, shapes, token_times
from timebill_ros.bench.machine import describe, write
from timebill_ros.inference.decode import no_collection
from timebill_ros.inference.grammars.chain import MaskedSampler
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.sampling import Sampler
from timebill_ros.request import Sampling
from timebill_ros.settings import NO_PREDICTOR
from timebill_ros.worker.loading import load_model

BAR = 0.03  # of a step, at the median
PROMPT = 500  # tokens
WARM_UP = 5  # pairs
CHUNK = 256  # tokens, where the settings leave it open


@torch.inference_mode()
def measure(model: CausalLM, *, chunk_tokens: int, n_pairs: int, seed: int = 0) -> dict:
    """Return the times of both kinds of steps, and of the masks themselves, over `n_pairs` pairs."""
    draw = random.Random(seed)
    answer, text = model.grammars.example()
    samplers = {False: Sampler(Sampling(), model.device), True: MaskedSampler(Sampling(masked=True), model.device, (),
                                                                              answer)}
    model.reset()
    model.prefill([draw.randrange(1, len(model.tokenizer)) for _ in range(PROMPT)], chunk_tokens=chunk_tokens)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    masks, position = [], PROMPT
    with no_collection():
        for index in track(range(WARM_UP + n_pairs), 'measuring'):
            token = text[index % len(text)]
            if index % len(text) == 0:
                answer.begin()
            newest = torch.tensor(token, device=model.device)
            for masked in draw.sample([False, True], 2):
                model.synchronize()
                masks_before_s, started = answer.mask_s, time.perf_counter()
                int(samplers[masked].draw(model.step(newest, position)))  # waits for the device, as the token loop does
                if masked:
                    answer.accept(token)
                took_s, position = time.perf_counter() - started, position + 1
                if index >= WARM_UP:
                    seconds[masked].append(took_s)
                    if masked:
                        masks.append(answer.mask_s - masks_before_s)
    waits = sorted(with_mask - without for without, with_mask in zip(seconds[False], seconds[True], strict=True))
    step_s, wait_s = median(seconds[False]), median(waits)
    return {'pairs': n_pairs, 'cache_tokens': PROMPT, 'step_ms': 1e3 * step_s,
            'masked_step_ms': 1e3 * median(seconds[True]), 'wait_us': 1e6 * wait_s,
            'wait_quartiles_us': [1e6 * token_times.quantile(waits, share) for share in (0.25, 0.75)],
            'mask_us': 1e6 * median(masks), 'mask_p99_us': 1e6 * token_times.quantile(masks, 0.99),
            'share': wait_s / step_s, 'mask_share': median(masks) / step_s, 'bar': BAR, 'met': wait_s / step_s <= BAR}


def run(values: dict, out: Path, *, shape: str, n_words: int, n_pairs: int) -> int:
    """Measure on `shape` with a vocabulary of at most `n_words` words, print and write; 1 without llguidance."""
    words = min(n_words, shapes.SHAPES[shape]['vocab_size'])
    chunk = values['prefill_chunk_tokens'] or CHUNK
    with tempfile.TemporaryDirectory(prefix='timebill_shape_') as folder:
        directory = shapes.write(Path(folder) / shape, shape)
        byte_words.tokenizer(words).save_pretrained(directory)
        model, _, _ = load_model(settings.check({
            **values, 'model': str(directory), 'length_predictor': NO_PREDICTOR, 'prefill_chunk_tokens': chunk,
            'max_context_tokens': PROMPT + 2 * (WARM_UP + n_pairs) + 1, 'model_revision': '',
            'chat_template_args': ''}))
        if isinstance(model.grammars, NoGrammars):
            print(f'there is no mask to measure: {model.grammars.reason}')
            return 1
        with model.stream.entered():
            found = measure(model, chunk_tokens=chunk, n_pairs=n_pairs)
        result = {'machine': {**describe(model), 'steps': sorted(step.kind for step in model.fast_steps.values())},
                  'shape': shape, 'words': words, 'logits': shapes.SHAPES[shape]['vocab_size'], **found}
    print(f'{shape} in {result["machine"]["dtype"]}, {words:,} words: a step takes {found["step_ms"]:.3f} ms and waits '
          f'{found["wait_us"]:.0f} us for its mask, {found["share"]:.2%} (medians; bar: {BAR:.0%}); making the mask '
          f'takes {found["mask_us"]:.0f} us, p99 {found["mask_p99_us"]:.0f} us')
    write(out, result)
    return 0
