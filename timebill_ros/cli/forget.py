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

"""`timebill forget`: remove what finished goals have taught, so that nodes start from their profiles again."""
from __future__ import annotations

import argparse

from timebill_ros.resources import cache_directory


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('forget', help='remove what goals taught about lengths and times, and have running '
                                  'nodes forget it too')
    command.add_argument('--cache-dir', default='', metavar='DIR',
                         help="the node's cache_dir; default: the folder of this package in the user's cache")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Forget, and say what was removed and what running nodes will do."""
    from timebill_ros.planning.forgetting import NotToldError, forget
    cache = cache_directory(options.cache_dir)
    try:
        removed = forget(cache)
    except NotToldError as error:
        _tell(error.removed)
        raise
    _tell(removed)
    if not removed:
        print(f'nothing is kept in {cache}')
    if cache.is_dir():
        print(f'A node that runs with cache_dir {cache} forgets before its next goal. Profiles are kept.')
    return 0


def _tell(removed: list) -> None:
    for one in removed:
        print(f'removed {one.path}\n  {one.content}')
