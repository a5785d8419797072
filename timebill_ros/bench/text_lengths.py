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

"""The comparison of length predictors on prompts from files, with any model.

The target answers the prompts of one file, which methods learn from, and those of another, on which they are judged;
both greedily, as labels are made (training/answering.py). Two splits:

    matched  learned from all prompts of the one file, judged on all of the other
    shifted  half of the kinds of prompts are left out of learning, and only these are judged

A prompt's kind is what its file calls it, up to the first "_": `source` is often a data set with its template. Kinds of
which few prompts are judged are taken together.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from timebill_ros.bench.length_rows import CLASSIFIER, CONSTANT, WORDS, Case, Comparison, Predicted
from timebill_ros.bench.machine import describe_device
from timebill_ros.bench.remaining_rows import remaining_rows
from timebill_ros.bench.state_rows import Goal, Learned
from timebill_ros.bench.word_lengths import WordLengths
from timebill_ros.inference.devices import choose_device
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.length import length_predictor
from timebill_ros.length.hidden_state_head import FEWEST
from timebill_ros.length.label_grid import Labels, bucket_size_for, from_cdf
from timebill_ros.training.answering import Answer, Target, answers_to
from timebill_ros.training.layer_choice import LayerChoice, choose_layer
from timebill_ros.training.prompts import Prompt, read_prompts, some_of

BED = 'text'
LEAST_OF_A_KIND = 15  # prompts that are judged: fewer say nothing of a kind
OTHERS = 'others'


@dataclass(frozen=True)
class Sources:
    """Files of prompts to learn from and to be judged on, how many are taken of each, and where answers are kept."""

    learned: Path
    judged: Path
    n_learned: int
    n_judged: int
    journal: Path


@dataclass(frozen=True)
class Asked:
    """A prompt that was answered, and its kind."""

    prompt: Prompt
    kind: str
    answer: Answer

    def goal(self, depth: int) -> Goal:
        """Return what is learned from it, with the state at this depth."""
        answer = self.answer
        return Goal(answer.states[depth], answer.prompt_tokens, answer.n, answer.whole)


def measure(target: Target, sources: Sources, predictor_dir: Path | None = None) -> dict:
    """Return the results of this part, see length_predictor.py. `predictor_dir`: of a classifier for the target.

    ValueError where too few of the prompts fit the model.
    """
    learned, judged = answered(target, sources)
    if len(learned) < FEWEST or not judged:
        raise ValueError(f'{len(learned)} prompts of {sources.learned} and {len(judged)} of {sources.judged} fit the '
                         f'model: at least {FEWEST} and one are needed')
    learned, judged = with_common_kinds(learned, judged)
    choice = _layer_of(learned)
    device = choose_device(target.device)
    predictor = length_predictor.load(predictor_dir, device=device) if predictor_dir else None
    left_out = left_out_kinds(judged)
    result = {'rows': [], 'differences': [], 'facts': {
        **describe_device(device), 'model': Path(target.name).name, 'dtype': target.dtype,
        'max_new_tokens': target.max_new_tokens, 'goals_learned_from': len(learned), 'prompts_judged': len(judged),
        'depth': choice.depth, 'kinds_left_out_when_shifted': left_out,
        'gain_by_depth': {str(depth): gain for depth, gain in choice.gains.items()}}}
    for split, some, others in (
            ('matched', learned, judged),
            ('shifted', [one for one in learned if one.kind not in left_out],
             [one for one in judged if one.kind in left_out])):
        if len(some) < FEWEST or not others:
            continue
        found = compare(some, others, choice.depth, target.max_new_tokens, predictor)
        result['rows'] += [{'split': split, **row} for row in found.rows()]
        result['differences'] += [{'split': split, **row} for row in found.differences()]
    result['remaining'] = remaining_rows([one.answer for one in learned], [one.answer for one in judged],
                                         depth=choice.depth, limit=target.max_new_tokens)
    return result


def answered(target: Target, sources: Sources) -> tuple[list[Asked], list[Asked]]:
    """Return the prompts that fit the model, with their answers: those to learn from, and those to be judged."""
    tokenizer = load_tokenizer(target.name)
    parts = [some_of(read_prompts(path, tokenizer), n) for path, n in
             ((sources.learned, sources.n_learned), (sources.judged, sources.n_judged))]
    prompts = [prompt for part in parts for prompt in part]
    with Progress() as progress:
        bar = progress.add_task('answers', total=len({prompt.text for prompt in prompts}))
        answers = answers_to(target, [prompt.text for prompt in prompts], sources.journal,
                             on_progress=lambda done: progress.update(bar, completed=done))
    asked = [Asked(prompt, prompt.kind.partition('_')[0] or OTHERS, answer)
             for prompt, answer in zip(prompts, answers, strict=True)]
    border = len(parts[0])
    return tuple([one for one in part if one.answer.states is not None] for part in (asked[:border], asked[border:]))


def with_common_kinds(learned: list[Asked], judged: list[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Return the prompts again; kinds of which few are judged are called OTHERS."""
    counts = Counter(one.kind for one in judged)
    return tuple([one if counts[one.kind] >= LEAST_OF_A_KIND else replace(one, kind=OTHERS) for one in part]
                 for part in (learned, judged))


def left_out_kinds(judged: Sequence[Asked]) -> list[str]:
    """Return every second kind by frequency; OTHERS, which is none, stays."""
    counts = Counter(one.kind for one in judged if one.kind != OTHERS)
    return [kind for kind, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))][1::2]


def compare(learned: Sequence[Asked], judged: Sequence[Asked], depth: int, limit: int,
            predictor: length_predictor.LengthPredictor | None = None) -> Comparison:
    """Have every method learn from some prompts and predict the lengths of the others' answers."""
    labels = _labels(learned)
    marginal = from_cdf(labels.marginal(), labels.bucket_size)
    words = WordLengths([one.prompt.text for one in learned], [one.answer.prompt_tokens for one in learned], labels)
    states = Learned([one.goal(depth) for one in learned], limit)
    predicted: dict[str, list[Predicted]] = {}
    for one in judged:
        text, n_x = one.prompt.text, one.answer.prompt_tokens
        found = {CONSTANT: marginal, WORDS: words.predict(text, n_x)}
        if predictor is not None:
            with torch.inference_mode():
                found[CLASSIFIER] = predictor.predict(text)
        found.update(states.predict(one.answer.states[depth], n_x))
        for method, distribution in found.items():
            predicted.setdefault(method, []).append(Predicted.of(distribution, limit))
    cases = [Case(i, one.kind, one.answer.n, one.answer.whole) for i, one in enumerate(judged)]
    return Comparison(cases, predicted, limit)


def _labels(asked: Sequence[Asked]) -> Labels:
    lengths = np.array([one.answer.n for one in asked])
    return Labels(lengths, np.array([one.answer.whole for one in asked]), bucket_size_for(lengths))


def _layer_of(learned: Sequence[Asked]) -> LayerChoice:
    states = {depth: np.array([one.answer.states[depth] for one in learned]) for depth in learned[0].answer.states}
    return choose_layer(states, np.array([one.answer.n for one in learned]),
                        np.array([one.answer.whole for one in learned]))
