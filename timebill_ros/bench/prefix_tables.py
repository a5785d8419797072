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

"""The tables that the bench of reused prompts prints."""
from __future__ import annotations

from timebill_ros.bench.prefix_ways import BEFORE, NOTHING, REUSED
from timebill_ros.bench.tables import Table, print_table


def show(result: dict) -> None:
    """Print a table for every part that was measured."""
    for part, print_part in (('cases', _cases), ('goals', _goals), ('pauses', _pauses), ('promises', _promises),
                             ('ends', _ends)):
        if result.get(part):
            print_part(result[part], result)
    for bar in result.get('bars', ()):
        print(f'{"met" if bar["met"] else "MISSED"}: {bar["bar"]} ({bar["value"]:.3g})')
    for sentence in result['left_out']:
        print(f'left out: {sentence}')


def _ms(seconds: float | None) -> str:
    return '' if seconds is None else f'{1e3 * seconds:.1f}'


def of_llama(rows: list[dict], key: str) -> str:
    """Return the milliseconds of llama.cpp's precisions, as 'F16 15.2'."""
    return ', '.join(f'{row["precision"]} {1e3 * row[key]:.1f}' for row in rows)


def _cases(rows: list[dict], result: dict) -> None:
    table = Table('tokens', 'new', 'computed', 'before ms', 'from nothing ms', 'reused ms', 'times as quick', 'bar',
                  'half evicted', 'bar', 'nothing / before', 'same logits', 'llama.cpp reused ms', 'rounds',
                  title=f'{result["model"]} in {result["dtype"]}: prefill')
    for row in rows:
        evicted = row.get('evicted_quicker')
        table.add_row(str(row['tokens']), str(row['new']), f'{row["computed"]:.0f}',
                      *(_ms(row['seconds'][way]) for way in (BEFORE, NOTHING, REUSED)), f'{row["quicker"]:.1f}',
                      f'{row["bar"]:g}', f'{evicted:.1f}' if evicted else '', f'{row["evicted_bar"]:g}',
                      f'{row["against_before"]:.2f}', f'{row["same_logits"]} of {row["compared"]}',
                      of_llama(row['llama'], 'reused_s'), str(row['rounds']))
    print_table(table)


def _goals(rows: list[dict], result: dict) -> None:
    table = Table('goals', 'number', 'tokens', 'reused', 'first token ms', 'from nothing ms', 'times as quick',
                  'prefill / estimate', 'same texts', 'llama.cpp ms', title='goals through the engine')
    for row in rows:
        table.add_row(row['scenario'], str(row['goals']), f'{row["tokens"][0]} to {row["tokens"][1]}',
                      f'{row["reused_share"]:.0%}', _ms(row['first_s']), _ms(row['first_from_nothing_s']),
                      f'{row["quicker"]:.1f}', f'{row["measured_over_estimated"]:.2f}',
                      f'{row["same_texts"]} of {row["compared"]}', of_llama(row['llama'], 'first_s'))
    print_table(table)


def _pauses(row: dict, result: dict) -> None:
    table = Table('long goal', 'short goals', 'pauses', 'long on time', 'short on time', 'same texts', 'alone s',
                  'interrupted s', 'a pause costs ms', 'estimated ms', title='a goal that gives way')
    table.add_row(f'{row["long_budget_s"]:.1f} s', f'{row["short_budget_s"]:.2f} s',
                  f'{row["preemptions"]} of {row["wanted"]}', f'{row["long_on_time"]} of {row["rounds"]}',
                  f'{row["short_on_time"]} of {row["short_goals"]}', f'{row["same_texts"]} of {row["rounds"]}',
                  f'{row["alone_s"]:.2f}', f'{row["interrupted_s"]:.2f}',
                  _ms(row['overhead_s'] / max(1, row['preemptions'] / row['rounds'])), _ms(row['pause_estimated_s']))
    print_table(table)


def _promises(row: dict, result: dict) -> None:
    low, high = row['interval']
    print(f'promises on {row["goals"]} goals, {row["reused_share"]:.0%} of whose tokens were reused: '
          f'{row["promised"]} promised, {row["missed"]} missed ({row["missed_share"]:.1%}, 95 % interval {low:.1%} to '
          f'{high:.1%}; {row["aimed_at"]:.0%} aimed at), {row["beyond_wcet"]} beyond their worst case')


def _ends(row: dict, result: dict) -> None:
    table = Table('new tokens', 'computed', 'with kept queries', 'ms', 'with kept queries ms',
                  title=f'fewer tokens to compute after {row["known"]}')
    for found in row['whole_prompts']:
        table.add_row(str(found['new']), f'{found["tokens"]:.1f}', f'{found["tokens_with_queries"]:.1f}',
                      _ms(found['seconds']), _ms(found['seconds_with_queries']))
    print_table(table)
    print(f'queries add {row["block_query_bytes"] / row["block_bytes"]:.0%} to the bytes of what is kept; from '
          f'{row["fewest_rows_with_their_bits"]} rows on states have the bits of longer chunks')
