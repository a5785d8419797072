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

"""Labels for lengths from hidden states, made before a node serves: `timebill train-length-predictor --states`.

The target answers each prompt greedily, as the node does (answering.py). The hidden state that its prefill leaves, with
the length of the answer, is a label (length/state_labels.py). Which layer's states these are is chosen on the labels
themselves (layer_choice.py); the file says which. A node whose `length_predictor` names the file reads that layer,
begins with these labels and goes on learning.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from timebill_ros.length.hidden_state_head import FEWEST, fit
from timebill_ros.length.label_grid import Labels, bucket_size_for, from_cdf
from timebill_ros.length.state_labels import CAPACITY, StateLabels, for_fitting
from timebill_ros.training.answering import Answer, Target, answers_to
from timebill_ros.training.journal import beside
from timebill_ros.training.layer_choice import choose_layer
from timebill_ros.training.length_scores import Score, mean_of, score

FOLDS = 5  # that predictions are judged in


def labels_of(target: Target, texts: list[str], out: Path, *, processes: int = 0,
              on_progress: Callable[[int], None] = lambda done: None) -> StateLabels:
    """Answer the rendered prompts, write their labels to `out`, and return them.

    processes, on_progress: see `answers_to`.

    ValueError where the journal beside `out` is of another model, or none of the prompts fits the model.
    """
    texts = texts[-CAPACITY:]  # more would push the first ones out again
    answers = answers_to(target, texts, beside(out), processes=processes, on_progress=on_progress)
    labels = chosen_labels(answers)
    if labels is None:
        raise ValueError(f'none of the {len(texts)} prompts fits the context of {target.name}')
    labels.save(out, target.name)
    return labels


def chosen_labels(answers: list[Answer]) -> StateLabels | None:
    """Return the labels of the layer that tells most, in the order of the answers; None where no prompt was taken."""
    taken = [answer for answer in answers if answer.states is not None]
    if not taken:
        return None
    states = {depth: np.array([answer.states[depth] for answer in taken]) for depth in taken[0].states}
    choice = choose_layer(states, np.array([answer.n for answer in taken]), np.array([a.whole for a in taken]))
    last_width = next((len(states) // 2 for answer in taken for _, states in answer.looks), 0)
    labels = StateLabels(len(taken[0].states[choice.depth]), choice.depth, last_width)
    for answer in taken:
        labels.add(answer.states[choice.depth], answer.n, whole=answer.whole)
        if labels.looks is not None:
            labels.looks.add_answer(answer.states[choice.depth], answer.looks, answer.n, whole=answer.whole)
    return labels


def account(labels: StateLabels) -> str:
    """Return sentences on the labels: how many, how long, and what the states told of labels that were left out."""
    states, lengths, whole = labels.snapshot()
    told = (f'{len(lengths)} labels: the answers have {median(lengths):.0f} tokens in the middle, and '
            f'{1 - whole.mean():.0%} of them were cut.')
    if len(lengths) < 2 * FEWEST:
        return f'{told} That is too few: give at least {2 * FEWEST} prompts, better hundreds.'
    states = states.astype(np.float32)
    if not fit(states, for_fitting(lengths, whole)).is_better:
        return f'{told} The states do not tell long answers from short ones: a node uses them only where they do.'
    with_states, without = left_out_scores(states, lengths, whole)
    return (f'{told} Predicted from the states behind layer {labels.depth}, and without them, the lengths of answers '
            f'that were left out have a mean absolute error of {with_states.absolute_error:.1f} and '
            f'{without.absolute_error:.1f} tokens, a CRPS of {with_states.crps:.1f} and {without.crps:.1f} tokens, and '
            f'a log loss of {with_states.log_loss:.2f} and {without.log_loss:.2f}.')


def left_out_scores(states: np.ndarray, lengths: np.ndarray, whole: np.ndarray) -> tuple[Score, Score]:
    """Return the mean scores of predictions with states [n, H] and without, of each label by a fit to other folds."""
    limit, fold = int(lengths.max()), np.arange(len(lengths)) % FOLDS
    found: tuple[list[Score], list[Score]] = ([], [])
    for left_out in range(FOLDS):
        rest = fold != left_out
        labels = Labels(lengths[rest], whole[rest], bucket_size_for(lengths[rest]))
        head, marginal = fit(states[rest], labels), from_cdf(labels.marginal(), labels.bucket_size)
        for state, n in zip(states[~rest], lengths[~rest], strict=True):
            found[0].append(score(head.predict(state, marginal), int(n), limit))
            found[1].append(score(marginal, int(n), limit))
    return mean_of(found[0]), mean_of(found[1])
