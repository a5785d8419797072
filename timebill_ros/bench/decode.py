"""`timebill bench decode`: time per token of our token loop against transformers' own, in one run.

All rows decode the same number of tokens after the same random prompts, in interleaved rounds, so that a machine that
changes its pace changes it for all. `model.generate` runs with its default cache and attention on a second copy of the
weights, on a CPU both on as many threads as ours and on all cores; the faster one is what ours is compared with. Times
are between consecutive tokens, prefill and eviction excluded. The bare loop is ours without anything that deadlines
need (step, arg max, one wait for the device): the difference is what the guard, the bookkeeping and the plans made
again cost. One planning call is timed apart.
"""
from __future__ import annotations

import random
import statistics
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoModelForCausalLM, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from timebill_ros import quiet
from timebill_ros.bench.machine import describe, write
from timebill_ros.calibration import FixedFactor
from timebill_ros.deadline import Deadline
from timebill_ros.decode import Control, decode
from timebill_ros.engine import Engine
from timebill_ros.execution_time import ExecutionTimes
from timebill_ros.feedback import Tracker
from timebill_ros.length_distribution import LengthDistribution
from timebill_ros.loading import load_model
from timebill_ros.model import CausalLM, ModelError
from timebill_ros.replan import Replanner
from timebill_ros.request import FinishReason, Plan, Sampling, Timing, Verdict
from timebill_ros.sampling import Sampler
from timebill_ros.text import StopStrings
from timebill_ros.threads import available_cores

GENERATE, OURS, BARE = 'model.generate', 'timebill', 'bare loop'
# (method, cache entries after prefill, eviction ratio)
ROWS = ((GENERATE, 1000, 0.0), (BARE, 1000, 0.0), (OURS, 1000, 0.0), (GENERATE, 4000, 0.0), (BARE, 4000, 0.0),
        (OURS, 4000, 0.0), (OURS, 4000, 0.5), (OURS, 4000, 0.9))
Row = tuple[str, int, float, int]  # the same, with CPU threads
REPLAN_TOKENS = 32
PLANS = 2000


