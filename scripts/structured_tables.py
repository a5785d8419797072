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

"""The sections of docs/results.md on answers that have a form. Standard library only."""
from __future__ import annotations

from results_tables import percent, table

ALL = 'all'
KINDS = ('whole', 'cut and kept', 'member missing', 'no time', 'unmet')
EXPLAINED = ('Whole: the model ended the answer. Cut and kept: the deadline or the limit of {limit} tokens cut it, and '
             'what is left of it has its form. Member missing: of what was complete nothing satisfied the schema. No '
             "time: not for the prompt, one step and a completion. The model's own characters are counted in texts "
             'that were cut and kept, and dropped items as `dropped_items` of the result.')


def structured(data: dict, where: str) -> str:
    """Return what became of goals, by schema and by budget. `where`: it was measured."""
    ways = list(dict.fromkeys(row['on_cut'] for row in data['rows']))
    budgets = [row for row in data['budgets'] if row['schema'] == ALL]
    asked = f'{data["goals"]:,} goals' + (', each asked with both ways of `on_cut`' if len(ways) > 1 else '')
    parts = [f'{asked}; {where}. {EXPLAINED.format(limit=data["max_new_tokens"])}',
             table(['on_cut', 'schema', *HEADER],
                   [[row['on_cut'], row['schema'], *cells(row)] for row in data['rows']], left=2),
             'By budget, as a share of the time that the same prompt takes without hurry:',
             table(['on_cut', 'budget', *HEADER],
                   [[row['on_cut'], f'{percent(row["from"])} to {percent(row["to"])}', *cells(row)]
                    for row in budgets], left=2),
             f'The latest result came {-1e3 * data["latest_s"]:.0f} ms before its deadline.' if data['latest_s'] <= 0
             else f'The latest result came {1e3 * data["latest_s"]:.0f} ms after its deadline.',
             '\n'.join(f'- {"Met" if bar["met"] else "Missed"}: {bar["bar"]} ({bar["value"]} did not).'
                       for bar in data['bars'])]
    return '\n\n'.join(parts)


HEADER = ['goals', *KINDS, 'invalid', 'late', "model's own characters", 'items dropped']


def cells(row: dict) -> list[str]:
    """Return the cells of a row under HEADER."""
    own = '' if row['own_share'] is None else percent(row['own_share'])
    return [f'{row["n"]:,}', *(str(row[kind.replace(' ', '_')]) for kind in KINDS), str(row['invalid']),
            str(row['late']), own,
            f'{row["dropped_items"]} in {row["lost_items"]} texts' if row['dropped_items'] else '']


def mask(data: dict, where: str) -> str:
    """Return how long a step waits for its mask."""
    low, high = data['wait_quartiles_us']
    rows = [('step without a mask, median', f'{data["step_ms"]:.3f} ms'),
            ('step with a mask, median', f'{data["masked_step_ms"]:.3f} ms'),
            ('wait for the mask: median of the differences in pairs (quartiles)',
             f'{data["wait_us"]:.0f} us ({low:.0f} to {high:.0f})'),
            ('as a share of a step (bar)', f'{percent(data["share"], 2)} ({percent(data["bar"])})'),
            ('making the mask on the host, median (p99)', f'{data["mask_us"]:.0f} us ({data["mask_p99_us"]:.0f} us)')]
    return (f'{data["shape"]} with random weights and {data["words"]:,} words that are made up; {data["pairs"]} pairs '
            f'of steps over {data["cache_tokens"]} entries and more; {where}.\n\n{table(["", ""], rows)}')
