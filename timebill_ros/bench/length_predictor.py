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

Two test beds, each a part of the result that is measured by itself and leaves the other's as it is:

    site log  tasks of the test split and of the shifted split, answered several times each at the temperature that the
              predictor was trained for. Every (prompt, response) pair is one item.
    text      prompts from files, with any model: see text_lengths.py

The rows:

    bucket classifier            the predictor as it ships, prompts read whole up to its own limit
      ..., N_p = n               the same with prompts compressed to n tokens, as the node does where prefill is short
      ..., upper edge            the paper's point: the upper edge of the likeliest bucket
    regression, N buckets, ...   other papers' heads on the same backbone (timebill_ros.training.length_baselines)
    constant median, family mean what is known without reading the prompt: CRPS and log loss are the marginal's
    TF-IDF and prompt length     what the words of the prompt tell (word_lengths.py)
    states, after n goals        learned from the target's hidden states while n goals were served (state_rows.py)
    states, offline              the same from all goals at once
    oracle                       the law that the task's answers follow (site_log_lengths.length_law)

MAE is measured with a distribution's median, RMSE and R2 with its mean, CRPS and log loss with all of it
(training/length_scores.py). R2 "within families" is measured against the variance around each family's own mean length.
What the target has answered is kept beside the result, so the same command goes on where it stopped.
"""
from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.progress import Progress

from timebill_ros.bench import text_lengths
from timebill_ros.bench.length_rows import ALL, CLASSIFIER, CONSTANT, WORDS, Case, Comparison, Predicted
from timebill_ros.bench.machine import describe_device, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.state_rows import Goal, Learned, read_states
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.bench.text_lengths import Sources
from timebill_ros.bench.word_lengths import WordLengths
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import fingerprint
from timebill_ros.length import length_predictor
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.label_grid import Labels, bucket_size_for
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.tasks.site_log import FAMILIES, SiteLogTask, tasks
from timebill_ros.tasks.site_log_lengths import length_law
from timebill_ros.training import length_labels
from timebill_ros.training.answering import Target
from timebill_ros.training.journal import Journal, beside
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_estimates import interpolated_quantile, mean
from timebill_ros.training.prompts import render

BED = 'site log'
SPLITS = {'matched': 'test', 'shifted': 'shifted'}
LEVELS = tuple(i / 20 for i in range(1, 20))
_REFERENCES = 2000  # answers that the constant and the family means come from
_BUCKETS = 64  # of the distribution of all references


def run(target_dir: Path, predictor_dir: Path, out: Path, *, n_prompts: int, samples: int, bounds: list[int],
        n_learned: int = 1000, device: str = 'cpu') -> int:
    """Measure all methods on the site log, print them and write them to `out`, with a picture beside it."""
    if n_learned < FEWEST:
        raise ValueError(f'nothing is learned from fewer than {FEWEST} goals, got {n_learned}')
    bed = _SiteLog(target_dir, predictor_dir, device)
    facts = {'target': fingerprint(str(target_dir)), 'prompts': n_prompts, 'samples': samples, 'learned': n_learned,
             'temperature': bed.config['temperature'], 'max_new_tokens': bed.limit}
    result = {'rows': [], 'differences': [], 'reliability': {}, 'facts': {
        **describe_device(torch.device(device)), 'temperature': bed.config['temperature'],
        'samples_per_prompt': samples, 'goals_learned_from': n_learned}}
    with Journal(beside(out), facts) as journal, Progress() as progress:
        learned = bed.learn(n_learned, journal, progress)
        for split, name in SPLITS.items():
            found, reliable = bed.compare(tasks(name, n_prompts), split, samples, bounds, learned, journal, progress)
            result['rows'] += [{'split': split, **row} for row in found.rows()]
            result['differences'] += [{'split': split, **row} for row in found.differences()]
            result['reliability'][split] = reliable
    return _finish(out, BED, result)


def run_text(target: Target, sources: Sources, out: Path, predictor_dir: Path | None = None) -> int:
    """Measure all methods on prompts from files, and go on like `run`. `predictor_dir`: of a classifier, if any."""
    return _finish(out, text_lengths.BED, text_lengths.measure(target, sources, predictor_dir))


class _SiteLog:
    """The site log, with a target and its predictor. `limit`: tokens at which responses are cut."""

    def __init__(self, target_dir: Path, predictor_dir: Path, device: str):
        self._target_dir, self._device = target_dir, device
        self._predictor = length_predictor.load(predictor_dir, device=device)
        self._baselines = Baselines.load(predictor_dir).to(device)
        self._model = CausalLM(str(target_dir), device=device)
        self.config = self._predictor.facts['training']['config']
        self.limit: int = self.config['max_new_tokens']
        self._constant, self._family_means = without_reading(self.limit)

    def _responses(self, what: str, chosen: list[SiteLogTask], samples: int, seed: int, journal: Journal,
                   progress: Progress) -> list[list[tuple[int, bool]]]:
        """Return (tokens, whether it ended by itself) of the responses to each task, kept in the journal as `what`."""
        bar = progress.add_task(f'{what}: responses', total=len(chosen))
        for entry in journal.entries:
            if entry['what'] == what:
                progress.update(bar, completed=len(chosen))
                return [[(n, whole) for n, whole in row] for row in entry['responses']]
        responses = length_labels.answer_all(
            self._target_dir, self._texts(chosen), device=self._device, max_new_tokens=self.limit,
            temperature=self.config['temperature'], samples=samples, seed=seed,
            expected=[task.n_answer_tokens for task in chosen],
            on_answer=lambda number, row: progress.advance(bar))
        found = [[(len(ids), ids[-1] in self._model.eos_ids) for ids in row] for row in responses]
        journal.add({'what': what, 'responses': found})
        return found

    def _texts(self, chosen: list[SiteLogTask]) -> list[str]:
        return [render(task.messages, self._model.tokenizer) for task in chosen]

    def _states(self, what: str, texts: list[str], progress: Progress) -> list[tuple[np.ndarray, int]]:
        bar = progress.add_task(f'{what}: states', total=len(texts))
        return read_states(self._model, texts, lambda done: progress.update(bar, completed=done))

    def learn(self, n: int, journal: Journal, progress: Progress) -> tuple[Learned, WordLengths]:
        """Have the target answer `n` tasks of the validation split, once each, and learn from them."""
        chosen, what = tasks('validation', n), 'goals to learn from'
        texts = self._texts(chosen)
        responses = self._responses(what, chosen, 1, 2, journal, progress)
        goals = [Goal(state, n_x, length, whole) for (state, n_x), ((length, whole),) in
                 zip(self._states(what, texts, progress), responses, strict=True)]
        lengths = np.array([goal.n for goal in goals])
        labels = Labels(lengths, np.array([goal.whole for goal in goals]), bucket_size_for(lengths))
        return Learned(goals, self.limit), WordLengths(texts, [goal.prompt_tokens for goal in goals], labels)

    def compare(self, chosen: list[SiteLogTask], split: str, samples: int, bounds: list[int],
                learned: tuple[Learned, WordLengths], journal: Journal, progress: Progress
                ) -> tuple[Comparison, list[dict]]:
        """Have every method predict the responses to these tasks -> (its errors, reliability of the classifier)."""
        texts, (states, words) = self._texts(chosen), learned
        responses = self._responses(split, chosen, samples, 1, journal, progress)
        cases, predicted, distributions = [], {}, []
        bar = progress.add_task(f'{split}: predictions', total=len(chosen))
        for number, (task, text, (state, n_x), row) in enumerate(
                zip(chosen, texts, self._states(split, texts, progress), responses, strict=True)):
            distribution, found = predict(self._predictor, self._baselines, text, bounds)
            family = self._family_means[task.family]
            by_distribution = {WORDS: words.predict(text, n_x), **states.predict(state, n_x)}
            found = {**found, CONSTANT: self._constant,
                     **{name: Predicted.of(one, self.limit) for name, one in by_distribution.items()},
                     'family mean': Predicted(family, family),
                     'oracle': Predicted.of(length_law(task), self.limit)}
            for n, whole in row:
                cases.append(Case(number, task.family, n, whole))
                distributions.append(distribution)
                for method, one in found.items():
                    predicted.setdefault(method, []).append(one)
            progress.update(bar, completed=number + 1)
        return (Comparison(cases, predicted, self.limit),
                reliability(distributions, [case.n for case in cases]))


def without_reading(limit: int) -> tuple[Predicted, dict[str, float]]:
    """Return what all lengths are like, and the mean of each family, over reference answers of the validation split."""
    references = tasks('validation', _REFERENCES)
    lengths = [min(task.n_answer_tokens, limit) for task in references]
    size = -(-limit // _BUCKETS)
    by_family = {name: [t.n_answer_tokens for t in references if t.family == name] for name in FAMILIES}
    return (Predicted.of(LengthDistribution.from_lengths(lengths, size, -(-limit // size)), limit),
            {name: fmean(found) for name, found in by_family.items()})


@torch.inference_mode()
def predict(predictor, baselines: Baselines, text: str, bounds: list[int]
            ) -> tuple[LengthDistribution, dict[str, Predicted]]:
    """Return the predicted distribution of one rendered prompt, and what every method expects that reads it."""
    hidden = predictor.last_hidden(predictor.input_ids(text))[0]
    whole = predictor.distribution(predictor.head(hidden).float())
    edge = float((int(whole.probabilities.argmax()) + 1) * whole.bucket_size)
    found = {CLASSIFIER: _predicted(whole), f'{CLASSIFIER}, upper edge': Predicted(edge, edge),
             **{name: Predicted(*point) for name, point in baselines.predict(hidden).items()}}
    for bound in bounds:
        found[f'{CLASSIFIER}, N_p = {bound}'] = _predicted(predictor.predict(text, max_input_tokens=bound))
    return whole, found


def _predicted(distribution: LengthDistribution) -> Predicted:
    """Take a predictor's own distribution, whose last bucket ends where responses are cut."""
    return Predicted(interpolated_quantile(distribution, 0.5), mean(distribution), distribution)


