"""`timebill bench decode`: time per token of our token loop against transformers' own, in one run.

All rows decode the same number of tokens after the same random prompts, in interleaved rounds, so that a machine that
changes its pace changes it for all. `model.generate` runs with its default cache and attention on a second copy of the
weights, on a CPU both on as many threads as ours and on all cores; the faster one is what ours is compared with. Times
are between consecutive tokens, prefill and eviction excluded.
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

from timebill_ros.bench.machine import describe, write
from timebill_ros.deadline import Deadline
from timebill_ros.decode import Control, decode
from timebill_ros.loading import load_model
from timebill_ros.model import CausalLM, ModelError
from timebill_ros.request import FinishReason, Sampling
from timebill_ros.sampling import Sampler
from timebill_ros.text import StopStrings
from timebill_ros.threads import available_cores

GENERATE = 'model.generate'
# (cache entries after prefill, eviction ratio or None for model.generate)
ROWS = ((1000, None), (1000, 0.0), (4000, None), (4000, 0.0), (4000, 0.5), (4000, 0.9))
Row = tuple[int, float | None, int]  # the same, with CPU threads


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


def time_ours(model: CausalLM, prompt: list[int], n_tokens: int, ratio: float, chunk_tokens: int) -> list[float]:
    """Seconds between consecutive tokens of our token loop with its deadline guard, greedy."""
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

    control = Control(Deadline(float('inf'), clock), tokens=[0] * n_tokens)
    decode(_Endless(model), Sampler(Sampling(), model.device), logits, position=len(prompt), n_kv=n_keep, cap=n_tokens,
           cap_reason=FinishReason.LENGTH, step_s=lambda n: 0.0, stops=StopStrings(model.tokenizer, ()),
           control=control)
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
    rows: list[Row] = [(n_x, ratio, threads) for n_x, ratio in ROWS if n_x + n_tokens <= model.max_context
                       for threads in ({model.threads, cores} if ratio is None else {model.threads})]
    seconds: dict[Row, list[float]] = {row: [] for row in rows}
    for index in track(range(rounds + 1), 'measuring'):
        for row in draw.sample(rows, len(rows)):
            n_x, ratio, threads = row
            torch.set_num_threads(threads)
            prompt = [draw.randrange(len(model.tokenizer)) for _ in range(n_x)]
            measured = time_generate(reference, prompt, n_tokens) if ratio is None else \
                time_ours(model, prompt, n_tokens, ratio, values['prefill_chunk_tokens'])
            if index:  # the first round warms up
                seconds[row] += measured
    torch.set_num_threads(model.threads)
    baseline = {n_x: min(statistics.median(seconds[row]) for row in rows if row[:2] == (n_x, None))
                for n_x, ratio, _ in rows}
    results = [{'method': GENERATE if ratio is None else 'timebill', 'threads': threads, 'cache_tokens': n_x,
                'eviction_ratio': ratio or 0.0, 'n': len(times), 'median_ms': statistics.median(times) * 1e3,
                'p99_ms': _percentile(times, 0.99) * 1e3, 'tokens_per_s': 1 / statistics.median(times),
                'speedup': baseline[n_x] / statistics.median(times)}
               for (n_x, ratio, threads), times in seconds.items()]
    table = Table('method', 'threads', 'cache', 'evicted', 'median ms', 'p99 ms', 'tokens/s', 'against generate')
    for r in results:
        table.add_row(r['method'], str(r['threads']), str(r['cache_tokens']), f'{r["eviction_ratio"]:.0%}',
                      f'{r["median_ms"]:.3f}', f'{r["p99_ms"]:.3f}', f'{r["tokens_per_s"]:.0f}', f'{r["speedup"]:.2f}x')
    Console().print(table)
    write(out, {'machine': describe(model), 'tokens_per_answer': n_tokens, 'rounds': rounds, 'rows': results})
    return 0
