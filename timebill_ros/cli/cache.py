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

"""`timebill cache`: what the cache directory holds, and removing it, all or by name."""
from __future__ import annotations

import argparse
import time

from timebill_ros.resources import cache_directory

ALL = 'all'


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('cache', help='list what nodes and commands keep on disk, or remove it')
    command.add_argument('--clear', nargs='+', metavar='NAME',
                         help='remove what has these names in the list, or the name of its folder (models, profiles '
                         f'and so on), or everything: {ALL}. What a process uses stays')
    command.add_argument('--cache-dir', default='', metavar='DIR',
                         help="the node's cache_dir; default: the folder of this package in the user's cache")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List or clear. The status is 1 where something named is not there or stays because it is used."""
    from timebill_ros.disk_cache import things
    cache = cache_directory(options.cache_dir)
    found = things(cache)
    if options.clear:
        return _clear(cache, found, options.clear)
    print(table(found, time.time()) if found else 'nothing', f'in {cache}', sep='\n' if found else ' ')
    return 0


def table(found: list, now_s: float) -> str:
    """Return the list of things, last used first, with the sum of their sizes."""
    rows = [(thing.name, thing.kind, _size(thing.bytes), 'in use' if thing.in_use else _ago(now_s - thing.used_s))
            for thing in found]
    rows.append(('together', '', _size(sum(thing.bytes for thing in found)), ''))
    head = ('name', 'what', 'MiB', 'last used')
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = (f'{name:{widths[0]}}  {kind:{widths[1]}}  {size:>{widths[2]}}  {used}'.rstrip()
             for name, kind, size, used in [head, *rows])
    return '\n'.join(lines)


def _clear(cache, found: list, names: list[str]) -> int:
    from timebill_ros.disk_cache import clear
    chosen = [thing for thing in found
              if {ALL, thing.name, thing.name.split('/')[0], thing.name.rpartition('/')[2]} & set(names)]
    known = {part for thing in found for part in (thing.name, thing.name.split('/')[0], thing.name.rpartition('/')[2])}
    unknown = [name for name in names if name != ALL and name not in known]
    if unknown:
        raise ValueError(f'{unknown[0]!r} is not in {cache}; "timebill cache" lists what is')
    removed, kept = clear(chosen)
    for thing in removed:
        print(f'removed {thing.name} ({_size(thing.bytes)} MiB)')
    for thing in kept:
        print(f'{thing.name} stays: a process uses it')
    if not removed and not kept:
        print(f'nothing in {cache}')
    return 1 if kept else 0


def _size(n: float) -> str:
    return f'{n / 2 ** 20:.1f}'


def _ago(seconds: float) -> str:
    for unit, length in (('days', 86400), ('hours', 3600), ('minutes', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.0f} {unit} ago'
    return 'just now' if seconds < 60 else '1 minute ago'
