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

"""Prompts of the embedded model's task, the site log, to train its length predictor on."""

import random
import re

from transformers import PreTrainedTokenizerBase

from timebill_ros.tasks.patrol import OBJECTS
from timebill_ros.tasks.site_log import SiteLogTask, generate
from timebill_ros.training.prompts import Prompt, render


def site_log_prompt(task: SiteLogTask, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Render a task as a prompt, with its answer and the lengths that shorter instructions would have led to."""
    text = render(task.messages, tokenizer)
    start = text.rindex(task.instruction)
    partial: list[tuple[int, int]] = []
    if len(task.partial_lengths) > 1:
        # The character where each thing that the instruction names ends. A route names an object with its place.
        things = [m.end() for m in re.finditer(r'\S+', task.instruction)
                  if (m[0].startswith('@') if task.family == 'route' else m[0] in OBJECTS)]
        partial = [(start + at, n)
                   for at, n in zip(things, task.partial_lengths, strict=True)]
    return Prompt(text, task.answer, tuple(partial))


def site_log_prompts(config: dict, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Prompt], list[Prompt]]:
    """Generate two lists of prompts, as the configuration asks for.

    The first prompts are short, for training on their reference answers. The second have any length, for the target
    to answer.
    """
    rng = random.Random(config['seed'])
    low, high = config['reference_tokens']
    # Seeds far from those of the target's own training, which are small multiples of 10^9 and what follows them.
    references = [generate(7 * 10**15 + i, n_tokens=round(low * (high / low) ** rng.random()))
                  for i in range(config['reference_prompts'])]
    labelled = [generate(8 * 10**15 + i, n_tokens=config['labelled_tokens'])
                for i in range(config['labelled_prompts'])]
    return tuple([site_log_prompt(task, tokenizer) for task in tasks] for tasks in (references, labelled))
