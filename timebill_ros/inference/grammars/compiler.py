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

"""Compiling what goals ask for, on a thread of its own, within limits.

Compiling takes a millisecond or two. A schema or regular expression that was made to take long ends at the library's
limits; whatever it does, the goal that sent it goes on looking whether to stop, and other goals without a form are
served. The latest forms are kept: a planner sends the same one again and again.
"""
from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from timebill_ros.codes import ErrorCode, GoalError, ToolChoice
from timebill_ros.inference.chat_facts import NO_CHAT, ChatFacts
from timebill_ros.inference.grammars.chain import RestrictedModel
from timebill_ros.inference.grammars.completion import ByteMatcher, shortest_end
from timebill_ros.inference.grammars.form import CHOICES, JSON, Form
from timebill_ros.inference.grammars.no_grammars import NoGrammars
from timebill_ros.inference.grammars.restricted_answer import Bounds, RestrictedAnswer
from timebill_ros.inference.grammars.tool_answer import ToolAnswer
from timebill_ros.inference.grammars.tool_form import ToolForm
from timebill_ros.inference.grammars.vocabulary import GrammarsUnavailable, library, of_tokenizer, single_bytes
from timebill_ros.longest_instance import longest_instance
from timebill_ros.request import Request

log = logging.getLogger(__name__)

LOOK_S = 0.02  # how often a goal looks whether to stop while its form is compiled
LONGEST_S = 5.0  # for which a form is compiled at most
KEPT = 4  # compiled forms
# Of the library: what one form may take. Fuel is work; 50,000 units of the first and 14,000 of the second are about a
# millisecond, a state of the lexer is one or two kilobytes.
LIMITS = {'initial_lexer_fuel': 2_000_000, 'step_lexer_fuel': 100_000, 'step_max_items': 50_000,
          'max_lexer_states': 50_000, 'max_grammar_size': 200_000, 'verbose_errors': False}
# Completing an answer is allowed so many times as long as measured, for such a number of bytes a token, and so many
# seconds besides: what the library keeps of one text is new for another one.
CAUTION, BYTES_PER_TOKEN, BESIDES_S = 3.0, 8, 0.002
SAMPLE = b'{"steps": [' + b'{"name": "drive to the kitchen", "speed": 0.25}, ' * 40  # whose following is measured


@dataclass
class _Compiled:
    """A form that was compiled. `end_s`: seconds that the shortest end takes to find, from the beginning.

    `has_end`: whether a short end was found. There may be answers all the same, which only a model can write.
    """

    matcher: object
    byte_matcher: object
    bounds: Bounds
    end_s: float
    took_s: float
    has_end: bool


