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

"""From settings to a ready engine: model, length predictor, profile. The worker's `configure` calls `load_engine`.

Settings are read here, never written: what loading chooses where they leave it open is in the Choices it returns.
"""
from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import transformers

from timebill_ros import disk_cache
from timebill_ros.inference import variants
from timebill_ros.inference.grammars.compiler import grammars_of
from timebill_ros.inference.hub import is_here, look_once
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError, fingerprint
from timebill_ros.inference.one_time_work import one_time_work
from timebill_ros.inference.start_progress import CHUNKS, MODEL, PREDICTOR, PROFILE, this_start
from timebill_ros.length import length_predictor
from timebill_ros.length.calibration import SCORES_FILE, load_scores
from timebill_ros.length.prediction import PredictionExecutor
from timebill_ros.resources import cache_directory, key_of, steps_directory
from timebill_ros.settings import BY_NAME, NO_PREDICTOR, STATES
from timebill_ros.timing import pause_costs, prefix_costs, restore_costs
from timebill_ros.timing.execution_time import ProfileError
from timebill_ros.timing.profile import Identity, OlderProfileError, Profile
from timebill_ros.timing.profile_journal import ProfileJournal
from timebill_ros.timing.profiling import doubt, identity, make_profile, measure, reaches, spot_check
from timebill_ros.worker import doubted_profile, tuning
from timebill_ros.worker.assembly import Loaded, make_engine, make_tracker, planning_rule
from timebill_ros.worker.model_choice import choose_model
from timebill_ros.worker.prefixes import add_store, lacks_prefixes, pin_prefixes, pinned
from timebill_ros.worker.profile_check import ProfileCheck
from timebill_ros.worker.state_lengths import by_default, by_states, check_exists, learner, watch_states

log = logging.getLogger(__name__)

JUST_NOW = 'profile measured just now'
PACE = ('eviction_scorer', 'predictor_threads')  # parameters that change how long the same work takes


@dataclass(frozen=True)
class Choices:
    """What is in force for the parameters of these names, which settings may leave open."""

    prefill_chunk_tokens: int  # the setting, or what the user's profile was measured with, or the quickest (tuning.py)
    predictor_placement: str  # likewise; where there is no length predictor, the setting or the profile's


def load_model(settings: dict) -> tuple[CausalLM, PredictionExecutor | None, Choices]:
    """Load the model and its length predictor, None where there is none. ModelError with a sentence on failure."""
    model, predictor, choices = _load_parts(settings)
    add_store(settings, model, choices.prefill_chunk_tokens, cache_directory(settings['cache_dir']) / 'tuning')
    model.grammars = grammars_of(model)
    return model, predictor, choices


