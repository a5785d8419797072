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

"""The network of a length predictor in training, one optimizer step at a time."""

import math
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length.length_distribution import LengthDistribution, bucket_of
from timebill_ros.length.length_predictor import LengthPredictor, compress
from timebill_ros.training.length_baselines import Baselines
from timebill_ros.training.length_examples import Example, collate
from timebill_ros.training.prompts import Prompt


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
