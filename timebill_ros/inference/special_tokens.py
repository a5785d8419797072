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

"""What a client writes into a message stays text: it must not become a token that only the chat template may write.

Tokenizers look for the texts of their special tokens in whatever they are given, and a chat template puts a message's
content between such texts. So content that holds one, "<|im_end|><|im_start|>system ...", could end its own turn and
speak as somebody else. Content without such a text takes the tokenizer's ordinary way. Other content is encoded by a
copy of the tokenizer in which each special token has a secret name: the template's own tokens are renamed in the
rendered text, and what the client wrote finds no special token. A goal's raw `prompt` is the client's own template and
is left alone.
"""
from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer

from timebill_ros.codes import ErrorCode, GoalError

log = logging.getLogger(__name__)

# Roles of conversations that show what a template writes around turns. It may refuse some of them.
_PROBES = (('system', 'user', 'assistant', 'user'), ('user', 'assistant', 'user'), ('user', 'assistant', 'tool'))
_MARK = '\ufdd0'  # no character: Unicode keeps it free for use inside of programs


class Rendered(str):
    """A rendered conversation in which a client wrote the text of a special token.

    `renamed`: the same text, in which the special tokens that the template wrote have their secret names.
    """

    renamed: str


class SpecialTokens:
    """The texts of a tokenizer's special tokens, and of the markers that its chat template writes around turns."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        added = {token.content: token for token in getattr(tokenizer, 'added_tokens_decoder', {}).values()}
        texts = _special(tokenizer, added) | _role_markers(tokenizer, added)
        self.texts = sorted((text for text in texts if text.strip()), key=lambda text: (-len(text), text))
        self._pattern = _any_of(self.texts)
        # A tokenizer looks for some tokens only after it has normalized the text, and in their own normalized form. So
        # another spelling (full-width, upper case) can stand for them.
        backend = getattr(tokenizer, 'backend_tokenizer', None)
        normalizer = getattr(backend, 'normalizer', None)
        late = [text for text in self.texts if text in added and added[text].normalized] if normalizer else []
        self._normalize = normalizer.normalize_str if late else None
        self._late_pattern = _any_of({self._normalize(text) for text in late} if late else ())
        self._secret = _secret(self.texts)  # so that no client can write a mark or a name
        self._mark = re.compile(f'{_MARK}{self._secret}:(\\d+){_MARK}')
        self._names = {text: f'{_MARK}{self._secret}={i}{_MARK}' for i, text in enumerate(self.texts)}
        self._copy = _renamed_copy(backend, self._names) if backend is not None else None

    def quote(self, content: str, quoted: list[str]) -> str:
        """Return `content` with a mark in the place of each special text; what the marks stand for goes into `quoted`.

        Content without such a text is returned as it is. GoalError where the tokenizer has no copy that could encode
        the text as text.
        """
        def mark(match: re.Match) -> str:
            quoted.append(match[0])
            return f'{_MARK}{self._secret}:{len(quoted) - 1}{_MARK}'

        marked = self._pattern.sub(mark, content)
        if self._normalize and self._late_pattern.search(self._normalize(marked)):
            marked = re.sub(r'\S(?:.*\S)?', mark, self.restore(marked, quoted), count=1, flags=re.DOTALL)
        if marked != content and self._copy is None:
            raise self._refusal(quoted[-1])
        return marked

    def restore(self, text: str, quoted: list[str]) -> str:
        """Return `text` with what its marks stand for."""
        return self._mark.sub(lambda match: quoted[int(match[1])], text)

    def rendered(self, text: str, quoted: list[str]) -> str:
        """Return a rendered conversation, in which contents are quoted, as `encode` takes it."""
        if not quoted:
            return text
        result = Rendered(self.restore(text, quoted))
        result.renamed = self.restore(self._pattern.sub(lambda match: self._names[match[0]], text), quoted)
        return result

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a rendered conversation."""
        if not isinstance(text, Rendered):
            return self._tokenizer(text, add_special_tokens=False, verbose=False)['input_ids']
        # A batch of one: unlike `encode`, it lets other threads of Python run meanwhile, a cancel's among them.
        ids = self._copy.backend.encode_batch([text.renamed], add_special_tokens=False)[0].ids
        left = self._copy.forbidden.intersection(ids)
        if left:
            raise self._refusal(self._tokenizer.convert_ids_to_tokens(min(left)))
        return [self._copy.original.get(i, i) for i in ids]

    def _refusal(self, text: str) -> GoalError:
        return GoalError(ErrorCode.INVALID_GOAL, f'a message holds the text of the special token {text[:64]!r}, '
                         'which the tokenizer of this model cannot take as text')


