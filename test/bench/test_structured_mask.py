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

"""What masks cost, measured small, and the vocabulary that is made up for it."""
import json

import pytest

pytest.importorskip('llguidance')
from loading_settings import POINTS, chosen  # noqa: E402

from timebill_ros.bench import byte_words, structured_mask  # noqa: E402
from timebill_ros.inference.grammars.vocabulary import of_tokenizer  # noqa: E402
from timebill_ros.inference.token_bytes import spells_bytes  # noqa: E402
from timebill_ros.worker import loading  # noqa: E402


@pytest.mark.parametrize('n', [300, 1000, 4000])
def test_a_made_up_vocabulary_spells_any_text(n):
    tokenizer = byte_words.tokenizer(n)
    assert len(tokenizer) == n and tokenizer.eos_token_id == 0 and spells_bytes(tokenizer)
    for text in ('{"name": "the cup", "at": [12, 7.5]}', 'Grüße, 好 \U0001f916\n', ' ab abcd'):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text and len(ids) <= len(text.encode())
        assert of_tokenizer(tokenizer, n, {0}).decode_bytes(ids) == text.encode()


def test_it_is_the_same_each_time_and_too_few_words_are_refused():
    assert byte_words.tokenizer(2000).get_vocab() == byte_words.tokenizer(2000).get_vocab()
    with pytest.raises(ValueError, match='300 words or more, got 299'):
        byte_words.tokenizer(299)


def test_steps_with_and_without_a_mask(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    out = tmp_path / 'mask.json'
    values = chosen(tmp_path, dtype='float32')
    assert structured_mask.run(values, out, shape='tiny', n_words=131072, n_pairs=20) == 0
    result = json.loads(out.read_text())
    assert (result['words'], result['logits'], result['pairs']) == (1024, 1024, 20), 'no more words than logits'
    assert 0 < result['mask_us'] <= result['mask_p99_us'] and result['step_ms'] > 0
    low, high = result['wait_quartiles_us']
    assert low <= result['wait_us'] <= high and result['met'] is (result['share'] <= 0.03)
    assert 'waits' in capsys.readouterr().out
