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

"""The response length predictor (RLP): a small language model that reads a prompt and predicts the answer's length.

A transformer backbone reads the prompt as the target model gets it. A linear head on the last token's hidden
state gives one logit for each length bucket (TimeBill, arXiv 2512.21859: buckets of B tokens, trained by cross-entropy
on the lengths that the target itself generates). The paper uses the arg max; here the whole distribution is kept.

A predictor is a directory:

    length_predictor.json             format version, B, n_buckets, N_p, marginal distribution, target, facts
    config.json, model.safetensors    the backbone, as AutoModel.save_pretrained writes it
    tokenizer.json, ...               the backbone's tokenizer
    head.safetensors                  weight [n_buckets, hidden] and bias [n_buckets]
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel

from timebill_ros.inference.damaged_files import damaged, find_damage
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length.length_distribution import LengthDistribution

FORMAT_VERSION = 1
FACTS_FILE, HEAD_FILE = 'length_predictor.json', 'head.safetensors'


def compress(ids: list[int], n_p: int) -> list[int]:
    """Keep at most `n_p` of a prompt's token ids: its head and its tail in equal halves, without its middle.

    Instructions stand at a prompt's start or end. The paper bounds the predictor's input by N_p tokens (PAPER:
    deployment) and names no compressor. For an odd `n_p` the tail gets the odd token. ValueError for `n_p` below 2.
    """
    if n_p < 2:
        raise ValueError(f'a prompt cannot be compressed to {n_p} tokens: at least 2')
    if len(ids) <= n_p:
        return ids
    head = n_p // 2
    return ids[:head] + ids[len(ids) - (n_p - head):]


class LengthPredictor(nn.Module):
    """Backbone, head and tokenizer, with what is needed to use them.

    backbone:          a transformers model without a language model head, as AutoModel gives.
    tokenizer:         the backbone's own.
    marginal:          length distribution over the training prompts, for when there is no time to predict. The buckets
                       of the predictor, `bucket_size` (B, in tokens) and `n_buckets`, are those of this distribution.
    max_input_tokens:  N_p, the longest prompt that is read whole; a longer one is compressed to N_p tokens.
    facts:             further entries of length_predictor.json ('target', 'training'), kept as they are.
    """

    def __init__(
        self, backbone: nn.Module, tokenizer, marginal: LengthDistribution, *, max_input_tokens: int,
        facts: dict | None = None,
    ):
        super().__init__()
        if max_input_tokens < 2:
            raise ValueError(f'max_input_tokens must be at least 2, got {max_input_tokens}')
        self.backbone, self.tokenizer = backbone, tokenizer
        self.bucket_size, self.n_buckets = marginal.bucket_size, marginal.n_buckets
        self.max_input_tokens, self.facts = max_input_tokens, dict(facts or {})
        self._marginal = marginal
        self.head = nn.Linear(backbone.config.hidden_size, self.n_buckets)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Compute logits over buckets [batch, n_buckets] (float32) from token ids [batch, S] without padding."""
        return self.head(self.last_hidden(input_ids)).float()

    def last_hidden(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Compute the last token's hidden state [batch, hidden] from token ids [batch, S] without padding."""
        return self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state[:, -1]

    def input_ids(self, text: str, max_input_tokens: int | None = None) -> torch.Tensor:
        """Return token ids [1, S] of a rendered prompt, compressed as `predict` says. ValueError where it is empty."""
        bound = min(max_input_tokens or self.max_input_tokens, self.max_input_tokens)
        ids = compress(self.tokenizer.encode(text, add_special_tokens=False), bound)
        if not ids:
            raise ValueError('cannot predict the response length of an empty prompt')
        return torch.tensor([ids], device=self.device)

    @torch.inference_mode()
    def predict(self, text: str, *, max_input_tokens: int | None = None) -> LengthDistribution:
        """Predict the length distribution of the response to `text`, the rendered prompt that the target model gets.

        A prompt of more than `max_input_tokens` of the predictor's tokens is compressed to that many (see `compress`).
        The default is the predictor's own N_p, and a larger bound counts as N_p. ValueError for an empty prompt, or
        where the network gives a value that is not a number.
        """
        return self.distribution(self(self.input_ids(text, max_input_tokens))[0])

    def distribution(self, logits: torch.Tensor) -> LengthDistribution:
        """Return the softmax of logits [n_buckets] as a distribution; ValueError where one is not a number."""
        return LengthDistribution(self.bucket_size, logits.double().softmax(-1).cpu().numpy())

    def marginal(self) -> LengthDistribution:
        """Return the length distribution over the training prompts."""
        return self._marginal

    def set_marginal(self, marginal: LengthDistribution) -> None:
        """Replace the marginal distribution by one over the same buckets. ValueError for other buckets."""
        if (marginal.bucket_size, marginal.n_buckets) != (self.bucket_size, self.n_buckets):
            raise ValueError(f'expected {self.n_buckets} buckets of {self.bucket_size} tokens, '
                             f'got {marginal.n_buckets} of {marginal.bucket_size}')
        self._marginal = marginal

    def save(self, directory: str | Path) -> None:
        """Write the directory that this file's docstring describes; weights in safetensors only."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        save_file({name: tensor.contiguous() for name, tensor in self.head.state_dict().items()},
                  directory / HEAD_FILE)
        for file in directory.glob('*.safetensors'):
            file.chmod(0o644)  # safetensors files are written readable by their owner only
        facts = {
            'format_version': FORMAT_VERSION, 'bucket_size': self.bucket_size, 'n_buckets': self.n_buckets,
            'max_input_tokens': self.max_input_tokens,
            'marginal': [round(p, 6) for p in self._marginal.to_list()], **self.facts,
        }
        (directory / FACTS_FILE).write_text(json.dumps(facts, indent=2) + '\n', encoding='utf-8')


def load(
    directory: str | Path, *, device: str | torch.device = 'cpu', dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> LengthPredictor:
    """Load a trained predictor, ready to predict.

    dtype: precision to compute in; None keeps that of the stored weights.

    Raises FileNotFoundError for a file that is missing and ValueError for one that cannot be used (bad JSON,
    unknown format version, weights of a wrong shape or not finite); the sentence names the file. Only
    safetensors weights are read, never pickled ones.
    """
    directory = Path(directory)
    for name in (FACTS_FILE, 'config.json', HEAD_FILE):
        if not (directory / name).is_file():
            raise FileNotFoundError(f'length predictor lacks {directory / name}')
    if not any(directory.glob('model*.safetensors')):
        raise FileNotFoundError(f'length predictor lacks {directory / "model.safetensors"}')
    marginal, facts = _read_facts(directory / FACTS_FILE)
    try:
        backbone, report = AutoModel.from_pretrained(
            directory, dtype=dtype or 'auto', use_safetensors=True, trust_remote_code=trust_remote_code,
            output_loading_info=True)
        tokenizer = load_tokenizer(directory, trust_remote_code=trust_remote_code)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = find_damage(directory) or _first_line(error)
        raise ValueError(f'length predictor {directory} cannot be loaded: {reason}') from error
    if report['missing_keys']:  # transformers only warns, and fills these with random numbers
        raise ValueError(f'{directory / "model.safetensors"} lacks the weight {min(report["missing_keys"])}')
    predictor = LengthPredictor(backbone, tokenizer, marginal, max_input_tokens=facts.pop('max_input_tokens'),
                                facts=facts)
    _load_head(predictor.head, directory / HEAD_FILE)
    predictor.head.to(backbone.dtype)
    for name, weight in predictor.named_parameters():
        if not weight.isfinite().all():
            file = directory / (HEAD_FILE if name.startswith('head.') else 'model.safetensors')
            raise ValueError(f'{file}: weight {name} holds values that are not finite')
    return predictor.to(device).eval()


def _read_facts(path: Path) -> tuple[LengthDistribution, dict]:
    """Return the marginal distribution and the other entries that a predictor keeps. ValueError names the file."""
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
        if facts.pop('format_version') != FORMAT_VERSION:
            raise ValueError(f'format version is not {FORMAT_VERSION}')
        marginal = LengthDistribution.from_list(facts.pop('marginal'), facts.pop('bucket_size'))
        if facts.pop('n_buckets') != marginal.n_buckets:
            raise ValueError(f'n_buckets is not the length of marginal ({marginal.n_buckets})')
        if not (isinstance(facts['max_input_tokens'], int) and facts['max_input_tokens'] >= 2):
            raise ValueError(f'max_input_tokens is {facts["max_input_tokens"]}, not a whole number from 2 up')
    except KeyError as error:
        raise ValueError(f'{path} lacks the entry {error}') from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:  # a JSONDecodeError is a ValueError
        raise ValueError(f'{path} is not usable: {_first_line(error)}') from error
    return marginal, facts


def _load_head(head: nn.Linear, path: Path) -> None:
    try:
        head.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(damaged(path, error)) from error
    except (RuntimeError, OSError) as error:
        raise ValueError(f'{path} cannot be loaded: {" ".join(str(error).split())}') from error


def _first_line(error: Exception) -> str:
    return f'{error}'.strip().splitlines()[0] if f'{error}'.strip() else type(error).__name__
