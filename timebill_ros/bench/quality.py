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

"""`timebill bench quality`: how good a model's answers are after an eviction, in other weights and when they are cut.

The result is a quality table, as the planner reads it (planning/quality_table.py), and rows behind it. Tasks come from
a file of real text, or are those of the site log. The model answers each greedily after every eviction, in every
variant of its weights; each prompt is prefilled once, in the model's own, and its cache restored. (Site-log reports
have a random part, which greedy answers lack; no score looks at that part.) Every finished answer is a line in a file
beside the result, so a bench that was stopped goes on where it was.
"""
from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

from rich.progress import Progress

from timebill_ros.bench.answers import RATIOS, entries_to_keep, generate_ids, prompt_ids, request_for, text_of, that_fit
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.quality_curves import SHARES, Answered, Cell, classes_of, quality_table
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import FinishReason
from timebill_ros.inference.eviction import SCORERS, Random
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.threads import available_cores
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.task_source import TaskSource
from timebill_ros.training.journal import Journal, beside
from timebill_ros.training.parallel import spread
from timebill_ros.worker.loading import load_model

CHUNK_TOKENS = 512  # nothing here needs to stop within a prompt, so a node's smaller chunks would only take longer


def cells_of(variants: list[str], scorers: list[str]) -> list[Cell]:
    """Return what each task is answered with; without eviction the answer is the same for every scorer."""
    return [(variant, scorer, ratio) for variant in variants for ratio in RATIOS
            for scorer in (scorers if ratio else [''])]


def answers(model: CausalLM, task: ScoredTask, wanted: list[Cell], *, chunk_tokens: int,
            max_eviction_ratio: float) -> Iterator[dict]:
    """Yield the answers to one task, a line of the journal each. ModelError where the model cannot answer it."""
    request = request_for(task, task.max_new_tokens)
    ids = prompt_ids(model, task)
    n_x = len(ids)
    model.reset()
    logits = model.prefill(ids, chunk_tokens=chunk_tokens)
    prefilled = model.snapshot()
    for variant, scorer, ratio in wanted:
        if scorer:
            # Seeded by the task, so that no draw depends on which tasks came before it in a process.
            model.scorer = Random(zlib.crc32(task.key.encode())) if scorer == 'random' else SCORERS[scorer]()
        n_keep = entries_to_keep(n_x, ratio, max_eviction_ratio)
        model.restore(prefilled)
        model.use_variant(variant)
        model.evict(n_keep)
        tokens, reason = generate_ids(model, request, logits, n_x=n_x, n_kv=n_keep)
        n = len(tokens)
        yield {'task': task.key, 'n_x': n_x, 'cell': [variant, scorer, ratio], 'n_keep': n_keep, 'n': n,
               'ended': reason is FinishReason.EOS, 'text': text_of(model, tokens),
               **({'cuts': [text_of(model, tokens[:int(share * n)]) for share in SHARES]}
                  if variant == model.variant and not ratio else {})}
    model.use_variant(model.variant)


def answer_share(items: list[tuple[str, list[Cell]]], values: dict, source: TaskSource, options: dict
                 ) -> Iterator[dict]:
    """Load the model and answer what is wanted of each task: what each process does."""
    logging.disable()  # the parent has loaded the same model and said what there is to say
    model, *_ = load_model(values)
    tasks = {task.key: task for task in source.load()}
    for key, wanted in items:
        yield from answers(model, tasks[key], wanted, **options)


def collect(tasks: list[ScoredTask], entries: list[dict], cells: list[Cell]) -> list[Answered]:
    """Return the scores of the tasks of which all answers are there."""
    by_task: dict[str, dict[Cell, dict]] = {task.key: {} for task in tasks}
    for entry in entries:
        by_task.get(entry['task'], {})[tuple(entry['cell'])] = entry
    found = []
    for task in tasks:
        given = by_task[task.key]
        if all(cell in given for cell in cells):
            cuts = given[cells[0]]['cuts']
            found.append(Answered(task.family, given[cells[0]]['n_x'],
                                  {cell: task.scores(given[cell]['text']) for cell in cells},
                                  [task.score(text) for text in cuts]))
    return found


def summary(scores: list[dict[str, float]]) -> dict:
    """Return the number of answers, and every score's mean with its 95 % interval over tasks (normal approximation)."""
    row: dict = {'n': len(scores)}
    for name in scores[0]:
        values = [score[name] for score in scores]
        mean = fmean(values)
        half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 1.0
        row |= {name: mean, f'{name}_interval': [max(0.0, mean - half), min(1.0, mean + half)]}
    return row


