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

"""What the bench of reused prompts is to reach, and whether it did."""
from __future__ import annotations

BEFORE_BAR = 1.05  # reading from nothing may take so many times what it takes without a store
LLAMA_FROM = 1000  # tokens from which on the first token is to come sooner than llama.cpp's


def bars(result: dict) -> list[dict]:
    """Return a row for each bar of the parts that were measured: what is asked, the value, and whether it is met."""
    return [*_of_cases(result.get('cases') or []), *_of_goals(result.get('goals') or []),
            *_of_pauses(result.get('pauses')), *_of_promises(result.get('promises'))]


def _row(what: str, value: float, met: bool) -> dict:
    return {'bar': what, 'value': value, 'met': bool(met)}


def _of_cases(rows: list[dict]) -> list[dict]:
    found = []
    for row in rows:
        name = f'{row["tokens"]:,} tokens, {row["new"]} new'
        found.append(_row(f'{name}: at least {row["bar"]:g} times as quick as from nothing', row['quicker'],
                          row['quicker'] >= row['bar']))
        if row['evicted_bar'] and 'evicted_quicker' in row:
            found.append(_row(f'{name}, half evicted: at least {row["evicted_bar"]:g} times as quick',
                              row['evicted_quicker'], row['evicted_quicker'] >= row['evicted_bar']))
        found.append(_row(f'{name}: from nothing at most {BEFORE_BAR} of the time without a store',
                          row['against_before'], row['against_before'] <= BEFORE_BAR))
        if row['tokens'] >= LLAMA_FROM and row['llama']:
            ratio = row['seconds']['reused'] / min(peer['reused_s'] for peer in row['llama'])
            found.append(_row(f'{name}: a smaller share than 1 of the time that llama.cpp reads on in', ratio,
                              ratio < 1))
    if rows:
        same = sum(row['same_logits'] for row in rows) / sum(row['compared'] for row in rows)
        found.append(_row('the same logits as from nothing, as a share', same, same == 1))
    return found


def _of_goals(rows: list[dict]) -> list[dict]:
    if not rows:
        return []
    same = sum(row['same_texts'] for row in rows) / sum(row['compared'] for row in rows)
    return [_row('the same texts as from nothing, as a share', same, same == 1 and not any(
        row['errors'] for row in rows))]


def _of_pauses(row: dict | None) -> list[dict]:
    if not row:
        return []
    on_time = (row['long_on_time'] + row['short_on_time']) / (row['rounds'] + row['short_goals'])
    return [_row('goals that give way, and those they give way to, on time, as a share', on_time, on_time == 1),
            _row('their texts those of undisturbed runs, as a share', row['same_texts'] / row['rounds'],
                 row['same_texts'] == row['rounds'])]


def _of_promises(row: dict | None) -> list[dict]:
    if not row or not row['promised']:
        return []
    # What was missed is as promised unless its 95 % interval lies above that.
    return [_row(f'of promises on reused prompts {row["aimed_at"]:.0%} are missed, within the 95 % interval',
                 row['missed_share'], row['interval'][0] <= row['aimed_at'])]
