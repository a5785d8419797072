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

"""LongBench's templates: each can be filled in and scored."""
import pytest

from timebill_ros.tasks.longbench import TEMPLATES
from timebill_ros.tasks.text_scores import SCORERS


@pytest.mark.parametrize('name', TEMPLATES)
def test_every_template_holds_its_fields_and_has_a_scorer(name):
    template = TEMPLATES[name]
    asks = '{input}' in template.text
    assert template.metric in SCORERS and template.max_new_tokens >= 32
    assert asks or template.metric == 'rouge_l', 'only a summary needs no question'
    prompt = template.prompt('CONTEXT {input}', 'QUESTION {context}')
    assert prompt.count('CONTEXT {input}') == 1 and prompt.count('QUESTION {context}') == asks


def test_a_prompt_word_for_word():
    assert TEMPLATES['multifieldqa_en'].prompt('C', 'Q?') == (
        'Read the following text and answer briefly.\n\nC\n\nNow, answer the following question based on the above '
        'text, only give me the answer and do not output any other words.\n\nQuestion: Q?\nAnswer:')
