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

"""The lengths that a length predictor is trained on: of the target's own responses, kept as soon as they are there.

Greedy responses are made as labels of hidden states are (answering.py): as a node answers, many side by side, and the
same file of answers serves both. Responses that are drawn, and those whose tokens the training reads too, come from
length_labels.py, with a journal of their own. Either way the same command goes on where it was stopped.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from timebill_ros.training import length_labels
from timebill_ros.training.answering import Target, answers_to, key_of
from timebill_ros.training.journal import Journal

ANSWERS_FILE = 'answers.jsonl'  # greedy, with hidden states
RESPONSES_FILE = 'responses.jsonl'  # token ids


@dataclass(frozen=True)
class Responses:
    """The target's responses to one prompt.

    lengths:  in tokens of the target, at most the limit at which they are cut.
    tokens:   ids of the first response; empty where they were not kept.
    """

    lengths: list[int]
    tokens: list[int]


def greedy(target_dir: Path, texts: list[str], journal: Path, *, device: str, max_new_tokens: int,
           on_progress: Callable[[int], None] = lambda done: None) -> list[Responses | None]:
    """Return the one greedy response to each rendered prompt; None where the target cannot take the prompt.

    journal:      of answers, see `answers_to`: another command may have begun it.
    on_progress:  called with the number of different prompts that are done.

    ValueError where the journal is of another model, precision or longest answer.
    """
    answers = answers_to(Target(str(target_dir), device, max_new_tokens=max_new_tokens), texts, journal,
                         on_progress=on_progress)
    return [Responses([answer.n], []) if answer.n else None for answer in answers]


def drawn(target_dir: Path, texts: list[str], journal: Path, *, device: str, max_new_tokens: int, temperature: float,
          samples: int, seed: int, expected: Sequence[int] = (),
          on_progress: Callable[[int], None] = lambda done: None) -> list[Responses]:
    """Return `samples` responses to each rendered prompt, one where `temperature` is 0, with the tokens of the first.

    expected:  rough lengths in tokens, one for each prompt, where they are known; see `generate_responses`.

    ValueError where the journal is of other facts.
    """
    facts = {'target': str(target_dir), 'max_new_tokens': max_new_tokens, 'temperature': temperature,
             'samples': samples, 'seed': seed}
    keys = [f'{number} {key_of(text)}' for number, text in enumerate(texts)]  # a prompt may come twice
    with Journal(journal, facts) as written:
        known = {entry['prompt']: entry['responses'] for entry in written.entries}
        left = [number for number, key in enumerate(keys) if key not in known]

        def keep(number: int, responses: list[list[int]]) -> None:
            written.add({'prompt': keys[number], 'responses': responses})
            known[keys[number]] = responses
            on_progress(len(known))

        on_progress(len(texts) - len(left))
        if left:
            length_labels.answer_all(
                target_dir, [texts[number] for number in left], device=device, max_new_tokens=max_new_tokens,
                temperature=temperature, samples=samples, seed=seed, numbers=left,
                expected=[expected[number] for number in left] if expected else (), on_answer=keep)
    return [Responses([len(ids) for ids in known[key]], known[key][0]) for key in keys]