def reliability(distributions: list[LengthDistribution], lengths: list[int]) -> list[dict]:
    """Return, per level, the share of responses within the predicted quantile: interpolated, and as plans use it."""
    rows = []
    for level in LEVELS:
        interpolated = [n <= interpolated_quantile(d, level) for d, n in zip(distributions, lengths, strict=True)]
        planned = [n <= d.quantile(level) for d, n in zip(distributions, lengths, strict=True)]
        rows.append({'level': level, 'share_interpolated': fmean(interpolated), 'share_planned': fmean(planned)})
    return rows


# -- the result -------------------------------------------------------------------------------------------------------

def _finish(out: Path, bed: str, part: dict) -> int:
    """Put the part of one test bed into `out`, beside that of the other, print it and draw the picture."""
    result = with_part(json.loads(out.read_text(encoding='utf-8')) if out.exists() else {}, bed, part)
    show(part['rows'])
    write(out, result)
    if plots := plots_if_installed('length_plots'):
        plots.length_predictor(result, out.with_suffix('.png'))
    return 0


def with_part(result: dict, bed: str, part: dict) -> dict:
    """Return a result in which `part` takes the place of what was measured before on the same test bed."""
    def other(rows: list[dict]) -> list[dict]:
        return [{'bed': BED, **row} for row in rows if row.get('bed', BED) != bed]

    merged = {'beds': {**result.get('beds', {}), bed: part['facts']}}
    for name in ('rows', 'differences', 'remaining'):
        merged[name] = other(result.get(name, [])) + [{'bed': bed, **row} for row in part.get(name, [])]
    merged['reliability'] = part.get('reliability', result.get('reliability', {}))
    return merged


def show(found: list[dict]) -> None:
    """Print a table of the rows of all kinds of prompts together."""
    table = Table('method', 'split', 'n', 'MAE', 'CRPS', 'log loss', 'R2', 'R2 within families')
    for row in found:
        if row['family'] == ALL:
            table.add_row(row['method'], row['split'], str(row['n']), f'{row["mae"]:.2f}', _text(row['crps'], 2),
                          _text(row['log_loss'], 3), _text(row['r2'], 3), _text(row['r2_within_families'], 3))
    print_table(table)


def _text(value: float | None, digits: int) -> str:
    return '' if value is None else f'{value:.{digits}f}'