class _Times(StoppingCriteria):
    """Called by generate once per token; never stops it."""

    def __init__(self):
        self.at: list[float] = []

    def __call__(self, input_ids, scores, **kwargs):
        self.at.append(perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class _Endless:
    """The model without an end-of-sequence token: every row decodes equally many tokens."""

    eos_ids: frozenset[int] = frozenset()

    def __init__(self, model: CausalLM):
        self.step = model.step


def time_generate(reference, prompt: list[int], n_tokens: int) -> list[float]:
    """Seconds between consecutive tokens of model.generate, greedy."""
    times = _Times()
    config = GenerationConfig(max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
    ids = torch.tensor([prompt], device=reference.device)
    reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config,
                       stopping_criteria=StoppingCriteriaList([times]))
    return [b - a for a, b in zip(times.at, times.at[1:], strict=False)]


def time_bare(model: CausalLM, prompt: list[int], n_tokens: int, chunk_tokens: int) -> list[float]:
    """Seconds between consecutive tokens of the least loop that there is around the model's step, greedy."""
    model.reset()
    logits = model.prefill(prompt, chunk_tokens=chunk_tokens)
    model.synchronize()
    at = []
    with torch.inference_mode(), quiet.no_collection():
        for position in range(len(prompt), len(prompt) + n_tokens - 1):
            token = logits.argmax(dim=-1)
            int(token)
            at.append(perf_counter())
            logits = model.step(token, position)
    return [b - a for a, b in zip(at, at[1:], strict=False)]


def time_plans(model: CausalLM, times: ExecutionTimes) -> list[float]:
    """Seconds of single planning calls with the default bounds, over budgets from none to plenty."""
    tracker = Tracker(scores=[i / 100 for i in range(300)])
    engine = Engine(model, None, times, tracker)
    lengths = LengthDistribution(4, [1 / 128] * 128)
    seconds = []
    for i in range(PLANS):
        start = perf_counter()
        engine.plan(lengths, n_x=4000, n_min=200, n_max=512, time_left_s=2.0 * i / PLANS)
        seconds.append(perf_counter() - start)
    return seconds


def time_ours(model: CausalLM, prompt: list[int], n_tokens: int, ratio: float, chunk_tokens: int,
              times: ExecutionTimes) -> list[float]:
    """Seconds between consecutive tokens of our token loop as the engine runs it: guarded, and planned again."""
    model.reset()
    logits = model.prefill(prompt, chunk_tokens=chunk_tokens)
    n_keep = int((1 - ratio) * len(prompt))
    if n_keep < len(prompt):
        model.evict(n_keep)
    model.synchronize()
    at: list[float] = []

    def clock() -> float:  # the guard reads the clock once per token
        at.append(perf_counter())
        return at[-1]

    # Far enough for every token, near enough that the plans made again have something to compute.
    control = Control(Deadline(perf_counter() + 3600.0, clock), tokens=[0] * n_tokens)
    lengths = LengthDistribution(4, [1 / 128] * 128)
    replan = Replanner(model, times, FixedFactor(5.0), lengths, plan=Plan(Verdict.FITS),
                       timing=Timing(prompt_tokens=len(prompt), kept_tokens=n_keep), control=control,
                       n_min=1, n_max=n_tokens, started_s=0.0)
    with torch.inference_mode(), quiet.no_collection():
        decode(_Endless(model), Sampler(Sampling(), model.device), logits, position=len(prompt), n_kv=n_keep,
               cap=n_tokens, cap_reason=FinishReason.LENGTH, step_s=times.steps, stops=StopStrings(model.tokenizer, ()),
               control=control, replan_tokens=REPLAN_TOKENS, replan=replan)
    return [b - a for a, b in zip(at, at[1:], strict=False)]


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run(values: dict, out: Path, *, n_tokens: int, rounds: int) -> int:
    """Measure all rows, print them and write them to `out`."""
    model, _ = load_model(values)
    if not model.supports_eviction:
        raise ModelError(f'nothing to compare: {model.eviction_refusal}')
    reference = AutoModelForCausalLM.from_pretrained(model.name, dtype=model.dtype).to(model.device).eval()
    draw = random.Random(0)
    cores = available_cores() if model.device.type == 'cpu' else model.threads
    rows: list[Row] = [(method, n_x, ratio, threads) for method, n_x, ratio in ROWS
                       if n_x + n_tokens <= model.max_context
                       for threads in ({model.threads, cores} if method == GENERATE else {model.threads})]
    # Times that no plan finds too long: what is measured is the loop, not its decisions.
    times = ExecutionTimes(a=0, b=0, c=0, p=1e-9, q=1e-4)
    seconds: dict[Row, list[float]] = {row: [] for row in rows}
    for index in track(range(rounds + 1), 'measuring'):
        for row in draw.sample(rows, len(rows)):
            method, n_x, ratio, threads = row
            torch.set_num_threads(threads)
            prompt = [draw.randrange(len(model.tokenizer)) for _ in range(n_x)]
            chunk = values['prefill_chunk_tokens']
            measured = time_generate(reference, prompt, n_tokens) if method == GENERATE else \
                time_bare(model, prompt, n_tokens, chunk) if method == BARE else \
                time_ours(model, prompt, n_tokens, ratio, chunk, times)
            if index:  # the first round warms up
                seconds[row] += measured
    torch.set_num_threads(model.threads)
    baseline = {n_x: min(statistics.median(seconds[row]) for row in rows if row[:2] == (GENERATE, n_x))
                for _, n_x, *_ in rows}
    results = [{'method': method, 'threads': threads, 'cache_tokens': n_x,
                'eviction_ratio': ratio, 'n': len(taken), 'median_ms': statistics.median(taken) * 1e3,
                'p99_ms': _percentile(taken, 0.99) * 1e3, 'tokens_per_s': 1 / statistics.median(taken),
                'speedup': baseline[n_x] / statistics.median(taken)}
               for (method, n_x, ratio, threads), taken in seconds.items()]
    table = Table('method', 'threads', 'cache', 'evicted', 'median ms', 'p99 ms', 'tokens/s', 'against generate')
    for r in results:
        table.add_row(r['method'], str(r['threads']), str(r['cache_tokens']), f'{r["eviction_ratio"]:.0%}',
                      f'{r["median_ms"]:.3f}', f'{r["p99_ms"]:.3f}', f'{r["tokens_per_s"]:.0f}', f'{r["speedup"]:.2f}x')
    Console().print(table)
    medians = {row[:3]: statistics.median(values) for row, values in seconds.items() if row[0] != GENERATE}
    overhead = [{'cache_tokens': n_x, 'us_per_token': (medians[OURS, n_x, 0.0] - bare) * 1e6,
                 'share': medians[OURS, n_x, 0.0] / bare - 1}
                for (method, n_x, _), bare in medians.items() if method == BARE]
    plans = time_plans(model, times)
    planning = {'n': len(plans), 'median_us': statistics.median(plans) * 1e6, 'p99_us': _percentile(plans, 0.99) * 1e6}
    for row in overhead:
        print(f'loop over {row["cache_tokens"]} entries: {row["us_per_token"]:.1f} us per token more than the bare '
              f'loop ({row["share"]:.1%})')
    print(f'one planning call: median {planning["median_us"]:.0f} us, p99 {planning["p99_us"]:.0f} us')
    write(out, {'machine': describe(model), 'tokens_per_answer': n_tokens, 'rounds': rounds, 'rows': results,
                'loop_overhead': overhead, 'planning_call': planning})
    return 0
