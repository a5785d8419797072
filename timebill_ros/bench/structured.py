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

"""`timebill bench structured`: answers of five schemas, cut at any point by budgets from hopeless to generous.

Every prompt is answered once without hurry, greedily. Then each goal gets a budget of 5 to 150 % of the time that its
prompt's answer took, and runs through the real engine on the machine's clock, under TRUNCATE. What is checked of the
results (structured_rows.py):

    valid      every result that succeeded is JSON and satisfies its schema, by the library jsonschema
    answered   every goal succeeds that has time for its prefill, one step and completing its answer, unless a required
               member is missing of what was written by then
    in time    no result comes after its deadline

Every finished goal is a line in a file beside the result, from which a run that was stopped goes on. A goal depends on
its number alone, so a run with more goals goes on from one with fewer.
"""
from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from timebill_ros.bench import structured_rows
from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.measurement_progress import MeasurementProgress
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.structured_goals import PROMPTS, SCHEMAS, Goal, goal, unhurried
from timebill_ros.codes import ErrorCode, FinishReason, OnCut, Strategy
from timebill_ros.deadline import Deadline
from timebill_ros.engine import Engine
from timebill_ros.inference.control import Control
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.text import decode
from timebill_ros.request import Request, Sampling
from timebill_ros.resources import key_of
from timebill_ros.training.journal import Journal, beside
from timebill_ros.worker.loading import load_engine

UNHURRIED, ASKED = 'unhurried', 'goal'  # kinds of lines
UNHURRIED_S = 3600.0
MAX_NEW_TOKENS = 192
# What results depend on besides the model.
PLANNING = ('planner', 'miss_rate', 'pessimistic_length', 'replan_tokens', 'drop_infeasible', 'delivery_margin_s')
TIMES = ('prompt_tokens', 'generated_tokens', 'forced_tokens', 'time_to_first_token_s', 'prefill_s', 'decode_s',
         'grammar_s', 'mask_s')


def ask(engine: Engine, one: Goal, budget_s: float, on_cut: OnCut, margin_s: float) -> dict:
    """Run one goal, and return what became of it, as a line. ModelError where the engine failed."""
    released = engine.clock()
    request = Request(f'{one.number}', released, released + budget_s, messages=one.messages,
                      strategy=Strategy.TRUNCATE, max_new_tokens=MAX_NEW_TOKENS, response_schema=one.schema_text,
                      on_cut=on_cut, delivery_margin_s=margin_s,
                      sampling=Sampling(temperature=one.temperature, seed=one.number + 2, masked=True))
    control = Control(Deadline(request.deadline_s, engine.clock), margin_s)
    outcome = engine.run(request, control)
    late_s = engine.clock() - request.deadline_s
    engine.tracker.settle()
    is_refused = outcome.finish_reason is FinishReason.ERROR and one.number < 0  # no budget is to blame
    if outcome.error_code in (ErrorCode.UNKNOWN, ErrorCode.OUT_OF_MEMORY) or is_refused:
        raise ModelError(f'a goal of the schema {one.schema!r} within {budget_s:.3f} s failed: {outcome.error_msg}. '
                         'What was finished before is kept')
    timing = outcome.timing
    n = control.n_tokens - (outcome.finish_reason is FinishReason.EOS)
    return {'number': one.number, 'schema': one.schema, 'prompt': one.prompt, 'on_cut': on_cut.name.lower(),
            'share': one.share, 'budget_s': budget_s, 'temperature': one.temperature,
            'error': outcome.error_code.name, 'finish': outcome.finish_reason.name, 'text': outcome.text,
            'written': decode(engine.model.tokenizer, control.tokens[:n]), 'added': outcome.added_characters,
            'dropped': outcome.dropped_items, 'late_s': late_s, 'took_s': late_s + budget_s,
            'closing_s': control.margin_s - margin_s, 'verdict': timing.verdict.name,
            **{name: _known(getattr(timing, name)) for name in TIMES}}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


