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

"""Prompts of the embedded model's task know the lengths that shorter instructions would have had."""
from timebill_ros.tasks.patrol import OBJECTS, PLACES
from timebill_ros.tasks.site_log import generate
from timebill_ros.training.site_log_prompts import site_log_prompt


def test_partial_lengths_stand_where_the_instruction_could_have_stopped(tokenizer):
    for seed in range(40):
        task = generate(seed, n_tokens=80)
        prompt = site_log_prompt(task, tokenizer)
        assert len(prompt.partial) == (len(task.partial_lengths) if len(task.partial_lengths) > 1 else 0)
        named = [word for word in task.instruction.split() if word in (PLACES if task.family == 'route' else OBJECTS)]
        assert [prompt.text[:at].split()[-1] for at, _ in prompt.partial] == named[:len(prompt.partial)]
