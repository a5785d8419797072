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


"""What is left of answers that go on, predicted at fixed numbers of tokens, for the comparison of length predictors.

At 16, 32 and 64 tokens, among the answers that are longer. Not at shares of the answer: such points know its end. The
rows:

    conditional marginal             what was left of the answers to other prompts that were as long
    prompt's states, conditional     the prediction before the first token, given that the answer is as long
    states                           the head on prompt's, newest and mean state, mixed with the row above
    states, in service               the same as a node has it after so many goals
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from timebill_ros.bench.bootstrap import difference
from timebill_ros.length.hidden_state_head import FEWEST, fit
from timebill_ros.length.label_grid import EDGES, Labels, bucket_size_for, from_cdf, left_on_grid
from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.length.look_head import fit_looks
from timebill_ros.length.observed_lengths import ObservedLengths
from timebill_ros.length.state_learner import StateLearner
from timebill_ros.training.answering import Answer
from timebill_ros.training.length_scores import mean_of, score

TOKENS = (16, 32, 64)
MARGINAL = 'conditional marginal'


def remaining_rows(train: Sequence[Answer], test: Sequence[Answer], *, depth: int, limit: int) -> list[dict]:
    """Return a row for each of TOKENS and each method.

    depth: of the prompts' states, in layers; limit: tokens at which answers were cut. Left out are the tokens at which
    fewer than FEWEST answers of `train`, or none of `test`, go on.
    """
    train, test = ([answer for answer in answers if answer.states is not None] for answers in (train, test))
    if len(train) < FEWEST or not any(answer.looks for answer in train):
        return []
    before = _before_the_first_token(train, depth)
    service = _learned_in_service(train, depth, limit)
    found = []
    for tokens in TOKENS:
        looks, asked = _looks(train, tokens, depth), _looks(test, tokens, depth)
        if len(looks) < FEWEST or not asked:
            continue
        left = np.array([answer.n - tokens for answer, _ in looks])
        labels = Labels(left, np.array([answer.whole for answer, _ in looks]), bucket_size_for(left))
        width, size = len(looks[0][0].states[depth]), labels.bucket_size
        head = fit_looks(np.array([states for _, states in looks]), width, labels)
        marginal, grid = from_cdf(labels.marginal(), size), (tokens, size, EDGES)
        predicted: dict[str, list[LengthDistribution]] = {}
        for answer, states in asked:
            early = left_on_grid(before(answer), *grid)
            for name, distribution in (
                    (MARGINAL, marginal), ('prompt\'s states, conditional', from_cdf(early, size)),
                    ('states', from_cdf(head.mixed(states, early), size)),
                    (f'states, in service after {len(train):,} goals',
                     from_cdf(left_on_grid(service(answer, states, tokens), *grid), size))):
                predicted.setdefault(name, []).append(distribution)
        found += _scored(predicted, [answer for answer, _ in asked], tokens, limit, len(looks))
    return found


def _scored(predicted: dict[str, list[LengthDistribution]], answers: list[Answer], tokens: int, limit: int,
            n_labels: int) -> list[dict]:
    """Return the rows of all methods at one number of tokens. Intervals are of the difference from the marginal."""
    scores = {name: [score(one, answer.n - tokens, limit - tokens)
                     for one, answer in zip(distributions, answers, strict=True)]
              for name, distributions in predicted.items()}
    base = [one.crps for one in scores[MARGINAL]]
    rows = []
    for name, found in scores.items():
        mean, (less, low, high) = mean_of(found), difference([one.crps for one in found], base)
        rows.append({'method': name, 'tokens': tokens, 'n': len(answers), 'learned_from': n_labels,
                     'share_censored': float(np.mean([not answer.whole for answer in answers])),
                     'mae': mean.absolute_error, 'crps': mean.crps, 'log_loss': mean.log_loss,
                     'crps_less_than_marginal': -less / mean_of(scores[MARGINAL]).crps,
                     'difference': [less, low, high]})
    return rows


def _looks(answers: Sequence[Answer], tokens: int, depth: int) -> list[tuple[Answer, np.ndarray]]:
    """Return the answers that go on after so many tokens, with all their states then [S]."""
    return [(answer, np.concatenate([answer.states[depth], states]).astype(np.float32))
            for answer in answers for at, states in answer.looks if at == tokens and answer.n > tokens]


def _before_the_first_token(train: Sequence[Answer], depth: int) -> Callable[[Answer], LengthDistribution]:
    """Return what predicts the length of an answer from its prompt's state."""
    lengths, whole = np.array([answer.n for answer in train]), np.array([answer.whole for answer in train])
    labels = Labels(lengths, whole, bucket_size_for(lengths))
    head = fit(np.array([answer.states[depth] for answer in train], dtype=np.float32), labels)
    marginal = from_cdf(labels.marginal(), labels.bucket_size)
    return lambda answer: head.predict(answer.states[depth].astype(np.float32), marginal)


def _learned_in_service(train: Sequence[Answer], depth: int, limit: int
                        ) -> Callable[[Answer, np.ndarray, int], LengthDistribution]:
    """Return what a node has learned from these goals: the length of an answer with states [S] after so many tokens."""
    width = len(train[0].states[depth])
    looked = next(len(states) for answer in train for _, states in answer.looks)
    learner, observed = StateLearner(width, depth, last_width=looked // 2), ObservedLengths()

    def expected(answer: Answer) -> LengthDistribution:
        marginal = observed.distribution(answer.prompt_tokens, limit)
        return learner.predict(answer.states[depth].astype(np.float32), marginal).distribution

    for answer in train:
        marginal = observed.distribution(answer.prompt_tokens, limit)
        by_state = learner.predict(answer.states[depth].astype(np.float32), marginal)
        looks = [learner.remaining.look(np.concatenate([by_state.state, states]).astype(np.float32), at,
                                        by_state.distribution) for at, states in answer.looks]
        observed.observe(answer.prompt_tokens, limit, answer.n, whole=answer.whole)
        learner.observe(by_state, answer.n, whole=answer.whole)
        learner.remaining.observe([look for look in looks if look is not None], answer.n, whole=answer.whole)
        learner.refit_if_due()
        learner.wait()

    def predict(answer: Answer, states: np.ndarray, tokens: int) -> LengthDistribution:
        look = learner.remaining.look(states, tokens, expected(answer))
        return expected(answer) if look is None else look.distribution

    return predict
