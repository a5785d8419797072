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

"""`timebill bench parallel`: how long it takes from a prompt to a predicted length, by where the prediction runs.

    prefill alone             nothing is predicted
    predictor after prefill   a second network reads the prompt once prefill is over
    predictor beside prefill  as the node does it (PAPER: deployment); what prefill hides costs nothing
    the target's states       no second network: a head on the hidden state that prefill leaves

All ways read the same prompts, one after the other, in an order drawn anew for each round. Where no length predictor is
loaded, the two rows in the middle are missing. The head is fitted to made labels: what a prediction costs does not
depend on them.
"""
from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from rich.progress import track

from timebill_ros.bench.machine import describe, write
from timebill_ros.bench.optional_plots import plots_if_installed
from timebill_ros.bench.tables import Table, print_table
from timebill_ros.inference.model import CausalLM
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.length.state_learner import StateLearner
from timebill_ros.worker.loading import load_model
from timebill_ros.worker.state_lengths import watch_states

LABELS = 256
MARGINAL = LengthDistribution.from_lengths(list(range(1, 257)), 16, 32)


class Ways:
    """Ways to read a prompt of `n` tokens and to predict the length of its answer, by name; each waits for both."""

    def __init__(self, model: CausalLM, predictor: PredictionExecutor | None, chunk_tokens: int):
        self._model, self._predictor, self._chunk = model, predictor, chunk_tokens
        self._rng = random.Random(1)
        watch_states(model)
        self._states = model.prompt_state
        self._learner = self._fitted()
        self.by_name: dict[str, Callable[[list[int], str], None]] = {'prefill alone': self._alone}
        if predictor is not None:
            self.by_name['predictor after prefill'] = self._after
            self.by_name['predictor beside prefill'] = self._beside
        self.by_name["the target's states"] = self._by_states

    def _fitted(self) -> StateLearner:
        noise = np.random.default_rng(1)
        self._prefill(self._prompt(64)[0])
        state = self._states.read()
        learner = StateLearner(len(state), self._states.depth)
        for _ in range(LABELS):
            learner.labels.add(state + noise.normal(size=state.shape).astype(np.float32),
                               int(noise.integers(1, 257)), whole=True)
        learner.refit_if_due()
        learner.wait()
        return learner

    def _prompt(self, n: int) -> tuple[list[int], str]:
        ids = [self._rng.randrange(len(self._model.tokenizer)) for _ in range(n)]
        return ids, self._model.tokenizer.decode(ids)

    def _prefill(self, ids: list[int]) -> None:
        self._model.reset()
        self._model.prefill(ids, chunk_tokens=self._chunk)
        self._model.synchronize()

    def measure(self, way: str, n: int) -> float:
        """Return the seconds that one way takes with a prompt of `n` tokens."""
        ids, text = self._prompt(n)
        # Only the way that reads states pays for keeping them.
        self._model.prompt_state = self._states if self.by_name[way] == self._by_states else None
        with self._model.stream.entered():
            started = time.perf_counter()
            self.by_name[way](ids, text)
            return time.perf_counter() - started

    def _alone(self, ids: list[int], text: str) -> None:
        self._prefill(ids)

    def _after(self, ids: list[int], text: str) -> None:
        self._prefill(ids)
        self._predictor.submit(text, len(ids)).result()

    def _beside(self, ids: list[int], text: str) -> None:
        future = self._predictor.submit(text, len(ids))
        self._prefill(ids)
        future.result()

    def _by_states(self, ids: list[int], text: str) -> None:
        self._prefill(ids)
        self._learner.predict(self._states.read(), MARGINAL)


def run(values: dict, out: Path, *, lengths: list[int], rounds: int) -> int:
    """Measure every way at every length, print, write and draw."""
    model, predictor, choices = load_model(values)
    ways = Ways(model, predictor, choices.prefill_chunk_tokens)
    lengths = sorted({min(n, model.max_context - 1) for n in lengths})
    found: dict[tuple[str, int], list[float]] = {(way, n): [] for way in ways.by_name for n in lengths}
    for n in lengths:  # the first reading of a length may make room for it
        for way in ways.by_name:
            ways.measure(way, n)
    order = random.Random(2)
    for _ in track(range(rounds), 'rounds'):
        cases = list(found)
        order.shuffle(cases)
        for way, n in cases:
            found[way, n].append(ways.measure(way, n))
    rows = [{'way': way, 'n_x': n, 'n': len(seconds), 'p50_s': median(seconds),
             'p90_s': float(np.quantile(seconds, 0.9)),
             'above_prefill_s': median(seconds) - median(found['prefill alone', n])}
            for (way, n), seconds in found.items()]
    table = Table('way', 'N_x', 'median, ms', 'p90, ms', 'above prefill alone, ms')
    for row in rows:
        table.add_row(row['way'], str(row['n_x']), *(f'{row[name] * 1e3:.2f}' for name in (
            'p50_s', 'p90_s', 'above_prefill_s')))
    print_table(table)
    machine = describe(model)
    write(out, {'machine': machine, 'rounds': rounds, 'placement': predictor.placement if predictor else '',
                'rows': rows})
    if plots := plots_if_installed('evaluation_plots'):
        plots.parallel(rows, machine, out.with_suffix('.png'))
    return 0
