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

"""`timebill bench length-predictor`: predicted lengths against what the target generates, and against other predictors.

The target answers tasks of the test split and of the shifted split, several times each, at the temperature that the
predictor was trained for. Every (prompt, response) pair is one item. The rows:

    bucket classifier            the predictor as it ships, prompts read whole up to its own limit
      ..., N_p = n               the same with prompts compressed to n tokens, as the node does where prefill is short
      ..., upper edge            the paper's point: the upper edge of the likeliest bucket
    regression, N buckets, ...   other papers' heads on the same backbone (timebill_ros.training.length_baselines)
    constant median, family mean what is known without reading the prompt, from reference answers of another split
    states, after n goals        learned from the target's hidden states while n goals were served (state_rows.py)
    states, offline              the same from all goals at once
    oracle                       the law that the task's answers follow (site_log_lengths.length_law)

MAE is measured with a distribution's median, RMSE and R2 with its mean. R2 "within families" is measured against the
variance around each family's own mean length.
"""
from __future__ import annotations

from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
from rich.progress import Progress

from timebill_ros.bench.machine import describe_device, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.state_rows import Goal, Learned, read_states
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length import length_predictor
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.tasks.site_log import FAMILIES, SiteLogTask, tasks
from timebill_ros.tasks.site_log_lengths import length_law
from timebill_ros.training import length_labels
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_estimates import interpolated_quantile, mean
from timebill_ros.training.prompts import render

SPLITS = {'matched': 'test', 'shifted': 'shifted'}
CLASSIFIER = 'bucket classifier'
LEVELS = tuple(i / 20 for i in range(1, 20))
_REFERENCES = 2000  # answers that the constant and the family means come from

Points = dict[str, tuple[float, float]]  # method -> (median, mean) of one prompt's predicted length


def measures(predicted: list[tuple[float, float]], lengths: list[int], families: list[str]) -> dict:
    """Return the MAE of the medians, RMSE and R2 of the means, and R2 within families.

    `predicted`: (median, mean) for each of `lengths`. R2 is None where the lengths do not vary.
    """
    medians, means = np.array(predicted, dtype=float).T
    n, names = np.array(lengths, dtype=float), np.array(families)
    squares = ((means - n) ** 2).sum()
    around_family = sum(((n[names == name] - n[names == name].mean()) ** 2).sum() for name in set(families))
    around_all = ((n - n.mean()) ** 2).sum()
    return {'n': len(n), 'mae': float(abs(medians - n).mean()), 'rmse': float((squares / len(n)) ** 0.5),
            'r2': float(1 - squares / around_all) if around_all else None,
            'r2_within_families': float(1 - squares / around_family) if around_family else None}


def reliability(distributions: list[LengthDistribution], lengths: list[int]) -> list[dict]:
    """Return, per level, the share of responses within the predicted quantile: interpolated, and as plans use it."""
    rows = []
    for level in LEVELS:
        interpolated = [n <= interpolated_quantile(d, level) for d, n in zip(distributions, lengths, strict=True)]
        planned = [n <= d.quantile(level) for d, n in zip(distributions, lengths, strict=True)]
        rows.append({'level': level, 'share_interpolated': fmean(interpolated), 'share_planned': fmean(planned)})
    return rows


def without_reading() -> tuple[float, dict[str, tuple[float, float]]]:
    """Return (median length, family -> (median, mean)) over reference answers of the validation split."""
    references = tasks('validation', _REFERENCES)
    by_family = {name: [t.n_answer_tokens for t in references if t.family == name] for name in FAMILIES}
    return (median(t.n_answer_tokens for t in references),
            {name: (median(lengths), fmean(lengths)) for name, lengths in by_family.items()})


@torch.inference_mode()
def predict(predictor, baselines: Baselines, text: str, bounds: list[int]) -> tuple[LengthDistribution, Points]:
    """Return the predicted distribution of one rendered prompt, and the points of every method that reads it."""
    hidden = predictor.last_hidden(predictor.input_ids(text))[0]
    whole = predictor.distribution(predictor.head(hidden).float())
    edge = float((int(whole.probabilities.argmax()) + 1) * whole.bucket_size)
    points = {CLASSIFIER: (interpolated_quantile(whole, 0.5), mean(whole)), f'{CLASSIFIER}, upper edge': (edge, edge),
              **baselines.predict(hidden)}
    for bound in bounds:
        compressed = predictor.predict(text, max_input_tokens=bound)
        points[f'{CLASSIFIER}, N_p = {bound}'] = (interpolated_quantile(compressed, 0.5), mean(compressed))
    return whole, points


