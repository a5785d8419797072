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

"""Measuring a profile: how long prefill, prediction, eviction and decode steps take on this device.

A visit of a length runs what a request of that length runs: prefill with the predictor beside it, decode steps over
the full cache, eviction, decode steps over the smaller cache. Each length is visited once in ascending order, which
shows up to which length the time budget reaches. A short profile says little of long prompts, so most of the budget may
go into reaching them, and a slow device makes fewer decode steps at each length. The other visits come in random order,
so that a machine whose speed drifts does not look like one whose times grow with the length.

A visit has the streams and the waits of a request: the model's work goes before the predictor's on a GPU, and prefill
is waited for without the prediction.

Steps are greedy. What drawing a token takes by each kind of sampling is measured apart, on the model's own logits.
"""
from __future__ import annotations

import datetime
import random
import statistics
import time
from collections.abc import Callable

import torch

from timebill_ros.inference.board import clock_limits, power_mode
from timebill_ros.inference.devices import device_name, library_versions
from timebill_ros.inference.eviction import MAX_WINDOW
from timebill_ros.inference.evictions import Evictions
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.prompt_reading import read_prompt
from timebill_ros.inference.sampling import Sampler
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.request import Sampling
from timebill_ros.timing import fitting, grammar_costs, pause_costs, prefix_costs, restore_costs
from timebill_ros.timing.execution_time import FRESH
from timebill_ros.timing.fitting import Points
from timebill_ros.timing.profile import Identity, Profile
from timebill_ros.timing.profile_journal import ProfileJournal

SHORTEST = 2 * MAX_WINDOW  # tokens
STEPS, FEWEST_STEPS = 12, 3  # decode steps per point; their median is the point
STEPS_SHARE = 1 / 40  # of the time budget: where the decode steps of one visit take longer, there are fewer
NOISY = 0.25  # mean fit error, as a share, from which a self-made profile is not worth keeping
UNTRUSTED = 0.5  # the same for the error at lengths that the fit has not seen
DRAWS, DRAW_LENGTHS = 5, 4  # draws of each kind, their median is the point; lengths at which they are measured
# What stands for each kind. The flatter the distribution, the longer top_p takes; timing factors correct for that.
SAMPLINGS = {'greedy': Sampling(), 'temperature': Sampling(temperature=1.0),
             'top_k': Sampling(temperature=1.0, top_p=0.9, top_k=50), 'top_p': Sampling(temperature=1.0, top_p=0.9),
             'greedy+penalty': Sampling(repetition_penalty=1.1)}  # beside the others it takes as long
CHECK_S = 0.15  # expected time of a visit when a profile is only looked at
CLIMB_SHARE = 0.7  # of the time budget, for visiting each length once


def identity(model: CausalLM, predictor: PredictionExecutor | None) -> Identity:
    """Return what a profile of this model and predictor on this device is valid for."""
    versions = library_versions()
    steps = [name + (f' {step.kind}' if step.kind != 'compiled' else '') + (f' from {step.reads}' if step.reads else '')
             for name, step in model.fast_steps.items()]
    return Identity(device=device_name(model.device), model=model.fingerprint, dtype=model.variant,
                    predictor=predictor.fingerprint if predictor else 'none', compiled=', '.join(steps),
                    placement=predictor.placement if predictor else 'beside', power=power_mode(),
                    clocks=clock_limits(model.device), torch=versions['torch'], transformers=versions['transformers'])