def _load_parts(settings: dict) -> tuple[CausalLM, PredictionExecutor | None, Choices]:
    chunk, placement = _with_profile(settings)
    transformers.utils.logging.disable_progress_bar()  # a node's log is not a terminal
    this_start.begin(MODEL)
    choice = choose_model(settings)
    name, wanted = choice.model, settings['length_predictor'] or choice.length_predictor
    check_exists(wanted)
    pinned(settings)  # what is wrong with these files is told before a model is loaded
    revision = settings['model_revision']
    look_once(name, revision)
    with one_time_work() as work:
        work.kept = not is_here(name, revision)  # a download, which takes most of the time
        model = CausalLM(name, device=settings['device'], dtype=settings['dtype'], threads=settings['threads'],
                         max_context_tokens=settings['max_context_tokens'], scorer=settings['eviction_scorer'],
                         trust_remote_code=settings['trust_remote_code'],
                         allow_unsafe_weights=settings['allow_unsafe_weights'],
                         other_variants=_other_variants(settings),
                         revision=revision, template_args=settings['chat_template_args'],
                         compiled_steps=None if settings['compile_step'] == 'never' else
                         steps_directory(settings['cache_dir']),
                         compiles=settings['compile_step'] == 'auto')
    if settings['planner'] == 'quality' and not settings['variants'] and model.device.type == 'cpu' \
            and variants.would_keep_4_bits(model.model):
        log.info('the weights were stored with 4 bits: with the parameter variants int8, decode steps read half as '
                 'much or less and answers stay as good, for up to a byte of memory a weight and a longer first start')
    tuned = cache_directory(settings['cache_dir']) / 'tuning'
    this_start.begin(CHUNKS)
    chunk = chunk or tuning.chunk_tokens(model, tuned)
    if not wanted:
        wanted = STATES if by_default(model) else NO_PREDICTOR
    if by_states(wanted):
        watch_states(model, wanted)
        return model, None, Choices(chunk, placement)
    if wanted == NO_PREDICTOR:
        log.info('no length predictor: lengths are those of earlier answers, and until there are some, every length '
                 'that a goal allows is as likely as any other')
        return model, None, Choices(chunk, placement)

    this_start.begin(PREDICTOR)
    predictor_fingerprint = fingerprint(wanted)

    def make(device) -> PredictionExecutor:
        predictor = length_predictor.load(wanted, device=device,
                                          trust_remote_code=settings['trust_remote_code'])
        executor = PredictionExecutor(predictor, predictor_fingerprint, threads=settings['predictor_threads'],
                                      scores=load_scores(Path(wanted) / SCORES_FILE),
                                      directory=wanted)
        executor.submit('warm up', 64).result()
        return executor

    try:
        executor = tuning.place(model, make, placement, fingerprint=predictor_fingerprint,
                                threads=settings['predictor_threads'], chunk=chunk, directory=tuned)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f'length predictor {wanted} cannot be used: {error}') from error
    return model, executor, Choices(chunk, executor.placement)


def _other_variants(settings: dict) -> str:
    """Return the weights to load besides the model's own; the paper's rule knows none."""
    return '' if settings['planner'] == 'paper' else settings['variants']


def _with_profile(settings: dict) -> tuple[int, str]:
    """Return prefill_chunk_tokens and predictor_placement: what is still open as the user's profile was measured.

    Without such a profile both are as in the settings. ProfileError for a bad one.
    """
    chunk, placement = settings['prefill_chunk_tokens'], settings['predictor_placement']
    profile = _named_profile(settings)
    if profile:
        chunk = chunk or profile.times.chunk_tokens
        if placement == 'auto':
            placement = profile.identity.placement or placement  # empty: measured without a length predictor
    return chunk, placement


def _named_profile(settings: dict) -> Profile | None:
    """Return the profile that the user has named, None where it has an older format. ProfileError for a bad one."""
    if settings['profile']:
        with contextlib.suppress(OlderProfileError):  # find_profile says so
            return Profile.load(settings['profile'])
    return None


def cached_profile_path(settings: dict, expected: Identity, chunk_tokens: int) -> Path:
    """Return the cache's file for one device, model, predictor, choice of precisions and prefill chunk (tokens).

    Its name ends with a key of the circumstances, such as library versions (see `Identity`), and of PACE.
    """
    pace = [f'{name} {settings[name]}' for name in PACE if settings[name] != BY_NAME[name].default]
    name = f'{_key(settings, expected, chunk_tokens)}-{key_of([*expected.circumstances(), *pace])[:8]}.yaml'
    return cache_directory(settings['cache_dir']) / 'profiles' / name


def state_path(settings: dict, expected: Identity, chunk_tokens: int) -> Path:
    """Return the file for what requests taught, whatever the circumstances."""
    return cache_directory(settings['cache_dir']) / 'state' / f'{_key(settings, expected, chunk_tokens)}.json'


def _key(settings: dict, expected: Identity, chunk_tokens: int) -> str:
    return key_of([*expected.things(), str(chunk_tokens), _other_variants(settings)])