class Measurement:
    """What a journal holds, and the engine that does the rest. `between` is called after every goal."""

    def __init__(self, engine: Engine, journal: Journal, goals: Sequence[Goal], on_cut: Sequence[OnCut],
                 margin_s: float, between: Callable[[], None]):
        self._engine, self._journal, self._margin_s, self._between = engine, journal, margin_s, between
        self._goals, self._on_cut = list(goals), list(on_cut)
        self._finished = {_name_of(piece) for piece in journal.entries}

    def _missing(self) -> list[tuple[Goal, OnCut]]:
        return [(one, on_cut) for one in self._goals for on_cut in self._on_cut
                if (ASKED, one.number, on_cut.name.lower()) not in self._finished]

    def _unread(self) -> list[Goal]:
        return [one for one in unhurried(self._goals) if (UNHURRIED, one.key) not in self._finished]

    @property
    def missing(self) -> int:
        """How many answers are still to be written."""
        return len(self._missing()) + len(self._unread())

    def run(self) -> None:
        """Do what is missing. ModelError where the engine fails."""
        unread = self._unread()
        if missing := self._missing():
            first = unread[0] if unread else missing[0][0]
            ask(self._engine, first, UNHURRIED_S, OnCut.DROP, self._margin_s)  # the first answer warms up
        for one in unread:
            self._add(UNHURRIED, ask(self._engine, one, UNHURRIED_S, OnCut.DROP, self._margin_s))
        took_s = {key_in(piece): piece['took_s'] for piece in self._journal.entries if piece['kind'] == UNHURRIED}
        for one, on_cut in missing:
            self._add(ASKED, ask(self._engine, one, one.share * took_s[one.key], on_cut, self._margin_s))

    def _add(self, kind: str, line: dict) -> None:
        self._journal.add({'kind': kind, **line})
        self._finished.add(_name_of(self._journal.entries[-1]))
        self._between()

    def pieces(self) -> list[dict]:
        """Return the lines of the prompts and goals of this run, whatever else the journal holds."""
        wanted = {(UNHURRIED, one.key) for one in self._goals} | {
            (ASKED, one.number, on_cut.name.lower()) for one in self._goals for on_cut in self._on_cut}
        return [piece for piece in self._journal.entries if _name_of(piece) in wanted]


def key_in(piece: dict) -> str:
    """Return the key of the goal whose line `piece` is."""
    return f'{piece["schema"]} {piece["prompt"]}'


def _name_of(piece: dict) -> tuple:
    return (UNHURRIED, key_in(piece)) if piece['kind'] == UNHURRIED else (ASKED, piece['number'], piece['on_cut'])


def run(values: dict, out: Path, *, n_goals: int, on_cut: Sequence[OnCut]) -> int:
    """Ask `n_goals` goals, once for each of `on_cut`, print tables and write the rows; 1 where answers have no form."""
    structured_rows.check_libraries()
    loaded = load_engine({**values, 'keep_state': False})
    engine = loaded.engine
    print(loaded.description, flush=True)
    if isinstance(engine.model.grammars, NoGrammars):
        print(f'answers of {engine.model.name} cannot be given a form: {engine.model.grammars.reason}')
        return 1
    machine, margin_s = describe(engine.model), values['delivery_margin_s']
    facts = {'bench': 'structured', 'model': engine.model.fingerprint, 'precision': engine.model.variant,
             'device': machine['device'], 'goals': key_of([json.dumps(SCHEMAS), json.dumps(PROMPTS)]),
             'max_new_tokens': MAX_NEW_TOKENS, **{name: values[name] for name in PLANNING}}
    gc.collect()
    gc.freeze()  # as in the worker: later collections need not walk what stays
    with Journal(beside(out), facts) as journal, MeasurementProgress('answering') as progress:

        def between() -> None:
            progress.advance()
            gc.collect()  # as the worker does between requests

        measurement = Measurement(engine, journal, [goal(number) for number in range(n_goals)], on_cut, margin_s,
                                  between)
        missing = measurement.missing
        progress.begin(missing + len(measurement.pieces()), len(measurement.pieces()))
        measurement.run()
        pieces = measurement.pieces()
    result = {'machine': machine, 'goals': n_goals, 'max_new_tokens': MAX_NEW_TOKENS, 'delivery_margin_s': margin_s,
              **structured_rows.result_of(pieces, margin_s)}
    structured_rows.show(result)
    write(out, result)
    if plots := plots_if_installed('structured_plots'):
        plots.structured(result, out.with_suffix('.png'))
    return 0
