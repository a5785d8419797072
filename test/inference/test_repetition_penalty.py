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

"""The repetition penalty is transformers', on buffers that stay, and harms no logits that are not finite."""
import math

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from timebill_ros.inference.repetition_penalty import RepetitionPenalty

CPU = torch.device('cpu')
VOCABULARY = 300


def random_logits(seed, dtype=torch.float32):
    return (4 * torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('penalty', [1.1, 2.0, 0.7])
def test_logits_are_those_of_transformers_token_after_token(penalty, dtype):
    prompt = [5, 9, 5, 5, 299, 0]
    ours, theirs = RepetitionPenalty(penalty, prompt, CPU), RepetitionPenaltyLogitsProcessor(penalty)
    seen = list(prompt)
    for seed in range(20):
        logits = random_logits(seed, dtype)
        expected = theirs(torch.tensor([seen]), logits[None].float())[0]
        assert torch.equal(ours.apply(logits), expected), 'exactly'
        seen.append(int(expected.argmax()))
        ours.add(expected.argmax())


def test_the_models_own_logits_and_the_buffers_stay():
    logits = random_logits(0)
    before, penalty = logits.clone(), RepetitionPenalty(1.5, [1, 2, 3], CPU)
    first = penalty.apply(logits).clone()
    pointers = {getattr(penalty, name).data_ptr() for name in ('_factors', '_positive', '_negative')}
    assert torch.equal(penalty.apply(logits), first), 'asking twice counts nothing twice'
    penalty.add(torch.tensor(7))
    assert penalty.apply(logits).data_ptr() in pointers and torch.equal(logits, before)
    assert pointers == {getattr(penalty, name).data_ptr() for name in ('_factors', '_positive', '_negative')}


def test_no_prompt_is_a_prompt():
    logits = random_logits(1)
    assert torch.equal(RepetitionPenalty(1.5, [], CPU).apply(logits), logits)


@pytest.mark.parametrize('value', [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_so_and_spreads_nowhere(value):
    logits = random_logits(2)
    logits[[1, 4]] = value
    found = RepetitionPenalty(1.5, [1], CPU).apply(logits)
    assert torch.equal(found[[1, 4]].nan_to_num(7.0), logits[[1, 4]].nan_to_num(7.0))
    assert int(found.isfinite().sum()) == VOCABULARY - 2