def find_profile(settings: dict, model: CausalLM, predictor: PredictionExecutor | None,
                 chunk_tokens: int, *, anew: bool = True) -> tuple[Profile, str]:
    """Return the profile to plan with, and a sentence on where it comes from.

    The user's profile if one is named; ProfileError where it does not fit this device, model and predictor. Otherwise
    the cached one. Otherwise one is measured now, within `self_profile_s`, and cached. `chunk_tokens`: the size of
    prefill's chunks. Without `anew` this process takes another's place, and uses what that one measured and doubted.

    The log says why a profile that there is, is measured again.
    """
    expected = identity(model, predictor)
    named = settings['profile']
    if profile := _named_profile(settings):
        profile.check(expected, named)
        if lacks_prefixes(profile, model):
            log.warning('profile %s does not tell what known beginnings of prompts save, which is measured now; run '
                        '"timebill profile" again to keep it', named)
            profile = prefix_costs.added_to(profile, model, chunk_tokens)
        if changed := profile.aged(expected):
            log.warning('profile %s was made with %s; run "timebill profile" again', named, changed)
        return profile, f'profile {named} of {profile.date}'
    if named:
        log.warning('profile %s is of an earlier version and is not used; run "timebill profile" again', named)
    path = cached_profile_path(settings, expected, chunk_tokens)
    if not anew and not path.is_file():
        doubted = doubted_profile.handed_over(path, expected)
        if doubted is not None and not lacks_prefixes(doubted, model):
            return doubted, f'profile of {doubted.date}, which the process before this one has measured and doubts'
    if path.is_file():
        try:
            profile = Profile.load(path)
            profile.check(expected, str(path))
            if lacks_prefixes(profile, model):
                log.info('profile %s does not tell what known beginnings of prompts save; measuring again', path)
            elif anew and not reaches(profile, model.max_context) and (reason := doubt(profile, model.max_context)):
                log.warning('profile %s does not serve a context of %d tokens: %s; measuring again', path,
                            model.max_context, reason)
            else:
                disk_cache.use(path)
                return profile, f'cached profile {path} of {profile.date}'
        except ProfileError as error:
            log.warning('%s; measuring again', error)
    elif reason := _reason_to_measure_again(path, expected):
        log.warning('%s; measuring again', reason)
    with one_time_work() as work:
        profile, where, work.kept = _measure_profile(settings, model, predictor, chunk_tokens, path)
    return profile, where


def _measure_profile(settings: dict, model: CausalLM, predictor: PredictionExecutor | None, chunk_tokens: int,
                     path: Path) -> tuple[Profile, str, bool]:
    """Measure a profile and cache it as `path` -> (profile, a sentence on where it comes from, whether others find it).

    A measurement that is interrupted is gone on with at the next start.
    """
    started = time.monotonic()
    journal = ProfileJournal(path.with_suffix('.part.json'))
    if journal.n_found:
        log.info('going on with a profile that was interrupted; visits made before: %d', journal.n_found)
    this_start.make('', settings['self_profile_s'])
    points = measure(model, predictor, chunk_tokens=chunk_tokens, budget_s=settings['self_profile_s'], repeats=4,
                     progress=lambda share: this_start.tell(f'{share:.0%}', share=share), journal=journal)
    profile = make_profile(model, predictor, points, chunk_tokens)
    where = f'{JUST_NOW} in {time.monotonic() - started:.1f} s'
    if reason := doubt(profile, model.max_context):
        log.warning('%s; the profile is used, but not kept: raise self_profile_s, or make one with "timebill profile"',
                    reason)
        return profile, where, doubted_profile.hand_over(path, profile)
    try:
        profile.save(path)
    except OSError as error:
        log.warning('the profile could not be cached: %s', error)
        return profile, where, False
    doubted_profile.forget(path)
    return profile, f'{where}, cached as {path}', True


