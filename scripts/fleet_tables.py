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

"""The table of docs/fleet.md, made of results/fleet.json. BLOCKS names the functions, see results_tables.py."""
from __future__ import annotations

from collections.abc import Callable

from results_tables import RESULTS, percent, read, table

MOST = 0.005  # a share below this is written as 0 %


def fleet() -> str:
    """Return the shares of answers in time, one row for each number of robots."""
    if not (RESULTS / 'fleet.json').is_file():
        return 'No result of `timebill bench fleet` is committed yet.'
    result = read('fleet')
    names = list(dict.fromkeys(row['policy'] for row in result['rows']))
    rows = {(row['robots'], row['policy']): row for row in result['rows']}

    def cell(robots: int, name: str) -> str:
        row = rows[robots, name]
        if row['on_time'] is None:
            return '-'  # no question came
        mixed = row['server'] > MOST and row['onboard'] > MOST
        return percent(row['on_time']) + (f' ({percent(row["server"])} of the server)' if mixed else '')

    lines = table(['robots', *names], [(f'{robots:,}', *(cell(robots, name) for name in names))
                                       for robots in dict.fromkeys(row['robots'] for row in result['rows'])])
    return f'{lines}\n\nThe server is full at {result["full_at_robots"]:.0f} robots.'


BLOCKS: dict[str, Callable[[], str]] = {'fleet': fleet}
