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

"""Command-line options that several benches have."""
from __future__ import annotations

import argparse
from pathlib import Path

from timebill_ros import settings
from timebill_ros.cli.option_values import out_file, whole
from timebill_ros.cli.task_options import add_task_options, task_source

EMBEDDED = 'embedded'  # what benches measure where no model is named, whatever the cache holds
FOLDER = Path('build/bench')  # results/ holds what was committed: only --out writes there


def add_answer_options(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a bench that keeps its finished answers."""
    add_task_options(command)
    table = settings.BY_NAME['quality_table']
    command.add_argument('--quality-table', default=table.default, metavar='FILE', help=table.description)
    command.add_argument('--out', type=out_file, default=FOLDER / f'{name.replace("-", "_")}.json')
    command.add_argument('--answers', type=out_file, metavar='FILE', help='finished answers, from which a stopped run '
                         'goes on; budgets, deadlines, k-sweep and reversible of the same tasks can share one '
                         '(default: beside --out)')
    command.add_argument('--finished', action='store_true', help='answer nothing: write the results of the tasks that '
                         'are finished, also while another process goes on with the others')
    command.add_argument('--live-limit', type=whole(0), default=100, metavar='N', help='tasks that the planners answer')


def answer_arguments(options: argparse.Namespace) -> dict:
    """Return what those options say, as arguments of the benches."""
    return {'source': task_source(options), 'n_live': options.live_limit, 'answers': options.answers,
            'finished_only': options.finished}
