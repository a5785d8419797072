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

"""What became of the goals of `timebill bench structured`, judged without the engine: from texts and times alone."""
from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median

from timebill_ros.bench.structured_goals import SCHEMAS, SHARES
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.grammars.json_cuts import scan

BINS = 10  # of budgets
ALL = 'all'
# How a goal may end.
WHOLE, KEPT, MISSING, NO_TIME, UNMET = 'whole', 'cut and kept', 'member missing', 'no time', 'unmet'
KINDS = (WHOLE, KEPT, MISSING, NO_TIME, UNMET)
# What is aimed at, and the count of a row that has to be 0 for it.
BARS = {'every result that succeeded is JSON that satisfies its schema': 'invalid',
        'every goal with time for its prompt, a step and a completion succeeds, unless a required member is missing':
        UNMET, 'no result is late': 'late'}


def check_libraries() -> None:
    """Raise ValueError, with what to install, where results could not be judged."""
    if find_spec('jsonschema') is None:
        raise ValueError('results are judged by the library jsonschema, which is not installed: pip install jsonschema')


@functools.cache
def _validator(schema: str):
    import jsonschema
    return jsonschema.Draft202012Validator(SCHEMAS[schema])


def is_valid(text: str | bytes, schema: str) -> bool:
    """Whether a text is JSON that satisfies the schema of this name."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return _validator(schema).is_valid(value)


def something_is_left(written: str, schema: str) -> bool:
    """Whether what was written would satisfy the schema if it ended behind any value that is complete in it.

    Then no required member is missing. A number at the very end may have gone on, so that it is not complete.
    """
    found, text = scan(written.encode()), written.encode()
    return any(is_valid(text[:cut.end] + cut.closers, schema) for cut in found.cuts
               if not (found.is_open and cut.end == len(text)))


@dataclass(frozen=True)
class Judged:
    """One goal. `kind`: one of KINDS; `is_valid`: None where the goal failed; `own`: characters of the model's."""

    schema: str
    on_cut: str
    share: float
    kind: str
    is_valid: bool | None
    late_s: float
    characters: int
    own: int
    dropped: int

    @property
    def bin(self) -> int:
        """In which of BINS ranges of equal width its budget lies."""
        low, high = SHARES
        return min(int(BINS * (self.share - low) / (high - low)), BINS - 1)


@dataclass(frozen=True)
class Need:
    """What a prompt needs, as measured, in seconds: until there is a first token, and for a step."""

    first_s: float
    step_s: float


def needs(pieces: Sequence[dict]) -> dict[tuple[str, int], Need]:
    """Return what each prompt needs, medians of its goals, by schema and number of the prompt."""
    first: dict[tuple[str, int], list[float]] = {}
    steps: dict[tuple[str, int], list[float]] = {}
    for piece in pieces:
        key = piece['schema'], piece['prompt']
        if piece['time_to_first_token_s'] is not None:
            first.setdefault(key, []).append(piece['time_to_first_token_s'])
        drawn = piece['generated_tokens'] - piece['forced_tokens'] - 1
        if piece['decode_s'] is not None and drawn > 0:
            steps.setdefault(key, []).append(piece['decode_s'] / drawn)
    return {key: Need(median(found), median(steps.get(key, [0.0]))) for key, found in first.items()}


def has_time(piece: dict, need: Need, margin_s: float) -> bool:
    """Whether a goal's budget had room for its prompt, one step and completing the answer.

    How long its own prompt took counts, where it was read; else how long it takes as a rule.
    """
    first_s = piece['time_to_first_token_s']
    first_s = need.first_s if first_s is None else first_s
    return first_s + need.step_s + piece['closing_s'] + margin_s <= piece['budget_s']


def judge(piece: dict, need: Need, margin_s: float) -> Judged:
    """Judge the line of one goal."""
    schema, text = piece['schema'], piece['text']
    succeeded = piece['error'] == 'NONE'
    if succeeded:
        kind = KEPT if piece['finish'] in ('DEADLINE', 'CAPPED', 'LENGTH') else WHOLE
    elif piece['on_cut'] == 'drop' and piece['written'] and not something_is_left(piece['written'], schema):
        kind = MISSING
    else:
        kind = UNMET if has_time(piece, need, margin_s) else NO_TIME
    return Judged(schema, piece['on_cut'], piece['share'], kind, is_valid(text, schema) if succeeded else None,
                  piece['late_s'], len(text), len(text) - piece['added'], piece['dropped'])


