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

"""Prompts to train a length predictor on, read from a file or a data set.

A prompt file is JSONL, gzipped or not. Each line holds `prompt` (text, rendered as a single user message) or `messages`
(role and content), and may hold `answer` (a reference response) and `kind`, `family` or `source`, by which results are
grouped. A data set of the `datasets` library (an optional extra) is a file, a directory that `save_to_disk` wrote, or a
name on the hub.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from timebill_ros.tasks.text_tasks import opened

_KINDS = ('kind', 'family', 'source')
_BUILDERS = {'.json': 'json', '.jsonl': 'json', '.csv': 'csv', '.parquet': 'parquet', '.txt': 'text'}


@dataclass(frozen=True)
class Prompt:
    """A prompt and what is known of its response.

    text:     the prompt rendered as the target gets it.
    answer:   a reference response, where there is one.
    partial:  (number of characters of `text`, length in tokens that the response would have had, had the instruction
              stopped after so many). Known for generated tasks only; each pair is worth a label of its own.
    kind:     what it is called in its file, empty where that says nothing; predictors never see it.
    """

    text: str
    answer: str | None = None
    partial: tuple[tuple[int, int], ...] = ()
    kind: str = field(default='', compare=False)


def render(messages: list[dict], tokenizer: PreTrainedTokenizerBase) -> str:
    """Render messages through the chat template, or as their contents line by line where the tokenizer has none."""
    if tokenizer.chat_template is None:
        return '\n'.join(message['content'] for message in messages)
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def _prompt_of(row: dict, column: str | None, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Return the prompt of one row. KeyError or TypeError where the row holds none.

    A conversation is cut behind the user's last message, because what follows is the answer.
    """
    value = row[column] if column else row['messages'] if 'messages' in row else row['prompt']
    if isinstance(value, str):
        messages = [{'role': 'user', 'content': value}]
    else:
        messages = [{'role': message['role'], 'content': message['content']} for message in value]
        asked = [i for i, message in enumerate(messages) if message['role'] == 'user']
        if not asked:
            raise TypeError('no message of the role user')
        messages = messages[:asked[-1] + 1]
    answer = row.get('answer')
    kind = next((row[name] for name in _KINDS if isinstance(row.get(name), str)), '')
    return Prompt(render(messages, tokenizer), answer if isinstance(answer, str) else None, kind=kind)


def read_prompts(path: str | Path, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Read the prompts of a JSONL file. ValueError, naming the line, where one holds no prompt."""
    prompts = []
    with opened(Path(path)) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                prompts.append(_prompt_of(json.loads(line), None, tokenizer))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f'{path}, line {number}: expected "prompt" or "messages" ({error!r})') from error
    if not prompts:
        raise ValueError(f'{path} holds no prompts')
    return prompts


def read_dataset(
    source: str, tokenizer: PreTrainedTokenizerBase, *, split: str = 'train', column: str | None = None,
    limit: int | None = None,
) -> list[Prompt]:
    """Read the prompts of a data set.

    source:  a file, a directory that `save_to_disk` wrote, or a hub name.
    split:   of a data set that has splits.
    column:  the one that holds the prompt, as text or as a conversation (default: `messages`, or else `prompt`).
    limit:   rows to read at most.

    Raises ModuleNotFoundError without the `datasets` library, and ValueError, naming the row, where one holds no
    prompt.
    """
    import datasets
    path = Path(source)
    if path.is_dir():
        rows = datasets.load_from_disk(source)
        rows = rows[split] if isinstance(rows, datasets.DatasetDict) else rows
    elif path.suffix in _BUILDERS and path.exists():
        rows = datasets.load_dataset(_BUILDERS[path.suffix], data_files=source, split='train')
    else:
        rows = datasets.load_dataset(source, split=split)
    prompts = []
    for number, row in enumerate(rows):
        if limit is not None and number >= limit:
            break
        try:
            prompts.append(_prompt_of(row, column, tokenizer))
        except (KeyError, TypeError) as error:
            wanted = f'a column {column!r}' if column else 'a column "messages" or "prompt"'
            raise ValueError(f'{source}, row {number}: expected {wanted} ({error!r}); '
                             f'its columns are {", ".join(row)}') from error
    if not prompts:
        raise ValueError(f'{source} holds no prompts')
    return prompts


def some_of(prompts: list[Prompt], limit: int | None, seed: int = 0) -> list[Prompt]:
    """Return `limit` of the prompts (None: all) in a random order that depends on `seed` alone."""
    chosen = list(prompts)
    random.Random(seed).shuffle(chosen)
    return chosen[:limit]
