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

"""Responses that a length predictor is trained on: kept as they come, and gone on with."""
import pytest

from timebill_ros.training import length_labels, target_responses

OPTIONS = {'device': 'cpu', 'max_new_tokens': 4, 'temperature': 0.5, 'samples': 2, 'seed': 1}


def test_drawn_responses_are_kept_one_by_one(tmp_path, monkeypatch):
    asked: list[list[int]] = []

    def answer_all(target_dir, texts, *, numbers, on_answer, expected, **options):
        asked.append(list(numbers))
        for number in numbers:
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            on_answer(number, [[7] * (number + 1), [7]])

    monkeypatch.setattr(length_labels, 'answer_all', answer_all)
    texts, journal, done = ['a', 'b', 'a', 'c'], tmp_path / 'responses.jsonl', []
    with pytest.raises(KeyboardInterrupt):
        target_responses.drawn(tmp_path, texts, journal, **OPTIONS)
    found = target_responses.drawn(tmp_path, texts, journal, on_progress=done.append, **OPTIONS)
    assert asked == [[0, 1, 2, 3], [2, 3]] and done == [2, 3, 4]
    assert [given.lengths for given in found] == [[1, 1], [2, 1], [3, 1], [4, 1]]
    assert found[1].tokens == [7, 7]
    target_responses.drawn(tmp_path, texts, journal, **OPTIONS)
    assert len(asked) == 2, 'nothing is left to ask'
    with pytest.raises(ValueError, match='temperature'):
        target_responses.drawn(tmp_path, texts, journal, **{**OPTIONS, 'temperature': 0.9})
