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

"""Loading a tokenizer as its own files describe it."""
from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

# What transformers writes for a tokenizer that is nothing but its tokenizer.json; the name changed with version 5.
_GENERIC = ('PreTrainedTokenizerFast', 'TokenizersBackend')


def load_tokenizer(name: str | Path, *, trust_remote_code: bool = False, revision: str = ''):
    """Return the tokenizer of a directory or hub id, of the latter in a `revision`.

    For some architectures, Qwen2 among them, newer versions of transformers choose the tokenizer's class by the model's
    type, whatever the directory says. A word-level tokenizer then comes out as a byte-level one that knows no word. So
    a directory that declares nothing but its tokenizer.json gets just that file's tokenizer.
    """
    root = Path(name)
    try:
        declared = json.loads((root / 'tokenizer_config.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        declared = None
    if (isinstance(declared, dict) and declared.get('tokenizer_class') in _GENERIC and 'auto_map' not in declared
            and (root / 'tokenizer.json').is_file()):
        return PreTrainedTokenizerFast.from_pretrained(root)
    return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code,
                                         **({'revision': revision} if revision else {}))
