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

"""Tables of results: rich's where it is installed, plain columns where it is not, as on a device with nothing more."""
from __future__ import annotations

import sys

try:
    from rich.console import Console
    from rich.table import Table
except ModuleNotFoundError:
    Console = None

    class Table:
        """What the benches use of rich's Table."""

        def __init__(self, *columns: str, title: str = ''):
            self.title, self.rows = title, [columns]

        def add_row(self, *cells: str) -> None:
            self.rows.append(cells)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or 200 characters wide into a file or a pipe."""
    if Console is not None:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
        return
    widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    print(table.title)
    for row in table.rows:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
