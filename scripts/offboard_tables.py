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

"""The section of docs/results.md on a server besides. Standard library only."""
from __future__ import annotations

from results_tables import percent, table

WAYS = ('both', 'on board', 'server')


def offboard(data: dict) -> str:
    """Return whose answers goals had, and what they were worth: a row for each fault of the network."""
    parameters, machine = data['parameters'], data['environment']
    low, high = data['budgets_s']
    model = parameters.get('model', 'the default model')
    speed = data['speed']  # 0: the server answered while the goals ran
    told = f', its recorded streams told again {speed:g} times as fast' if speed else ''
    facts = (f'{data["n"]:,} goals from {data["tasks"]} with budgets of {low:g} to {high:g} s, {model} on board, '
             f'{parameters["offboard_model"]} on the server (`offboard_quality` {parameters["offboard_quality"]:g}'
             f'{told}); {machine["device"]}, {machine["cores"]} cores for {"the node" if speed else "both"}, '
             f'{machine["date"][:10]}. {data["late"]} were late and {data["lost"]} lost '
             f'({data["late_at_client"]} of the {2 * data["n"]:,} answers of the node came to the client late, by '
             f'{max(0.0, data["latest_s"]) * 1e3:.0f} ms at most). Whose answer, and the mean score of what '
             'clients held at their deadlines, with 95 % intervals of the differences on the same goals:')
    rows = [(row['fault'], f'{row["n"]:,}', f'{row["asked"]:,}', percent(row['server'] / row['n']),
             percent(row['on_board'] / row['n']), percent(row['nobody'] / row['n']),
             *(f'{row["scores"][way][0]:.3f}' for way in WAYS),
             *('{:+.3f} ({:+.3f} to {:+.3f})'.format(*row['against'][way]) for way in WAYS[1:]))
            for row in data['rows']]
    return facts + '\n\n' + table(['fault', 'goals', 'server asked', "server's answer", 'on board', 'none', *WAYS,
                                   'both against on board', 'both against server'], rows)
