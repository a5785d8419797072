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

"""From a script to a ready engine: the real engine, planner and tracker on a model that only waits.

The parameter `worker: scripted` has the worker load this in the place of loading.py, so that a planner's own tests
need neither torch nor a model. Nothing is learned from one goal to the next: a test gives the same whatever ran before.
"""
from __future__ import annotations

import time
from dataclasses import astuple
from pathlib import Path

from timebill_ros.planning.tracker import Tracker
from timebill_ros.resources import cache_directory, example_script, key_of
from timebill_ros.timing.execution_time import ExecutionTimes
from timebill_ros.timing.profile import Identity, Profile
from timebill_ros.worker import script as scripts
from timebill_ros.worker.assembly import Loaded, make_engine, planning_rule
from timebill_ros.worker.scripted_lengths import LongestForeseen, ScriptedLengths
from timebill_ros.worker.scripted_model import ScriptedModel
from timebill_ros.worker.scripted_uses import Uses

CHUNK_TOKENS = 16  # of prefill, as far as anything but ScriptedModel asks
LEAST_STEP_S = 1e-6  # for plans: a step that takes no time fits no formula


class StartError(RuntimeError):
    """Raised where a script wants starts to fail."""


def load_engine(settings: dict, *, anew: bool) -> Loaded:
    """Load the script that the settings name. YamlError or StartError with a sentence on failure.

    `anew`: the node has been configured; otherwise its inference process has been replaced.
    """
    rule = planning_rule(settings)
    script = scripts.load(Path(settings['script']).expanduser() if settings['script'] else example_script())
    time.sleep(script.start_s)
    if script.start_error:
        raise StartError(f'{script.start_error} (start.error of the script {script.path})')
    times = execution_times(script.times)
    uses = Uses(cache_directory(settings['cache_dir']) / 'scripted', script.path, anew=anew)
    model = ScriptedModel(script, times, uses)
    if settings['prefix_cache_mib'] == 0:
        model.asides = None  # as with a model: a goal that gives way has no place to be kept in
    profile = Profile(Identity(device='none: a script', model=key_of(map(str, astuple(script.times))),
                               predictor='script', dtype='none'), times)
    lengths = ScriptedLengths(model.lengths, model.usual_lengths())
    engine = make_engine(settings, model, lengths, profile, new_tracker(settings), rule, CHUNK_TOKENS)
    return Loaded(engine, profile, f'no model but the script {script.path}, answers: {len(script.answers)}, a token '
                  f'takes {script.times.token_s * 1e3:g} ms', new_tracker)


def execution_times(times: scripts.Times) -> ExecutionTimes:
    """Return what plans count with."""
    return ExecutionTimes(a=0.0, b=times.prompt_token_s, c=times.prompt_s, p=times.entry_s,
                          q=max(times.token_s, LEAST_STEP_S))


def new_tracker(settings: dict) -> Tracker:
    """Make a tracker that holds to the script, whatever it observes. No setting changes that."""
    tracker = Tracker('fixed', track_timing=False)
    tracker.length = LongestForeseen()
    return tracker
