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

"""Chunk size and the length predictor's place: found by one trial, kept, and overruled by a profile or by the user."""
import json
import logging
import time

import pytest
import tiny_models
import torch

from timebill_ros import settings
from timebill_ros.inference.model_directory import ModelError
from timebill_ros.inference.streams import Stream
from timebill_ros.timing.execution_time import ProfileError
from timebill_ros.worker import loading, tuning


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr('timebill_ros.inference.threads.available_cores', lambda: 4)


class Reader:
    """A model on four cores that only takes time: `chunk_s` a chunk, and `token_s` a token on one core."""

    max_context, threads, prefill_threads, looks_per_chunk = 512, 4, 4, 1
    device, fingerprint, variant, stream = torch.device('cpu'), 'reader', 'float32', Stream()

    class tokenizer:
        decode, __len__ = staticmethod(lambda ids: 'w ' * len(ids)), staticmethod(lambda: 100)

    tokenizer = tokenizer()

    def __init__(self, chunk_s=0.0, token_s=0.0, slow_from=1 << 20):
        self.chunk_s, self.token_s, self.slow_from, self.asked = chunk_s, token_s, slow_from, []

    def reset(self):
        pass

    synchronize = reset

    def prefill(self, ids, *, chunk_tokens):
        self.asked.append(chunk_tokens)
        slowness = 4 if chunk_tokens >= self.slow_from else 1
        time.sleep(self.chunk_s + slowness * self.token_s * len(ids) / self.prefill_threads)


class Predictor:
    """A length predictor that is done as soon as it is asked."""

    def __init__(self):
        self.closed, self.placement = False, ''

    def submit(self, text, n):
        return self

    def result(self):
        pass

    def close(self):
        self.closed = True


@pytest.mark.parametrize(('reader', 'chosen'), [
    (Reader(chunk_s=0.002), (256,)),  # half of the context at most
    (Reader(chunk_s=0.0004, token_s=0.0016, slow_from=64), (32,)),  # larger ones fit the time, but are slower
    (Reader(chunk_s=0.002, token_s=0.002), (16, 32, 64)),
    (Reader(chunk_s=0.1), (16,)),  # too slow for any
])
def test_a_chunk_is_the_quickest_of_those_that_fit_the_time(reader, chosen):
    assert tuning.choose_chunk(reader)['chosen'] in chosen


def test_nothing_much_longer_than_the_time_is_tried():
    reader = Reader(token_s=0.01)
    tuning.choose_chunk(reader)
    assert max(reader.asked) <= 64


