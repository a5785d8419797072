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

"""How good an answer to a site-log task is: three scores from 0 (nothing right) to 1.

The mode line and the notes of a report are random (see site_log.py), so no score counts them.
"""

import functools
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from timebill_ros.tasks.common_subsequence import longest_common_subsequence
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.tasks.site_log import MODES, NOTE_WORDS, SiteLogTask

_NOTES = {f'note {degree} {state}' for degree in NOTE_WORDS[0] for state in NOTE_WORDS[1]}


def steps_of(task: SiteLogTask, text: str) -> list[str]:
    """Return the lines of an answer that scores count, each with single spaces.

    Empty lines are left out, and so are the mode line and the notes of a report.
    """
    lines = [' '.join(line.split()) for line in text.splitlines() if line.strip()]
    if task.family == 'report':
        if lines and lines[0] in MODES:
            lines = lines[1:]
        if lines and any(note.startswith(lines[-1]) for note in _NOTES):  # a last note may be cut at the deadline
            lines = lines[:-1]
        lines = [line for line in lines if line not in _NOTES]
    return lines


def step_accuracy(task: SiteLogTask, text: str) -> float:
    """Return the share of the reference's steps that `text` holds in the reference's order.

    This is the longest common subsequence of lines, divided by the number of reference steps. Only whole lines count,
    so the cut line of a truncated answer is wrong. An extra step costs nothing here (`exact_match` sees it).
    """
    return longest_common_subsequence(steps_of(task, text), task.steps) / len(task.steps)


def exact_match(task: SiteLogTask, text: str) -> bool:
    """Tell whether `text` is the reference plan, step for step and with nothing added."""
    return tuple(steps_of(task, text)) == task.steps


def token_f1(task: SiteLogTask, text: str) -> float:
    """Return the F1 of the answer's words against the reference's, both as bags of words.

    This is LongBench's score for question answering (arXiv 2308.14508). Precision is the share of the answer's words
    that the reference holds, recall the reverse; each word counts as often as it occurs in both. A truncated answer
    loses recall only.
    """
    given = Counter(word for line in steps_of(task, text) for word in line.split())
    wanted = Counter(word for step in task.steps for word in step.split())
    common = sum((given & wanted).values())
    return 2 * common / (sum(given.values()) + sum(wanted.values())) if common else 0.0


def scores(task: SiteLogTask, text: str) -> dict[str, float]:
    """Return all scores by name; step accuracy, which counts in quality tables, is the first."""
    return {'step_accuracy': step_accuracy(task, text), 'exact_match': float(exact_match(task, text)),
            'token_f1': token_f1(task, text)}


def scored(task: SiteLogTask, max_new_tokens: int) -> ScoredTask:
    """Return a site-log task as benches take it."""
    return ScoredTask(f'{task.split} {task.seed}', task.family, task.messages, max_new_tokens,
                      functools.partial(scores, task))


def write_jsonl(tasks: list[SiteLogTask], path: str | Path) -> None:
    """Write one JSON object per line: the fields of a task, and its `messages` for other tools."""
    with open(path, 'w', encoding='utf-8') as file:
        for task in tasks:
            file.write(json.dumps({**asdict(task), 'messages': task.messages}) + '\n')
