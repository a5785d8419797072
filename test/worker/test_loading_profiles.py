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

"""Which profile is taken: the named one, the kept one or a new one, and what is said where one does not serve."""
import dataclasses
import functools
import os
import re
import time

import pytest
import tiny_models
import yaml
from loading_settings import POINTS, chosen

from timebill_ros.inference import one_time_work
from timebill_ros.inference.model import CausalLM
from timebill_ros.timing import profiling
from timebill_ros.timing.execution_time import ProfileError
from timebill_ros.timing.profile import CIRCUMSTANCES, Profile
from timebill_ros.timing.profiling import identity
from timebill_ros.worker import loading


@functools.cache
def model():
    return CausalLM(str(tiny_models.directory('qwen2')), device='cpu', threads=1)


def find_profile(values, **options):
    """The profile for `model()`, and where it comes from."""
    return loading.find_profile(values, model(), None, values['prefill_chunk_tokens'], **options)


def cached_path(values):
    return loading.cached_profile_path(values, identity(model(), None), values['prefill_chunk_tokens'])


def test_a_profile_is_measured_once_and_then_cached(tmp_path, measured):
    values = chosen(tmp_path, self_profile_s=3.0, prefill_chunk_tokens=77)
    first, where = find_profile(values)
    assert 'measured just now' in where and measured[0]['budget_s'] == 3.0 and measured[0]['chunk_tokens'] == 77
    again, where = find_profile(values)
    assert 'cached profile' in where and again == first and len(measured) == 1
    assert list((tmp_path / 'profiles').iterdir()) == [cached_path(values)]


def test_a_start_goes_on_with_a_profile_that_was_interrupted(tmp_path, monkeypatch, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    values, taken = chosen(tmp_path, self_profile_s=3.0, prefill_chunk_tokens=77), []

    def measure(*of, journal, **options):
        taken.append(journal.take(64))
        if journal.n_found:
            journal.close()
            return POINTS
        journal.add(64, {'prefill': [[64, 0.5]]}, 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, 'measure', measure)
    with pytest.raises(KeyboardInterrupt):
        find_profile(values)
    assert 'going on' not in caplog.text
    find_profile(values)
    assert taken == [None, ({'prefill': [[64.0, 0.5]]}, 1.0)]
    assert 'going on with a profile that was interrupted; visits made before: 1' in caplog.text
    assert list((tmp_path / 'profiles').iterdir()) == [cached_path(values)]


@pytest.mark.parametrize('points', [
    {kind: measured[:2] for kind, measured in POINTS.items()},
    {**POINTS, 'prefill': [*POINTS['prefill'][:3], [500, 3.0]]},
], ids=['two lengths', 'wrong at the longest'])
def test_a_profile_that_no_length_left_out_speaks_for_is_used_but_not_kept(points, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: points)
    profile, where = find_profile(chosen(tmp_path))
    assert profile.points == points and 'cached' not in where
    assert 'used, but not kept: raise self_profile_s' in caplog.text
    assert not cached_path(chosen(tmp_path)).exists()


def test_a_process_that_takes_anothers_place_goes_on_with_its_doubted_profile(tmp_path, monkeypatch):
    """Only a start of the node measures again."""
    calls, values = [], chosen(tmp_path)
    points = {kind: measured[:2] for kind, measured in POINTS.items()}
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: calls.append(args) or points)
    first, _ = find_profile(values, anew=False)
    again, where = find_profile(values, anew=False)
    assert again == first and 'measured and doubts' in where and len(calls) == 1
    assert not where.startswith(loading.JUST_NOW), 'so it is compared with the machine'
    find_profile(values)
    assert len(calls) == 2
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: POINTS)
    trusted, _ = find_profile(values)
    assert find_profile(values, anew=False) == (trusted, f'cached profile {cached_path(values)} of {trusted.date}')
    assert list((tmp_path / 'profiles').iterdir()) == [cached_path(values)]


def corrupt(path, change):
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data))


CORRUPTIONS = {
    'empty': lambda path: path.write_text(''),
    'noise': lambda path: path.write_bytes(os.urandom(500)),
    'half': lambda path: path.write_text(path.read_text()[:100]),
    'a coefficient missing': lambda path: corrupt(path, lambda data: data['costs']['step'].pop('p')),
    'a coefficient not a number': lambda path: corrupt(path, lambda data: data['costs']['step'].update(p=float('nan'))),
    'another format': lambda path: corrupt(path, lambda data: data.update(format=99)),
    'another model': lambda path: corrupt(path, lambda data: data['identity'].update(model='0')),
}


