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

"""What a load bench says of its goals and of the processes' memory: counts, quantiles and slopes. Nothing runs here."""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from timebill_ros.bench.goal_checks import Circumstances, GoalRecord, most_open, overruns, wrong
from timebill_ros.bench.host_pauses import Pause, paused_s
from timebill_ros.codes import ErrorCode, FinishReason, Strategy, Verdict

LATE_S = 0.005  # a result that the node sets later than this after its deadline is late
BEFORE_S = 0.05  # a pause that began so long before a deadline may still delay the result


def to_record(row: dict) -> GoalRecord:
    """Return a client's row as a record; what the row lacks keeps its default."""
    return GoalRecord(**{key: row[key] for key in GoalRecord.__dataclass_fields__ if key in row and key not in (
        'strategy', 'expected')}, strategy=Strategy(row['strategy']), expected=ErrorCode(row['expected']))


def quantiles(values) -> dict:
    """Return count, median, tails and maximum; NaN values are left out."""
    values = np.asarray([v for v in values if not math.isnan(v)], dtype=float)
    if not len(values):
        return {'n': 0}
    p50, p99, p999 = np.quantile(values, [0.5, 0.99, 0.999])
    return {'n': len(values), 'p50': p50, 'p99': p99, 'p99.9': p999, 'max': values.max()}


def slope(at_s, values) -> dict:
    """Return the least-squares slope per hour, with a 95 % interval that allows for autocorrelated values."""
    at_h, values = np.asarray(at_s, dtype=float) / 3600.0, np.asarray(values, dtype=float)
    if len(values) < 10:
        return {'n': len(values)}
    x = at_h - at_h.mean()
    b = float(x @ (values - values.mean()) / (x @ x))
    residual = values - values.mean() - b * x
    # Samples a second apart are not independent: fewer count, by their first autocorrelation.
    rho = float(np.clip(residual[1:] @ residual[:-1] / max(residual @ residual, 1e-12), 0.0, 0.99))
    effective = max(3.0, len(values) * (1 - rho) / (1 + rho))
    error = math.sqrt(float(residual @ residual) / (effective - 2) / float(x @ x) * len(values) / effective)
    return {'per_hour': b, 'interval': [b - 1.96 * error, b + 1.96 * error], 'first': values[0], 'last': values[-1],
            'n': len(values)}


def memory(rows: list[dict], start_s: float, warm_up_s: float) -> dict:
    """Return slopes of memory, files and threads: of the node, the empty action and the worker that lived longest.

    `rows` as in resource_sampler.py. The first `warm_up_s` seconds of each process are left out.
    """
    warm = [row for row in rows if row['at_s'] - start_s > warm_up_s and 'node_mb' in row]
    result = {f'node_{name}': slope([row['at_s'] for row in warm], [row[f'node_{name}'] for row in warm])
              for name in ('mb', 'files', 'threads')}
    beside = [row for row in rows if row['at_s'] - start_s > warm_up_s and 'empty_action_mb' in row]
    result['empty_action_mb'] = slope([row['at_s'] for row in beside], [row['empty_action_mb'] for row in beside])
    lives: dict[int, list[dict]] = {}
    for row in rows:
        if 'worker_mb' in row:
            lives.setdefault(row['worker'], []).append(row)
    longest = max(lives.values(), key=len, default=[])
    life = [row for row in longest if row['at_s'] - longest[0]['at_s'] > warm_up_s]
    for name in ('mb', 'files'):
        result[f'worker_{name}'] = slope([row['at_s'] for row in life], [row[f'worker_{name}'] for row in life])
    result['most_zombies'] = max((row['zombies'] for row in rows), default=0)
    return result


def counts(names) -> dict[str, int]:
    """Return how often each name occurs, sorted by name."""
    return dict(sorted(Counter(names).items()))


