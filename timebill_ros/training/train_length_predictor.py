"""Trains the length predictor of a target model on the lengths that the target itself generates.

    python -m timebill_ros.training.train_length_predictor --target build/target/model --site-log --out build/rlp
    python -m timebill_ros.training.train_length_predictor --target <model directory> --prompts prompts.jsonl --out ...

1. Where prompts come with reference answers, the predictor first learns on the references' lengths, which cost
   nothing to make.
2. The target answers prompts, once for each temperature of the configuration; the lengths are the labels.
3. The predictor learns those: cross-entropy over length buckets at the last token of the prompt (TimeBill,
   arXiv 2512.21859).

The predictor starts from the target's own weights, which already know how to read the prompt, and keeps them in
use through two auxiliary losses: the language model's on prompt and answer, and the length that remains, at
every token of the answer. Responses and a checkpoint are kept in `--out`; the same command goes on from there.
"""

import argparse
import json
import math
import random
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

from timebill_ros.calibration import LengthDistribution, bucket_of
from timebill_ros.length_predictor import LengthPredictor, compress
from timebill_ros.model import fingerprint
from timebill_ros.tokenizer import load_tokenizer
from timebill_ros.training import length_labels
from timebill_ros.training.hardware import hardware
from timebill_ros.training.length_labels import Prompt
from timebill_ros.training.site_log import generate

DEFAULT_CONFIG = Path(__file__).with_name('length_predictor.json')
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json')


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt, compressed to N_p, and of one response to it; the response's length is the label."""

    prompt: list[int]
    response: list[int]


