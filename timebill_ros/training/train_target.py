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

"""Train the embedded target model on site-log planning.

    python -m timebill_ros.training.train_target --out build/target

In-context lookup has to emerge before anything else is worth learning. So training follows a curriculum: few
objects and places first, then more, then objects that move, then longer logs. A stage ends when the model looks up
a share `pass` of the places and states in its answers rightly (measured on fresh text: no log is ever seen twice),
or after `max_steps`. The last stage has the whole range of lengths, and the learning rate falls along it.

The loss covers the whole text, log included, because lookup is learned from the repeated sightings in a log. Log
and answer have the same weight, whatever their lengths.

Ctrl-C or a crash loses little: the same command goes on from the last checkpoint in `--out`.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from timebill_ros.tasks.site_log import PLACES, STATES, SiteLogTask, World, generate
from timebill_ros.training.hardware import hardware
from timebill_ros.training.target_model import build_model
from timebill_ros.training.word_tokenizer import build_tokenizer, save_tokenizer

DEFAULT_CONFIG = Path(__file__).with_name('target.json')
_SEEDS_PER_STEP = 1_000  # task seeds reserved for a step, more than a batch has rows


def encode(task: SiteLogTask, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """Return the token ids of the rendered prompt, and of the answer with its end token."""
    prompt = tokenizer.apply_chat_template(task.messages, add_generation_prompt=True, tokenize=False)
    return (tokenizer.encode(prompt, add_special_tokens=False),
            [*tokenizer.encode(task.answer, add_special_tokens=False), tokenizer.eos_token_id])


def make_batch(
    stage: dict, step: int, tokenizer: PreTrainedTokenizerFast, seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the batch of a step: token ids [batch, S], and which of them belong to an answer [batch, S] (bool).

    Rows are padded on the right. stage: one of the configuration's stages; the same step and seed give the same batch.
    """
    world = World(stage['n_objects'], stage['n_places'], stage['move_probability'],
                  max_asked=stage['max_asked'])
    # One prompt length for the whole batch, so that little of it is padding.
    n_tokens = random.Random(f'{seed}/{step}').randint(*stage['n_tokens'])
    first = (seed * 1_000_000 + step) * _SEEDS_PER_STEP
    pairs = [encode(generate(first + i, n_tokens=n_tokens, world=world), tokenizer)
             for i in range(max(1, stage['batch_tokens'] // n_tokens))]
    length = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.full((len(pairs), length), tokenizer.pad_token_id)
    in_answer = torch.zeros(len(pairs), length, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        in_answer[row, len(prompt):end] = True
    return ids, in_answer


def loss_and_lookups(
    logits: torch.Tensor, ids: torch.Tensor, in_answer: torch.Tensor, pad_id: int, lookup_ids: torch.Tensor,
) -> tuple[torch.Tensor, float]:
    """Return the mean of the prompts' and the answers' cross-entropy, and the share of lookups that are right.

    logits: [batch, S, vocabulary]; ids, in_answer: [batch, S]; lookup_ids: ids of the words that have to be read off
    the log. A lookup is such a word in an answer.
    """
    targets, in_answer = ids[:, 1:], in_answer[:, 1:]
    flat = logits[:, :-1].flatten(0, 1).float()
    losses = functional.cross_entropy(flat, targets.flatten(), reduction='none')
    losses = losses.view_as(targets)
    in_log = (targets != pad_id) & ~in_answer
    loss = (losses[in_answer].mean() + losses[in_log].mean()) / 2
    lookups = in_answer & torch.isin(targets, lookup_ids)
    right = logits[:, :-1].argmax(-1)[lookups] == targets[lookups]
    return loss, right.float().mean().item()


class TargetTraining:
    """The state of one training run: model, optimizer, and where in the curriculum it is."""

    def __init__(self, config: dict, out: Path, device: str = 'cpu'):
        torch.manual_seed(config['seed'])
        self.config, self.out, self.device = config, out, device
        self.tokenizer = build_tokenizer(config['model']['max_position_embeddings'])
        self.model = build_model(config['model'], self.tokenizer).to(device).train()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config['learning_rate'], betas=(0.9, 0.98),
            weight_decay=config['weight_decay'])
        words = ('not', 'heavy', *STATES, *PLACES)
        self.lookup_ids = torch.tensor(self.tokenizer.convert_tokens_to_ids(list(words)), device=device)
        self.step = self.stage = self.stage_step = 0
        self.lookups = 0.0  # running mean of the lookup accuracy in this stage
        self.seconds = 0.0
        self.stage_log: list[dict] = []
        self.config_changes: list[dict] = []  # what was changed between resumes, and at which step

    @property
    def done(self) -> bool:
        return self.stage >= len(self.config['stages'])

    def learning_rate(self) -> float:
        """Return the rate of the next step: linear warm-up, then constant, then a cosine down along the last stage."""
        top, final = self.config['learning_rate'], self.config['final_learning_rate']
        if self.stage == len(self.config['stages']) - 1:
            part = self.stage_step / self.config['stages'][-1]['max_steps']
            return final + (top - final) * (1 + math.cos(math.pi * part)) / 2
        return top * min(1.0, (self.step + 1) / self.config['warmup_steps'])

    def train_step(self) -> tuple[float, float]:
        """Take one optimizer step. Return the loss and the lookup accuracy on its batch."""
        started = time.perf_counter()
        stage = self.config['stages'][self.stage]
        batch = make_batch(stage, self.step, self.tokenizer, self.config['seed'])
        ids, in_answer = (tensor.to(self.device) for tensor in batch)
        for group in self.optimizer.param_groups:
            group['lr'] = self.learning_rate()
        dtype = getattr(torch, self.config['autocast'])
        with torch.autocast(self.device, dtype=dtype, enabled=dtype != torch.float32):
            # Padding is on the right, where no real token attends to it, so no attention mask is needed.
            logits = self.model(input_ids=ids, use_cache=False).logits
        loss, lookups = loss_and_lookups(logits, ids, in_answer, self.tokenizer.pad_token_id, self.lookup_ids)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.seconds += time.perf_counter() - started
        self._advance(lookups)
        return loss.item(), lookups

    def _advance(self, lookups: float) -> None:
        """Count a step with this lookup accuracy, and go to the next stage where this one is over."""
        stage = self.config['stages'][self.stage]
        self.step += 1
        self.stage_step += 1
        self.lookups += (lookups - self.lookups) * max(0.02, 1 / self.stage_step)
        passed = self.stage_step >= 50 and self.lookups >= stage['pass']
        if passed or self.stage_step >= stage['max_steps']:
            self.stage_log.append({'stage': self.stage, 'steps': self.stage_step,
                                   'lookup_accuracy': self.lookups, 'seconds': round(self.seconds)})
            self.stage, self.stage_step, self.lookups = self.stage + 1, 0, 0.0

    def save_model(self) -> None:
        """Write weights (float32), configuration and tokenizer to `out`/model, as the Auto classes load them."""
        directory = self.out / 'model'
        self.model.save_pretrained(directory)
        # transformers 5 reads and writes rope_parameters alone; transformers 4 reads rope_theta.
        path = directory / 'config.json'
        config = json.loads(path.read_text())
        config['rope_theta'] = self.config['model']['rope_theta']
        path.write_text(json.dumps(config, indent=2) + '\n')
        for file in directory.glob('*.safetensors'):
            file.chmod(0o644)  # safetensors files are written readable by their owner only
        save_tokenizer(self.tokenizer, directory)
        facts = {'config': self.config, 'steps': self.step, 'seconds': round(self.seconds),
                 'hardware': hardware(self.device), 'stages': self.stage_log,
                 'config_changes': self.config_changes}
        (directory / 'training.json').write_text(json.dumps(facts, indent=2) + '\n')

    def save_checkpoint(self) -> None:
        """Write `out`/checkpoint.pt, whole or not at all."""
        progress = [self.step, self.stage, self.stage_step, self.lookups, self.seconds, self.stage_log]
        state = {'config': self.config, 'model': self.model.state_dict(),
                 'optimizer': self.optimizer.state_dict(), 'progress': progress,
                 'config_changes': self.config_changes}
        part = self.out / 'checkpoint.part'
        torch.save(state, part)
        part.replace(self.out / 'checkpoint.pt')

    def resume(self) -> bool:
        """Go on from the checkpoint in `out`; return whether there is one.

        ValueError where its model has another shape than the configuration's. Other changes of the configuration are
        allowed and recorded.
        """
        path = self.out / 'checkpoint.pt'
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state['config']['model'] != self.config['model']:
            raise ValueError(f'{path} holds a model of another shape: {state["config"]["model"]}')
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step, self.stage, self.stage_step, self.lookups, self.seconds, self.stage_log = state['progress']
        self.config_changes = state.get('config_changes', [])
        if state['config'] != self.config:
            self.config_changes.append({'step': self.step, 'config_before': state['config']})
        return True


def train(
    config: dict, out: Path, *, device: str = 'cpu', steps: int | None = None, save_every: int = 200,
) -> list[float]:
    """Train to the end of the curriculum, or for `steps` more steps, and save the model. Return each step's loss."""
    out.mkdir(parents=True, exist_ok=True)
    run = TargetTraining(config, out, device)
    resumed = run.resume()
    losses: list[float] = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn('{task.fields[note]}'))
    with Progress(*columns) as progress, open(out / 'log.jsonl', 'a') as log:
        bar = progress.add_task('', note='resumed' if resumed else '')
        while not run.done and (steps is None or len(losses) < steps):
            stage, stage_step = run.stage, run.stage_step
            loss, lookups = run.train_step()
            losses.append(loss)
            progress.update(bar, completed=stage_step + 1, total=config['stages'][stage]['max_steps'],
                            description=f'stage {stage}', note=f'loss {loss:.3f}, lookups {run.lookups:.3f}')
            if run.step % 20 == 0 or run.stage != stage:
                log.write(json.dumps({'step': run.step, 'stage': run.stage, 'loss': round(loss, 4),
                                      'lookups': round(lookups, 4), 'mean_lookups': round(run.lookups, 4),
                                      'seconds': round(run.seconds, 1)}) + '\n')
                log.flush()
            if run.step % save_every == 0:
                run.save_checkpoint()
    run.save_checkpoint()
    run.save_model()
    return losses


def main(arguments: list[str] | None = None) -> None:
    """Run `python -m timebill_ros.training.train_target`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', type=Path, default=DEFAULT_CONFIG, help='JSON (default: the committed one)')
    parser.add_argument('--out', type=Path, required=True, help='directory for checkpoints and the model')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--steps', type=int, help='stop after so many more; run again to go on')
    options = parser.parse_args(arguments)
    train(json.loads(options.config.read_text()), options.out, device=options.device, steps=options.steps)


if __name__ == '__main__':
    main()
