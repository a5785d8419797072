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

"""Answers recorded once, with the time of every step, so that planners can be tried on them on a virtual clock.

Every task of a split is prefilled once and answered after each eviction of a grid, and in other weight precisions where
there are any. What runs is what the engine runs. The length predictor reads the same prompts. Recordings are plain
data, so that a file of them can be read again.
"""
from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rich.progress import track

from timebill_ros.bench.answers import RATIOS, entries_to_keep, generate
from timebill_ros.codes import FinishReason, GoalError
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.threads import available_cores
from timebill_ros.length.calibration import surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.planning import solver
from timebill_ros.request import Request, Sampling
from timebill_ros.resources import write_whole
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.training.parallel import spread
from timebill_ros.worker.loading import load_model

FORMAT = 1
# The time left for decoding when a plan is made is log-uniform between the profile's times for these lengths in tokens,
# over BUDGET_ENTRIES cache entries. It does not depend on the prompt, as deadlines do not.
BUDGET_TOKENS = (30, 450)
TIGHT_BUDGET_TOKENS = (4, 40)  # with these, a tenth to a third of the site log's goals can be promised
BUDGET_ENTRIES = 2000


@dataclass
class Answer:
    """One generated answer: the number of its tokens, the seconds of its n - 1 steps, whether it ended by itself."""

    text: str
    n: int
    ended: bool
    step_s: list[float]
    score: float  # step accuracy of the whole


@dataclass
class Recording:
    """A task, its predicted lengths, and its answers by (variant, eviction ratio of the grid)."""

    family: str
    split: str
    seed: int
    n_x: int
    prefill_s: float
    eviction_s: float
    bucket_size: int
    probabilities: list[float]
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)

    @property
    def distribution(self) -> LengthDistribution:
        return LengthDistribution(self.bucket_size, self.probabilities)

    def answer(self, variant: str, ratio: float) -> Answer:
        """Return the answer at the grid's eviction ratio nearest to `ratio`."""
        return self.answers[variant][str(nearest(ratio))]


def nearest(ratio: float) -> float:
    """Return the grid's eviction ratio that is nearest to `ratio`."""
    return min(RATIOS, key=lambda r: abs(r - ratio))


def sampled(task: site_log.SiteLogTask, temperature: float, max_new_tokens: int) -> Request:
    """Return a task as a request without a deadline, at the temperature of use."""
    return Request('', 0.0, float('inf'), messages=task.messages, max_new_tokens=max_new_tokens,
                   sampling=Sampling(temperature=temperature, seed=task.seed))


def answer(model: CausalLM, task: site_log.SiteLogTask, request: Request, logits, *, n_x: int, n_kv: int) -> Answer:
    """Answer from the prefilled (and evicted) cache, step by step against the clock."""
    at: list[float] = []

    def clock() -> float:  # the guard reads it once per token
        at.append(time.perf_counter())
        return at[-1]

    text, n, reason = generate(model, request, logits, n_x=n_x, n_kv=n_kv, clock=clock)
    at.append(time.perf_counter())  # the last token is not guarded
    return Answer(text, n, reason is FinishReason.EOS, [round(b - a, 7) for a, b in zip(at, at[1:], strict=False)],
                  step_accuracy(task, text))


@dataclass
class Prompt:
    """A task whose prompt has been prefilled, and its response length predicted."""

    request: Request
    n_x: int
    distribution: LengthDistribution
    logits: torch.Tensor  # [V], from prefill
    prefill_s: float


def read(model: CausalLM, predictor, task: site_log.SiteLogTask, *, temperature: float, max_new_tokens: int,
         chunk_tokens: int) -> Prompt:
    """Fill the cache with a task's prompt. ModelError where it does not fit."""
    request = sampled(task, temperature, max_new_tokens)
    try:
        prompt = model.render(request)
        ids = model.tokenize(prompt, is_chat=True)
    except GoalError as error:
        raise ModelError(f'task {task.seed} of the {task.split} split: {error}') from error
    distribution = predictor.predict(prompt)
    model.reset()
    started = time.perf_counter()
    logits = model.prefill(ids, chunk_tokens=chunk_tokens)
    return Prompt(request, len(ids), distribution, logits, time.perf_counter() - started)


def record(model: CausalLM, predictor, task: site_log.SiteLogTask, *, variants: list[str], max_eviction_ratio: float,
           **reading) -> Recording:
    """All answers to one task; `reading` as in `read`."""
    p = read(model, predictor, task, **reading)
    found = Recording(task.family, task.split, task.seed, p.n_x, p.prefill_s, 0.0, p.distribution.bucket_size,
                      [round(share, 9) for share in p.distribution.to_list()])
    prefilled = model.snapshot()
    for variant in variants:
        model.use_variant(variant)
        answers = found.answers[variant] = {}
        for ratio in RATIOS:
            n_keep = entries_to_keep(p.n_x, ratio, max_eviction_ratio)
            model.restore(prefilled)
            started = time.perf_counter()
            model.evict(n_keep)
            found.eviction_s = max(found.eviction_s, time.perf_counter() - started)
            answers[str(ratio)] = answer(model, task, p.request, p.logits, n_x=p.n_x, n_kv=n_keep)
    model.use_variant(model.variant)
    return found


