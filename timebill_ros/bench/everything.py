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

"""`timebill bench all`: the benches of an evaluation, one after the other, each in a process of its own.

A bench that has finished is noted in a file beside the results, and is left out when the command is run again after a
stop; those that keep their finished answers go on from them. `quick` measures little of everything, to see that all of
it works on a machine. With a file of tasks, what says something about answers is measured on real text too.
"""
from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from timebill_ros.bench.tables import Table, print_table
from timebill_ros.resources import write_whole

FINISHED = 'finished.json'
LOAD = ('--clients', '2', '--goals', '150', '--kills', '1', '--hangs', '0', '--minutes', '0.5')


@dataclass(frozen=True)
class Step:
    """One run of a bench: its options, whole and quick, and about how many minutes each takes on two cores."""

    bench: str
    minutes: float
    quick_minutes: float
    quick: tuple[str, ...]
    whole: tuple[str, ...] = ()
    name: str = ''  # of its files, where that is not the bench's

    @property
    def stem(self) -> str:
        return self.name or self.bench.replace('-', '_')


STEPS = (
    Step('decode', 2, 0.4, ('--tokens', '40', '--rounds', '2')),
    Step('parallel', 2, 0.3, ('--rounds', '3', '--lengths', '64', '512')),
    Step('execution-time', 3, 0.7, ('--seconds', '12', '--repeats', '2', '--requests', '15'), ('--competing-load',)),
    Step('wcet', 5, 0.6, ('--requests', '30')),
    Step('quality', 3, 0.5, ('--limit', '10')),
    Step('deadlines', 30, 1.2, ('--limit', '10', '--live-limit', '3')),
    Step('k-sweep', 20, 0.5, ('--limit', '10', '--live-limit', '3')),
    Step('reversible', 15, 0.4, ('--limit', '10', '--live-limit', '3')),
    Step('length-predictor', 15, 1.1, ('--prompts', '12', '--samples', '1', '--bounds', '256', '--learned-from', '40')),
    Step('miss-rate', 20, 1.0, ('--prompts', '12', '--replays', '2', '--requests', '60', '--live', '10')),
    Step('knobs', 5, 0.8, ('--prompts', '6', '--requests', '30', '--seconds', '12')),
    Step('utilisation', 25, 1.0, ('--seconds', '2', '--budgets', 'tight', '--loads', '0.7', '1.3')),
    Step('load', 25, 0.9, LOAD))

# On real text, with a model and tasks that the user names.
ON_TEXT = (
    Step('quality', 60, 1, ('--limit', '3'), ('--limit', '100'), 'quality_text'),
    Step('deadlines', 120, 2, ('--limit', '5', '--live-limit', '2'), (), 'deadlines_text'),
    Step('k-sweep', 30, 1, ('--limit', '5', '--live-limit', '2'), (), 'k_sweep_text'),
    Step('wcet', 15, 0.5, ('--requests', '5'), (), 'wcet_text'),
    Step('decode', 5, 1, ('--tokens', '20', '--rounds', '2'), (), 'decode_text'),
    Step('structured', 60, 2, ('--goals', '10')),
    Step('prefix', 25, 4, ('--quick',)))


def arguments(step: Step, folder: Path, *, quick: bool, model: str = '', tasks: Path | None = None) -> list[str]:
    """Return the command line of a step behind `timebill bench`; `model` and `tasks` for those on real text."""
    found = [step.bench, '--out', str(folder / f'{step.stem}.json'), *(step.quick if quick else step.whole)]
    if step in ON_TEXT:
        found += ['--model', model]
        if step.bench not in ('decode', 'structured', 'prefix'):
            found += ['--tasks', str(tasks)]
    if step.bench in ('deadlines', 'k-sweep', 'reversible'):  # the unhurried answers are the same
        found += ['--answers', str(folder / f'{"text" if step in ON_TEXT else "site_log"}.answers.jsonl')]
    if step.bench == 'miss-rate':
        found += ['--recordings', str(folder / 'recordings.json')]
        # The times that are replayed are those of this machine, which the bench before has measured.
        found += ['--profile', str(folder / 'profile_for_execution_time.yaml')]
    if step.bench == 'knobs':
        found += ['--table', str(folder / 'quality_table.json')]
    return found


def run(folder: Path, run_step: Callable[[Sequence[str]], int], *, quick: bool, only: Sequence[str] = (),
        model: str = '', tasks: Path | None = None) -> int:
    """Run what has not finished, and print what became of every step; 1 where one failed.

    `run_step`: runs `timebill bench` with these arguments and returns its exit status. `only`: names of benches, empty
    for all. ValueError for tasks without a model, or a name that is none.
    """
    if unknown := set(only) - {step.bench for step in STEPS}:
        raise ValueError(f'{sorted(unknown)[0]!r} is none of {", ".join(step.bench for step in STEPS)}')
    if tasks is not None and not model:
        raise ValueError('--tasks needs --model: the embedded model cannot answer real text')
    chosen = [step for step in (*STEPS, *(ON_TEXT if tasks is not None else ())) if not only or step.bench in only]
    folder.mkdir(parents=True, exist_ok=True)
    done = finished(folder, quick)
    console, failed = Console(), []
    left = {step: step.quick_minutes if quick else step.minutes for step in chosen if step.stem not in done}
    for number, step in enumerate(chosen, 1):
        if step not in left:
            continue
        console.rule(f'{number} of {len(chosen)}: {step.stem}, about {left[step]:g} min; all of the rest: about '
                     f'{sum(left.values()):.0f} min')
        started = time.monotonic()
        code = run_step(arguments(step, folder, quick=quick, model=model, tasks=tasks))
        took_s = time.monotonic() - started
        del left[step]
        if code:
            failed.append(step.stem)
            continue
        done[step.stem] = round(took_s, 1)
        write_whole(folder / FINISHED, json.dumps({'quick': quick, 'seconds': done}, indent=1) + '\n')
    table = Table('bench', 'result', 'seconds')
    for step in chosen:
        table.add_row(step.stem, 'FAILED' if step.stem in failed else str(folder / f'{step.stem}.json'),
                      f'{done[step.stem]:.0f}' if step.stem in done else '')
    print_table(table)
    if failed:
        print(f'{len(failed)} of {len(chosen)} failed: {", ".join(failed)}. The same command runs these again.')
    return 1 if failed else 0


def finished(folder: Path, quick: bool) -> dict[str, float]:
    """Return the seconds of every step that has finished, by its name.

    ValueError where the folder holds results of the other kind.
    """
    path = folder / FINISHED
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        was_quick, seconds = bool(found['quick']), {str(name): float(took) for name, took in found['seconds'].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{path} cannot be read ({error!r}); delete it to begin anew') from error
    if was_quick != quick:
        raise ValueError(f'{folder} holds results of a run {"with" if was_quick else "without"} --quick; name another '
                         '--out, or delete it')
    return seconds