def test_chunks_chosen_on_a_busy_machine_are_chosen_again_on_a_quiet_one(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    busy, quiet = Reader(chunk_s=0.05), Reader(chunk_s=0.002)
    assert tuning.chunk_tokens(busy, tmp_path) == 16
    busy.asked.clear()
    assert tuning.chunk_tokens(busy, tmp_path) == 16
    assert set(busy.asked) == {16}, 'nothing else is tried'
    assert tuning.chunk_tokens(quiet, tmp_path) == 256
    assert 'when chunks of this size were chosen; they are chosen again' in caplog.text
    assert tuning.chunk_tokens(busy, tmp_path) == 256, 'a busy moment changes no choice'
    assert len(list(tmp_path.iterdir())) == 1


def place(tmp_path, reader, wanted='auto', threads=1):
    made = []
    executor = tuning.place(reader, lambda device: made.append(Predictor()) or made[-1], wanted,
                            fingerprint='predictor', threads=threads, chunk=16, directory=tmp_path)
    assert [one.closed for one in made].count(False) == 1 and not executor.closed
    assert len(made) == 1, 'on one device there is one'
    return executor.placement, reader.prefill_threads


def test_a_core_given_away_is_a_quarter_of_prefill(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert place(tmp_path, Reader(token_s=0.002)) == ('shared', 4)
    assert 'runs on the cores that prefill computes on; prefill of 32 tokens' in caplog.text


def test_what_is_quicker_is_found_once(tmp_path):
    for _ in range(2):
        reader = Reader(token_s=0.002)
        assert place(tmp_path, reader)[0] == 'shared'
    assert reader.asked == [], 'so that profiles stay valid'
    path, = tmp_path.iterdir()
    assert json.loads(path.read_text())['seconds'].keys() == {'beside', 'shared'}
    path.write_text('{"chosen": "elsewhere"}')
    reader = Reader(token_s=0.002)
    place(tmp_path, reader)
    assert reader.asked, 'a damaged file counts for nothing'


def test_where_cores_are_to_spare_nothing_is_tried(tmp_path):
    class Single(Reader):
        threads = 1
    reader = Single()
    assert place(tmp_path, reader)[0] == 'beside' and not reader.asked and not list(tmp_path.iterdir())


@pytest.mark.parametrize(('wanted', 'prefill_threads'), [('shared', 4), ('beside', 1)])
def test_the_user_may_choose(wanted, prefill_threads, tmp_path):
    assert place(tmp_path, Reader(), wanted, threads=3) == (wanted, prefill_threads)


def test_a_place_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'cpu' is not to be had with a model on cpu, only beside and shared"):
        place(tmp_path, Reader(), 'cpu')


def test_what_cannot_be_kept_is_chosen_all_the_same(tmp_path, caplog):
    (tmp_path / 'file').touch()
    found = tuning.kept(tmp_path / 'file', 'chunk', [], range(9), lambda: {'chosen': 3})
    assert found['chosen'] == 3 and 'could not be kept' in caplog.text


# -- in a node --------------------------------------------------------------------------------------------------------

def chosen(cache_dir, **values):
    return settings.check({'model': str(tiny_models.directory('qwen2')), 'device': 'cpu', 'threads': 2,
                           'length_predictor': str(tiny_models.predictor_directory()), 'self_profile_s': 1.0,
                           'cache_dir': str(cache_dir), 'compile_step': 'never', **values})


def test_a_profile_brings_what_it_was_measured_with(tmp_path, monkeypatch):
    monkeypatch.setattr('timebill_ros.inference.threads.available_cores', lambda: 2)
    first = loading.load_engine(chosen(tmp_path, predictor_placement='shared', prefill_chunk_tokens=48))
    assert first.profile.identity.placement == 'shared'
    path = tmp_path / 'mine.yaml'
    first.profile.save(path)
    values = chosen(tmp_path / 'other', profile=str(path))
    engine = loading.load_engine(values).engine
    assert (engine.predictor.placement, engine.prefill_chunk_tokens, engine.model.prefill_threads) == ('shared', 48, 2)
    tried = {path.name.partition('-')[0] for path in (tmp_path / 'other' / 'tuning').iterdir()}
    assert tried == {'prefixes'}  # neither chunks nor the placement
    with pytest.raises(ProfileError, match="made for placement 'shared', but this node has 'beside'"):
        loading.load_engine(chosen(tmp_path, profile=str(path), predictor_placement='beside'))


def test_a_node_without_a_gpu_cannot_leave_it(tmp_path):
    with pytest.raises(ModelError, match="predictor_placement 'cpu' is not to be had"):
        loading.load_engine(chosen(tmp_path, predictor_placement='cpu'))


def test_chunks_are_chosen_once_for_a_device(tmp_path, monkeypatch):
    tried = []
    choose = tuning.choose_chunk
    monkeypatch.setattr(tuning, 'choose_chunk', lambda model: tried.append(1) or choose(model))
    monkeypatch.setattr(tuning, 'MUCH_QUICKER', 0.0)  # others on this machine slow some trials down
    values = [chosen(tmp_path, length_predictor='', predictor_placement='beside') for _ in range(2)]
    choices = [loading.load_model(one)[2] for one in values]
    assert choices[0] == choices[1] and choices[0].prefill_chunk_tokens > 0 and len(tried) == 1