def record_share(seeds: list[int], values: dict, split: str, options: dict) -> Iterator[Recording]:
    """Load model and predictor, and record the tasks of these seeds: what each process does."""
    logging.disable()
    model, predictor, _ = load_model(values)
    for seed in seeds:
        yield record(model, predictor.predictor, site_log.generate(seed, split=split), **options)


def draw_budget(rng, times: ExecutionTimes, tokens: tuple[int, int] = BUDGET_TOKENS) -> float:
    """Draw the seconds left for decoding when the plan is made, see BUDGET_TOKENS."""
    low, high = (times.steps.decode(BUDGET_ENTRIES, n) for n in tokens)
    return low * (high / low) ** rng.random()


def calibrate_share(seeds: list[int], values: dict, times: ExecutionTimes, options: dict,
                    budgets: dict[int, float], level: float) -> Iterator[float]:
    """Yield scores of calibration tasks, each answered after the eviction that is planned for its budget.

    A plan needs an N_W, and there are no scores yet to make one of: the predictor's own quantile at `level` serves.
    """
    logging.disable()
    model, predictor, _ = load_model(values)
    reading = {name: options[name] for name in ('temperature', 'max_new_tokens', 'chunk_tokens')}
    for seed in seeds:
        task = site_log.generate(seed, split='calibration')
        p = read(model, predictor.predictor, task, **reading)
        n_max = min(options['max_new_tokens'], model.max_context - p.n_x)
        n_min = solver.smallest_keep(p.n_x, options['max_eviction_ratio'], MAX_WINDOW)
        plan = solver.solve(steps=times.steps, n_x=p.n_x, n_min=n_min, time_left_s=budgets[seed],
                            eviction_s=times.eviction(p.n_x), predicted=p.distribution.median(),
                            pessimistic=p.distribution.quantile(level), n_max=n_max)
        model.evict(plan.n_keep)
        given = answer(model, task, p.request, p.logits, n_x=p.n_x, n_kv=plan.n_keep)
        yield surprise(p.distribution, given.n)


@dataclass
class Setting:
    """The model, predictor and options that a bench records with."""

    model: CausalLM
    predictor: PredictionExecutor
    values: dict  # parameters to load both with
    options: dict  # see `record`
    processes: int

    def record(self, split: str, n: int) -> list[Recording]:
        """Return recordings of the first `n` tasks of a split, in their order."""
        found = spread(record_share, list(range(n)), self.processes, self.values, split, self.options)
        return sorted(track(found, f'recording {split}', total=n), key=lambda recording: recording.seed)


def prepare(values: dict, *, max_new_tokens: int, processes: int) -> Setting:
    """Load model and predictor. ModelError for a model that is not evicted, or that has no predictor.

    Answers come at the temperature that the predictor was trained for, from `processes` processes of one thread each
    (0: one per core, or one on a GPU).
    """
    values = {**values, 'threads': values['threads'] or 1}
    model, predictor, choices = load_model(values)
    values['prefill_chunk_tokens'] = choices.prefill_chunk_tokens  # the processes take the same
    if not model.supports_eviction or predictor is None:
        raise ModelError(f'nothing to try: {model.eviction_refusal or "no length predictor"}')
    temperature = predictor.predictor.facts.get('training', {}).get('config', {}).get('temperature', 1.0)
    options = {'variants': list(model.variants), 'temperature': temperature, 'max_new_tokens': max_new_tokens,
               'chunk_tokens': values['prefill_chunk_tokens'], 'max_eviction_ratio': values['max_eviction_ratio']}
    return Setting(model, predictor, values, options,
                   processes or (available_cores() if model.device.type == 'cpu' else 1))


def save(path: Path, recordings: dict[str, list[Recording]], facts: dict) -> None:
    """Write recordings by split, with the facts that they depend on."""
    write_whole(path, json.dumps({'format': FORMAT, 'facts': facts, 'recordings': {
        split: [asdict(recording) for recording in found] for split, found in recordings.items()}}))


def load(path: Path, facts: dict) -> dict[str, list[Recording]] | None:
    """Return the recordings that `save` wrote with the same facts; None without a file, or for one of other facts."""
    if not path.is_file():
        return None
    data = json.loads(path.read_text())
    if (data.get('format'), data.get('facts')) != (FORMAT, facts):
        return None
    return {split: [Recording(**{**entry, 'answers': {
        variant: {ratio: Answer(**values) for ratio, values in answers.items()}
        for variant, answers in entry['answers'].items()}}) for entry in found]
        for split, found in data['recordings'].items()}
