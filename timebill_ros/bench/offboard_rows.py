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

"""What `timebill bench offboard` found, as rows: whose answers goals had, and how good they were. Pure."""
from __future__ import annotations

from collections.abc import Sequence

from timebill_ros.bench import bootstrap
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.codes import Tier

BOTH, ONBOARD, SERVER = WAYS = ('both', 'on board', 'server')
ALL = 'all'


def result_of(pieces: Sequence[dict]) -> dict:
    """Return the counts of all goals, and a row for all and for each fault. `pieces`: lines of offboard.Asking.

    Only goals that are answered in every way count, so that scores are compared on the same goals.
    """
    by_goal: dict[int, dict[str, dict]] = {}
    for piece in pieces:
        by_goal.setdefault(piece['number'], {})[piece['way']] = piece
    whole = [found for _, found in sorted(by_goal.items()) if len(found) == len(WAYS)]
    if not whole:
        raise ValueError('no goal is answered in every way yet')
    faults = list(dict.fromkeys(sorted(found[BOTH]['fault'] for found in whole)))
    rows = [_row(ALL, whole), *(_row(fault, [found for found in whole if found[BOTH]['fault'] == fault])
                                for fault in faults)]
    of_node = [found[way] for found in whole for way in (BOTH, ONBOARD)]
    return {'n': len(whole), 'late': sum(piece['late'] for piece in of_node),
            'lost': sum(piece['lost'] for piece in of_node),
            'late_at_client': sum(piece['took_s'] > piece['budget_s'] for piece in of_node),
            'latest_s': max(piece['took_s'] - piece['budget_s'] for piece in of_node), 'rows': rows}


def _row(name: str, found: Sequence[dict[str, dict]]) -> dict:
    """Return whose answers the goals of one fault had, and the scores of each way with their intervals."""
    scores = {way: [one[way]['score'] for one in found] for way in WAYS}
    tiers = [one[BOTH]['tier'] for one in found]
    return {'fault': name, 'n': len(found), 'asked': sum(one[BOTH]['asked'] for one in found),
            'server': tiers.count(Tier.OFFBOARD.name), 'on_board': tiers.count(Tier.ONBOARD.name),
            'nobody': tiers.count(Tier.NONE.name),
            'scores': {way: bootstrap.interval(values) for way, values in scores.items()},
            'against': {way: bootstrap.difference(scores[BOTH], scores[way]) for way in (ONBOARD, SERVER)}}


def show(result: dict) -> None:
    """Print the rows."""
    table = Table('fault', 'goals', 'asked', 'by the server', 'on board', 'by nobody', *WAYS, 'against on board',
                  'against server', title=f'{result["n"]} goals: {result["late"]} late, {result["lost"]} lost')
    for row in result['rows']:
        table.add_row(row['fault'], *(str(row[name]) for name in ('n', 'asked', 'server', 'on_board', 'nobody')),
                      *(f'{row["scores"][way][0]:.3f}' for way in WAYS),
                      *('{:+.3f} ({:+.3f} to {:+.3f})'.format(*row['against'][way]) for way in (ONBOARD, SERVER)),
                      end_section=row['fault'] == ALL)
    print_table(table)
