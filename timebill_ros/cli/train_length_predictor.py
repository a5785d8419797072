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

r"""`timebill train-length-predictor`: what a length predictor is learned from, and where it is written.

    timebill train-length-predictor --target <model directory> --prompts prompts.jsonl --out build/rlp
    timebill train-length-predictor --target <model directory> --backbone <directory of a small language model> \
        --dataset <file, directory or hub name> --out build/rlp
    timebill train-length-predictor --target build/target/model --site-log --out build/rlp
    timebill train-length-predictor --states --target <model> --prompts prompts.jsonl --out build/labels.safetensors

With `--states` no network is trained: see training/state_labelling.py. Otherwise training/train_length_predictor.py
says what happens.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from timebill_ros.cli.option_values import whole
from timebill_ros.length.state_file import SUFFIX

NAME = 'train-length-predictor'


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser(
        NAME, help='train a length predictor for a target model',
        description='Train the length predictor of a target model on the lengths that the target itself generates. '
                    'What was done is kept: after Ctrl-C the same command goes on.')
    add_options(command)
    command.set_defaults(run=run)


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument('--target', type=Path, required=True, help='directory of the target model, or the name of '
                         'one that "timebill get-model" has taken')
    command.add_argument('--states', action='store_true', help='make the labels that length_predictor takes instead of '
                         'a network: hidden states with lengths, in the file --out (.safetensors)')
    command.add_argument('--max-new-tokens', type=whole(1), metavar='N', help='where an answer is cut, as goals will '
                         'be (default: as --config says, 256 with --states)')
    command.add_argument('--backbone', type=Path, help='directory of a small language model to start from '
                         '(default: the target itself)')
    command.add_argument('--layers', type=whole(0), metavar='N', help='the first so many of the '
                         'backbone, 0: all (default: all of a --backbone or with --config, otherwise a quarter of the '
                         'target, so that predictions take less time than prefill)')
    command.add_argument('--answers', type=Path, metavar='FILE', help='greedy answers that were kept, and will be: '
                         'what --states leaves beside its labels serves (default: in --out)')
    prompts = command.add_mutually_exclusive_group(required=True)
    prompts.add_argument('--prompts', type=_file, help='JSONL file, gzipped or not, each line with "prompt" or '
                         '"messages"')
    prompts.add_argument('--dataset', help='file, directory or hub name, read with the datasets library')
    prompts.add_argument('--site-log', action='store_true', help="generate prompts of the embedded model's task")
    command.add_argument('--split', default='train', help='of the data set')
    command.add_argument('--column', help='of the data set: text or a conversation (default: messages or prompt)')
    command.add_argument('--limit', type=whole(1), help='prompts at most')
    command.add_argument('--config', type=Path, help="JSON file (default: the embedded model's with --site-log, "
                         'otherwise greedy answers as a node gives them)')
    command.add_argument('--bucket-size', type=whole(1), help='B, in tokens, instead of the configuration\'s')
    command.add_argument('--baselines', action='store_true', help='train the heads of other papers beside it, for '
                         '`timebill bench length-predictor`')
    command.add_argument('--out', type=Path, required=True, help='directory for responses, checkpoints, the predictor')
    command.add_argument('--device', help='as torch names it (default: cuda where there is a GPU, else cpu)')
    command.add_argument('--steps', type=whole(1), help='stop after so many more; run again to go on')


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f'there is no file {text}')
    return Path(text)


def run(options: argparse.Namespace) -> int:
    """Train, or make labels. KeyboardInterrupt after a sentence where it was stopped."""
    if options.states and options.out.suffix != SUFFIX:
        raise ValueError(f'--out must end with {SUFFIX} with --states, got {options.out}')
    import torch
    from transformers import logging
    logging.disable_progress_bar()
    options.device = options.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        _run(options)
    except KeyboardInterrupt:
        print('stopped: what was done is kept, and the same command goes on', file=sys.stderr)
        raise
    return 0


def _run(options: argparse.Namespace) -> None:
    from timebill_ros.inference.tokenizer import load_tokenizer
    from timebill_ros.training.train_length_predictor import DEFAULT_CONFIG, SITE_LOG_CONFIG
    path = options.config or (SITE_LOG_CONFIG if options.site_log else DEFAULT_CONFIG)
    config = json.loads(path.read_text(encoding='utf-8'))
    config.update({name: given for name in ('bucket_size', 'max_new_tokens') if (given := getattr(options, name))})
    options.target = _directory_of(options.target)
    tokenizer = load_tokenizer(options.target)
    if options.states:
        _make_labels(options, config, tokenizer)
    else:
        _train(options, config, tokenizer, _layers(options, path == DEFAULT_CONFIG))


def _train(options: argparse.Namespace, config: dict, tokenizer, layers: int | None) -> None:
    from timebill_ros.training.run_files import alone_in
    from timebill_ros.training.site_log_prompts import site_log_prompts
    from timebill_ros.training.train_length_predictor import train, warning
    if options.site_log:
        references, labelled = site_log_prompts(config, tokenizer)
    else:
        labelled = _read(options, config, tokenizer)
        references = [prompt for prompt in labelled[max(1, round(len(labelled) * config['validation_share'])):]
                      if prompt.answer is not None]
    options.out.mkdir(parents=True, exist_ok=True)
    with alone_in(options.out):
        facts = train(config, options.target, options.out, references, labelled, backbone_dir=options.backbone,
                      layers=layers, baselines=options.baselines, device=options.device, answers=options.answers,
                      steps=options.steps)
    print(json.dumps(facts['training'], indent=2))
    directory = options.out / 'length_predictor'
    told = f'written to {directory}: start the node with length_predictor:={directory}'
    if facts.get('left'):
        told = f'{facts["left"]} steps are left: the same command goes on; what was learned so far is in {directory}'
    print(told, file=sys.stderr)
    if sentence := warning(facts['training']):
        print(f'warning: {sentence}', file=sys.stderr)


def _make_labels(options: argparse.Namespace, config: dict, tokenizer) -> None:
    """Answer the prompts and write the labels of their hidden states."""
    from rich.progress import Progress

    from timebill_ros.training import state_labelling
    from timebill_ros.training.site_log_prompts import site_log_prompts
    prompts = site_log_prompts(config, tokenizer)[1][:options.limit] if options.site_log else \
        _read(options, config, tokenizer)
    target = state_labelling.Target(str(options.target), options.device,
                                    max_new_tokens=options.max_new_tokens or state_labelling.Target.max_new_tokens)
    with Progress() as progress:
        bar = progress.add_task('answers', total=min(len(prompts), state_labelling.CAPACITY))
        labels = state_labelling.labels_of(target, [prompt.text for prompt in prompts], options.out,
                                           on_progress=lambda done: progress.update(bar, completed=done))
    print(state_labelling.account(labels))
    print(f'written to {options.out}: start the node with length_predictor:={options.out}')


def _read(options: argparse.Namespace, config: dict, tokenizer) -> list:
    """Return the prompts of a file or data set, shuffled."""
    from timebill_ros.training.prompts import read_dataset, read_prompts, some_of
    found = read_prompts(options.prompts, tokenizer) if options.prompts else \
        read_dataset(options.dataset, tokenizer, split=options.split, column=options.column, limit=options.limit)
    return some_of(found, options.limit, config['seed'])


def _layers(options: argparse.Namespace, is_default: bool) -> int | None:
    """Return how many layers of the backbone are trained; None: all of them."""
    if options.layers is None and is_default and options.backbone is None:
        from transformers import AutoConfig

        from timebill_ros.training.backbone import usual_layers
        return usual_layers(AutoConfig.from_pretrained(options.target))
    return options.layers or None


def _directory_of(target: Path) -> Path:
    """Return the directory of a target, which may be the name of a model. ModelError where there is none."""
    from timebill_ros.inference.model_directory import ModelError
    from timebill_ros.inference.named_models import NAMED_MODELS, find_named
    if str(target) not in NAMED_MODELS:
        if not target.is_dir():
            raise ModelError(f'there is no directory {target}: name that of the target model, or one of the models '
                             f'that "timebill get-model" takes: {", ".join(NAMED_MODELS)}')
        return target
    found = find_named(str(target), '')
    if found is None:
        raise ModelError(f'model {target} is not in the cache: "timebill get-model {target}" takes it')
    return found
