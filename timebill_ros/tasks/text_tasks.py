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

"""Real-text tasks from JSON-lines files, plain or gzipped: one object a line, either of these.

    {"prompt": ..., "answers": [...], "metric": "f1", "max_new_tokens": 32, "family": "reading"}
    {"context": ..., "input": ..., "answers": [...], "dataset": "hotpotqa", "all_classes": null}     as LongBench has it

`metric` is a name in text_scores.SCORERS. `family` groups results; without one the dataset does, or the metric. A row
without a prompt is asked as `longbench.TEMPLATES` says for its dataset, or as the user's own template does. Other
fields are ignored. Everything that is read is bounded, and what is wrong with a line is told with its number.
"""
from __future__ import annotations

import functools
import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from timebill_ros.tasks import longbench
from timebill_ros.tasks.longbench import Template
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.text_scores import SCORERS

MAX_LINE = 8 << 20  # bytes; LongBench's longest is about 0.5 MB
MAX_FILE = 2 << 30  # bytes, once unpacked
MAX_ROWS = 100_000
MAX_ANSWERS = 1000
MAX_NEW_TOKENS = 1 << 20


@dataclass(frozen=True)
class Asking:
    """What the user says where rows do not: a template with {context} and {input}, the metric, the longest answer.

    A template takes the place of LongBench's; metric and longest answer are for rows that name none. Empty or 0: none.
    """

    template: str = ''
    metric: str = ''
    max_new_tokens: int = 0

    def __post_init__(self):
        if self.metric and self.metric not in SCORERS:
            raise ValueError(f'metric {self.metric!r} is none of {", ".join(SCORERS)}')
        if self.template and '{context}' not in self.template and '{input}' not in self.template:
            raise ValueError(f'the template names neither {{context}} nor {{input}}: {self.template[:80]!r}')

    def of(self, dataset: str) -> Template | None:
        """Return the template for rows of `dataset`, None where there is none."""
        published = longbench.TEMPLATES.get(dataset)
        if not self.template:
            return published
        return replace(published, text=self.template) if published else Template(self.template, '', 0)


def load(path: Path, *, limit: int = 0, asking: Asking | None = None) -> list[ScoredTask]:
    """Return the tasks of a file, in its order.

    `limit`: so many at most (0: all), in equal parts of all families as far as they go, the first of each. ValueError,
    with the line, for a line that is no task; also for a file without tasks. OSError where it cannot be read.
    """
    asking = asking or Asking()
    tasks = []
    with opened(path) as file:
        for number, line in _lines(path, file):
            try:
                tasks.append(_task(number, line, asking))
            except ValueError as error:
                raise ValueError(f'{path}, line {number}: {error}') from error
    if not tasks:
        raise ValueError(f'{path} holds no tasks')
    return balanced(tasks, limit)


def balanced(tasks: list[ScoredTask], limit: int) -> list[ScoredTask]:
    """Return `limit` tasks (0: all) in their order: the first of each family, in equal parts as far as they go."""
    if not 0 < limit < len(tasks):
        return tasks
    chosen = {task.key for task in in_turns(tasks)[:limit]}
    return [task for task in tasks if task.key in chosen]


def in_turns(tasks: list[ScoredTask]) -> list[ScoredTask]:
    """Return the tasks so that families take turns: the first of each, then the second of each, and so on."""
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for index, task in enumerate(tasks):
        ranked.append((seen[task.family], index))
        seen[task.family] += 1
    return [tasks[index] for _, index in sorted(ranked)]


def opened(path: Path) -> BinaryIO:
    """Open a file to be read by bytes, gzipped or not."""
    with open(path, 'rb') as file:
        is_packed = file.read(2) == b'\x1f\x8b'
    return gzip.open(path, 'rb') if is_packed else open(path, 'rb')


def _lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of the lines that are not empty."""
    size = number = n_rows = 0
    while True:
        number += 1
        try:
            line = file.readline(MAX_LINE + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f'{path}, line {number}: the gzipped file is damaged ({error})') from error
        if not line:
            return
        size += len(line)
        n_rows += bool(line.strip())
        for value, most, what in ((len(line), MAX_LINE, 'bytes in a line'), (size, MAX_FILE, 'bytes'),
                                  (n_rows, MAX_ROWS, 'rows')):
            if value > most:
                raise ValueError(f'{path}, line {number}: more than {most} {what}')
        if line.strip():
            yield number, line


def _task(number: int, line: bytes, asking: Asking) -> ScoredTask:
    """Return the task of one line. ValueError with a sentence where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f'it is no JSON ({error})') from error
    if not isinstance(row, dict):
        raise ValueError(f'it must be an object, got {str(row)[:40]!r}')
    dataset = _text(row, 'dataset', '')
    template = asking.of(dataset)
    prompt = _text(row, 'prompt', '')
    if not prompt:
        if template is None:
            raise ValueError(f'it has no prompt, and there is no template for the dataset {dataset!r}: give one '
                             f'(known: {", ".join(longbench.TEMPLATES)})')
        prompt = template.prompt(_text(row, 'context', ''), _text(row, 'input', ''))
    metric = _text(row, 'metric', '') or asking.metric or (template.metric if template else '')
    if metric not in SCORERS:
        raise ValueError(f'metric {metric!r} is none of {", ".join(SCORERS)}')
    answers, classes = _texts(row, 'answers'), _texts(row, 'all_classes')
    if not any(map(str.strip, answers)):
        raise ValueError('answers must hold an accepted answer')
    n = row.get('max_new_tokens') or asking.max_new_tokens or (template.max_new_tokens if template else 0)
    if type(n) is not int or not 1 <= n <= MAX_NEW_TOKENS:
        raise ValueError(f'max_new_tokens must be a whole number from 1 to {MAX_NEW_TOKENS}, got {n!r}')
    first_line = bool(template and template.first_line and 'prompt' not in row)
    facts = json.dumps([prompt, answers, classes, metric, n, first_line])
    return ScoredTask(f'{number} {hashlib.sha256(facts.encode()).hexdigest()[:12]}',
                      _text(row, 'family', '') or dataset or metric, [{'role': 'user', 'content': prompt}], n,
                      functools.partial(_scores, metric, answers, classes, first_line))


def _scores(metric: str, answers: tuple[str, ...], classes: tuple[str, ...], first_line: bool,
            text: str) -> dict[str, float]:
    if first_line:
        text = text.lstrip('\n').partition('\n')[0]
    return {'score': SCORERS[metric](text, answers, classes)}


def _text(row: dict, name: str, default: str) -> str:
    value = row.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise ValueError(f'{name} must be a text, got {str(value)[:40]!r}')
    return value


def _texts(row: dict, name: str) -> tuple[str, ...]:
    values = row.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values) or \
            len(values) > MAX_ANSWERS:
        raise ValueError(f'{name} must be a list of at most {MAX_ANSWERS} texts, got {str(values)[:40]!r}')
    return tuple(values)
