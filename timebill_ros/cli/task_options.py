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

"""Command-line options that choose the tasks which a bench measures on."""
from __future__ import annotations

import argparse
from pathlib import Path

from timebill_ros.cli.option_values import whole
from timebill_ros.tasks.task_source import SITE_LOG_TASKS, SITE_LOG_TOKENS, TaskSource
from timebill_ros.tasks.text_scores import SCORERS
from timebill_ros.tasks.text_tasks import Asking


def add_task_options(command: argparse.ArgumentParser) -> None:
    """Add the options that `task_source` reads."""
    command.add_argument('--tasks', type=Path, metavar='FILE', help='JSON lines, gzipped or not: prompt, answers, '
                         'metric and max_new_tokens, or as LongBench has them (default: the site log of the embedded '
                         'model)')
    command.add_argument('--limit', type=whole(0), default=0, metavar='N',
                         help='so many tasks, the first of each family in '
                         f'equal parts (default: all; of the site log {SITE_LOG_TASKS})')
    command.add_argument('--template', type=Path, metavar='FILE', help='a text with {context} and {input}, for rows '
                         'without a prompt (default: as LongBench asks, by the name of the dataset)')
    command.add_argument('--metric', choices=list(SCORERS), help='for rows that name none')
    command.add_argument('--max-new-tokens', type=whole(0), default=0, metavar='N',
                         help='longest answer, for rows that do '
                         f'not say (default: as LongBench has it; for the site log {SITE_LOG_TOKENS})')


def task_source(options: argparse.Namespace) -> TaskSource:
    """Return where the tasks come from. ValueError or OSError with a sentence for what cannot be."""
    template = options.template.read_text(encoding='utf-8') if options.template else ''
    return TaskSource(options.tasks, options.limit, Asking(template, options.metric or '', options.max_new_tokens))
