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

"""The store of prompts as settings ask for it: its size, what is pinned, and what is refused with numbers."""
import json
import time

import pytest
import tiny_models
from loading_settings import chosen

from timebill_ros.deadline import Deadline
from timebill_ros.inference.control import Control
from timebill_ros.inference.memory import size
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.prefix_store import block_bytes
from timebill_ros.request import Request
from timebill_ros.timing import fitting
from timebill_ros.timing.profile import Profile
from timebill_ros.worker import loading, prefixes

CHUNK = 64


def load(cache, **values):
    return loading.load_engine(chosen(cache, prefill_chunk_tokens=CHUNK, **values))


def run(engine, n_words):
    now = time.monotonic()
    return engine.run(Request('id', now, now + 60, prompt='w9 ' * n_words, max_new_tokens=4),
                      Control(Deadline(now + 60))).timing


def test_a_prompt_that_comes_again_is_read_from_near_its_end(tmp_path, measured):
    engine = load(tmp_path).engine
    unit = engine.model.prefixes.unit
    assert [run(engine, n).reused_tokens for n in (200, 200, 300, 150)] == [
        0, (200 - 32) // unit * unit, 200 // unit * unit, (150 - 32) // unit * unit]
    engine.model.check()


def test_an_estimate_counts_only_what_is_new(tmp_path, measured):
    engine = load(tmp_path).engine
    request = Request('e', 0.0, 60.0, prompt='w9 ' * 300, max_new_tokens=4)
    *_, before_s, reused = engine.estimate(request)
    assert reused == 0
    run(engine, 300)
    *_, after_s, reused = engine.estimate(request)
    assert reused == engine.model.prefixes.known(engine.model.tokenize('w9 ' * 300, is_chat=False)) > 0
    assert after_s < before_s


def test_it_can_be_switched_off_and_the_log_says_where_it_is_not_to_be_had(tmp_path, measured, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    engine = load(tmp_path, prefix_cache_mib=0).engine
    assert engine.model.prefixes is None and run(engine, 200).reused_tokens == run(engine, 200).reused_tokens == 0
    model, *_ = loading.load_model(chosen(tmp_path, model=str(tiny_models.directory('mamba'))))
    assert model.prefixes is None and 'read from its beginning, because' in caplog.text


@pytest.mark.parametrize(('free', 'mib', 'mib_held'), [
    (None, -1, 0), (100 << 20, -1, 0), (1 << 20, -1, 0.1), (None, 1, 1)])
def test_its_size(free, mib, mib_held, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(prefixes, 'free_bytes', lambda device: free)
    model = load(tmp_path, prefix_cache_mib=mib).engine.model
    each = block_bytes(model.cache, model.prefixes.unit)
    wanted = mib_held * (1 << 20) or 2 * each * model.max_context // model.prefixes.unit
    assert wanted - each < model.prefixes.n_blocks * each <= wanted


def test_a_size_that_memory_lacks_is_refused_with_numbers(tmp_path, measured, monkeypatch):
    monkeypatch.setattr(prefixes, 'free_bytes', lambda device: 5 << 20)
    with pytest.raises(ModelError, match=r'OUT_OF_MEMORY: prefix_cache_mib \(6\).*5.0 MiB.*Set it to 5 at most'):
        load(tmp_path, prefix_cache_mib=6)


def test_a_size_that_holds_nothing_is_refused(tmp_path, measured, monkeypatch):
    monkeypatch.setattr(prefixes, 'block_bytes', lambda cache, unit: 3 << 20)
    with pytest.raises(ModelError, match=rf'prefix_cache_mib \(1\) holds no prompt: .*{size(3 << 20)}.*Set it to 5'):
        load(tmp_path, prefix_cache_mib=1)


def test_exactness_is_asked_for_and_a_choice_without_it_is_kept_apart(tmp_path, measured, monkeypatch, caplog):
    asked = []

    def try_ways(model, chunk_tokens, exact):
        asked.append(exact)
        return {'chosen': 'chunks' if exact else 'near', 'seconds': {}, 'why': 'tiles: differ'}

    monkeypatch.setattr(prefixes, '_try_ways', try_ways)
    caplog.set_level('INFO')
    assert load(tmp_path).engine.model.prefixes.unit == CHUNK
    assert 'exact_prefixes: false' in caplog.text
    assert load(tmp_path, exact_prefixes=False).engine.model.prefixes.unit == 32
    assert load(tmp_path).engine.model.prefixes.unit == CHUNK
    assert asked == [True, False]


def test_how_prompts_go_on_is_tried_once(tmp_path, measured, monkeypatch):
    load(tmp_path)
    monkeypatch.setattr(prefixes, '_try_ways', None)
    assert load(tmp_path).engine.model.prefixes is not None


def test_pinned_prefixes_are_there_from_the_start(tmp_path, measured):
    text, chat = tmp_path / 'map.txt', tmp_path / 'chat.json'
    text.write_text('w9 ' * 200)
    chat.write_text(json.dumps([{'role': 'user', 'content': 'w8 ' * 100}]))
    loaded = load(tmp_path, pinned_prefixes=f'{text}, {chat}')
    engine, unit = loaded.engine, loaded.engine.model.prefixes.unit
    assert loaded.pinned_characters == 600
    assert run(engine, 250).reused_tokens == 200 // unit * unit
    for i in range(5):  # as many other prompts as there is room for
        run(engine, 400 + i)
    store = engine.model.prefixes
    assert store.held(engine.model.tokenize('w9 ' * 200, is_chat=False)) == 200 // unit * unit


@pytest.mark.parametrize(('name', 'content', 'sentence'), [
    ('a.json', '{"role": "user"}', 'a JSON list of messages'),
    ('a.json', '[{"role": "user"}]', 'a JSON list of messages'),
    ('a.json', '[', 'cannot be used'), ('a.json', '[]', 'empty prompt and no messages'), ('a.txt', '', 'it is empty'),
    ('a.json', '[{"role": "tool", "content": "w9"}]', 'role tool is not known'), (None, '', 'No such file'),
    ('a.txt', 'w9 ' * 600, 'at most 511'), ('a.txt', 'w9 ' * 500, 'leaves room for')])
def test_a_pinned_prefix_that_cannot_be_had_is_named(name, content, sentence, tmp_path, measured, monkeypatch):
    path = tmp_path / (name or 'nothing.txt')
    if name:
        path.write_text(content)
    if 'room' in sentence:
        monkeypatch.setattr(prefixes, 'AUTO_BYTES', 100_000)
    with pytest.raises(ModelError, match=sentence) as caught:
        load(tmp_path, pinned_prefixes=str(path))
    assert str(path) in str(caught.value)


def test_pinned_prefixes_without_a_store_are_refused(tmp_path, measured):
    (tmp_path / 'a.txt').write_text('w9')
    with pytest.raises(ModelError, match='prefix_cache_mib is 0'):
        load(tmp_path, pinned_prefixes=str(tmp_path / 'a.txt'), prefix_cache_mib=0)


def test_a_profile_of_an_earlier_version_is_measured_again(tmp_path, measured, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    load(tmp_path)
    (path,) = (tmp_path / 'profiles').iterdir()
    profile = Profile.load(path)
    del profile.points['prefix']
    Profile(profile.identity, fitting.fit(profile.points, CHUNK), 'today',
            points=profile.points).save(path)
    load(tmp_path)
    assert 'does not tell what known beginnings of prompts save; measuring again' in caplog.text
    named = tmp_path / 'named.yaml'
    profile.times = fitting.fit(profile.points, CHUNK)
    profile.save(named)
    engine = load(tmp_path, profile=str(named)).engine
    assert 'what known beginnings of prompts save, which is measured now' in caplog.text
    assert engine.times.knows_prefixes and engine.times.q == profile.times.q