def length_grid(longest: int, n: int) -> list[int]:
    """Return at most `n` lengths in tokens from SHORTEST to `longest`, ascending, in geometric progression.

    Where `longest` is not above SHORTEST: `longest` and its half.
    """
    if longest <= SHORTEST:
        return sorted({max(2, longest // 2), longest})
    ratio = (longest / SHORTEST) ** (1 / (n - 1))
    return sorted({round(SHORTEST * ratio ** i) for i in range(n)})


def measure(model: CausalLM, predictor: PredictionExecutor | None, *, chunk_tokens: int, budget_s: float,
            repeats: int = 8, longest: int | None = None, n_lengths: int = 9, seed: int = 0,
            progress: Callable[[float], None] = lambda share: None, journal: ProfileJournal | None = None) -> Points:
    """Measure [length, seconds] points of each kind.

    'prefill'       a prompt of that many tokens, the predictor running beside it
    'prediction'    the predictor on that many tokens, prefill running beside it
    'step'          the median of STEPS decode steps over that many cached entries; 'step:int8' is another variant's
    'run'           the mean of the same steps, which a preempted or slow step raises, unlike their median
    'eviction'      scoring a prompt of that many tokens and compacting its cache
    'prefix'        FRESH new tokens after that many known ones, which are taken from the store of prompts
    'pause'         putting a sequence of that many cached entries aside and taking it up again
    'restore'       bringing back what was evicted of a prompt, so that that many entries are cached
    'draw:top_p'    one token drawn by that kind of sampling (SAMPLINGS) after a prompt of that many tokens
    'forced'        each token more in a decode step of several after a prompt of that many tokens

    chunk_tokens:  tokens of a prefill chunk.
    budget_s:      seconds that all visits together should take. Long lengths are left out on a slow device, but two
                   lengths are always measured.
    repeats:       visits of each length at most.
    longest:       the longest prompt in tokens (default: as long as the model's context allows).
    n_lengths:     different lengths at most.
    progress:      called with the share done, 0 to 1.
    journal:       visits of an earlier measurement that was interrupted, which count as made; visits are added.
    """
    draw = random.Random(seed)
    journal = journal or ProfileJournal(None)
    points: Points = {}
    longest = min(longest or model.max_context, model.max_context) - (2 + len(other_variants(model))) * STEPS - 2
    lengths = length_grid(longest, n_lengths)
    started = time.monotonic()
    warm_up = visit(model, predictor, lengths[0], chunk_tokens, draw, FEWEST_STEPS)  # thrown away
    seconds = sum(seconds for kind, [[_, seconds], *_] in warm_up.items() if kind.partition(':')[0] == 'step')
    n_steps = min(max(int(STEPS_SHARE * budget_s / max(2 * seconds, 1e-9)), FEWEST_STEPS), STEPS)
    known_s = 0.0  # time that visits took which the journal had
    cost: dict[int, float] = {}

    def spent_s() -> float:
        return time.monotonic() - started + known_s

    def made(n: int, *, with_draws: bool = False) -> tuple[Points, float]:
        """Return a visit, from the journal or made now, and the seconds that it took."""
        nonlocal known_s
        if (known := journal.take(n)) is not None:
            known_s += known[1]
            return known
        before = time.monotonic()
        visited = visit(model, predictor, n, chunk_tokens, draw, n_steps, with_draws=with_draws)
        seconds = time.monotonic() - before
        journal.add(n, visited, seconds)
        return visited, seconds

    reading = 0.0  # seconds of prefill, or of the prediction beside it, in the last visit
    for n in lengths:
        if len(cost) >= 2:  # a fit needs as many
            # The time of prefill and prediction grows at most with the square of the length, that of steps and
            # eviction in proportion to it.
            ratio = n / max(cost)
            bound = reading * ratio ** 2 + (max(cost.values()) - reading) * ratio
            if spent_s() + bound > CLIMB_SHARE * budget_s:
                break
        visited, cost[n] = made(n, with_draws=len(cost) < DRAW_LENGTHS)
        add(points, visited)
        reading = max(visited[kind][0][1] for kind in ('prefill', 'prediction') if kind in visited)
        progress(min(1.0, spent_s() / budget_s))
    visits = [n for n in cost for _ in range(repeats - 1)]
    draw.shuffle(visits)
    for done, n in enumerate(visits):
        if spent_s() + cost[n] > budget_s:
            break
        add(points, made(n)[0])
        progress(max((done + 1) / len(visits), spent_s() / budget_s))
    progress(1.0)
    journal.close()
    return points


def add(points: Points, more: Points) -> None:
    """Add `more` points to `points`, kind by kind."""
    for kind, measured in more.items():
        points.setdefault(kind, []).extend(measured)


def visit(model: CausalLM, predictor: PredictionExecutor | None, n: int, chunk_tokens: int,
          draw: random.Random, n_steps: int = STEPS, *, with_draws: bool = False) -> Points:
    """Measure one prompt of `n` random tokens: everything that a request of that length runs, see `measure`.

    n_steps: decode steps of each point. with_draws: measure draws too.
    """
    with model.stream.entered():  # as the engine does
        return _visit(model, predictor, n, chunk_tokens, draw, n_steps, with_draws)


def _visit(model: CausalLM, predictor: PredictionExecutor | None, n: int, chunk_tokens: int, draw: random.Random,
           n_steps: int, with_draws: bool) -> Points:
    points: Points = {}
    vocabulary = len(model.tokenizer)
    ids = [draw.randrange(vocabulary) for _ in range(n)]
    if model.prefixes is not None:
        model.prefixes.clear()  # what a visit before this one has read
    model.synchronize()  # what went before
    # As text, random ids may be more of the predictor's tokens than n; the bound n cuts them.
    future = predictor.submit(model.tokenizer.decode(ids), n) if predictor else None
    start = time.perf_counter()
    logits, _ = read_prompt(model, ids, chunk_tokens=chunk_tokens)  # as the engine does
    model.synchronize()
    points['prefill'] = [[n, time.perf_counter() - start]]
    if future is not None:
        points['prediction'] = [[min(n, predictor.predictor.max_input_tokens), future.result().seconds]]
    add(points, pause_costs.measure(model, n))
    sampler = Sampler(Sampling(), model.device)
    logits = _steps(model, sampler, logits, n, n, points, n_steps=n_steps)
    if with_draws:
        add(points, draws(logits, n))
    n_generated = n_steps
    for variant in other_variants(model):
        model.use_variant(variant)
        _steps(model, sampler, logits, n + n_generated, n + n_generated, points, f'step:{variant}', n_steps)
        model.use_variant(model.variant)
        n_generated += n_steps
    with Evictions(model, ids, reversible=True) as evictions:
        if model.supports_eviction and n > SHORTEST:
            n_keep = n // 8
            start = time.perf_counter()
            evictions.evict(n_keep)
            model.synchronize()
            points['eviction'] = [[n, time.perf_counter() - start]]
            _steps(model, sampler, logits, n + n_generated, n_keep + n_generated, points, n_steps=n_steps)
        if with_draws:
            add(points, grammar_costs.measure(model, logits, n, n + 2 * n_generated, points['step'][-1][1]))
        add(points, restore_costs.measure(model, evictions))
    if model.prefixes is not None and n > FRESH + model.prefixes.unit:
        points['prefix'] = [prefix_costs.measure(model, ids, chunk_tokens)]
    return points


@torch.inference_mode()
def draws(logits: torch.Tensor, n: int) -> Points:
    """Measure one draw of each kind of sampling from `logits`, the model's after a prompt of `n` tokens."""
    points: Points = {}
    for kind, sampling in SAMPLINGS.items():
        sampler, seconds = Sampler(sampling, logits.device), []
        for _ in range(DRAWS + 1):  # the first one, which makes the sampler's buffers, is thrown away
            start = time.perf_counter()
            int(sampler.draw(logits))
            seconds.append(time.perf_counter() - start)
        points[f'draw:{kind}'] = [[n, max(statistics.median(seconds[1:]), 1e-9)]]
    return points


def other_variants(model: CausalLM) -> list[str]:
    """Return the weight precisions that the model can decode with, besides its own."""
    return [name for name in model.variants if name != model.variant]


def _steps(model: CausalLM, sampler: Sampler, logits: torch.Tensor, position: int, n_kv: int,
           points: Points, kind: str = 'step', n_steps: int = STEPS) -> torch.Tensor:
    """Time `n_steps` decode steps from the token that `logits` [V] give at `position`, over `n_kv` cached entries.

    They follow one another as in the token loop. Returns the logits [V] after them, which are valid until the next
    step.
    """
    chain, seconds = model.chain(sampler), []
    chain.start(logits)
    chain.read()
    start, launched = time.perf_counter(), 0
    for i in range(1, n_steps + 1):
        while launched < min(i + chain.ahead, n_steps):
            chain.launch(position + launched)
            launched += 1
        chain.read()
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    logits = chain.logits
    middle = n_kv + n_steps // 2
    points.setdefault(kind, []).append([middle, statistics.median(seconds)])
    if kind == 'step':
        points.setdefault('run', []).append([middle, statistics.fmean(seconds)])
    return logits


def make_profile(model: CausalLM, predictor: PredictionExecutor | None, points: Points,
                 chunk_tokens: int) -> Profile:
    """Fit a profile of this device to measured points. ProfileError where there are too few, see `fitting.fit`."""
    chunk_tokens = chunk_tokens if model.chunked_prefill else 0
    times = fitting.fit(points, chunk_tokens)
    date = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
    return Profile(identity(model, predictor), times, date, library_versions(), fitting.errors(times, points),
                   fitting.held_out_errors(points, chunk_tokens), fitting.residual_quantiles(times, points),
                   fitting.run_ratios(times, points), points)


def reaches(profile: Profile, longest: int) -> bool:
    """Whether most prompts of up to `longest` tokens are no longer than what was measured."""
    return 2 * max(n for n, _ in profile.points['prefill']) >= longest


def doubt(profile: Profile, longest: int) -> str:
    """Return why the profile is not worth keeping for prompts of up to `longest` tokens; empty: it is.

    An exact fit proves nothing where it has as many coefficients as lengths. So times of prefill and of steps must have
    been foretold at a length that the fit had not seen: at the lengths in between, and at the longest one where most of
    the prompts to come are longer than all that was measured.
    """
    points, chunk_tokens = profile.points, profile.times.chunk_tokens
    reached = int(max(n for n, _ in points['prefill']))
    between = profile.held_out_errors
    beyond = fitting.extrapolation_errors(points, chunk_tokens)
    for kind in ('prefill', 'step'):
        if profile.fit_errors[kind] > NOISY:
            return (f'the profile is noisy (mean fit error of {kind} times {profile.fit_errors[kind]:.0%}: is '
                    'something else using the machine?)')
        if kind not in beyond:
            return f'{kind} times were measured at two lengths only, up to {reached} tokens'
        wrong = max(between.get(kind, 0.0), 0.0 if kind in between and reaches(profile, longest) else beyond[kind])
        if wrong > UNTRUSTED:
            return f'{kind} times at a length that the fit had not seen were {wrong:.0%} off'
    return ''


def check(profile: Profile, points: Points) -> dict[str, float]:
    """Return, by kind, the median ratio of freshly measured to profiled times: 1 where the profile still fits.

    'run' is left out: it shows noise, not the device.
    """
    return {kind: statistics.median(seconds / profile.times.estimate(kind, n) for n, seconds in measured)
            for kind, measured in points.items() if kind != 'run' and profile.points.get(kind)}


def spot_check(model: CausalLM, predictor: PredictionExecutor | None, profile: Profile,
               chunk_tokens: int) -> dict[str, float]:
    """Measure a few points and return their ratios, see `check`; none where the profile has no points to compare with.

    That takes about half a second: three visits of one length that the profile was measured at, and one before them. On
    a slow device there is one visit of the shortest length.
    """
    measured = sorted({int(n) for n, _ in profile.points.get('prefill', [])})
    longest = model.max_context - (2 + len(other_variants(model))) * STEPS - 2
    lengths = [n for n in measured if n <= longest]
    if not lengths:
        return {}

    def expected_s(n: int) -> float:
        times = profile.times
        return max(times.prefill(n), times.prediction(n)) + times.eviction(n) + 2 * FEWEST_STEPS * times.step(n)

    n = max([n for n in lengths if expected_s(n) <= CHECK_S], default=lengths[0])
    draw, points = random.Random(1), Points()
    visit(model, predictor, n, chunk_tokens, draw, FEWEST_STEPS)  # thrown away
    for _ in range(3 if expected_s(n) <= CHECK_S else 1):
        add(points, visit(model, predictor, n, chunk_tokens, draw, FEWEST_STEPS))
    model.reset()
    return check(profile, points)
