"""Prompts for the length predictor, and the lengths of the responses that the target generates to them.

A prompt file is JSONL. Each line holds `prompt` (text, rendered as a single user message) or `messages`
(role and content), and may hold `answer` (a reference response).
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt, as the target gets it, and a reference answer where there is one."""

    text: str
    answer: str | None = None


def render(messages: list[dict], tokenizer: PreTrainedTokenizerBase) -> str:
    """Messages through the chat template; their contents, line by line, where the tokenizer has none."""
    if tokenizer.chat_template is None:
        return '\n'.join(message['content'] for message in messages)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def read_prompts(path: str | Path, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Prompts of a JSONL file. ValueError naming the line that holds none."""
    prompts = []
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                messages = row['messages'] if 'messages' in row else [{'role': 'user', 'content': row['prompt']}]
                prompts.append(Prompt(render(messages, tokenizer), row.get('answer')))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f'{path}, line {number}: expected "prompt" or "messages" ({error!r})') from error
    if not prompts:
        raise ValueError(f'{path} holds no prompts')
    return prompts


def length_sorted_batches(lengths: list[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each of at most `max_tokens` tokens when padded."""
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
    temperature: float = 0.0, seed: int = 0, max_batch_tokens: int = 30_000,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[list[int]]:
    """Token ids of the target's response to each rendered prompt, with the end token where it came to one.

    temperature 0 decodes greedily. Responses are cut at `max_new_tokens`. `on_progress` gets the number of
    prompts answered so far. The length label of a prompt is the length of its list.
    """
    torch.manual_seed(seed)
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    ends = target.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(e for e in ends if e is not None)
    sampling = {'do_sample': True, 'temperature': temperature, 'top_k': 0} if temperature > 0 else {'do_sample': False}
    responses: list[list[int]] = [[] for _ in texts]
    done = 0
    lengths = [len(ids) + max_new_tokens for ids in prompts]
    for batch in length_sorted_batches(lengths, max_batch_tokens):
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), pad)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, i in enumerate(batch):  # padded on the left: a response follows its prompt
            ids[row, width - len(prompts[i]):] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]):] = 1
        out = target.generate(input_ids=ids.to(target.device), attention_mask=mask.to(target.device),
                              max_new_tokens=max_new_tokens, pad_token_id=pad, **sampling)
        for row, i in enumerate(batch):
            responses[i] = _until_end(out[row, width:].tolist(), ends)
        done += len(batch)
        on_progress(done)
    return responses


def _until_end(ids: list[int], ends: set[int | None]) -> list[int]:
    for n, token in enumerate(ids, start=1):
        if token in ends:
            return ids[:n]
    return ids