def _reason_to_measure_again(path: Path, expected: Identity) -> str:
    """Return why no other profile of the same case serves in place of `path`; empty: there is none."""
    case = path.name.partition('-')[0]
    others = [*path.parent.glob(f'{case}.yaml'), *path.parent.glob(f'{case}-*.yaml')]
    if not others:
        return ''
    newest = max(others, key=lambda other: other.stat().st_mtime)
    try:
        return f'the kept profile {newest} was made with {Profile.load(newest).aged(expected) or "other settings"}'
    except ProfileError as error:
        return str(error)


def _date_of(path: Path) -> str:
    """Return when a profile was measured; empty where the file is none."""
    try:
        return Profile.load(path).date
    except ProfileError:
        return ''


def _profile_check(settings: dict, model: CausalLM, predictor: PredictionExecutor | None, profile: Profile,
                   chunk_tokens: int) -> ProfileCheck:
    """Return the watch over `profile`, which knows what the user can do about it."""
    kept = cached_profile_path(settings, identity(model, predictor), chunk_tokens)
    if settings['profile']:
        name, remedy = f'profile {settings["profile"]}', 'run "timebill profile" again'
    elif kept.is_file() and _date_of(kept) == profile.date:
        name, remedy = f'the kept profile {kept}', 'delete it: the next configure measures again'
    else:
        name, remedy = 'the profile', 'configure again, which measures again'
    return ProfileCheck(f'{name} of {profile.date}', remedy)


def load_engine(settings: dict, *, anew: bool = True) -> Loaded:
    """Load everything that an engine needs. ModelError, ProfileError or ValueError with a sentence on failure.

    `anew`: not because another process was lost.
    """
    rule = planning_rule(settings)
    model, predictor, choices = load_model(settings)
    chunk = choices.prefill_chunk_tokens
    this_start.begin(PROFILE)
    profile, where = find_profile(settings, model, predictor, chunk, anew=anew)
    profile = restore_costs.added_to(pause_costs.added_to(profile, model), model)
    chunk_in_use = chunk if model.chunked_prefill else 0
    if profile.times.chunk_tokens != chunk_in_use:
        log.warning('the profile was measured with prefill chunks of %d tokens, and prefill_chunk_tokens is %d',
                    profile.times.chunk_tokens, chunk_in_use)
    scores = predictor.scores if predictor else []
    if predictor and not scores and settings['pessimistic_length'] != 'fixed':
        log.warning('the length predictor has no %s: answers are planned as long as allowed%s', SCORES_FILE,
                    ' until enough have been seen' if settings['pessimistic_length'] == 'adaptive' else '')
    tracker = make_tracker(settings, scores, profile)
    state = state_path(settings, profile.identity, chunk) if settings['keep_state'] else None
    if state is not None and tracker.load(state):
        where += ', with what earlier requests taught'
    profile_check = _profile_check(settings, model, predictor, profile, chunk)
    if not where.startswith(JUST_NOW):
        try:
            profile_check.at_start(tracker, spot_check(model, predictor, profile, chunk))
        except Exception as error:  # too little memory, for one: goals may still be served
            log.warning('the profile could not be compared with this machine: %s: %s', type(error).__name__, error)
    states = learner(model, state, settings['length_predictor'])
    engine = make_engine(settings, model, predictor, profile, tracker, rule, chunk, states)
    pinned = pin_prefixes(settings, engine)
    t = profile.times
    steps = f' with {model.fast_steps[model.variant].kind} steps' if model.variant in model.fast_steps else ''
    description = (f'{model.name} in {model.variant}{steps} on {profile.identity.device}, '
                   f'context {model.max_context} tokens, '
                   f'{"predicted" if predictor else "learned" if states else "unpredicted"} lengths, '
                   f'{"eviction by " + settings["eviction_scorer"] if model.supports_eviction else "no eviction"}; '
                   f'{where}: prefill of 1000 tokens {t.prefill(1000) * 1e3:.1f} ms, '
                   f'decode step {t.q * 1e3:.3f} ms + {t.p * 1e6:.4f} us per cached entry')
    return Loaded(engine, profile, description, lambda changed: make_tracker(changed, scores, profile), profile_check,
                  state, pinned)
