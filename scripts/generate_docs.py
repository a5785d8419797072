#!/usr/bin/env python3
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

"""Write the generated parts of the documentation; `make docs` runs this.

    python scripts/generate_docs.py

docs/parameters.md and config/timebill.yaml come from timebill_ros/settings.py. Elsewhere, the text between the markers
`<!-- generated: NAME -->` and `<!-- end -->` is written anew: tables of results from results/*.json, tables of fields
from the interface files. Nothing but the standard library is needed. test/test_docs.py compares.
"""
from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import evaluation_tables  # noqa: E402  (beside this file)
import fleet_tables  # noqa: E402
import length_tables  # noqa: E402
import results_tables  # noqa: E402

from timebill_ros import settings  # noqa: E402  (of this checkout, not an installed one)

WITH_BLOCKS = ('README.md', 'docs/results.md', 'docs/interfaces.md', 'docs/fleet.md')
BLOCKS = {**results_tables.BLOCKS, **length_tables.BLOCKS, **evaluation_tables.BLOCKS, **fleet_tables.BLOCKS}
BLOCK = re.compile(r'(<!-- generated: ([^>]+) -->\n).*?(\n?<!-- end -->)', re.DOTALL)

# Headings of docs/parameters.md, each with the first parameter below it, in the order of settings.PARAMETERS.
GROUPS = {
    'model': 'Model, predictor and profile',
    'device': 'Device, threads and cores',
    'predictor_max_tokens': 'Length prediction',
    'max_context_tokens': 'Cache, prefill and decode steps',
    'eviction_scorer': 'Eviction',
    'pessimistic_length': 'Promises',
    'variants': 'Weights and quality',
    'default_max_new_tokens': 'What a goal leaves open',
    'scheduling': 'Scheduling',
    'offboard_url': 'A server besides',
    'deadline_clock': 'Clocks',
    'bond_topic': 'Lifecycle manager',
    'delivery_margin_s': 'Delivery and limits',
    'trust_remote_code': 'Trust',
}

PARAMETERS_HEAD = """# Parameters

Made from [timebill_ros/settings.py](../timebill_ros/settings.py) by `make docs`; do not edit this page.

Set them with `-p NAME:=VALUE`, with `--params-file` or in the launch file.
[config/timebill.yaml](../config/timebill.yaml) holds all of them with their defaults. A *live* parameter may change
while the node is active. The others take effect at configure: clean the node up first. A value of the wrong type or out
of range is refused with a sentence; a name that does not exist gets a warning at the start.

Two more are the program's own:

- `autostart` (false): configure and activate without a lifecycle manager. The launch file sets it.
- `use_sim_time` (false), from ROS 2: absolute deadlines follow `/clock`. It is looked at when the node is configured.
"""


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table shows it unchanged."""
    return text.replace('|', '\\|').replace('<', '&lt;')


def default(parameter: settings.Parameter) -> str:
    """Return a default as YAML would hold it."""
    value = parameter.default
    return str(value).lower() if isinstance(value, bool) else f"'{value}'" if isinstance(value, str) else str(value)


def bounds(parameter: settings.Parameter) -> str:
    """Return unit and range, or the choices."""
    if parameter.choices:
        return ', '.join(f'`{choice}`' for choice in parameter.choices)
    span = f'{parameter.low} to {parameter.high}' if parameter.low is not None else ''
    return f'{span} {parameter.unit}'.strip()


def parameters_page() -> str:
    """Return docs/parameters.md."""
    groups: dict[str, list[settings.Parameter]] = {}
    for parameter in settings.PARAMETERS:
        if parameter.name in GROUPS:
            rows = groups.setdefault(GROUPS[parameter.name], [])
        rows.append(parameter)
    text = PARAMETERS_HEAD
    for heading, members in groups.items():
        rows = [(f'`{p.name}`', default(p), bounds(p), 'live' if p.live else '', cell(p.description))
                for p in members]
        text += f'\n## {heading}\n\n' + results_tables.table(
            ['name', 'default', 'range or choices', 'live', 'meaning'], rows, left=5) + '\n'
    return text


def fields(file: str) -> str:
    """Return the tables of an interface file: constants and fields, one table for each part of it."""
    parts = re.split(r'^---$', (ROOT / file).read_text(), flags=re.MULTILINE)
    titles = {1: [''], 2: ['Request', 'Response'], 3: ['Goal', 'Result', 'Feedback']}[len(parts)]
    text = []
    for title, part in zip(titles, parts, strict=True):
        rows = _rows(part)
        text += [f'**{title}**', ''] if title else []
        text += [results_tables.table(['field', 'type', 'default or value', 'meaning'], rows, left=4), '']
    return '\n'.join(text).rstrip()


def _rows(part: str) -> list[list[str]]:
    """Return [name, type, default, comment] for each line that declares something; comments may go on below."""
    rows: list[list[str]] = []
    for line in part.splitlines():
        declared, _, comment = (piece.strip() for piece in line.partition('#'))
        if declared:
            kind, name, *value = declared.replace('=', ' ').split(maxsplit=2)
            rows.append([f'`{name}`', kind, ' '.join(value), comment])
        elif comment and rows and line.startswith(' '):
            rows[-1][3] += ' ' + comment
    return [[cell(text) for text in row] for row in rows]


def block(name: str) -> str:
    """Return the text of one generated block."""
    return fields(name) if '/' in name else BLOCKS[name]()


def generate() -> dict[Path, str]:
    """Return every file that is generated, or has generated parts, with the text that it should have."""
    texts = {ROOT / 'docs' / 'parameters.md': parameters_page(), ROOT / 'config' / 'timebill.yaml': settings.as_yaml()}
    for name in WITH_BLOCKS:
        texts[ROOT / name] = BLOCK.sub(lambda found: f'{found[1]}{block(found[2])}\n<!-- end -->',
                                       (ROOT / name).read_text())
    return texts


def main() -> None:
    """Write what differs, and say so."""
    for path, text in generate().items():
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
            print(f'written: {path.relative_to(ROOT)}')


if __name__ == '__main__':
    main()