def row(judged: Sequence[Judged]) -> dict:
    """Return counts and shares of some goals. `own_share`: of the characters of texts that were cut and kept."""
    cut = [one for one in judged if one.kind == KEPT]
    kept = [one for one in judged if one.is_valid is not None]
    return {'n': len(judged), **{name.replace(' ', '_'): sum(one.kind == name for one in judged) for name in KINDS},
            'invalid': sum(one.is_valid is False for one in judged), 'late': sum(one.late_s > 0 for one in judged),
            'own_share': _share(cut), 'own_share_of_all': _share(kept),
            'dropped_items': sum(one.dropped for one in cut), 'lost_items': sum(one.dropped > 0 for one in cut)}


def _share(judged: Sequence[Judged]) -> float | None:
    characters = sum(one.characters for one in judged)
    return sum(one.own for one in judged) / characters if characters else None


def result_of(pieces: Sequence[dict], margin_s: float) -> dict:
    """Return the rows, what was wrong, and whether the bars were met. `margin_s`: the delivery margin."""
    goals, need = [piece for piece in pieces if piece['kind'] == 'goal'], needs(pieces)
    judged = [judge(piece, need.get((piece['schema'], piece['prompt']), Need(0.0, 0.0)), margin_s) for piece in goals]
    ways = list(dict.fromkeys(one.on_cut for one in judged))
    rows = [{'on_cut': way, 'schema': schema, **row([one for one in judged if one.on_cut == way
                                                     and schema in (ALL, one.schema)])}
            for way in ways for schema in (ALL, *SCHEMAS)]
    low, high = SHARES
    budgets = [{'on_cut': way, 'schema': schema, 'from': low + i * (high - low) / BINS,
                'to': low + (i + 1) * (high - low) / BINS,
                **row([one for one in judged if (one.on_cut, one.bin) == (way, i) and schema in (ALL, one.schema)])}
               for way in ways for schema in (ALL, *SCHEMAS) for i in range(BINS)]
    wrong = [piece for piece, one in zip(goals, judged, strict=True)
             if one.kind == UNMET or one.is_valid is False or one.late_s > 0]
    unhurried = [{'schema': piece['schema'], 'prompt': piece['prompt'], 'took_s': piece['took_s'],
                  'tokens': piece['generated_tokens'], 'finish': piece['finish']}
                 for piece in pieces if piece['kind'] == 'unhurried']
    totals = row(judged)
    return {'rows': rows, 'budgets': budgets, 'wrong': wrong, 'unhurried': unhurried,
            'latest_s': max((one.late_s for one in judged), default=0.0),
            'grammar_s': _median_of(goals, 'grammar_s'), 'mask_s_per_token': _median_mask(goals),
            'bars': [{'bar': name, 'value': totals[count], 'met': not totals[count]}
                     for name, count in BARS.items()]}


def _median_of(goals: Sequence[dict], name: str) -> float | None:
    found = [piece[name] for piece in goals if piece[name] is not None]
    return median(found) if found else None


def _median_mask(goals: Sequence[dict]) -> float | None:
    found = [piece['mask_s'] / drawn for piece in goals if piece['mask_s'] is not None
             and (drawn := piece['generated_tokens'] - piece['forced_tokens']) > 0]
    return median(found) if found else None


def percent(value: float | None) -> str:
    """Return a share in per cent; empty: there is none."""
    return '' if value is None else f'{100 * value:.0f} %'


COLUMNS = ('goals', *KINDS, 'invalid', 'late', "model's own characters", 'items dropped')


def cells(one: dict) -> list[str]:
    """Return the cells of a row under COLUMNS."""
    return [str(one['n']), *(str(one[name.replace(' ', '_')]) for name in KINDS), str(one['invalid']),
            str(one['late']), percent(one['own_share']), f'{one["dropped_items"]} in {one["lost_items"]}']


def show(result: dict) -> None:
    """Print both tables and the bars."""
    table = Table('on_cut', 'schema', *COLUMNS, title='characters: of the texts that were cut and kept')
    for one in result['rows']:
        table.add_row(one['on_cut'], one['schema'], *cells(one))
    print_table(table)
    table = Table('on_cut', 'budget', *COLUMNS, title='budgets, as shares of the time without hurry')
    for one in result['budgets']:
        if one['schema'] == ALL:
            table.add_row(one['on_cut'], f'{percent(one["from"])} to {percent(one["to"])}', *cells(one))
    print_table(table)
    for bar in result['bars']:
        print(f'{"met" if bar["met"] else "MISSED"}: {bar["bar"]} ({bar["value"]} did not)')
