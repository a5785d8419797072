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

"""Length labels for the predictor: the lengths of the responses that the target model itself generates (PAPER: RLP)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from timebill_ros.inference.threads import available_cores
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.training.parallel import spread

_PROMPTS_PER_PROCESS = 50  # at least, because starting a process takes seconds

OnAnswer = Callable[[int, list[list[int]]], None]


def length_sorted_batches(lengths: list[int], max_tokens: float) -> Iterator[list[int]]:
    """Yield the indices of `lengths` in batches of similar length, longest first.

    A batch has at most `max_tokens` tokens, padding included, or is a single longer item.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def generate_responses(
    target: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], *, max_new_tokens: int,
    temperature: float = 0.0, samples: int = 1, seed: int = 0, expected: Sequence[int] = (),
    max_batch_tokens: int = 60_000, on_answer: OnAnswer = lambda number, responses: None,
) -> list[list[list[int]]]:
    """Generate token ids of the target's responses: for each prompt, `samples` lists. Their lengths are the labels.

    texts:             rendered prompts.
    max_new_tokens:    where responses are cut. Those that end before keep their end token.
    temperature:       0 decodes greedily, and then there is one sample.
    expected:          rough lengths of the responses in tokens, where they are known. A batch runs until its longest
                       response ends, so prompts with responses of similar length share a batch.
    max_batch_tokens:  tokens of a batch at most, responses and padding included.
    on_answer:         called with the number of a prompt and its responses, as soon as they are there.
    """
    torch.manual_seed(seed)
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    ends = target.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(e for e in ends if e is not None)
    sampling = {'do_sample': True, 'temperature': temperature, 'top_k': 0} if temperature > 0 else {'do_sample': False}
    if temperature == 0:
        samples = 1
    responses: list[list[list[int]]] = [[] for _ in texts]
    for batch in _batches([len(ids) for ids in prompts], expected, max_new_tokens, max_batch_tokens // samples):
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), pad)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, i in enumerate(batch):  # padded on the left, because a response must follow its prompt directly
            ids[row, width - len(prompts[i]):] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]):] = 1
        out = target.generate(input_ids=ids.to(target.device), attention_mask=mask.to(target.device),
                              max_new_tokens=max_new_tokens, pad_token_id=pad, num_return_sequences=samples, **sampling)
        for row, ids_out in enumerate(out[:, width:].tolist()):
            responses[batch[row // samples]].append(_until_end(ids_out, ends))
        for i in batch:
            on_answer(i, responses[i])
    return responses


def answer_all(
    target_dir: Path, texts: list[str], *, device: str, max_new_tokens: int, temperature: float, samples: int,
    seed: int, expected: Sequence[int] = (), numbers: Sequence[int] = (),
    on_answer: OnAnswer = lambda number, responses: None,
) -> list[list[list[int]]]:
    """Generate the responses of the model in a directory, in the way that suits the device; see `generate_responses`.

    numbers: what to seed each prompt by, and to call `on_answer` with; otherwise its place in `texts`.

    A GPU answers large batches. On a CPU a batch would save little, because every sequence's key-value cache is read
    from memory, while that of a single short sequence stays in the CPU's caches. So on a CPU each core answers one
    prompt after another, seeded by the prompt's number.
    """
    options = {'max_new_tokens': max_new_tokens, 'temperature': temperature, 'samples': samples}
    numbers = numbers or range(len(texts))
    if torch.device(device).type != 'cpu':
        target, tokenizer = _load(target_dir, device)
        return generate_responses(target, tokenizer, texts, seed=seed, expected=expected,
                                  on_answer=lambda i, row: on_answer(numbers[i], row), **options)
    share = partial(_answer_share, target_dir=target_dir, seed=seed, options=options)
    numbered = list(zip(numbers, texts, strict=True))
    processes = min(available_cores(), len(texts) // _PROMPTS_PER_PROCESS)
    responses: dict[int, list[list[int]]] = {}
    for number, row in (spread(share, numbered, processes) if processes > 1 else share(numbered)):
        responses[number] = row
        on_answer(number, row)
    return [responses[number] for number in numbers]


def _load(target_dir: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    target = AutoModelForCausalLM.from_pretrained(target_dir, dtype='auto', use_safetensors=True)
    return target.to(device).eval(), load_tokenizer(target_dir)


def _answer_share(
    numbered: list[tuple[int, str]], *, target_dir: Path, seed: int, options: dict,
) -> Iterator[tuple[int, list[list[int]]]]:
    """Load the model and answer a share of the prompts, one at a time: yield (number, responses). One per process."""
    logging.disable_progress_bar()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target, tokenizer = _load(target_dir, 'cpu')
        for number, text in numbered:
            yield number, generate_responses(target, tokenizer, [text], seed=seed * 1_000_003 + number, **options)[0]
    finally:
        torch.set_num_threads(threads)


def _batches(lengths: list[int], expected: Sequence[int], max_new_tokens: int, max_tokens: int) -> Iterator[list[int]]:
    """Yield batches for generation: prompts of similar length whose expected responses are within a factor of two."""
    octaves: dict[int, list[int]] = {}
    for i in range(len(lengths)):
        octave = min(expected[i], max_new_tokens).bit_length() if expected else 0
        octaves.setdefault(octave, []).append(i)
    for octave in sorted(octaves, reverse=True):
        members = octaves[octave]
        room = min(max_new_tokens, 1 << octave) if expected else max_new_tokens
        for batch in length_sorted_batches([lengths[i] + room for i in members], max_tokens):
            yield [members[k] for k in batch]


def _until_end(ids: list[int], ends: set[int | None]) -> list[int]:
    """Cut token ids behind the first end token."""
    for n, token in enumerate(ids, start=1):
        if token in ends:
            return ids[:n]
    return ids
