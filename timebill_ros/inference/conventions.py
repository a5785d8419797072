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

"""What all models keep to and their users know, without torch: a scripted model needs none."""
from __future__ import annotations

from timebill_ros.codes import ErrorCode, GoalError

NOT_A_TOKEN = -1  # in the place of a token that was drawn from logits which were not finite
MAX_WINDOW = 32  # the largest observation window W, entries: shorter prompts are kept whole


def check_prompt(ids: list[int], max_context: int) -> None:
    """Raise GoalError where a prompt holds no tokens, or leaves no room for an answer."""
    if not ids:
        raise GoalError(ErrorCode.INVALID_GOAL, 'the prompt holds no tokens: it is empty, or of white space alone '
                        'that the tokenizer drops; send a prompt or messages with a text')
    if len(ids) >= max_context:
        raise GoalError(ErrorCode.PROMPT_TOO_LONG, f'the prompt has {len(ids)} tokens; with room for one more, '
                        f'at most {max_context - 1} fit the context of {max_context}')
