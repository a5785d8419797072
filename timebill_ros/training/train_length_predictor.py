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

"""Trains the length predictor of a target model on the lengths that the target itself generates.

    timebill train-length-predictor --target <model directory> --prompts prompts.jsonl --out build/rlp
    timebill train-length-predictor --target <model directory> --backbone <directory of a small language model> \\
        --dataset <file, directory or hub name> --out build/rlp
    timebill train-length-predictor --target build/target/model --site-log --out build/rlp

1. The target answers prompts, several times each at the temperature of use; the lengths are the labels.
2. Where prompts come with reference answers, the predictor first learns on the references' lengths, which cost
   nothing to make.
3. It then learns the target's: cross-entropy over length buckets at the last token of the prompt (TimeBill,
   arXiv 2512.21859). Several labels of a prompt make a soft one.

The backbone is a small language model of its own, or a copy of the target. The copy already knows how to read the
prompt, and is kept in use through auxiliary losses: the language model's on prompt and answer, and the length that
remains, at every token of the answer (and of the instruction, where it is known). Responses and a checkpoint are kept
in `--out`; the same command goes on from there.
"""

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import torch
from rich.progress import Progress
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, logging

from timebill_ros.inference.model_directory import fingerprint
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length.calibration import SCORES_FILE, save_scores, surprise
from timebill_ros.length.length_distribution import LengthDistribution, bucket_of
from timebill_ros.length.length_predictor import LengthPredictor, compress
from timebill_ros.tasks.patrol import OBJECTS
from timebill_ros.tasks.site_log import SiteLogTask, generate
from timebill_ros.training import length_labels
from timebill_ros.training.hardware import hardware
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_estimates import interpolated_quantile
from timebill_ros.training.length_labels import Prompt

SITE_LOG_CONFIG = Path(__file__).with_name('length_predictor.json')
PAPER_CONFIG = Path(__file__).with_name('length_predictor_paper.json')
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json')


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt, compressed to N_p, and of one response to it; `lengths`: those of all its responses.

    partial: (position in `prompt`, length of the response, had the instruction stopped there).
    """

    prompt: list[int]
    response: list[int]
    lengths: list[int]
    partial: tuple[tuple[int, int], ...] = ()


def site_log_prompt(task: SiteLogTask, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """A task as a prompt: rendered, with its answer and the lengths that shorter instructions would have had."""
    text = length_labels.render(task.messages, tokenizer)
    start = text.rindex(task.instruction)
    partial: list[tuple[int, int]] = []
    if len(task.partial_lengths) > 1:
        # Where each thing's last word ends: in a route, a thing is an object with its place.
        things = [m.end() for m in re.finditer(r'\S+', task.instruction)
                  if (m[0].startswith('@') if task.family == 'route' else m[0] in OBJECTS)]
        partial = [(start + at, n)
                   for at, n in zip(things, task.partial_lengths, strict=True)]
    return Prompt(text, task.answer, tuple(partial))


def site_log_prompts(config: dict, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts of the embedded model's task: (short ones for their references, ones of every length to be answered)."""
    rng = random.Random(config['seed'])
    low, high = config['reference_tokens']
    # The target's own training uses small multiples of 10^9 as seeds; these are far from them.
    references = [generate(7 * 10**15 + i, n_tokens=round(low * (high / low) ** rng.random()))
                  for i in range(config['reference_prompts'])]
    labelled = [generate(8 * 10**15 + i, n_tokens=config['labelled_tokens'])
                for i in range(config['labelled_prompts'])]
    return tuple([site_log_prompt(task, tokenizer) for task in tasks] for tasks in (references, labelled))


