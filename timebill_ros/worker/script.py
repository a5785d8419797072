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

"""What the scripted worker is to do: a YAML file, read and checked whole at configure.

docs/testing.md describes the format, and config/script.yaml is an example. No torch.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from timebill_ros.worker.checked_yaml import SWITCH, TEXT, CheckedYaml, Keys, Kind, number, whole
from timebill_ros.worker.scripted_faults import FAULTS

FORMAT = 1
_TOKEN = re.compile(r'\s*\S+')  # a word and the space before it
MAX_TOKENS = 1 << 17  # of the context
_SECONDS, _TOKENS, _LENGTH = number(86400, 'seconds'), whole(0, MAX_TOKENS), whole(1, MAX_TOKENS)

_ANSWER = Keys({
    'when': TEXT, 'text': TEXT, 'uses': whole(1, 1_000_000), 'ends': SWITCH, 'predicted_tokens': _LENGTH,
    'pessimistic_tokens': _LENGTH, 'prompt_s': _SECONDS, 'token_s': _SECONDS,
    'pauses': [Keys({'after_tokens': _TOKENS, 'seconds': _SECONDS}, needed=('seconds',))],
    'fault': Keys({'kind': Kind(f'one of {", ".join(FAULTS)}', lambda v: isinstance(v, str) and v in FAULTS),
                   'after_tokens': _TOKENS}, needed=('kind',))})
_SCRIPT = Keys({
    'format': Kind(str(FORMAT), lambda v: type(v) is int and v == FORMAT),
    'start': Keys({'seconds': _SECONDS, 'error': TEXT}),
    'times': Keys({'prompt_s': _SECONDS, 'prompt_token_s': _SECONDS, 'token_s': _SECONDS, 'entry_s': _SECONDS}),
    'context_tokens': whole(64, MAX_TOKENS), 'answers': [_ANSWER]}, needed=('format', 'answers'))


class Pause(NamedTuple):
    """A time in which nothing is done but waiting, once `after_tokens` have come; 0: while the prompt is read."""

    seconds: float
    after_tokens: int = 0


class Fault(NamedTuple):
    """What goes wrong (a key of FAULTS), once `after_tokens` have come; 0: while the prompt is read."""

    kind: str
    after_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """One answer of the script. None and 0 stand for what the script leaves open."""

    text: str = ''
    when: re.Pattern | None = None  # found in the prompt or in the last message; None: any will do
    uses: int = 0  # how many goals it answers; 0: any number
    ends: bool = True  # False: the text is repeated until a limit or the deadline
    predicted_tokens: int = 0  # N_hat; 0: as long as the answer is
    pessimistic_tokens: int = 0  # N_W; 0: as predicted
    prompt_s: float | None = None  # how long reading the prompt takes; None: as `times` of the script say
    token_s: float | None = None  # how long each token takes; None: as `times` say
    pauses: tuple[Pause, ...] = ()
    fault: Fault | None = None


@dataclass(frozen=True)
class Times:
    """What plans and estimates count with, in seconds; and what work takes, unless an answer says otherwise."""

    prompt_s: float = 0.01  # of reading any prompt
    prompt_token_s: float = 0.0002  # of each token in it, besides
    token_s: float = 0.02  # of each token of an answer
    entry_s: float = 0.0  # of each cached entry, for each token of an answer: what eviction saves


@dataclass(frozen=True)
class Script:
    """A whole script. `start_s`: seconds that a start takes; `start_error`: why each start fails, empty: none does."""

    path: Path
    answers: tuple[Answer, ...]
    times: Times = field(default_factory=Times)
    context_tokens: int = 8192
    start_s: float = 0.0
    start_error: str = ''

    def find(self, text: str, used: Callable[[int], int]) -> int | None:
        """Return the number of the first answer to `text` that is not used up; None: there is none.

        `used(number)`: how many goals an answer has had.
        """
        for i, answer in enumerate(self.answers):
            if (answer.when is None or answer.when.search(text)) and not 0 < answer.uses <= used(i):
                return i
        return None


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a text, one for each word. Together they are the text, without space at its end."""
    return _TOKEN.findall(text)


def load(path: Path) -> Script:
    """Read a script. YamlError, with the line and what to change, for one that cannot be used."""
    file = CheckedYaml(path, _SCRIPT)
    given, start = file.value, file.value.get('start', {})
    answers = [_answer(file, i, dict(answer)) for i, answer in enumerate(given['answers'])]
    return Script(path, tuple(answers), Times(**given.get('times', {})),
                  given.get('context_tokens', Script.context_tokens), start.get('seconds', 0.0), start.get('error', ''))


def _answer(file: CheckedYaml, i: int, given: dict) -> Answer:
    place = ('answers', i)
    if not given.get('ends', True) and not given.get('text', '').strip():
        raise file.wrong((*place, 'ends'), 'may be false only where text holds a word, which is repeated then')
    predicted, pessimistic = given.get('predicted_tokens', 0), given.get('pessimistic_tokens', MAX_TOKENS)
    if pessimistic < predicted:
        raise file.wrong((*place, 'pessimistic_tokens'), f'must be predicted_tokens ({predicted}) or more; got '
                         f'{pessimistic}')
    if 'when' in given:
        try:
            given['when'] = re.compile(given['when'])
        except re.error as error:
            raise file.wrong((*place, 'when'), f'must be a regular expression; got {given["when"]!r} ({error}); a '
                             'backslash before a special character makes it a plain one') from error
    most = len(tokens_of(given.get('text', ''))) if given.get('ends', True) else MAX_TOKENS
    moments = {(*place, 'pauses', k): pause for k, pause in enumerate(given.get('pauses', ()))}
    for at, moment in {**moments, (*place, 'fault'): given.get('fault', {})}.items():
        if (after := moment.get('after_tokens', 0)) > most:
            raise file.wrong((*at, 'after_tokens'), f'must be at most {most}, the number of words in text; got {after}')
    given['pauses'] = tuple(Pause(**pause) for pause in given.get('pauses', ()))
    if 'fault' in given:
        given['fault'] = Fault(**given['fault'])
    return Answer(**given)