def summaries(found: list[Answered], variants: list[str], scorers: list[str]) -> tuple[list[dict], list[dict]]:
    """Return rows by variant, scorer, eviction ratio and family, and the first scorer's rows by prompt length."""
    def rows(chosen: list[Answered], facts: dict, scorers: list[str]) -> list[dict]:
        return [{'variant': variant, 'scorer': scorer, 'eviction_ratio': ratio, **facts,
                 **summary([each.scores[variant, scorer if ratio else '', ratio] for each in chosen])}
                for variant in variants for scorer in scorers for ratio in RATIOS]

    families = ['all', *dict.fromkeys(each.family for each in found)]
    of_family = {name: [each for each in found if name in ('all', each.family)] for name in families}
    by_family = [row for name, chosen in of_family.items() for row in rows(chosen, {'family': name}, scorers)]
    by_length = [row for low, high, chosen in classes_of(found)
                 for row in rows(chosen, {'prompt_tokens': [low, high]}, scorers[:1])]
    return by_family, by_length


def run(values: dict, out: Path, *, source: TaskSource, scorers: list[str], processes: int) -> int:
    """Measure what is not measured yet, print, and write the table to `out` and its plot beside it."""
    if processes < 0:
        raise ValueError(f'nothing can be measured by {processes} processes')
    tasks = source.load()
    values = {**values, 'threads': values['threads'] or 1,
              'prefill_chunk_tokens': values['prefill_chunk_tokens'] or CHUNK_TOKENS}
    model, *_ = load_model(values)
    if not model.supports_eviction:
        raise ModelError(f'nothing to compare: {model.eviction_refusal}')
    tasks = that_fit(model, tasks)
    machine, variants = describe(model), list(model.variants)
    options = {'chunk_tokens': values['prefill_chunk_tokens'], 'max_eviction_ratio': values['max_eviction_ratio']}
    facts = {'model': model.fingerprint, 'precision': model.variant, **options}
    processes = processes or (available_cores() if model.device.type == 'cpu' else 1)
    del model  # the processes have their own
    cells = cells_of(variants, scorers)
    with Journal(beside(out), facts) as journal:
        done = {(entry['task'], *entry['cell']) for entry in journal.entries}
        missing = [(task.key, [cell for cell in cells if (task.key, *cell) not in done]) for task in tasks]
        missing = [(key, wanted) for key, wanted in missing if wanted]
        total = len(tasks) * len(cells)
        left = sum(len(wanted) for _, wanted in missing)
        print(f'{total - left} of {total} answers are in {journal.path}', flush=True)
        with Progress() as bar:
            answering = bar.add_task('answering', total=total, completed=total - left)
            for entry in spread(answer_share, missing, min(len(missing), processes), values, source, options):
                journal.add(entry)
                bar.advance(answering)
        found = collect(tasks, journal.entries, cells)
    rows, by_length = summaries(found, variants, scorers)
    table = quality_table(found, variants, scorers[0])
    show(rows, source.name)
    write(out, {**table.to_dict(), 'machine': machine, 'tasks': source.name, 'n': len(found), 'scorer': scorers[0],
                'processes': processes, **options, 'rows': rows, 'by_prompt_tokens': by_length})
    if plots := plots_if_installed():
        plots.quality(rows, out.with_suffix('.png'))
        print(f'written to {out.with_suffix(".png")}')
    return 0


def show(rows: list[dict], name: str) -> None:
    """Print a table of the rows of all families."""
    scores = [column for column in rows[0] if f'{column}_interval' in rows[0]]
    table = Table('weights', 'scorer', 'evicted', scores[0].replace('_', ' '), '95 % interval',
                  *(score.replace('_', ' ') for score in scores[1:]), title=f'{rows[0]["n"]} tasks of {name}')
    for row in (row for row in rows if row['family'] == 'all'):
        low, high = row[f'{scores[0]}_interval']
        table.add_row(row['variant'], row['scorer'], f'{row["eviction_ratio"]:.0%}', f'{row[scores[0]]:.3f}',
                      f'{low:.3f} to {high:.3f}', *(f'{row[score]:.3f}' for score in scores[1:]),
                      end_section=row['eviction_ratio'] == RATIOS[-1])
    print_table(table)
