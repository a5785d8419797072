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

"""A length predictor in training: its network, its losses, and one optimizer step at a time.

The backbone is a small language model of its own, or a copy of the target or of its first layers. A copy can already
read the prompt, and auxiliary losses keep that ability:

    length          cross-entropy over the length buckets at the last token of the prompt (TimeBill, arXiv 2512.21859);
                    several responses to a prompt make a soft label
    remaining       the same for the length that remains, at every token of a response
    partial         the same where an instruction could have stopped, for prompts that know that
    language_model  the language model's own next-token loss, on prompt and response
    baselines       of the heads that the predictor is compared with (length_baselines.py)

The configuration weighs them: `remaining_weight` (also for partial), `language_model_weight`, `baselines_weight`.

A step's gradient is summed over parts of the batch with at most `micro_batch_tokens` tokens each, so that memory does
not grow with `batch_tokens`. A part counts by its examples.
"""

import math
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from timebill_ros.inference.devices import computes_in_bfloat16, is_emulated
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length.length_distribution import LengthDistribution, bucket_of
from timebill_ros.length.length_predictor import LengthPredictor, compress
from timebill_ros.training.backbone import load_backbone
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_examples import Example, collate, split
from timebill_ros.training.prompts import Prompt


class PredictorTraining:
    """The state of one training run: language model, length head, baselines if wanted, and optimizer.

    config:        see length_predictor.json and length_predictor_paper.json.
    target_dir:    the model whose responses are predicted.
    out:           directory for checkpoints.
    backbone_dir:  a small language model to start from; None starts from a copy of the target.
    layers:        of the backbone, the first so many; None: all of them.
    """

    def __init__(self, config: dict, target_dir: Path, out: Path, device: str = 'cpu',
                 backbone_dir: Path | None = None, layers: int | None = None):
        torch.manual_seed(config['seed'])
        self.config, self.out, self.device, self.target_dir = config, out, device, target_dir
        self.backbone_dir = backbone_dir or target_dir
        self.target_tokenizer = load_tokenizer(target_dir)
        self.tokenizer = load_tokenizer(self.backbone_dir)
        # Responses are kept as the target's tokens, which another backbone cannot read.
        self.reads_responses = backbone_dir is None and (config['language_model_weight'] or config['remaining_weight'])
        self.lm = load_backbone(self.backbone_dir, layers)
        self.n_layers = self.lm.config.get_text_config(decoder=True).num_hidden_layers
        self.autocast = _autocast(config['autocast'], torch.device(device))
        n_buckets = math.ceil(config['max_new_tokens'] / config['bucket_size'])
        uniform = LengthDistribution(config['bucket_size'], [1 / n_buckets] * n_buckets)
        self.predictor = LengthPredictor(
            self.lm.base_model, self.tokenizer, uniform, max_input_tokens=config['max_input_tokens'])
        self.predictor.to(device).train()
        self.baselines: Baselines | None = None
        # Each parameter once: output embeddings, used by the language model's loss only, may be the input embeddings.
        self.parameters = list({id(p): p for p in [*self.lm.parameters(), *self.predictor.head.parameters()]}.values())
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=config['weight_decay'])
        self.step = 0
        self.seconds = 0.0

    def compare_with_baselines(self, lengths: list[int]) -> None:
        """Train the other papers' heads too. lengths: of the training responses, in tokens."""
        self.baselines = Baselines.for_lengths(
            self.predictor.head.in_features, lengths, self.predictor.bucket_size, self.predictor.n_buckets)
        self.baselines.to(self.device)
        self.parameters += list(self.baselines.parameters())
        self.optimizer.add_param_group({'params': list(self.baselines.parameters())})

    def example(self, prompt: Prompt, lengths: list[int], response: list[int]) -> Example:
        """Make an example of a prompt, compressed as the node would, and of its responses.

        lengths:   of the responses, in tokens.
        response:  one of them, in the target's tokens; it may be empty where the training does not read it.
        """
        encoding = self.tokenizer(prompt.text, add_special_tokens=False, return_offsets_mapping=bool(prompt.partial),
                                  verbose=False)
        whole = encoding['input_ids']
        ids = compress(whole, self.config['max_input_tokens'])
        partial = []
        if prompt.partial:
            ends = {end: i for i, (_, end) in enumerate(encoding['offset_mapping'])}
            # In a compressed prompt only the tail keeps its distance to the end. Positions before it are left out.
            tail = len(ids) // 2 if len(ids) < len(whole) else 0
            partial = [(ends[at] - len(whole) + len(ids), n) for at, n in prompt.partial]
            partial = [(at, n) for at, n in partial if at >= tail]
        return Example(ids, response if self.reads_responses else [], lengths, tuple(partial))

    def reference_response(self, prompt: Prompt) -> list[int]:
        """Return the prompt's reference answer in the target's tokens, with the end token."""
        ids = self.target_tokenizer.encode(prompt.answer, add_special_tokens=False)
        return [*ids, self.target_tokenizer.eos_token_id]

    def train_step(self, examples: list[Example], learning_rate: float) -> dict[str, float]:
        """Take one optimizer step. Return the parts of the loss by name, without their weights."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate
        self.optimizer.zero_grad()
        found: dict[str, float] = {}
        for some in split(examples, self.config.get('micro_batch_tokens', math.inf)):
            parts, weights = self._losses(some)
            share = len(some) / len(examples)
            (share * sum(weights[name] * part for name, part in parts.items())).backward()
            for name, part in parts.items():
                found[name] = found.get(name, 0.0) + share * part.item()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return found

    def _losses(self, examples: list[Example]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return the parts of the loss and their weights, by name."""
        config = self.config
        batch = collate(examples, self.tokenizer.pad_token_id or 0, self.predictor.bucket_size,
                        self.predictor.n_buckets)
        ids, remaining, last, labels, ends = (t.to(self.device) for t in batch)
        with torch.autocast(ids.device.type, dtype=self.autocast, enabled=self.autocast != torch.float32):
            # Padding is on the right, where no real token attends to it, so no attention mask is needed.
            hidden = self.predictor.backbone(input_ids=ids, use_cache=False).last_hidden_state  # [batch, S, hidden]
        rows = torch.arange(len(ids), device=ids.device)
        at_end = hidden[rows, last].float()
        parts = {'length': functional.cross_entropy(self.predictor.head(at_end), labels)}
        weights = {'length': 1.0}
        known = remaining > 0
        if config['remaining_weight'] and known.any():
            in_prompt = torch.arange(ids.shape[1], device=ids.device) < last[:, None]
            for name, chosen in (('partial', known & in_prompt), ('remaining', known & ~in_prompt)):
                if chosen.any():
                    left = bucket_of(remaining[chosen], self.predictor.bucket_size)
                    parts[name] = functional.cross_entropy(
                        self.predictor.head(hidden[chosen].float()), left.clamp(max=self.predictor.n_buckets - 1))
                    weights[name] = config['remaining_weight']
        if config['language_model_weight']:
            real = torch.arange(1, ids.shape[1], device=ids.device) < ends[:, None]
            logits = self.lm.get_output_embeddings()(hidden[:, :-1][real].float())
            parts['language_model'] = functional.cross_entropy(logits, ids[:, 1:][real])
            weights['language_model'] = config['language_model_weight']
        if self.baselines:
            # The baselines learn from one length per example, another one in each step.
            drawn = torch.tensor([e.lengths[self.step % len(e.lengths)] for e in examples], device=ids.device)
            parts['baselines'] = self.baselines.loss(at_end, drawn)
            weights['baselines'] = config['baselines_weight']
        return parts, weights

    def _shape(self) -> dict:
        """Return what a checkpoint must agree with."""
        return {'backbone': self.backbone_dir.name, 'layers': self.n_layers, 'buckets': self.predictor.n_buckets,
                'bucket size': self.predictor.bucket_size, 'baselines': self.baselines is not None}

    def save_checkpoint(self) -> None:
        """Write `out`/checkpoint.pt, whole or not at all."""
        part = self.out / 'checkpoint.part'
        torch.save({'shape': self._shape(), 'lm': self.lm.state_dict(), 'head': self.predictor.head.state_dict(),
                    'baselines': self.baselines.state_dict() if self.baselines else {},
                    'optimizer': self.optimizer.state_dict(), 'step': self.step, 'seconds': self.seconds}, part)
        part.replace(self.out / 'checkpoint.pt')

    def resume(self) -> None:
        """Go on from the checkpoint in `out`, if there is one. ValueError where it is of another predictor."""
        path = self.out / 'checkpoint.pt'
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            was, now = state.get('shape', {}), self._shape()
            if other := [name for name in now if was.get(name) != now[name]]:
                raise ValueError(f'{path} is of a predictor with {_told(was, other)}, not {_told(now, other)}: remove '
                                 'it, or choose another --out')
            self.lm.load_state_dict(state['lm'])
            self.predictor.head.load_state_dict(state['head'])
            if self.baselines:
                self.baselines.load_state_dict(state['baselines'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.seconds = state['step'], state['seconds']


def _autocast(name: str, device: torch.device) -> torch.dtype:
    """Return the precision to compute in; `auto`: bfloat16 where the hardware has it."""
    if name != 'auto':
        return getattr(torch, name)
    has = computes_in_bfloat16(device) if device.type == 'cuda' else not is_emulated(torch.bfloat16)
    return torch.bfloat16 if has else torch.float32


def _told(shape: dict, names: list[str]) -> str:
    return ', '.join(f'{name} {shape.get(name, "unknown")}' for name in names)
