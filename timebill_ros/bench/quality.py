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

"""`timebill bench quality`: how good the answers are after an eviction, by its ratio and scorer.

The model answers test tasks of site-log planning greedily. What runs is what the engine runs: the chat template,
prefill in chunks, eviction down to a number of entries, the token loop. (Reports have a random part, which greedy
answers lack; no score looks at that part.) Each prompt is prefilled once, and its cache restored for every eviction.
Without eviction the answer is the same for every scorer, so it is decoded once.
"""
from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

from rich.progress import track

from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.deadline import Clock, Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.decode import decode
from timebill_ros.inference.eviction import MAX_WINDOW, SCORERS, Random
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.sampling import Sampler
from timebill_ros.inference.text import StopStrings
from timebill_ros.inference.text import decode as decode_text
from timebill_ros.inference.threads import available_cores
from timebill_ros.planning.solver import smallest_keep
from timebill_ros.request import Request
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log import SiteLogTask
from timebill_ros.tasks.site_log_scores import exact_match, step_accuracy, token_f1
from timebill_ros.training.parallel import spread
from timebill_ros.worker.loading import load_model

RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
LENGTH_RANGES = ((200, 1000), (1000, 2000), (2000, 4000))  # prompt tokens; the few shorter ones count to the first
SCORES = {'step_accuracy': step_accuracy, 'exact_match': exact_match, 'token_f1': token_f1}

Answers = dict[tuple[str, float], str]  # (scorer, eviction ratio) -> text
Scores = dict[str, float]  # name of a score -> 0 to 1


def entries_to_keep(n_x: int, ratio: float, max_eviction_ratio: float) -> int:
    """Return n_keep: floor((1 - ratio) * N_x), but no fewer than the planner ever keeps.

    The tolerance is for products that rounding has put above the whole number that they stand for.
    """
    return max(n_x - math.ceil(ratio * n_x - 1e-4), smallest_keep(n_x, max_eviction_ratio, MAX_WINDOW))


def request_for(task: SiteLogTask, max_new_tokens: int) -> Request:
    """Return a task as a request without a deadline."""
    return Request('', 0.0, math.inf, messages=task.messages, max_new_tokens=max_new_tokens)


def answer(model: CausalLM, request: Request, logits, *, n_x: int, n_kv: int) -> str:
    """Return the answer on a filled cache of `n_kv` entries; `logits` [V] are of the prompt's `n_x` tokens."""
    return generate(model, request, logits, n_x=n_x, n_kv=n_kv)[0]


def generate(model: CausalLM, request: Request, logits, *, n_x: int, n_kv: int,
             clock: Clock = time.monotonic) -> tuple[str, int, FinishReason]:
    """Return (text, number of tokens, why it ended) of that answer.

    `clock` is read once for every token but the last.
    """
    cap = min(request.max_new_tokens, model.max_context - n_x)
    control = Control(Deadline(request.deadline_s, clock), tokens=[0] * cap)
    stops = StopStrings(model.tokenizer, request.sampling.stop)
    reason = decode(model, Sampler(request.sampling, model.device), logits, position=n_x, n_kv=n_kv, cap=cap,
                    cap_reason=FinishReason.LENGTH, step_s=lambda n: 0.0, stops=stops, control=control)
    n = control.n_tokens
    text = stops.cut(decode_text(model.tokenizer, control.tokens[:n - 1 if reason is FinishReason.EOS else n]))
    return text, n, reason


def answers(model: CausalLM, task: SiteLogTask, *, chunk_tokens: int, max_eviction_ratio: float,
            max_new_tokens: int) -> Answers:
    """Return the answers to one task after every eviction. ModelError where the model cannot answer it."""
    request = request_for(task, max_new_tokens)
    try:
        ids = model.tokenize(model.render(request), is_chat=True)
        n_x = len(ids)
        model.reset()
        logits = model.prefill(ids, chunk_tokens=chunk_tokens)
        prefilled = model.snapshot()
        texts = dict.fromkeys([(scorer, 0.0) for scorer in SCORERS], answer(model, request, logits, n_x=n_x, n_kv=n_x))
        for scorer in SCORERS:
            for ratio in RATIOS[1:]:
                # Seeded by the task, so that no draw depends on which tasks came before it in a process.
                model.scorer = Random(task.seed) if scorer == 'random' else SCORERS[scorer]()
                n_keep = entries_to_keep(n_x, ratio, max_eviction_ratio)
                model.restore(prefilled)
                model.evict(n_keep)
                texts[scorer, ratio] = answer(model, request, logits, n_x=n_x, n_kv=n_keep)
        return texts
    except GoalError as error:
        raise ModelError(f'task {task.seed} of the {task.split} split: {error}') from error


