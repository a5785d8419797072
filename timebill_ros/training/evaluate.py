"""Scores a target model and its length predictor on held-out site logs, and prints JSON.

    python -m timebill_ros.training.evaluate --target resource/demo/model \\
        --length-predictor resource/demo/length_predictor

Step accuracy is the mean over tasks of the share of plan steps that are right; answers are decoded greedily,
without eviction. The predictor is compared with the lengths that the target generated to the same prompts;
its baseline is the one constant that is best for the mean absolute error, the median of those lengths.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, median

import torch
from rich.progress import Progress
from transformers import AutoModelForCausalLM, logging

from timebill_ros import length_predictor
from timebill_ros.tokenizer import load_tokenizer
from timebill_ros.training import length_labels
from timebill_ros.training.site_log import FAMILIES, SiteLogTask, exact_match, generate, step_accuracy

LENGTH_RANGES = ((24, 200), (200, 400), (400, 600), (600, 800), (800, 1000))
_SEED = 5_000_000


def held_out_tasks(per_cell: int, split: str = 'test') -> dict[tuple[str, tuple[int, int]], list[SiteLogTask]]:
    """Tasks by family and range of prompt lengths (tokens), lengths evenly spread over each range."""
    cells: dict[tuple[str, tuple[int, int]], list[SiteLogTask]] = {}
    seed = _SEED
    for family in FAMILIES:
        for low, high in LENGTH_RANGES:
            cell = cells[family, (low, high)] = []
            for i in range(per_cell):
                n_tokens = low + (high - low) * (i + 1) // per_cell
                cell.append(generate(seed, split=split, family=family, n_tokens=n_tokens))
                seed += 1
    return cells


def evaluate_target(tasks: list[SiteLogTask], texts: list[str]) -> dict:
    """Step accuracy and exact match of the answers' texts."""
    pairs = list(zip(tasks, texts, strict=True))
    return {'n': len(pairs), 'step_accuracy': round(fmean(step_accuracy(task, text) for task, text in pairs), 4),
            'exact_match': round(fmean(exact_match(task, text) for task, text in pairs), 4)}


def evaluate_predictor(predicted: list[int], lengths: list[int]) -> dict:
    """Mean absolute errors in tokens: of the predicted medians, and of the best constant."""
    constant = median(lengths)
    mae = fmean(abs(p - n) for p, n in zip(predicted, lengths, strict=True))
    return {'n': len(lengths), 'mae': round(mae, 2), 'mean_length': round(fmean(lengths), 2),
            'constant_median_mae': round(fmean(abs(n - constant) for n in lengths), 2)}


def evaluate(target_dir: Path, predictor_dir: Path | None, per_cell: int, split: str = 'test') -> dict:
    """All numbers of one evaluation, per family and per range of prompt lengths."""
    tokenizer = load_tokenizer(target_dir)
    target = AutoModelForCausalLM.from_pretrained(target_dir, dtype=torch.float32, use_safetensors=True).eval()
    predictor = length_predictor.load(predictor_dir) if predictor_dir else None
    cells = held_out_tasks(per_cell, split)
    tasks = [task for cell in cells.values() for task in cell]
    prompts = [length_labels.render(task.messages, tokenizer) for task in tasks]
    with Progress() as progress:
        bar = progress.add_task('answers', total=len(tasks))
        responses = length_labels.generate_responses(
            target, tokenizer, prompts, max_new_tokens=256,
            on_progress=lambda done: progress.update(bar, completed=done))
        predicted = []
        if predictor:
            predicted = [predictor.predict(text).median() for text in progress.track(prompts, description='lengths')]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in responses]
    lengths = [len(ids) for ids in responses]

    def report(chosen: list[int]) -> dict:
        rows = evaluate_target([tasks[i] for i in chosen], [texts[i] for i in chosen])
        if predictor:
            rows['length'] = evaluate_predictor([predicted[i] for i in chosen], [lengths[i] for i in chosen])
        return rows

    keys = [key for key, cell in cells.items() for _ in cell]  # the cell of each task
    everything = list(range(len(tasks)))
    return {
        'split': split,
        'all': report(everything),
        'by_family': {name: report([i for i in everything if keys[i][0] == name]) for name in FAMILIES},
        'by_prompt_tokens': {f'{low}-{high}': report([i for i in everything if keys[i][1] == (low, high)])
                             for low, high in LENGTH_RANGES},
        'by_family_and_prompt_tokens': {
            name: {f'{low}-{high}': report([i for i in everything if keys[i] == (name, (low, high))])
                   for low, high in LENGTH_RANGES} for name in FAMILIES},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', type=Path, required=True, help='directory of the target model')
    parser.add_argument('--length-predictor', type=Path, help='directory of its length predictor')
    parser.add_argument('--per-cell', type=int, default=40, help='tasks per family and range of lengths')
    parser.add_argument('--split', default='test')
    parser.add_argument('--record', action='store_true', help="keep the numbers in the target's training.json too")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    numbers = evaluate(options.target, options.length_predictor, options.per_cell, options.split)
    result = json.dumps(numbers, indent=2)
    print(result)
    if options.record:
        path = options.target / 'training.json'
        facts = json.loads(path.read_text(encoding='utf-8'))
        path.write_text(json.dumps({**facts, 'evaluation': numbers}, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
