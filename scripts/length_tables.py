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

"""The tables of predicted lengths in docs/results.md, from results/length_predictor.json; generate_docs.py runs this.

The file has a part for each test bed, the site log and prompts from files ('text'); a result of an earlier version has
the first alone, and neither CRPS nor log loss. Standard library only.
"""
from __future__ import annotations

from collections.abc import Callable

from results_tables import percent, read, table

SITE_LOG, TEXT = 'site log', 'text'
SCORES = {'crps': 'CRPS', 'log_loss': 'log loss'}  # of whole distributions


def number(value: float | None, digits: int = 1) -> str:
    """Return a number as text, and '-' where there is none, as R2 of lengths that do not vary."""
    return '-' if value is None else f'{value:.{digits}f}'


def _of(rows: list[dict], bed: str) -> list[dict]:
    return [row for row in rows if row.get('bed', SITE_LOG) == bed]


def errors(rows: list[dict]) -> str:
    """Return the errors of every method on all kinds of prompts of one test bed, matched and shifted."""
    rows = [row for row in rows if row['family'] == 'all']
    shifted = {row['method']: row for row in rows if row['split'] == 'shifted'}
    scores = {name: title for name, title in SCORES.items() if any(row.get(name) is not None for row in rows)}
    measures = {'mae': ('MAE', 1), **{name: (title, 1 if name == 'crps' else 2) for name, title in scores.items()},
                'rmse': ('RMSE', 1), 'r2': ('R2', 3), 'r2_within_families': ('R2 within families', 3)}
    header = ['', *(title for title, _ in measures.values()), 'MAE, shifted split']
    if 'crps' in scores:
        header.append('CRPS, shifted split')

    def cells(row: dict) -> list[str]:
        other = shifted.get(row['method'], {})
        found = [number(row.get(name), digits) for name, (_, digits) in measures.items()]
        return [*found, number(other.get('mae')), *([number(other.get('crps'))] if 'crps' in scores else [])]

    return table(header, [[row['method'], *cells(row)] for row in rows if row['split'] == 'matched'])


def remaining(rows: list[dict]) -> str:
    """Return how well what is left of an answer is predicted after some of its tokens: a row for each method."""
    found = {(row['method'], row['tokens']): row for row in rows}
    tokens = sorted({row['tokens'] for row in rows})

    def cell(row: dict | None) -> str:
        return '' if row is None else f'{row["crps"]:.1f} ({percent(row["crps_less_than_marginal"] + 0.0)})'

    return table(['', *(f'after {n} tokens' for n in tokens)],
                 [[method, *(cell(found.get((method, n))) for n in tokens)]
                  for method in dict.fromkeys(method for method, _ in found)])


def predicted_lengths(data: dict) -> str:
    """Return the tables of both test beds, as far as they were measured."""
    parts = [errors(_of(data['rows'], SITE_LOG))] if _of(data['rows'], SITE_LOG) else []
    if text := _of(data['rows'], TEXT):
        facts = data['beds'][TEXT]
        left_out = ', '.join(facts['kinds_left_out_when_shifted'])
        kinds = f'; on the shifted split, kinds that were not among them ({left_out})' if left_out else ''
        parts += [f'Real text, {facts["model"]}: learned from {facts["goals_learned_from"]:,} '
                  f'prompts, judged on {facts["prompts_judged"]:,} others{kinds}. Answers were cut at '
                  f'{facts["max_new_tokens"]:,} tokens.', errors(text)]
    if left := _of(data.get('remaining', []), TEXT):
        parts += ['What is left of an answer, predicted while it is decoded: CRPS, in brackets how much less than that '
                  'of the conditional marginal.', remaining(left)]
    return '\n\n'.join(parts)


def length_predictor() -> str:
    """Return the errors of predicted lengths."""
    return predicted_lengths(read('length_predictor'))


BLOCKS: dict[str, Callable[[], str]] = {'length predictor': length_predictor}
