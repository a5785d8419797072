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

r"""Train the length predictor of a target model on the lengths that the target itself generates.

    timebill train-length-predictor --target <model directory> --prompts prompts.jsonl --out build/rlp
    timebill train-length-predictor --target <model directory> --backbone <directory of a small language model> \
        --dataset <file, directory or hub name> --out build/rlp
    timebill train-length-predictor --target build/target/model --site-log --out build/rlp
    timebill train-length-predictor --states --target <model> --prompts prompts.jsonl --out build/labels.safetensors

With `--states` no network is trained: see state_labelling.py. Otherwise:

1. The target answers the prompts, several times each at the temperature of use. The lengths of its responses are the
   labels (length_labels.py).
2. Where prompts come with reference answers, the predictor first learns the references' lengths: they cost nothing to
   make.
3. The predictor learns the target's lengths (TimeBill, arXiv 2512.21859; predictor_training.py has the losses).
4. A share of the prompts, held out of training, gives the validation error and the calibration scores.

Responses and a checkpoint are kept in `--out`, so the same command goes on where it stopped.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import fmean, median

import torch
from rich.progress import Progress
from transformers import logging

from timebill_ros.inference.model_directory import ModelError, fingerprint
from timebill_ros.inference.named_models import NAMED_MODELS, find_named
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length.calibration import SCORES_FILE, save_scores, surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.state_file import SUFFIX
from timebill_ros.training import length_labels, state_labelling
from timebill_ros.training.hardware import hardware
from timebill_ros.training.length_estimates import interpolated_quantile
from timebill_ros.training.length_examples import batches
from timebill_ros.training.predictor_training import PredictorTraining
from timebill_ros.training.prompts import Prompt, read_dataset, read_prompts, some_of
from timebill_ros.training.site_log_prompts import site_log_prompts

SITE_LOG_CONFIG = Path(__file__).with_name('length_predictor.json')
PAPER_CONFIG = Path(__file__).with_name('length_predictor_paper.json')
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json')


def train(
    config: dict, target_dir: Path, out: Path, references: list[Prompt], labelled: list[Prompt], *,
    backbone_dir: Path | None = None, baselines: bool = False, device: str = 'cpu', save_every: int = 200,
    steps: int | None = None,
) -> dict:
    """Run the whole training and save the predictor to `out`/length_predictor.

    config:        see length_predictor.json and length_predictor_paper.json.
    references:    prompts with reference answers, whose lengths are learned first.
    labelled:      prompts for the target to answer; a share of them is held out for validation and calibration.
    backbone_dir:  a small language model to start from instead of the target.
    baselines:     also train the heads that the predictor is compared with, and save them beside it.
    save_every:    steps between checkpoints.
    steps:         stop after so many further steps; the same call goes on from there.

    Returns the training facts, with the length loss of every step of this call under 'losses' (which is not saved).
    """
    out.mkdir(parents=True, exist_ok=True)
    run = PredictorTraining(config, target_dir, out, device, backbone_dir)
    n_held_out = max(1, round(len(labelled) * config['validation_share']))
    history: list[float] = []
    with Progress() as progress:
        responses = _responses(run, labelled, progress)
        answered = list(zip(labelled, responses, strict=True))
        held_out, learned = answered[:n_held_out], answered[n_held_out:] or answered
        lengths = [len(ids) for _, rows in learned for ids in rows]
        if baselines:
            run.compare_with_baselines(lengths)
        run.resume()
        answers = [(prompt, [run.reference_response(prompt)]) for prompt in references]
        first = 0
        for name, pairs, epochs, top_rate in (
                ('references', answers, config['epochs_on_references'], config['learning_rate']),
                ('labels', learned, config['epochs_on_labels'], config['label_learning_rate'])):
            examples = [run.example(prompt, rows) for prompt, rows in pairs] if epochs else []
            plan = list(batches([len(e.prompt) + len(e.response) for e in examples], config['batch_tokens'], epochs,
                                config['seed']))
            bar = progress.add_task(name, total=len(plan))
            for i, batch in enumerate(plan):
                if steps is not None and len(history) >= steps:
                    break
                if first + i >= run.step:  # earlier steps were done before a resume
                    rate = top_rate * min((i + 1) / config['warmup_steps'],
                                          0.05 + 0.95 * (1 + math.cos(math.pi * i / len(plan))) / 2)
                    parts = run.train_step([examples[k] for k in batch], rate)
                    history.append(parts['length'])
                    progress.update(bar, description=' '.join(f'{k} {v:.2f}' for k, v in parts.items()))
                    _log(run, name, first + len(plan), parts)
                    if run.step % save_every == 0:
                        run.save_checkpoint()
                progress.update(bar, completed=i + 1)
            first += len(plan)
        run.save_checkpoint()
        facts = _finish(run, held_out, lengths)
    return {**facts, 'losses': history}


def _log(run: PredictorTraining, phase: str, of: int, parts: dict[str, float]) -> None:
    """Add a line to `out`/log.jsonl every 20 steps. `of`: steps in all up to the end of this phase."""
    if run.step % 20 == 0:
        with open(run.out / 'log.jsonl', 'a') as log:
            log.write(json.dumps({'phase': phase, 'step': run.step, 'of': of, 'seconds': round(run.seconds, 1),
                                  **{name: round(part, 4) for name, part in parts.items()}}) + '\n')


def _responses(run: PredictorTraining, prompts: list[Prompt], progress: Progress) -> list[list[list[int]]]:
    """Return the target's responses to each prompt, from `out`/responses.jsonl where they were made before.

    ValueError where that file belongs to other prompts.
    """
    path, config = run.out / 'responses.jsonl', run.config
    texts = [prompt.text for prompt in prompts]
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if [row['text'] for row in rows] != texts:
            raise ValueError(f'{path} belongs to other prompts: remove it, or choose another --out')
        return [row['responses'] for row in rows]
    bar = progress.add_task(f'responses at temperature {config["temperature"]}', total=len(texts))
    expected = [len(run.reference_response(prompt)) for prompt in prompts if prompt.answer is not None]
    responses = length_labels.answer_all(
        run.target_dir, texts, device=run.device, max_new_tokens=config['max_new_tokens'],
        temperature=config['temperature'], samples=config['samples'], seed=config['seed'],
        expected=expected if len(expected) == len(texts) else (),
        on_progress=lambda done: progress.update(bar, completed=done))
    part = path.with_suffix('.part')
    part.write_text(''.join(json.dumps({'text': text, 'responses': row}) + '\n'
                            for text, row in zip(texts, responses, strict=True)))
    part.replace(path)
    return responses


def _finish(run: PredictorTraining, held_out: list[tuple[Prompt, list[list[int]]]], lengths: list[int]) -> dict:
    """Measure the predictor on the held-out prompts, save it with its facts and calibration scores, return the facts.

    held_out: prompts with the token ids of their responses; lengths: of the training responses, in tokens.
    """
    config, predictor = run.config, run.predictor.eval()
    predictor.set_marginal(LengthDistribution.from_lengths(lengths, config['bucket_size'], predictor.n_buckets))
    predicted = [(predictor.predict(prompt.text), [len(ids) for ids in rows]) for prompt, rows in held_out]
    pairs = [(interpolated_quantile(distribution, 0.5), n) for distribution, ns in predicted for n in ns]
    middle = median(lengths)
    facts = {
        'target': {'name': run.target_dir.name, 'fingerprint': fingerprint(str(run.target_dir))},
        'training': {
            'config': config, 'backbone': run.backbone_dir.name, 'steps': run.step, 'seconds': round(run.seconds),
            'hardware': hardware(run.device), 'validation_prompts': len(held_out),
            'validation_mae': round(fmean(abs(given - n) for given, n in pairs), 2),
            'validation_mae_of_constant_median': round(fmean(abs(middle - n) for _, n in pairs), 2),
        },
    }
    predictor.facts = facts
    directory = run.out / 'length_predictor'
    predictor.save(directory)
    # One response per prompt: several responses to one prompt are not exchangeable with the responses to come.
    save_scores(directory / SCORES_FILE, [surprise(distribution, ns[0]) for distribution, ns in predicted],
                split='held out of training', prompts=len(predicted), temperature=config['temperature'])
    for name in _TOKENIZER_FILES:  # the backbone's own files, rather than those that this transformers version writes
        if (run.backbone_dir / name).is_file():
            (directory / name).write_bytes((run.backbone_dir / name).read_bytes())
    if run.baselines:
        run.baselines.save(directory)
    return facts


def warning(training: dict) -> str:
    """Return a sentence where the predictor is no better than the constant median; empty: it is better.

    training: the facts of that name from `train`.
    """
    own, constant = training['validation_mae'], training['validation_mae_of_constant_median']
    if own < constant:
        return ''
    return (f'the length predictor is no better than a constant: its mean error on {training["validation_prompts"]} '
            f'prompts that were held out is {own} tokens, that of the constant median {constant}. It does not tell '
            'short answers from long ones. Train it longer, with more prompts, or on prompts whose answers differ in '
            'length.')


def _read(options: argparse.Namespace, config: dict, tokenizer) -> list[Prompt]:
    """Return the prompts of a file or data set, shuffled."""
    found = read_prompts(options.prompts, tokenizer) if options.prompts else \
        read_dataset(options.dataset, tokenizer, split=options.split, column=options.column, limit=options.limit)
    return some_of(found, options.limit, config['seed'])


def _make_labels(options: argparse.Namespace, config: dict, tokenizer) -> None:
    """Answer the prompts and write the labels of their hidden states."""
    prompts = site_log_prompts(config, tokenizer)[1][:options.limit] if options.site_log else \
        _read(options, config, tokenizer)
    target = state_labelling.Target(str(options.target), options.device, max_new_tokens=options.max_new_tokens)
    with Progress() as progress:
        bar = progress.add_task('answers', total=min(len(prompts), state_labelling.CAPACITY))
        labels = state_labelling.labels_of(target, [prompt.text for prompt in prompts], options.out,
                                           on_progress=lambda done: progress.update(bar, completed=done))
    print(state_labelling.account(labels))
    print(f'written to {options.out}: start the node with length_predictor:={options.out}')


def _directory_of(target: Path) -> Path:
    """Return the directory of a target, which may be the name of a model. ModelError where that is not in the cache."""
    if str(target) not in NAMED_MODELS:
        return target
    found = find_named(str(target), '')
    if found is None:
        raise ModelError(f'model {target} is not in the cache: "timebill get-model {target}" takes it')
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run `timebill train-length-predictor`."""
    parser = argparse.ArgumentParser(prog='timebill train-length-predictor', description=__doc__.splitlines()[0])
    parser.add_argument('--target', type=Path, required=True, help='directory of the target model, or the '
                        f'name of one in the cache: {", ".join(NAMED_MODELS)}')
    parser.add_argument('--states', action='store_true', help='make the labels that length_predictor takes instead of '
                        'a network: hidden states with lengths, in the file --out (.safetensors)')
    parser.add_argument('--max-new-tokens', type=int, default=256, metavar='N', help='with --states: where an answer '
                        'is cut, as goals will be (default: %(default)s)')
    parser.add_argument('--backbone', type=Path, help='directory of a small language model to start from '
                        '(default: a copy of the target)')
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument('--prompts', type=Path, help='JSONL file, gzipped or not, each line with "prompt" or '
                         '"messages"')
    prompts.add_argument('--dataset', help='file, directory or hub name, read with the datasets library')
    prompts.add_argument('--site-log', action='store_true', help="generate prompts of the embedded model's task")
    parser.add_argument('--split', default='train', help='of the data set')
    parser.add_argument('--column', help='of the data set: text or a conversation (default: messages or prompt)')
    parser.add_argument('--limit', type=int, help='prompts at most')
    parser.add_argument('--config', type=Path, help="JSON file (default: the embedded model's with --site-log, the "
                        "paper's otherwise)")
    parser.add_argument('--bucket-size', type=int, help='B, in tokens, instead of the configuration\'s')
    parser.add_argument('--baselines', action='store_true', help='train the heads of other papers beside it, for '
                        '`timebill bench length-predictor`')
    parser.add_argument('--out', type=Path, required=True, help='directory for responses, checkpoints, the predictor')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--steps', type=int, help='stop after so many more; run again to go on')
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    path = options.config or (SITE_LOG_CONFIG if options.site_log else PAPER_CONFIG)
    config = json.loads(path.read_text(encoding='utf-8'))
    if options.bucket_size:
        config['bucket_size'] = options.bucket_size
    options.target = _directory_of(options.target)
    tokenizer = load_tokenizer(options.target)
    if options.states:
        if options.out.suffix != SUFFIX:
            parser.error(f'--out must end with {SUFFIX} with --states, got {options.out}')
        if options.max_new_tokens < 1:
            parser.error(f'an answer has at least one token, got --max-new-tokens {options.max_new_tokens}')
        _make_labels(options, config, tokenizer)
        return
    if options.site_log:
        references, labelled = site_log_prompts(config, tokenizer)
    else:
        labelled = _read(options, config, tokenizer)
        references = [prompt for prompt in labelled[max(1, round(len(labelled) * config['validation_share'])):]
                      if prompt.answer is not None]
    facts = train(config, options.target, options.out, references, labelled, backbone_dir=options.backbone,
                  baselines=options.baselines, device=options.device, steps=options.steps)
    print(json.dumps(facts['training'], indent=2))
    if sentence := warning(facts['training']):
        print(f'warning: {sentence}', file=sys.stderr)


if __name__ == '__main__':
    main()