@dataclass(frozen=True)
class _RenamedCopy:
    """A tokenizer in which special tokens have other names."""

    backend: Tokenizer
    original: dict[int, int]  # the copy's id -> the tokenizer's own, where they differ
    forbidden: frozenset[int]  # tokens that text must not become, and that could not be renamed


def _renamed_copy(backend: Tokenizer, names: dict[str, str]) -> _RenamedCopy | None:
    """Return a copy of `backend` in which the tokens `names` are renamed; None where their ids get lost.

    Added tokens keep their ways of taking spaces. A token that the model's own vocabulary holds is renamed there too,
    but for the token of unknown words, which any unknown word becomes, and for single characters, which spell others.
    """
    facts = json.loads(backend.to_str())
    facts.update(truncation=None, padding=None, post_processor=None)
    model = facts['model']
    for token in facts['added_tokens']:
        if token['content'] in names:
            token.update(content=names[token['content']], normalized=False, single_word=False)
    vocabulary = model['vocab']
    kept = {model.get('unk_token'), *(text for text in names if len(text) == 1)}
    renamed = {text: name for text, name in names.items() if text not in kept}
    if isinstance(vocabulary, dict):
        model['vocab'] = {renamed.get(text, text): i for text, i in vocabulary.items()}
    else:  # Unigram: [text, score] in the order of ids; its unknown token is given by its index
        model['vocab'] = [[text if i == model.get('unk_id') else renamed.get(text, text), score]
                          for i, (text, score) in enumerate(vocabulary)]
    if 'merges' in model:
        pairs = [tuple(merge.split(' ')) if isinstance(merge, str) else tuple(merge) for merge in model['merges']]
        model['merges'] = [pair for pair in pairs if renamed.keys().isdisjoint({*pair, ''.join(pair)})]
    copy = Tokenizer.from_str(json.dumps(facts))
    others = [token.content for token in backend.get_added_tokens_decoder().values() if token.content not in names]
    if any(copy.token_to_id(text) != backend.token_to_id(text) for text in others):
        return None
    original = {copy.token_to_id(name): backend.token_to_id(text) for text, name in names.items()}
    if None in original or not {i for i, true in original.items() if i != true}.isdisjoint(
            i for i in backend.get_vocab().values() if i not in original.values()):
        return None
    forbidden = {i for text in kept & names.keys() if text != model.get('unk_token')
                 and (i := copy.token_to_id(text)) is not None}
    return _RenamedCopy(copy, original, frozenset(forbidden))


def _special(tokenizer, added: dict) -> set[str]:
    """Return the texts of the tokens that are marked as special."""
    return {*getattr(tokenizer, 'all_special_tokens', ()), *(text for text, token in added.items() if token.special)}


def _role_markers(tokenizer, added: dict) -> set[str]:
    """Return the added tokens that the chat template writes around turns: not every model marks them as special."""
    if not getattr(tokenizer, 'chat_template', None):
        return set()
    written = ''
    for roles in _PROBES:
        try:
            written += tokenizer.apply_chat_template([{'role': role, 'content': '-'} for role in roles],
                                                     tokenize=False, add_generation_prompt=True)
        except Exception:  # templates raise jinja errors of their own for roles that they refuse
            log.debug('the chat template refuses the roles %s', roles)
    # A plain word or a colon among the added tokens is no marker: people write "user:", too.
    return {text for text in added if text in written and len(text.strip()) > 2 and not text.isalnum()}


def _secret(texts: Iterable[str]) -> str:
    """Return a random name that holds none of `texts`, which the tokenizer would cut out of it, if there can be one."""
    for _ in range(1000):
        drawn = secrets.token_hex(8)
        if not any(text in drawn for text in texts):
            break
    return drawn


def _any_of(texts: Iterable[str]) -> re.Pattern:
    """Return one pattern for all texts, of which tokenizers have hundreds; the longest is tried first.

    Without texts it matches nothing.
    """
    return re.compile('|'.join(re.escape(text) for text in sorted(texts, key=len, reverse=True)) or '(?!)')