def answer_share(seeds: list[int], values: dict, options: dict) -> Iterator[tuple[int, Answers]]:
    """Load the model and answer the test tasks of these seeds: what each process does."""
    logging.disable()  # the parent has loaded the same model and said what there is to say
    model, *_ = load_model(values)
    for seed in seeds:
        yield seed, answers(model, site_log.generate(seed, split='test'), **options)


def summary(scores: list[Scores]) -> dict:
    """Return the number of answers, and every score's mean with its 95 % interval over tasks (normal approximation)."""
    row: dict = {'n': len(scores)}
    for name in SCORES:
        values = [score[name] for score in scores]
        mean = fmean(values)
        half = 1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 1.0
        row |= {name: mean, f'{name}_interval': [max(0.0, mean - half), min(1.0, mean + half)]}
    return row


def summaries(tasks: list[SiteLogTask], texts: list[Answers]) -> tuple[list[dict], list[dict]]:
    """Return rows by scorer, eviction ratio and family, and rows by range of prompt lengths without eviction."""
    scores = [{key: {name: float(score(task, text)) for name, score in SCORES.items()} for key, text in given.items()}
              for task, given in zip(tasks, texts, strict=True)]

    def row(key: tuple[str, float], chosen: list[bool]) -> dict:
        return summary([given[key] for given, is_chosen in zip(scores, chosen, strict=True) if is_chosen])

    families = {name: [name in ('all', task.family) for task in tasks] for name in ('all', *site_log.FAMILIES)}
    rows = [{'scorer': scorer, 'eviction_ratio': ratio, 'family': family, **row((scorer, ratio), chosen)}
            for family, chosen in families.items() if any(chosen) for scorer in SCORERS for ratio in RATIOS]
    ranges = [next((r for r in LENGTH_RANGES if task.n_tokens < r[1]), LENGTH_RANGES[-1]) for task in tasks]
    return rows, [{'prompt_tokens': list(wanted), **row(('snapkv', 0.0), [r == wanted for r in ranges])}
                  for wanted in LENGTH_RANGES if wanted in ranges]


def run(values: dict, out: Path, *, n_tasks: int, max_new_tokens: int, processes: int) -> int:
    """Measure, print, and write the numbers to `out` and their plot beside it."""
    if n_tasks < 1 or max_new_tokens < 1 or processes < 0:
        raise ValueError(f'nothing to measure with {n_tasks} tasks of {max_new_tokens} tokens by {processes} processes')
    values = {**values, 'threads': values['threads'] or 1}
    model, _, choices = load_model(values)
    values['prefill_chunk_tokens'] = choices.prefill_chunk_tokens  # the processes take the same
    if not model.supports_eviction:
        raise ModelError(f'nothing to compare: {model.eviction_refusal}')
    machine = describe(model)
    processes = min(n_tasks, processes or (available_cores() if model.device.type == 'cpu' else 1))
    options = {'chunk_tokens': values['prefill_chunk_tokens'], 'max_eviction_ratio': values['max_eviction_ratio'],
               'max_new_tokens': max_new_tokens}
    del model  # the processes have their own
    tasks = site_log.tasks('test', n_tasks)
    results = spread(answer_share, [task.seed for task in tasks], processes, values, options)
    texts = dict(track(results, 'answering', total=n_tasks))
    rows, by_prompt_tokens = summaries(tasks, [texts[task.seed] for task in tasks])
    table = Table('scorer', 'evicted', 'step accuracy', '95 % interval', 'exact match', 'token F1',
                  title=f'{n_tasks} tasks')
    for r in rows:
        if r['family'] == 'all':
            low, high = r['step_accuracy_interval']
            table.add_row(r['scorer'], f'{r["eviction_ratio"]:.0%}', f'{r["step_accuracy"]:.3f}',
                          f'{low:.3f} to {high:.3f}', f'{r["exact_match"]:.3f}', f'{r["token_f1"]:.3f}',
                          end_section=r['eviction_ratio'] == RATIOS[-1])
    print_table(table)
    write(out, {'machine': machine, 'split': 'test', 'tasks': n_tasks, 'processes': processes,
                **options, 'rows': rows, 'by_prompt_tokens': by_prompt_tokens})
    if plots := plots_if_installed():
        plots.quality(rows, out.with_suffix('.png'))
        print(f'written to {out.with_suffix(".png")}')
    return 0
