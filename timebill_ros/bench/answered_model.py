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

"""The model whose answers a journal holds, as far as rows are made of it: from its files, without its weights."""
from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from transformers import AutoConfig, GenerationConfig

from timebill_ros.bench.answers import prompt_ids
from timebill_ros.bench.finished_answers import BESIDE
from timebill_ros.bench.timed_answers import FIXED
from timebill_ros.inference import variants
from timebill_ros.inference.chat_options import set_template_args
from timebill_ros.inference.hub import look_once
from timebill_ros.inference.model_directory import ModelError, check_directory, eos_ids, fingerprint, layout_refusal
from timebill_ros.inference.model_loading import explained
from timebill_ros.inference.prompt import PromptEncoder
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.request import Request
from timebill_ros.resources import key_of
from timebill_ros.tasks.scored_task import ScoredTask
from timebill_ros.worker.model_choice import choose_model

ANY_CONTEXT = 2 ** 31 - 1  # tokens: which context the model had is not known here


class AnsweredModel:
    """A model's tokenizer, end tokens and methods, under the names that CausalLM has for them.

    `values`: the settings that name the model. `facts`, `pieces`: what the journal holds (journal.read). ModelError,
    with a sentence, where the model's files are not here.
    """

    def __init__(self, values: dict, facts: dict, pieces: Sequence[dict]):
        self.name, revision = choose_model(values).model, values['model_revision']
        look_once(self.name, revision)
        check_directory(self.name, allow_unsafe_weights=values['allow_unsafe_weights'])
        source = {'revision': revision} if revision else {}
        with explained(self.name):
            config = AutoConfig.from_pretrained(self.name, trust_remote_code=values['trust_remote_code'], **source)
            self.tokenizer = load_tokenizer(self.name, trust_remote_code=values['trust_remote_code'],
                                            revision=revision)
            set_template_args(self.name, self.tokenizer, values['chat_template_args'])
            self.generation_config = _generation_config(self.name, config, source)
            self.eos_ids = eos_ids(self, self.tokenizer)
        self.fingerprint = fingerprint(self.name, getattr(config, '_commit_hash', None))
        self.variant = facts['precision']
        self.variants = dict.fromkeys([self.variant, *variants.parse(facts['variants'])])
        self.supports_eviction = not layout_refusal(config.get_text_config(decoder=True)) and not _never_evicted(pieces)
        self._prompts: PromptEncoder | None = None

    def render(self, request: Request) -> str:
        """See PromptEncoder."""
        return self._encoder().render(request)

    def tokenize(self, text: str, *, is_chat: bool) -> list[int] | None:
        """See PromptEncoder."""
        return self._encoder().tokenize(text, is_chat=is_chat)

    def _encoder(self) -> PromptEncoder:
        self._prompts = self._prompts or PromptEncoder(self.name, self.tokenizer, ANY_CONTEXT)
        return self._prompts

    def answered_tasks(self, tasks: list[ScoredTask], key: str) -> list[ScoredTask]:
        """Return those of `tasks` that the journal is about: all, or the ones that fitted the context of then.

        `key`: the journal's key of its tasks. All tasks come back where no context explains it.
        """
        if key_of(task.key for task in tasks) == key:
            return tasks
        need: dict[str, float] = {}
        for task in tasks:
            with contextlib.suppress(ModelError):  # the model cannot take its prompt
                need[task.key] = len(prompt_ids(self, task)) + task.max_new_tokens
        for context in sorted(set(need.values()), reverse=True):
            fit = [task for task in tasks if need.get(task.key, math.inf) <= context]
            if key_of(task.key for task in fit) == key:
                print(f'{len(tasks) - len(fit)} of {len(tasks)} tasks are left out, as in the run that answered: they '
                      f'do not fit a context of {context} tokens')
                return fit
        return tasks


def _generation_config(name: str, config, source: dict) -> GenerationConfig:
    """Return what the model with its weights would have as its generation config."""
    try:
        return GenerationConfig.from_pretrained(name, **source)
    except OSError:  # it has no file of its own
        return GenerationConfig.from_model_config(config)


def _never_evicted(pieces: Sequence[dict]) -> bool:
    """Tell whether tasks have had their answers by all methods, and none was by an eviction."""
    recorded = {(piece['key'][1], piece['key'][2]) for piece in pieces if piece['kind'] == 'recorded'}
    return any(when == BESIDE for _, when in recorded) and not any(method.startswith(FIXED) for method, _ in recorded)
