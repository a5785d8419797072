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

"""Train the length predictor of a target model on the lengths that the target itself generates.

1. The target answers the prompts, at the temperature of use and cut where goals will be. The lengths of its responses
   are the labels (target_responses.py).
2. Where prompts come with reference answers, the predictor first learns the references' lengths: they cost nothing to
   make.
3. The predictor learns the target's lengths (TimeBill, arXiv 2512.21859; predictor_training.py has the losses).
4. A share of the prompts, held out of training, gives the validation error and the calibration scores.

Every response and, twice a minute at most, a checkpoint are kept in `out`, so the same call goes on where it stopped.
Ctrl-C ends it after the step that it is in. `log.jsonl` there tells how far it is (run_files.py).
"""
from __future__ import annotations

import math
from pathlib import Path
from statistics import median

from rich.progress import Progress

from timebill_ros.inference.model_directory import fingerprint
from timebill_ros.length.calibration import SCORES_FILE, save_scores, surprise
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.training import target_responses
from timebill_ros.training.hardware import hardware
from timebill_ros.training.length_examples import batches
from timebill_ros.training.length_scores import MEASURES, mean_of, score, score_of_point
from timebill_ros.training.predictor_training import PredictorTraining
from timebill_ros.training.prompts import Prompt
from timebill_ros.training.run_files import CHECKPOINT_EVERY_S, Checkpoints, ProgressFile, end_after_step
from timebill_ros.training.target_responses import ANSWERS_FILE, RESPONSES_FILE, Responses

SITE_LOG_CONFIG = Path(__file__).with_name('length_predictor.json')
DEFAULT_CONFIG = Path(__file__).with_name('length_predictor_default.json')
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json')


def train(
    config: dict, target_dir: Path, out: Path, references: list[Prompt], labelled: list[Prompt], *,
    backbone_dir: Path | None = None, layers: int | None = None, baselines: bool = False, device: str = 'cpu',
    answers: Path | None = None, checkpoint_every_s: float = CHECKPOINT_EVERY_S, steps: int | None = None,
) -> dict:
    """Run the whole training and save the predictor to `out`/length_predictor.

    config:        see length_predictor_default.json, length_predictor.json (site log) and length_predictor_paper.json.
    references:    prompts with reference answers, whose lengths are learned first.
    labelled:      prompts for the target to answer; a share of them is held out for validation and calibration.
    backbone_dir:  a small language model to start from instead of the target.
    layers:        of the backbone, the first so many; None: all of them.
    baselines:     also train the heads that the predictor is compared with, and save them beside it.
    answers:       the journal of greedy answers, which another command may have begun; in `out` where None.
    steps:         stop after so many further steps; the same call goes on from there.

    Returns the training facts, and besides what is not saved: the length loss of every step of this call under
    'losses', and under 'left' how many steps are still to be done.
    KeyboardInterrupt at Ctrl-C, once the step that it came in is kept. ValueError where the target takes none of the
    prompts.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = PredictorTraining(config, target_dir, out, device, backbone_dir, layers)
    told = ProgressFile(out)
    history: list[float] = []
    with Progress() as progress:
        responses = _responses(run, labelled, answers or out / ANSWERS_FILE, progress, told)
        answered = [(prompt, given) for prompt, given in zip(labelled, responses, strict=True) if given is not None]
        if not answered:
            raise ValueError(f'none of the {len(labelled)} prompts fits the context of {target_dir}')
        n_held_out = max(1, round(len(answered) * config['validation_share']))
        held_out, learned = answered[:n_held_out], answered[n_held_out:] or answered
        lengths = [n for _, given in learned for n in given.lengths]
        if baselines:
            run.compare_with_baselines(lengths)
        run.resume()
        checkpoints = Checkpoints(run.save_checkpoint, checkpoint_every_s)
        answers_given = [(prompt, _reference(run, prompt)) for prompt in references]
        first = 0
        for name, pairs, epochs, top_rate in (
                ('references', answers_given, config['epochs_on_references'], config['learning_rate']),
                ('labels', learned, config['epochs_on_labels'], config['label_learning_rate'])):
            examples = [run.example(prompt, given.lengths, given.tokens) for prompt, given in pairs] if epochs else []
            plan = list(batches([len(e.prompt) + len(e.response) for e in examples], config['batch_tokens'], epochs,
                                config['seed']))
            bar = progress.add_task(name, total=len(plan), visible=bool(plan))
            with end_after_step() as is_to_end:
                for i, batch in enumerate(plan):
                    if steps is not None and len(history) >= steps:
                        break
                    if first + i >= run.step:  # earlier steps were done before a resume
                        rate = top_rate * min((i + 1) / config['warmup_steps'],
                                              0.05 + 0.95 * (1 + math.cos(math.pi * i / len(plan))) / 2)
                        parts = run.train_step([examples[k] for k in batch], rate)
                        history.append(parts['length'])
                        progress.update(bar, description=' '.join(f'{k} {v:.2f}' for k, v in parts.items()))
                        told.tell(name, i + 1, len(plan), seconds=round(run.seconds, 1),
                                  **{part: round(loss, 4) for part, loss in parts.items()})
                        checkpoints.write_if_due()
                    progress.update(bar, completed=i + 1)
                    if is_to_end():
                        checkpoints.write()
                        break
            if is_to_end():
                raise KeyboardInterrupt  # where the signal is ignored otherwise
            first += len(plan)
        run.save_checkpoint()
        facts = _finish(run, held_out, lengths)
    return {**facts, 'losses': history, 'left': first - run.step}


def _reference(run: PredictorTraining, prompt: Prompt) -> Responses:
    ids = run.reference_response(prompt)
    return Responses([len(ids)], ids)


def _responses(run: PredictorTraining, prompts: list[Prompt], answers: Path, progress: Progress,
               told: ProgressFile) -> list[Responses | None]:
    """Return the target's responses to each prompt, None where it cannot take one, as far as possible from `out`."""
    config, texts = run.config, [prompt.text for prompt in prompts]
    are_greedy = not config['temperature'] and not run.reads_responses
    total = len(set(texts) if are_greedy else texts)  # one that comes twice is answered greedily once
    bar = progress.add_task(f'responses at temperature {config["temperature"]}', total=total)

    def on_progress(done: int) -> None:
        progress.update(bar, completed=done)
        told.tell('responses', done, total)

    if are_greedy:
        return target_responses.greedy(run.target_dir, texts, answers, device=run.device,
                                       max_new_tokens=config['max_new_tokens'], on_progress=on_progress)
    expected = [len(run.reference_response(prompt)) for prompt in prompts if prompt.answer is not None]
    return target_responses.drawn(
        run.target_dir, texts, run.out / RESPONSES_FILE, device=run.device, max_new_tokens=config['max_new_tokens'],
        temperature=config['temperature'], samples=config['samples'], seed=config['seed'],
        expected=expected if len(expected) == len(texts) else (), on_progress=on_progress)


