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

"""What was seen in a demonstration, in three sentences, and the command to type next."""
from __future__ import annotations

from statistics import fmean

from timebill_ros.cli.demo_goals import is_broken_promise, is_promise

# Kinds of budgets: more than an answer needs, and less.
AMPLE, SHORT = ('unhurried', 'generous'), ('half', 'at risk')


def sentences(rows: list[dict]) -> list[str]:
    """Return three sentences on the rows of a demonstration."""
    late = [row for row in rows if row['node_tardiness_s'] > 0]
    refused = [row for row in rows if row['error_code'] != 'NONE' and not row['generated_tokens']]
    promised, broken = [row for row in rows if is_promise(row)], [row for row in rows if is_broken_promise(row)]
    evicted = [row for row in rows if row['eviction_ratio']]
    return [
        f'Of {len(rows)} goals {len(late) or "none"} had a result after the deadline: '
        f'{_count(sum(row["finish_reason"] == "DEADLINE" for row in rows), "was", "were")} cut at it, '
        f'{_count(len(refused), "was", "were")} refused with a sentence before any text, and the others ended before.',
        f'With time to spare the answers were {_score(rows, AMPLE)} right, with too little for the whole '
        f'{_score(rows, SHORT)}; {_count(len(evicted), "goal", "goals")} gave up cache entries for speed.',
        f'The node said early which answers would be in time: {len(promised)} were promised, and {len(broken)} of '
        'these promises broken.']


def _score(rows: list[dict], kinds: tuple[str, ...]) -> str:
    scores = [row['score'] for row in rows if row['kind'] in kinds]
    return f'{fmean(scores):.0%}' if scores else '-'


def next_step(model: str, *, is_real: bool) -> str:
    """Return what to type next after a demonstration of `model`. `is_real`: it reads English."""
    if is_real:
        return (f'{model} is small: it shows what deadlines do to answers, and a robot uses a larger model. Next:\n'
                '  .venv/bin/timebill_node --ros-args -p autostart:=true -p model:=<directory, hub id or GGUF file> &\n'
                '  .venv/bin/timebill ask --wait 180 --budget 5 "Why should a robot stop when a person is near?"')
    return ('The embedded model plans over a site log and answers nothing else. Next, a small one that reads English:\n'
            '  .venv/bin/timebill get-model smollm2 && .venv/bin/timebill demo')


def _count(n: int, one: str, more: str) -> str:
    return f'{n} {one if n == 1 else more}'