class Grammars:
    """Compiles forms for one model.

    vocabulary:  an LLTokenizer
    eos_ids:     the tokens that end an answer
    chat, added: how the model's template writes calls of tools, and its tokenizer's added_tokens_decoder
    """

    def __init__(self, vocabulary, eos_ids: Collection[int], chat: ChatFacts = NO_CHAT,
                 added: Mapping[int, object] | None = None):
        self._vocabulary, self._eos_ids = vocabulary, eos_ids
        self._calls, self._added = chat.calls, added or {}
        self._bytes = single_bytes()
        self._kept: OrderedDict[Form | ToolForm, _Compiled] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, 'grammar')
        any_object = self._executor.submit(self._compile, Form(JSON, '{}')).result()
        started = time.thread_time()
        n = ByteMatcher(any_object.byte_matcher).follow(SAMPLE)
        self._byte_s = (time.thread_time() - started) / max(n, 1)

    def start(self, request: Request) -> Future[tuple[Form | ToolForm, _Compiled]] | None:
        """Start to compile what the goal asks for; None where that is nothing."""
        form = Form.of(request) or ToolForm.of(request, self._calls, self._added)
        return None if form is None else self._executor.submit(self._find, form)

    def collect(self, started: Future[tuple[Form, _Compiled]] | None,
                should_stop: Callable[[], bool]) -> RestrictedAnswer | None:
        """Return the answer to write, once its form is compiled.

        None where the goal asks for no form, and where `should_stop` said so. GoalError where the form is wrong or
        takes too long.
        """
        if started is None:
            return None
        begun = time.monotonic()
        while not wait([started], LOOK_S).done:
            if should_stop():
                return None
            if time.monotonic() - begun > LONGEST_S:
                raise GoalError(ErrorCode.INVALID_GOAL, f'the form of the answer takes more than {LONGEST_S:.0f} s to '
                                'compile: make the response_schema or regex simpler')
        form, compiled = started.result()
        kind = ToolAnswer if isinstance(form, ToolForm) else RestrictedAnswer
        return kind(form, compiled.matcher, self._vocabulary, compiled.byte_matcher,
                                eos_ids=self._eos_ids, bounds=compiled.bounds,
                                end_s=BESIDES_S + CAUTION * compiled.end_s,
                                token_s=CAUTION * BYTES_PER_TOKEN * self._byte_s,
                                grammar_s=compiled.took_s, has_end=compiled.has_end)

    def restricted(self, model, answer: RestrictedAnswer | None):
        """Return what decodes in the place of `model`: for an `answer` of a form a RestrictedModel, else `model`."""
        return model if answer is None else RestrictedModel(model, answer)

    def example(self) -> tuple[RestrictedAnswer, list[int]]:
        """Return an answer that may be any object, and the tokens of one, for measuring."""
        answer = self.collect(self._executor.submit(self._find, Form(JSON, '{}')), lambda: False)
        return answer, self._vocabulary.tokenize_str(SAMPLE.decode())

    def _find(self, form: Form | ToolForm) -> tuple[Form | ToolForm, _Compiled]:
        """Return a compiled form: one that is kept, unless it was too complex for an answer, or a new one."""
        found = self._kept.pop(form, None)
        if found is None or found.matcher.is_error() or found.byte_matcher.is_error():
            found = self._compile(form)
        else:
            found.took_s = 0.0
        self._kept[form] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return form, found

    def _compile(self, form: Form | ToolForm) -> _Compiled:
        started = time.perf_counter()
        try:
            found = library()
            limits = found.LLParserLimits(**LIMITS)
            matcher, byte_matcher = (found.LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
                                     for vocabulary, grammar in ((self._vocabulary, form.grammar(found)),
                                                                 (self._bytes, form.byte_grammar(found))))
            for one in (matcher, byte_matcher):
                if one.is_error():
                    raise form.refusal(one.get_error())
            shortest, end_s = _shortest(form, byte_matcher)
            first = matcher.compute_bitmask()  # it takes longer than those that follow
            if shortest is None and not any(first):
                raise form.refusal('no answer satisfies it')
            bounds = self._bounds(form, None if shortest is None else shortest.decode())
        except GoalError:
            raise
        except BaseException as error:  # a panic of the library is no Exception, and must end the goal only
            log.exception('a form could not be compiled')
            raise form.refusal(f'{type(error).__name__}: {error}') from error
        return _Compiled(matcher, byte_matcher, bounds, end_s, time.perf_counter() - started, shortest is not None)

    def _bounds(self, form: Form | ToolForm, shortest: str | None) -> Bounds:
        """Return how long answers of a form get; `shortest`: the shortest one, None: it was not found."""
        def tokens(text: str) -> int:
            return len(self._vocabulary.tokenize_str(text)) + 1  # the end is a token too

        if form.kind == CHOICES:
            lengths = tuple(sorted(map(tokens, form.choices)))
            limit = 1 + max(len(choice.encode()) for choice in form.choices)  # a token is a byte at least
            return Bounds(lengths[0], lengths[-1], limit, lengths)
        if isinstance(form, ToolForm) and form.choice is ToolChoice.AUTO:
            return Bounds(1, None, None)  # any text will do
        longest = longest_instance(form.schema) if form.is_json else None
        least = tokens(shortest) if shortest is not None else 1
        return Bounds(least, max(tokens(longest), least) if longest is not None else None, None)


def _shortest(form: Form | ToolForm, byte_matcher) -> tuple[bytes | None, float]:
    """Return the shortest answer, None where none was found, and the seconds of computing that this takes."""
    if form.kind == CHOICES:
        return min(form.choices, key=len).encode(), 0.0
    seconds = []
    for _ in range(2):  # in the first one the library makes what it keeps
        started = time.thread_time()  # what else runs on the machine now says nothing of later
        found = shortest_end(ByteMatcher(byte_matcher), is_json=form.is_json or isinstance(form, ToolForm))
        seconds.append(time.thread_time() - started)
        if found is None:
            return None, 0.0  # nor is it looked for again, see RestrictedAnswer
    return found, min(seconds)


def grammars_of(model) -> Grammars | NoGrammars:
    """Return what gives answers of a loaded CausalLM a form; a NoGrammars that says why where that cannot be had."""
    try:
        n_logits = model.model.config.get_text_config(decoder=True).vocab_size
        return Grammars(of_tokenizer(model.tokenizer, n_logits, model.eos_ids), model.eos_ids, model.chat,
                        model.tokenizer.added_tokens_decoder)
    except GrammarsUnavailable as error:
        return NoGrammars(str(error))
    except Exception as error:  # a bug, or a version of the library that is too different: other goals are served
        log.warning('answers cannot be given a form: %s: %s', type(error).__name__, error)
        return NoGrammars(f'llguidance does not work with this model ({type(error).__name__}: {str(error)[:200]})')