@pytest.mark.parametrize('corruption', CORRUPTIONS)
def test_a_cached_profile_that_is_not_usable_is_measured_again_and_replaced(corruption, tmp_path, measured, caplog):
    values = chosen(tmp_path)
    find_profile(values)
    CORRUPTIONS[corruption](cached_path(values))
    profile, where = find_profile(values)
    assert 'measured just now' in where and len(measured) == 2 and 'measuring again' in caplog.text
    assert find_profile(values)[0] == profile and len(measured) == 2


@pytest.mark.parametrize('part', ['device', 'model', 'predictor', 'dtype'])
def test_each_device_model_predictor_and_precision_has_a_profile_of_its_own(part, tmp_path):
    mine = identity(model(), None)
    other = dataclasses.replace(mine, **{part: 'other'})
    values = chosen(tmp_path)
    assert loading.cached_profile_path(values, mine, 64) != loading.cached_profile_path(values, other, 64)


@pytest.mark.parametrize('changed', [{'eviction_scorer': 'recent'}, {'predictor_threads': 2}])
def test_what_changes_the_time_of_the_same_work_has_a_profile_of_its_own(changed, tmp_path, measured, caplog):
    find_profile(chosen(tmp_path))
    values = chosen(tmp_path, **changed)
    assert 'measured just now' in find_profile(values)[1] and 'was made with other settings' in caplog.text
    assert 'cached profile' in find_profile(values)[1] and 'cached profile' in find_profile(chosen(tmp_path))[1]


def test_a_kept_profile_that_foretells_nothing_for_a_longer_context_is_measured_again(tmp_path, monkeypatch, caplog):
    values, calls = chosen(tmp_path), []
    points = {**POINTS, 'prefill': [*POINTS['prefill'][:3], [500, 3.0]]}  # of which the others foretell nothing
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: calls.append(args) or points)
    monkeypatch.setattr(loading, 'doubt', lambda *args: '')  # for a context that ends there
    first, _ = find_profile(values)
    assert find_profile(values) == (first, f'cached profile {cached_path(values)} of {first.date}')
    monkeypatch.undo()
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: calls.append(args) or POINTS)
    assert find_profile(values)[0] == first, 'the context is as long as it was'
    monkeypatch.setattr(model(), 'max_context', 1001)  # more than twice as long as all that was measured
    assert 'cached profile' in find_profile(values, anew=False)[1], 'only a start of the node measures again'
    again, where = find_profile(values)
    assert 'measured just now' in where and again.points == POINTS and len(calls) == 2
    assert f'does not serve a context of {model().max_context} tokens: ' in caplog.text
    assert find_profile(values)[0] == again and len(calls) == 2


@pytest.mark.parametrize('part', ['device', 'model', 'predictor', 'dtype'])
def test_a_named_profile_of_something_else_is_refused_and_says_what(part, tmp_path, measured):
    profile, _ = find_profile(chosen(tmp_path))
    path = tmp_path / 'other.yaml'
    foreign = dataclasses.replace(profile.identity, **{part: 'something else'})
    dataclasses.replace(profile, identity=foreign).save(path)
    with pytest.raises(ProfileError, match=f"{part} 'something else'.*has "
                       f"'{re.escape(getattr(profile.identity, part))}'"):
        find_profile(chosen(tmp_path, profile=str(path)))
    profile.save(path)
    assert find_profile(chosen(tmp_path, profile=str(path))) == (
        profile, f'profile {path} of {profile.date}')
    assert len(measured) == 1


def be(monkeypatch, mine):
    """Let this be the identity of everything that is measured and looked for."""
    for module in (loading, profiling):
        monkeypatch.setattr(module, 'identity', lambda *of: mine)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']


@pytest.mark.parametrize('fact', CIRCUMSTANCES)
def test_in_other_circumstances_a_kept_profile_is_measured_again_and_it_is_said_once(
        fact, tmp_path, measured, monkeypatch, caplog):
    values = chosen(tmp_path)
    mine = dataclasses.replace(identity(model(), None), power='quiet', clocks='cpu 800-3500 MHz')
    be(monkeypatch, mine)
    find_profile(values)
    assert 'measuring again' not in caplog.text
    now = dataclasses.replace(mine, **{fact: 'other'})
    be(monkeypatch, now)
    find_profile(values)
    told, = warnings(caplog)
    assert f"{fact} '{getattr(mine, fact)}' (now 'other'); measuring again" in told and len(measured) == 2
    caplog.clear()
    find_profile(values)
    be(monkeypatch, mine)
    find_profile(values)
    assert len(measured) == 2 and not caplog.records, 'both are kept'
    assert loading.state_path(values, mine, 0) == loading.state_path(values, now, 0), 'lengths stay learned'


