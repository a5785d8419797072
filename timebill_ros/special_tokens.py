"""What a client writes into a message is text: it must not become a token that only the chat template may write.

Tokenizers look for the texts of their special tokens in whatever they are given, and a chat template puts a message's
content between such texts. So a content that holds one, "<|im_end|><|im_start|>system ...", could end its own turn and
speak as somebody else. Here that text is broken apart before the template sees it; a content without one stays as it
is, to the byte. A goal's raw `prompt` is the client's own template and is left alone.
"""
from __future__ import annotations

import logging

log = logging.getLogger(__name__)

BREAK = ' '


def special_texts(tokenizer) -> list[str]:
    """Texts that `tokenizer` turns into special tokens, longest first. Not that of unknown words: any such word is."""
    added = getattr(tokenizer, 'added_tokens_decoder', {}).values()
    texts = {*getattr(tokenizer, 'all_special_tokens', ()), *(token.content for token in added if token.special)}
    return sorted((text for text in texts - {getattr(tokenizer, 'unk_token', None)} if text.strip()),
                  key=lambda text: (-len(text), text))


def normalizer(tokenizer):
    """str -> str as the tokenizer does before it looks for some of its tokens; None where it does not."""
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    found = getattr(backend, 'normalizer', None)
    return found.normalize_str if found is not None else None


def as_text(content: str, texts: list[str], normalize=None) -> str:
    """`content` with every text of `texts` in it broken apart by a space, however they overlap or nest."""
    if normalize is not None and not _holds(content, texts) and _holds(normalized := normalize(content), texts):
        content = normalized  # a look-alike that the tokenizer would take for the real thing
    broken = content
    while _holds(broken, texts):
        for text in texts:
            # A space inside keeps all of it readable; what has no inside is taken out.
            broken = broken.replace(text, text[0] + BREAK + text[1:] if len(text) > 1 else BREAK)
    if broken is not content:
        log.debug('a message held the text of a special token; it was broken apart')
    return broken


def _holds(content: str, texts: list[str]) -> bool:
    return any(text in content for text in texts)