def _finish(run: PredictorTraining, held_out: list[tuple[Prompt, Responses]], lengths: list[int]) -> dict:
    """Measure the predictor on the held-out prompts, save it with its facts and calibration scores, return the facts.

    held_out: prompts with their responses; lengths: of the training responses, in tokens.
    """
    config, predictor = run.config, run.predictor.eval()
    predictor.set_marginal(LengthDistribution.from_lengths(lengths, config['bucket_size'], predictor.n_buckets))
    predicted = [(predictor.predict(prompt.text), given.lengths) for prompt, given in held_out]
    pairs = [(distribution, n) for distribution, ns in predicted for n in ns]
    limit, middle = config['max_new_tokens'], median(lengths)
    own = mean_of([score(distribution, n, limit) for distribution, n in pairs])
    marginal = mean_of([score(predictor.marginal(), n, limit) for _, n in pairs])
    constant = mean_of([score_of_point(middle, n, limit) for _, n in pairs])
    facts = {
        'target': {'name': run.target_dir.name, 'fingerprint': fingerprint(str(run.target_dir))},
        'training': {
            'config': config, 'backbone': run.backbone_dir.name, 'layers': run.n_layers, 'steps': run.step,
            'seconds': round(run.seconds), 'hardware': hardware(run.device), 'validation_prompts': len(held_out),
            'share_cut': round(sum(n >= limit for n in lengths) / len(lengths), 3),
            **{f'validation_{name}': round(getattr(own, field), 2) for name, field in MEASURES.items()},
            'validation_mae_of_constant_median': round(constant.absolute_error, 2),
            **{f'validation_{name}_of_marginal': round(getattr(marginal, MEASURES[name]), 2)
               for name in ('crps', 'log_loss')},
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
