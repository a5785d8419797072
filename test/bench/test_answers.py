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

"""Answers without a deadline: which entries are kept, which tasks fit, and what the clock is asked."""
import math

import pytest
from mock_model import EOS, FakeClock, MockModel

from timebill_ros.bench import answers
from timebill_ros.codes import FinishReason
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.tasks.scored_task import ScoredTask


def task_of(prompt: str, longest: int = 100) -> ScoredTask:
    return ScoredTask(prompt[:8], 'family', [{'role': 'user', 'content': prompt}], longest, lambda text: {'score': 0.5})


@pytest.mark.parametrize(('n_x', 'ratio', 'n_keep'), [
    (1000, 0.0, 1000), (1000, 0.9, 100), (1000, 0.95, 50), (1003, 0.25, 752), (1003, 0.95, 51), (1000, 0.99, 50),
    (32, 0.9, 32), (33, 0.9, 3)])
def test_the_share_of_entries_that_is_kept(n_x, ratio, n_keep):
    assert answers.entries_to_keep(n_x, ratio, 0.95) == n_keep


@pytest.mark.parametrize(('longest', 'n', 'text', 'reason'), [
    (9, 4, 'abc', FinishReason.EOS), (2, 2, 'ab', FinishReason.LENGTH)])
def test_an_answer_is_generated_to_its_end(longest, n, text, reason):
    clock, read = FakeClock(), []
    model = MockModel(clock, b'abc')
    request = answers.request_for(task_of('how'), longest)
    assert request.deadline_s == math.inf
    logits = model.prefill([1, 2, 3], chunk_tokens=8)
    ids, found = answers.generate_ids(model, request, logits, n_x=3, n_kv=3,
                                      clock=lambda: read.append(clock()) or read[-1])
    assert (len(ids), found, len(read)) == (n, reason, n - 1)
    assert answers.text_of(model, ids) == text and (ids[-1] == EOS) is (reason is FinishReason.EOS)


def test_tasks_that_do_not_fit_are_left_out_and_told(capsys):
    model = MockModel(FakeClock())
    fits, long_prompt, long_answer = task_of('how'), task_of('x' * 3999), task_of('why', 3999)
    assert answers.that_fit(model, [fits, long_prompt, long_answer]) == [fits]
    told = capsys.readouterr().out
    assert '2 of 3 tasks are left out' in told and 'do not fit the context of 4000' in told
    with pytest.raises(ModelError, match='no task fits the model; task why of family family: a prompt of 3 tokens'):
        answers.that_fit(model, [long_answer])