def site_log_prompts(config: dict, tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Prompts of the embedded model's task, with references; many short ones and some of each length."""
    rng = random.Random(config['seed'])
    low, high = config['prompt_tokens']
    prompts = []
    for i in range(config['reference_prompts']):
        n_tokens = round(low * (high / low) ** rng.random())  # log-uniform
        # The target's own training uses small multiples of 10^9 as seeds; these are far from them.
        task = generate(7 * 10**15 + i, n_tokens=n_tokens)
        prompts.append(Prompt(length_labels.render(task.messages, tokenizer), task.answer))
    return prompts


class PredictorTraining:
    """A predictor in training: the target's network with a length head on it."""

    def __init__(self, config: dict, target_dir: Path, out: Path, device: str = 'cpu'):
        torch.manual_seed(config['seed'])
        self.config, self.out, self.device, self.target_dir = config, out, device, target_dir
        self.tokenizer = load_tokenizer(target_dir)
        # float32: the copy that is trained. The frozen target answers the prompts before its copy changes.
        self.lm = AutoModelForCausalLM.from_pretrained(target_dir, dtype=torch.float32, use_safetensors=True)
        n_buckets = math.ceil(config['max_new_tokens'] / config['bucket_size'])
        uniform = LengthDistribution(config['bucket_size'], [1 / n_buckets] * n_buckets)
        self.predictor = LengthPredictor(
            self.lm.base_model, self.tokenizer, uniform, max_input_tokens=config['max_input_tokens'])
        self.predictor.to(device).train()
        # The output embeddings take part in the auxiliary loss only; where tied they are the backbone's own.
        self.parameters = list({id(p): p for p in [*self.lm.parameters(), *self.predictor.head.parameters()]}.values())
        self.optimizer = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=config['weight_decay'])
        self.step = 0
        self.seconds = 0.0

    def example(self, text: str, response: list[int]) -> Example:
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return Example(compress(ids, self.config['max_input_tokens']), response)

    def reference_example(self, prompt: Prompt) -> Example:
        ids = self.tokenizer.encode(prompt.answer, add_special_tokens=False)
        return self.example(prompt.text, [*ids, self.tokenizer.eos_token_id])

    def train_step(self, examples: list[Example], learning_rate: float) -> dict[str, float]:
        """One optimizer step. Returns the parts of the loss."""
        started = time.perf_counter()
        ids, remaining, last = (t.to(self.device) for t in collate(examples, self.tokenizer.pad_token_id or 0))
        dtype = getattr(torch, self.config['autocast'])
        with torch.autocast(self.device, dtype=dtype, enabled=dtype != torch.float32):
            # Padding is on the right, where no real token attends to it, so no attention mask is needed.
            hidden = self.predictor.backbone(input_ids=ids, use_cache=False).last_hidden_state
            lm_logits = self.lm.get_output_embeddings()(hidden)
            length_logits = self.predictor.head(hidden)
        parts = losses(length_logits.float(), lm_logits.float(), ids, remaining, last, self.config['bucket_size'])
        loss = (parts['length'] + self.config['language_model_weight'] * parts['language_model']
                + self.config['remaining_weight'] * parts['remaining'])
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        self.seconds += time.perf_counter() - started
        return {name: part.item() for name, part in parts.items()}

    def save_checkpoint(self) -> None:
        part = self.out / 'checkpoint.part'
        torch.save({'lm': self.lm.state_dict(), 'head': self.predictor.head.state_dict(),
                    'optimizer': self.optimizer.state_dict(), 'step': self.step, 'seconds': self.seconds}, part)
        part.replace(self.out / 'checkpoint.pt')  # never leaves half a checkpoint behind

    def resume(self) -> None:
        path = self.out / 'checkpoint.pt'
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.lm.load_state_dict(state['lm'])
            self.predictor.head.load_state_dict(state['head'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.seconds = state['step'], state['seconds']


def collate(examples: list[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded on the right: ids [batch, S] (padding: `pad_id`), tokens of the response still to come after each
    position [batch, S] (0 inside the prompt, and where none is left), and each prompt's last position [batch]."""
    width = max(len(e.prompt) + len(e.response) for e in examples)
    ids = torch.full((len(examples), width), pad_id)
    remaining = torch.zeros(len(examples), width, dtype=torch.long)
    for row, e in enumerate(examples):
        n, m = len(e.prompt), len(e.response)
        ids[row, :n + m] = torch.tensor(e.prompt + e.response)
        remaining[row, n - 1:n + m] = torch.arange(m, -1, -1)
    return ids, remaining, torch.tensor([len(e.prompt) - 1 for e in examples])


def losses(
    length_logits: torch.Tensor, lm_logits: torch.Tensor, ids: torch.Tensor, remaining: torch.Tensor,
    last: torch.Tensor, bucket_size: int,
) -> dict[str, torch.Tensor]:
    """Cross-entropies of the length at the prompt's end, the length left inside the response, and the next token.

    length_logits: [batch, S, n_buckets]; lm_logits: [batch, S, vocabulary]; ids, remaining: [batch, S];
    last: [batch]. See `collate`.
    """
    n_buckets = length_logits.shape[-1]
    rows = torch.arange(len(ids), device=ids.device)
    buckets = bucket_of(remaining, bucket_size).clamp(max=n_buckets - 1)
    inside = remaining > 0
    inside[rows, last] = False
    # A sequence's own tokens reach up to the last one that something remains before.
    positions = torch.arange(ids.shape[1], device=ids.device)
    end = last + remaining[rows, last]
    real = positions[1:] <= end[:, None]
    length = functional.cross_entropy(length_logits[rows, last], buckets[rows, last])
    left = functional.cross_entropy(length_logits[inside], buckets[inside]) if inside.any() else length * 0
    language_model = functional.cross_entropy(lm_logits[:, :-1][real], ids[:, 1:][real])
    return {'length': length, 'remaining': left, 'language_model': language_model}


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
    config: dict, target_dir: Path, out: Path, prompts: list[Prompt] | None = None, *, device: str = 'cpu',
    save_every: int = 200,
) -> dict:
    """Runs the whole training and saves the predictor to `out`/length_predictor. None for `prompts`: site logs.

    Returns the training facts, with the loss of every step under 'losses' (which is not saved).
    """
    out.mkdir(parents=True, exist_ok=True)
    run = PredictorTraining(config, target_dir, out, device)
    prompts = site_log_prompts(config, run.tokenizer) if prompts is None else prompts
    order = list(range(len(prompts)))
    random.Random(config['seed']).shuffle(order)
    labelled = order[:config['labelled_prompts']]
    held_out = set(labelled[:max(1, round(len(labelled) * config['validation_share']))])
    history: list[float] = []
    with Progress() as progress:
        responses = _responses(run, [prompts[i].text for i in labelled], progress)
        run.resume()
        referenced = [i for i in order if prompts[i].answer is not None and i not in held_out]
        on_labels = [(n, ids) for n, i in enumerate(labelled) if i not in held_out for ids in responses[n]]
        phases = [
            ('references', config['epochs_on_references'], config['learning_rate'],
             [len(prompts[i].text.split()) + len(prompts[i].answer.split()) for i in referenced],
             lambda k: run.reference_example(prompts[referenced[k]])),
            ('labels', config['epochs_on_labels'], config['label_learning_rate'],
             [len(prompts[labelled[n]].text.split()) + len(ids) for n, ids in on_labels],
             lambda k: run.example(prompts[labelled[on_labels[k][0]]].text, on_labels[k][1])),
        ]
        first = 0
        for name, epochs, top_rate, lengths, example in phases:
            plan = list(batches(lengths, config['batch_tokens'], epochs, config['seed']))
            bar = progress.add_task(name, total=len(plan))
            for i, batch in enumerate(plan):
                if first + i >= run.step:  # earlier ones were done before a resume
                    rate = top_rate * min((i + 1) / config['warmup_steps'],
                                          0.05 + 0.95 * (1 + math.cos(math.pi * i / len(plan))) / 2)
                    parts = run.train_step([example(k) for k in batch], rate)
                    history.append(parts['length'])
                    progress.update(bar, description=' '.join(f'{k} {v:.3f}' for k, v in parts.items()))
                    if run.step % 20 == 0:
                        with open(out / 'log.jsonl', 'a') as log:
                            log.write(json.dumps({'phase': name, 'step': run.step, 'of': first + len(plan),
                                                  'seconds': round(run.seconds, 1), **parts}) + '\n')
                    if run.step % save_every == 0:
                        run.save_checkpoint()
                progress.update(bar, completed=i + 1)
            first += len(plan)
        run.save_checkpoint()
        facts = _finish(run, prompts, labelled, responses, held_out)
    return {**facts, 'losses': history}


def _responses(run: PredictorTraining, texts: list[str], progress: Progress) -> list[list[list[int]]]:
    """Responses of the target to each text, one per temperature; read from `out` where they were made before."""
    path = run.out / 'responses.jsonl'
    if path.exists():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if [row['text'] for row in rows] != texts:
            raise ValueError(f'{path} belongs to other prompts: remove it, or choose another --out')
        return [row['responses'] for row in rows]
    target = AutoModelForCausalLM.from_pretrained(run.target_dir, dtype='auto', use_safetensors=True)
    target.to(run.device).eval()
    columns = []
    for temperature in run.config['temperatures']:
        bar = progress.add_task(f'responses at temperature {temperature}', total=len(texts))
        columns.append(length_labels.generate_responses(
            target, run.tokenizer, texts, max_new_tokens=run.config['max_new_tokens'], temperature=temperature,
            seed=run.config['seed'], on_progress=lambda done, bar=bar: progress.update(bar, completed=done)))
    responses = [list(row) for row in zip(*columns, strict=True)]
    part = path.with_suffix('.part')
    part.write_text(''.join(json.dumps({'text': text, 'responses': row}) + '\n'
                            for text, row in zip(texts, responses, strict=True)))
    part.replace(path)
    return responses


def _finish(
    run: PredictorTraining, prompts: list[Prompt], labelled: list[int], responses: list[list[list[int]]],
    held_out: set[int],
) -> dict:
    """Measures the predictor on the held-out prompts' greedy lengths and saves it with its facts."""
    config, predictor = run.config, run.predictor.eval()
    lengths = [len(ids) for n, i in enumerate(labelled) if i not in held_out for ids in responses[n]]
    predictor.set_marginal(LengthDistribution.from_lengths(lengths, config['bucket_size'], predictor.n_buckets))
    wanted = [len(responses[n][0]) for n, i in enumerate(labelled) if i in held_out]
    given = [predictor.predict(prompts[i].text).median() for i in labelled if i in held_out]
    middle = median(lengths)
    facts = {
        'target': {'name': run.target_dir.name, 'fingerprint': fingerprint(str(run.target_dir))},
        'training': {
            'config': config, 'steps': run.step, 'seconds': round(run.seconds), 'hardware': hardware(run.device),
            'validation_prompts': len(wanted),
            'validation_mae': round(fmean(abs(a - b) for a, b in zip(given, wanted, strict=True)), 2),
            'validation_mae_of_constant_median': round(fmean(abs(middle - n) for n in wanted), 2),
        },
    }
    predictor.facts = facts
    directory = run.out / 'length_predictor'
    predictor.save(directory)
    for name in _TOKENIZER_FILES:  # the target's own files, rather than this transformers version's form of them
        if (run.target_dir / name).is_file():
            (directory / name).write_bytes((run.target_dir / name).read_bytes())
    return facts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', type=Path, required=True, help='directory of the target model')
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument('--prompts', type=Path, help='JSONL file, each line with "prompt" or "messages"')
    prompts.add_argument('--site-log', action='store_true', help="generate prompts of the embedded model's task")
    parser.add_argument('--config', type=Path, default=DEFAULT_CONFIG, help='JSON file (default: the committed one)')
    parser.add_argument('--out', type=Path, required=True, help='directory for responses, checkpoints, the predictor')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    loaded = None
    if options.prompts:
        loaded = length_labels.read_prompts(options.prompts, load_tokenizer(options.target))
    facts = train(json.loads(options.config.read_text()), options.target, options.out, loaded, device=options.device)
    print(json.dumps(facts['training'], indent=2))


if __name__ == '__main__':
    main()