@pytest.mark.parametrize('fact', CIRCUMSTANCES)
def test_a_named_profile_made_in_other_circumstances_is_used_with_a_warning(
        fact, tmp_path, measured, monkeypatch, caplog):
    find_profile(chosen(tmp_path))
    path = next((tmp_path / 'profiles').iterdir())
    mine = dataclasses.replace(identity(model(), None), **{fact: 'before'})
    dataclasses.replace(Profile.load(path), identity=mine).save(path)
    be(monkeypatch, dataclasses.replace(mine, **{fact: 'now'}))
    profile, _ = find_profile(chosen(tmp_path, profile=str(path)))
    assert profile.identity == mine and len(measured) == 1
    told, = warnings(caplog)
    assert f"{path} was made with {fact} 'before' (now 'now'); run \"timebill profile\" again" in told


@pytest.mark.parametrize('named', [True, False])
def test_a_profile_of_an_earlier_version_is_told_in_a_sentence_and_measured_again(named, tmp_path, measured, caplog):
    values = chosen(tmp_path)
    new = cached_path(values)
    old = tmp_path / 'old.yaml' if named else new.with_name(new.name.partition('-')[0] + '.yaml')
    old.parent.mkdir(exist_ok=True)
    old.write_text('format: 2\nidentity: {device: here}\ntimes: {a: 1.0}\n')
    values['profile'] = str(old) if named else ''
    _, where = find_profile(values)
    told, = warnings(caplog)
    assert 'measured just now' in where and len(measured) == 1 and str(old) in told
    assert 'of an earlier version' in told if named else 'older format 2, not 3; measuring again' in told
    assert loading._with_profile(values) == (0, 'auto')
    values['profile'] = ''
    caplog.clear()
    find_profile(values)
    assert len(measured) == 1 and not caplog.records


def test_a_named_profile_that_is_missing_is_an_error(tmp_path, measured):
    with pytest.raises(ProfileError, match='nowhere.yaml'):
        find_profile(chosen(tmp_path, profile=str(tmp_path / 'nowhere.yaml')))
    assert measured == []


def test_a_cache_that_cannot_be_written_costs_only_the_next_start(tmp_path, measured, caplog):
    (tmp_path / 'file').write_text('')
    _, where = find_profile(chosen(tmp_path / 'file'))
    assert 'measured just now' in where and 'could not be cached' in caplog.text


@pytest.mark.parametrize('kept', [True, False])
def test_a_profile_that_was_kept_is_work_done_once(kept, tmp_path, monkeypatch):
    """The node subtracts its time from what it expects of a restart, which finds the profile on disk."""
    monkeypatch.setattr(loading, 'measure', lambda *args, **options: time.sleep(0.05) or POINTS)
    monkeypatch.setattr(one_time_work, 'total_s', 0.0)
    (tmp_path / 'file').write_text('')
    values = chosen(tmp_path if kept else tmp_path / 'file')
    find_profile(values)
    assert (one_time_work.total_s >= 0.05) is kept
    spent = one_time_work.total_s
    if kept:
        find_profile(values)
    assert one_time_work.total_s == spent  # the next start reads it


def test_a_profile_that_no_longer_fits_is_told_when_it_is_loaded_and_corrected(tmp_path, monkeypatch, caplog):
    values = chosen(tmp_path, keep_state=False)
    loaded = loading.load_engine({**values, 'self_profile_s': 2.0})
    profile = loaded.profile
    assert loaded.engine.tracker.timing_factor == 1.0, 'measured just now, and not looked at'
    slow = dataclasses.replace(profile.times, q=profile.times.q / 8, p=profile.times.p / 8)
    path = tmp_path / 'mine.yaml'
    dataclasses.replace(profile, times=slow).save(path)
    caplog.clear()
    tracker = loading.load_engine({**values, 'profile': str(path)}).engine.tracker
    assert tracker.timing_factor > 3.0
    told, = [line for line in warnings(caplog) if 'does not fit this machine' in line]
    assert str(path) in told and 'run "timebill profile" again' in told