class PredictorTraining:
    """A predictor in training: a language model's network with a length head on it, and those it is compared with."""

    def __init__(self, config: dict, target_dir: Path, out: Path, device: str = 'cpu',
                 backbone_dir: Path | None = None):
        torch.manual_seed(config['seed'])
        self.config, self.out, self.device, self.target_dir = config, out, device, target_dir
        self.backbone_dir = backbone_dir or target_dir
        self.target_tokenizer = load_tokenizer(target_dir)
        self.tokenizer = load_tokenizer(self.backbone_dir)
        # A response is a text of the target's tokens; another backbone reads the prompt alone.
        self.reads_responses = backbone_dir is None and (config['language_model_weight'] or config['remaining_weight'])
        # float32: the copy that is trained.
        self.lm = AutoModelForCausalLM.from_pretrained(self.backbone_dir, dtype=torch.float32, use_safetensors=True)
        n_buckets = math.ceil(config['max_new_tokens'] / config['bucket_size'])
        uniform = LengthDistribution(config['bucket_size'], [1 / n_buckets] * n_buckets)
        self.predictor = LengthPredictor(
            self.lm.base_model, self.tokenizer, uniform, max_input_tokens=config['max_input_tokens'])
        self.predictor.to(device).train()
        self.baselines: Baselines | None = None
        # The output embeddings take part in the auxiliary loss only; where tied they are the backbone's own.
        self.parameters = list({id(p): p for p in [*self.lm.parameters(), *self.predictor.head.parameters()]}.values())
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=config['weight_decay'])
        self.step = 0
        self.seconds = 0.0

    def compare_with_baselines(self, lengths: list[int]) -> None:
        """Train the other heads too. lengths: of the training responses."""
        self.baselines = Baselines.for_lengths(
            self.predictor.head.in_features, lengths, self.predictor.bucket_size, self.predictor.n_buckets)
        self.baselines.to(self.device)
        self.parameters += list(self.baselines.parameters())
        self.optimizer.add_param_group({'params': list(self.baselines.parameters())})

    def example(self, prompt: Prompt, responses: list[list[int]]) -> Example:
        """A prompt with responses in the target's tokens, compressed as the node would."""
        encoding = self.tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=bool(prompt.partial),
                                  verbose=False)
        whole = encoding['input_ids']
        ids = compress(whole, self.config['max_input_tokens'])
        partial = []
        if prompt.partial:
            ends = {end: i for i, (_, end) in enumerate(encoding['offset_mapping'])}
            tail = len(ids) // 2 if len(ids) < len(whole) else 0  # what is before it has moved or is gone
            partial = [(ends[at] - len(whole) + len(ids), n) for at, n in prompt.partial]
            partial = [(at, n) for at, n in partial if at >= tail]
        return Example(ids, responses[0] if self.reads_responses else [], [len(r) for r in responses], tuple(partial))

    def reference_response(self, prompt: Prompt) -> list[int]:
        ids = self.target_tokenizer.encode(prompt.answer, add_special_tokens=False)
        return [*ids, self.target_tokenizer.eos_token_id]

    def train_step(self, examples: list[Example], learning_rate: float) -> dict[str, float]:
        """One optimizer step. Returns the parts of the loss."""
        started, config = time.perf_counter(), self.config
        batch = collate(examples, self.tokenizer.pad_token_id or 0, self.predictor.bucket_size,
                        self.predictor.n_buckets)
        ids, remaining, last, labels, lengths = (t.to(self.device) for t in batch)
        dtype = getattr(torch, config['autocast'])
        with torch.autocast(self.device, dtype=dtype, enabled=dtype != torch.float32):
            # Padding is on the right, where no real token attends to it, so no attention mask is needed.
            hidden = self.predictor.backbone(input_ids=ids, use_cache=False).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        at_end = hidden[rows, last].float()
        parts = {'length': functional.cross_entropy(self.predictor.head(at_end), labels)}
        weights = {'length': 1.0}
        partial = remaining > 0
        if config['remaining_weight'] and partial.any():
            inside = torch.arange(ids.shape[1], device=ids.device) < last[:, None]
            for name, chosen in (('partial', partial & inside), ('remaining', partial & ~inside)):
                if chosen.any():
                    left = bucket_of(remaining[chosen], self.predictor.bucket_size)
                    parts[name] = functional.cross_entropy(
                        self.predictor.head(hidden[chosen].float()), left.clamp(max=self.predictor.n_buckets - 1))
                    weights[name] = config['remaining_weight']
        if config['language_model_weight']:
            real = torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None]
            logits = self.lm.get_output_embeddings()(hidden[:, :-1][real].float())
            parts['language_model'] = functional.cross_entropy(logits, ids[:, 1:][real])
            weights['language_model'] = config['language_model_weight']
        if self.baselines:
            drawn = torch.tensor([e.lengths[self.step % len(e.lengths)] for e in examples], device=ids.device)
            parts['baselines'] = self.baselines.loss(at_end, drawn)
            weights['baselines'] = config['baselines_weight']
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate
        self.optimizer.zero_grad()
        sum(weights[name] * part for name, part in parts.items()).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return {name: part.item() for name, part in parts.items()}

    def save_checkpoint(self) -> None:
        part = self.out / 'checkpoint.part'
        torch.save({'lm': self.lm.state_dict(), 'head': self.predictor.head.state_dict(),
                    'baselines': self.baselines.state_dict() if self.baselines else {},
                    'optimizer': self.optimizer.state_dict(), 'step': self.step, 'seconds': self.seconds}, part)
        part.replace(self.out / 'checkpoint.pt')  # never leaves half a checkpoint behind

    def resume(self) -> None:
        path = self.out / 'checkpoint.pt'
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.lm.load_state_dict(state['lm'])
            self.predictor.head.load_state_dict(state['head'])
            if self.baselines:
                self.baselines.load_state_dict(state['baselines'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.seconds = state['step'], state['seconds']


def collate(examples: list[Example], pad_id: int, bucket_size: int, n_buckets: int) -> tuple[torch.Tensor, ...]:
    """Padded on the right:

    ids [batch, S] (padding: `pad_id`); remaining [batch, S], tokens of the response still to come after a position, as
    far as they are known: inside the response, and where `partial` tells (0: not known, or none left); last [batch],
    each prompt's last position; labels [batch, n_buckets], the shares of the example's lengths; and each example's own
    length [batch].
    """
    width = max(len(e.prompt) + len(e.response) for e in examples)
    ids = torch.full((len(examples), width), pad_id)
    remaining = torch.zeros(len(examples), width, dtype=torch.long)
    labels = torch.zeros(len(examples), n_buckets)
    for row, e in enumerate(examples):
        n, m = len(e.prompt), len(e.response)
        ids[row, :n + m] = torch.tensor(e.prompt + e.response)
        remaining[row, n:n + m] = torch.arange(m - 1, -1, -1)
        for at, length in e.partial:
            remaining[row, at] = length
        for length in e.lengths:
            labels[row, min(bucket_of(length, bucket_size), n_buckets - 1)] += 1 / len(e.lengths)
    return (ids, remaining, torch.tensor([len(e.prompt) - 1 for e in examples]), labels,
            torch.tensor([len(e.prompt) + len(e.response) for e in examples]))


def batches(lengths: list[int], batch_tokens: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Indices in batches of similar length and at most `batch_tokens` tokens, in a new random order each epoch."""
    rng = random.Random(seed)
    for _ in range(epochs):
        # Noise on the lengths makes other neighbours each time.
        noisy = [round(n * rng.uniform(1, 1.1)) for n in lengths]
        epoch = list(length_labels.length_sorted_batches(noisy, batch_tokens))
        rng.shuffle(epoch)
        yield from epoch


def train(
    config: dict, target_dir: Path, out: Path, references: list[Prompt], labelled: list[Prompt], *,
    backbone_dir: Path | None = None, baselines: bool = False, device: str = 'cpu', save_every: int = 200,
    steps: int | None = None,
) -> dict:
    """Runs the whole training and saves the predictor to `out`/length_predictor.

    references:    prompts with reference answers, whose lengths are learned first.
    labelled:      prompts for the target to answer; a share of them is held out for validation.
    backbone_dir:  a small language model to start from instead of the target.
    baselines:     train the heads that the predictor is compared with, and save them beside it.
    steps:         stop after so many more; run again to go on.

    Returns the training facts, with the loss of every step under 'losses' (which is not saved).
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
                if first + i >= run.step:  # earlier ones were done before a resume
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
    if run.step % 20 == 0:
        with open(run.out / 'log.jsonl', 'a') as log:
            log.write(json.dumps({'phase': phase, 'step': run.step, 'of': of, 'seconds': round(run.seconds, 1),
                                  **{name: round(part, 4) for name, part in parts.items()}}) + '\n')


def _responses(run: PredictorTraining, prompts: list[Prompt], progress: Progress) -> list[list[list[int]]]:
    """Responses of the target to each prompt; read from `out` where they were made before."""
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


def _finish(run: PredictorTraining, held_out: list, lengths: list[int]) -> dict:
    """Measures the predictor on the held-out prompts and saves it with its facts and its calibration scores."""
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
    # One answer per prompt: several to the same prompt are not exchangeable with those to come.
    save_scores(directory / SCORES_FILE, [surprise(distribution, ns[0]) for distribution, ns in predicted],
                split='held out of training', prompts=len(predicted), temperature=config['temperature'])
    for name in _TOKENIZER_FILES:  # the backbone's own files, rather than this transformers version's form of them
        if (run.backbone_dir / name).is_file():
            (directory / name).write_bytes((run.backbone_dir / name).read_bytes())
    if run.baselines:
        run.baselines.save(directory)
    return facts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog='timebill train-length-predictor', description=__doc__.splitlines()[0])
    parser.add_argument('--target', type=Path, required=True, help='directory of the target model')
    parser.add_argument('--backbone', type=Path, help='directory of a small language model to start from '
                        '(default: a copy of the target)')
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument('--prompts', type=Path, help='JSONL file, each line with "prompt" or "messages"')
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
    tokenizer = load_tokenizer(options.target)
    if options.site_log:
        references, labelled = site_log_prompts(config, tokenizer)
    else:
        labelled = length_labels.read_prompts(options.prompts, tokenizer) if options.prompts else \
            length_labels.read_dataset(options.dataset, tokenizer, split=options.split, column=options.column,
                                       limit=options.limit)
        random.Random(config['seed']).shuffle(labelled)
        labelled = labelled[:options.limit]
        references = [prompt for prompt in labelled[max(1, round(len(labelled) * config['validation_share'])):]
                      if prompt.answer is not None]
    facts = train(config, options.target, options.out, references, labelled, backbone_dir=options.backbone,
                  baselines=options.baselines, device=options.device, steps=options.steps)
    print(json.dumps(facts['training'], indent=2))


if __name__ == '__main__':
    main()