def outside_pauses(record: GoalRecord, pauses: Sequence[Pause]) -> float:
    """Return the seconds that the node set this result late by, less those in which the machine stood still."""
    deadline_s = record.sent_s + record.budget_s
    return record.tardiness_s - paused_s(pauses, deadline_s - BEFORE_S, deadline_s + record.tardiness_s)


def analyse(records: list[GoalRecord], empty: list[dict], faults: list, queue_size: int,
            pauses: Sequence[Pause] = ()) -> dict:
    """Return everything that load.json says of goals.

    `records` of our goals, `empty` of those to the empty action, `faults` as in faults.py, `pauses` of the machine.
    """
    answered = [r for r in records if not r.is_lost]
    around = Circumstances([(f.at_s, f.back_s if not math.isnan(f.back_s) else math.inf) for f in faults],
                           overruns(records), queue_size, most_open(records))
    errors = [(r, sentence) for r in answered if (sentence := wrong(r, around))]
    valid = [r for r in answered if r.expected is ErrorCode.NONE]
    hard = [r for r in valid if r.strategy is not Strategy.SKIP_NEXT]
    finished = [r for r in valid if r.timing.get('decode_s', math.nan) == r.timing.get('decode_s')
                and r.timing.get('decode_s', math.nan) > 0 and not math.isnan(r.timing['time_to_first_token_s'])]
    cut = [r for r in hard if FinishReason(r.reason) is FinishReason.DEADLINE]
    empty = [e for e in empty if 'received_s' in e]
    acceptance = quantiles(r.accepted_s - r.sent_s for r in answered)
    delivery = quantiles(r.received_s - r.sent_s - r.timing['time_to_first_token_s'] - r.timing['decode_s']
                         for r in finished)
    empty_acceptance = quantiles(e['accepted_s'] - e['sent_s'] for e in empty)
    empty_whole = quantiles(e['received_s'] - e['sent_s'] for e in empty)
    promised = [r for r in valid if r.timing and Verdict(r.timing['verdict']).is_promise
                and r.code not in (ErrorCode.CANCELED,)]
    missed = [r for r in promised if not FinishReason(r.reason).is_natural or r.tardiness_s > 0]
    return {
        'goals': len(records), 'lost': len(records) - len(answered),
        'late': sum(r.tardiness_s > 0 for r in hard), 'wrong_code': len(errors),
        'late_over_5_ms': sum(r.tardiness_s > LATE_S for r in hard),
        'late_over_5_ms_outside_pauses': sum(outside_pauses(r, pauses) > LATE_S for r in hard),
        'late_codes': counts(ErrorCode(r.code).name for r in hard if r.tardiness_s > 0),
        'late_by_s': quantiles(r.tardiness_s for r in hard if r.tardiness_s > 0),
        'wrong': [sentence for _, sentence in errors[:20]], 'codes': counts(ErrorCode(r.code).name for r in answered),
        'malformed': sum(r.expected is not ErrorCode.NONE for r in records),
        'cancels_sent': sum(not math.isnan(r.canceled_s) for r in records),
        'skip_next_late': len(around.overruns), 'most_open': around.most_open,
        'on_time_share': sum(r.code == 0 and r.lateness_s <= 0 for r in valid) / max(1, len(valid)),
        'promised': len(promised), 'missed': len(missed),
        'client_lateness_s': {
            'goals': len(hard), 'over_20_ms': sum(r.lateness_s > 0.020 for r in hard),
            'over_100_ms': sum(r.lateness_s > 0.100 for r in hard), 'all': quantiles(r.lateness_s for r in hard),
            'cut_at_deadline': quantiles(r.lateness_s for r in cut)},
        'acceptance_s': {'timebill': acceptance, 'empty_action': empty_acceptance,
                         'p99_above': acceptance.get('p99', math.nan) - empty_acceptance.get('p99', math.nan)},
        'delivery_s': {'timebill': delivery, 'empty_action': empty_whole,
                       'p99_above': delivery.get('p99', math.nan) - empty_whole.get('p99', math.nan)},
    }