def learned_from(model: CausalLM, target_dir: Path, n: int, config: dict, device: str, progress: Progress) -> Learned:
    """Have the target answer `n` tasks of the validation split, once each, and learn their lengths from states."""
    chosen, limit = tasks('validation', n), config['max_new_tokens']
    texts = [render(task.messages, model.tokenizer) for task in chosen]
    bar = progress.add_task('goals to learn from: responses', total=n)
    responses = length_labels.answer_all(
        target_dir, texts, device=device, max_new_tokens=limit, temperature=config['temperature'], samples=1, seed=2,
        expected=[task.n_answer_tokens for task in chosen],
        on_progress=lambda done: progress.update(bar, completed=done))
    bar = progress.add_task('goals to learn from: states', total=n)
    states = read_states(model, texts, lambda done: progress.update(bar, completed=done))
    goals = [Goal(state, n_x, len(ids), len(ids) < limit) for (state, n_x), (ids,) in
             zip(states, responses, strict=True)]
    return Learned(goals, limit)


def run(target_dir: Path, predictor_dir: Path, out: Path, *, n_prompts: int, samples: int, bounds: list[int],
        n_learned: int = 1000, device: str = 'cpu') -> int:
    """Measure all methods on both splits, print them and write them to `out`, with a picture beside it."""
    if n_learned < FEWEST:
        raise ValueError(f'nothing is learned from fewer than {FEWEST} goals, got {n_learned}')
    predictor = length_predictor.load(predictor_dir, device=device)
    baselines = Baselines.load(predictor_dir).to(device)
    tokenizer = load_tokenizer(target_dir)
    config = predictor.facts['training']['config']
    constant, family_points = without_reading()
    model = CausalLM(str(target_dir), device=device)
    result = {'machine': describe_device(torch.device(device)), 'temperature': config['temperature'],
              'samples_per_prompt': samples, 'goals_learned_from': n_learned, 'rows': [], 'reliability': {}}
    with Progress() as progress:
        learned = learned_from(model, target_dir, n_learned, config, device, progress)
        for split, name in SPLITS.items():
            chosen = tasks(name, n_prompts)
            texts = [render(task.messages, tokenizer) for task in chosen]
            bar = progress.add_task(f'{split}: responses', total=len(texts))
            responses = length_labels.answer_all(
                target_dir, texts, device=device, max_new_tokens=config['max_new_tokens'],
                temperature=config['temperature'], samples=samples, seed=1,
                expected=[task.n_answer_tokens for task in chosen],
                on_progress=lambda done, bar=bar: progress.update(bar, completed=done))
            lengths = [[len(ids) for ids in row] for row in responses]
            states = read_states(model, texts)
            distributions, points = [], []
            described = progress.track(chosen, description=f'{split}: predictions')
            for task, text, (state, n_x) in zip(described, texts, states, strict=True):
                distribution, found = predict(predictor, baselines, text, bounds)
                law = length_law(task)
                distributions.append(distribution)
                by_state = {name: (interpolated_quantile(d, 0.5), mean(d))
                            for name, d in learned.predict(state, n_x).items()}
                points.append({**found, **by_state, 'constant median': (constant, constant),
                               'family mean': (family_points[task.family][1],) * 2,
                               'oracle': (interpolated_quantile(law, 0.5), mean(law))})
            result['rows'] += rows(split, chosen, lengths, points)
            pairs = [(d, n) for d, row in zip(distributions, lengths, strict=True) for n in row]
            result['reliability'][split] = reliability([d for d, _ in pairs], [n for _, n in pairs])
    show(result['rows'])
    write(out, result)
    if plots := plots_if_installed():
        plots.length_predictor(result, out.with_suffix('.png'))
    return 0


def rows(split: str, chosen: list[SiteLogTask], lengths: list[list[int]], points: list[Points]) -> list[dict]:
    """Return one row for every method and family, and for all families together."""
    found = []
    for method in points[0]:
        for family in ('all', *FAMILIES):
            items = [(point[method], n, task.family) for task, row, point in zip(chosen, lengths, points, strict=True)
                     for n in row if family in ('all', task.family)]
            if items:
                predicted, given, names = (list(column) for column in zip(*items, strict=True))
                found.append({'method': method, 'split': split, 'family': family,
                              **measures(predicted, given, names)})
    return found


def show(found: list[dict]) -> None:
    """Print a table of the rows of all families together."""
    table = Table('method', 'split', 'n', 'MAE', 'RMSE', 'R2', 'R2 within families')
    for row in found:
        if row['family'] == 'all':
            table.add_row(row['method'], row['split'], str(row['n']), f'{row["mae"]:.2f}', f'{row["rmse"]:.2f}',
                          f'{row["r2"]:.3f}', f'{row["r2_within_families"]:.3f}')
    print_table(table)
