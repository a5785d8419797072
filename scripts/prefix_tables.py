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

"""The section of docs/results.md on prompts that are reused, from results/prefix.json. Standard library only."""
from __future__ import annotations

from results_tables import percent, table


def prefix(data: dict, where: str) -> str:
    """Return how quickly prompts are read on, and what comes of goals that reuse them. `where`: it was measured."""
    exact = '' if data.get('exact', True) else ', with `exact_prefixes: false`'
    parts = [f'{where}. Prompts go on at every {data["unit"]} tokens{exact}. Prefill of random tokens, of which all '
             'but the new ones are known; llama.cpp reads on from its own sequence, with the same weights:',
             cases(data['cases'])]
    if 'goals' in data:
        parts += ['Goals through the engine. Some are answered from nothing too, and texts are compared:',
                  goals(data['goals'])]
    if row := data.get('pauses'):
        parts.append(pauses(row))
    if row := data.get('promises'):
        parts.append(promises(row))
    if row := data.get('ends'):
        parts += [ends(row), whole_prompts(row['whole_prompts'])]
    if data.get('bars'):
        parts.append('\n'.join(f'- {"Met" if bar["met"] else "Missed"}: {bar["bar"]} ({bar["value"]:.3g}).'
                               for bar in data['bars']))
    return '\n\n'.join(parts + [f'Left out: {sentence}.' for sentence in data['left_out']])


def ms(seconds: float) -> str:
    """Return milliseconds."""
    return f'{1e3 * seconds:.1f}'


def llama(rows: list[dict], key: str) -> str:
    """Return llama.cpp's milliseconds, each with its precision."""
    return ', '.join(f'{ms(row[key])} ({row["precision"]})' for row in rows)


def cases(rows: list[dict]) -> str:
    """Return prefill: a row for each length."""
    return table(['tokens', 'new', 'before ms', 'from nothing ms', 'reused ms', 'times as quick (bar)',
                  'with half evicted (bar)', 'from nothing / before', 'same logits', 'llama.cpp from nothing ms',
                  'llama.cpp reused ms'],
                 [[f'{row["tokens"]:,}', row['new'], *(ms(row['seconds'][way])
                                                     for way in ('before', 'from nothing', 'reused')),
                   f'{row["quicker"]:.1f} ({row["bar"]:g})',
                   f'{row["evicted_quicker"]:.1f}' + (f' ({row["evicted_bar"]:g})' if row['evicted_bar'] else '')
                   if 'evicted_quicker' in row else '',
                   f'{row["against_before"]:.2f}', f'{row["same_logits"]} of {row["compared"]}',
                   llama(row['llama'], 'from_nothing_s'), llama(row['llama'], 'reused_s')] for row in rows])


def goals(rows: list[dict]) -> str:
    """Return conversations: a row for each."""
    return table(['', 'goals', 'tokens', 'reused', 'first token ms', 'from nothing ms', 'times as quick',
                  'prefill / estimate', 'same texts', 'llama.cpp ms'],
                 [[row['scenario'], row['goals'], f'{row["tokens"][0]:,} to {row["tokens"][1]:,}',
                   percent(row['reused_share']), ms(row['first_s']), ms(row['first_from_nothing_s']),
                   f'{row["quicker"]:.1f}', f'{row["measured_over_estimated"]:.2f}',
                   f'{row["same_texts"]} of {row["compared"]}', llama(row['llama'], 'first_s')] for row in rows])


def pauses(row: dict) -> str:
    """Return what became of the goal that gives way, and of those that it gives way to."""
    return (f'A goal of {row["long_budget_s"]:.1f} s that gives way to two of {row["short_budget_s"]:.2f} s, '
            f'{row["rounds"]} times: {row["preemptions"]} of {row["wanted"]} pauses, {row["long_on_time"]} long goals '
            f'and {row["short_on_time"]} of {row["short_goals"]} short ones on time, all texts those of undisturbed '
            f'runs {row["same_texts"]} times. Alone it takes {row["alone_s"]:.2f} s, interrupted '
            f'{row["interrupted_s"]:.2f} s.')


def promises(row: dict) -> str:
    """Return how promises were kept on goals whose prompts are reused."""
    return (f'Promises on {row["goals"]} goals of which {percent(row["reused_share"])} of the tokens were reused: '
            f'{row["promised"]} promised, {row["missed"]} of them missed ({percent(row["missed_share"], 1)}, 95 % '
            f'interval {percent(row["interval"][0], 1)} to {percent(row["interval"][1], 1)}; '
            f'{percent(row["aimed_at"])} are aimed at). {row["beyond_wcet"]} of them took longer than the worst case '
            'that was told with the promise.')


def load(data: dict, where: str) -> str:
    """Return what thousands of goals of mixed prefixes leave of memory, invariants and answers."""
    endings = ', '.join(f'{n:,} {name}' for name, n in data['endings'].items())
    return (f'{where}. {data["goals"]:,} goals, one after the other, whose prompts share any beginning with any other, '
            f'and a store of {data["store_tokens"]:,} tokens, too small for them: {percent(data["reused_share"])} of '
            f'the tokens were reused. {data["preemptions"]:,} times a goal gave way. Cache and store were checked '
            f'{data["checks"]:,} times, without a fault. {data["same"]} of {data["compared"]} answers, drawn at '
            'random, are those from nothing. Between the first and the last third of the run, without its first '
            f'quarter, memory grew by {data["grown_mb"]:+.1f} MB. How answers ended: {endings}.')


def ends(row: dict) -> str:
    """Return in words what it would take to compute fewer tokens."""
    share = row['block_query_bytes'] / row['block_bytes']
    rows = row['fewest_rows_with_their_bits']
    exact = f'From {rows} computed tokens on, states have the bits that they have in longer chunks; with fewer they ' \
        'do not, so that fewer would be filled up' if rows and rows > 1 else 'States have the bits that they have in ' \
        'longer chunks however few tokens are computed' if rows else 'States do not have the bits that they have in ' \
        'longer chunks'
    return (f'The last 32 tokens of a prompt are computed anew, for the queries that SnapKV scores by. Keeping the '
            f'queries before every border would add {percent(share)} to the bytes of what is kept. {exact}. Means over '
            f'all cuts, after {row["known"]:,} known tokens:')


def whole_prompts(rows: list[dict]) -> str:
    """Return what prompts with few new tokens would take: a row for each number of new ones."""
    return table(['new tokens', 'computed', 'with kept queries', 'ms', 'with kept queries ms'],
                 [[row['new'], f'{row["tokens"]:.1f}', f'{row["tokens_with_queries"]:.1f}', ms(row['seconds']),
                   ms(row['seconds_with_queries'])] for row in rows])
