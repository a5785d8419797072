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

"""An engine put together from its parts, as the settings say. No torch: worker/scripted.py needs none."""
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from timebill_ros.engine import Engine
from timebill_ros.inference.ranges import Ranges
from timebill_ros.planning.paper_rule import PaperRule
from timebill_ros.planning.quality_rule import QualityRule
from timebill_ros.planning.quality_table import QualityTable
from timebill_ros.planning.tracker import Tracker
from timebill_ros.resources import quality_table_path
from timebill_ros.timing.profile import Profile
from timebill_ros.worker.profile_check import ProfileCheck

if TYPE_CHECKING:  # safetensors may not be installed where a script is served
    from timebill_ros.length.state_learner import StateLearner

log = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A ready engine, and what belongs to it."""

    engine: Engine
    profile: Profile  # what the engine plans with
    description: str  # one sentence
    new_tracker: Callable[[dict], Tracker]  # makes one that has learned nothing, as settings say
    profile_check: ProfileCheck | None = None  # the watch over the profile
    state: Path | None = None  # where what requests taught is kept; None: nowhere
    pinned_characters: int = 0  # of the longest prompt that is known for good


def planning_rule(settings: dict) -> PaperRule | QualityRule:
    """Return the rule that plans are made by. ValueError with a sentence for a bad quality table."""
    if settings['planner'] == 'paper':
        return PaperRule()
    table = QualityTable.load(settings['quality_table'] or quality_table_path())
    return QualityRule(table, settings['promise_quality'], settings['min_kept_tokens'])


def make_tracker(settings: dict, scores: list[float], profile: Profile) -> Tracker:
    """Make the tracker that bounds lengths and times; `scores` are those of the predictor's calibration."""
    policy = 'fixed' if settings['planner'] == 'paper' else settings['pessimistic_length']
    return Tracker.of(profile, policy, miss_rate=settings['miss_rate'],
                      k=settings['pessimistic_factor'], scores=scores, step=settings['adaptation_step'],
                      track_timing=settings['track_timing'])


def ranges_on(device, *, asked: bool) -> Ranges:
    """Return what marks requests for a profiler: NVTX on CUDA where that is asked for, elsewhere nothing."""
    if not asked:
        return Ranges()
    if device.type != 'cuda':
        log.warning('nvtx_ranges has no effect: the model is on %s, and NVTX is for CUDA', device.type)
        return Ranges()
    from timebill_ros.inference.nvtx import NvtxRanges  # here: it needs torch
    return NvtxRanges()


def make_engine(settings: dict, model, predictor, profile: Profile, tracker: Tracker, rule: PaperRule | QualityRule,
                chunk_tokens: int, states: StateLearner | None = None) -> Engine:
    """Make an engine of its parts; several may share a model, if one at a time runs.

    `model`, `predictor`, `states`: see Engine. `nvtx_ranges` marks what both of them do.
    """
    ranges = ranges_on(model.device, asked=settings['nvtx_ranges'])
    if predictor is not None:
        predictor.ranges = ranges
    if isinstance(rule, QualityRule):
        rule = rule.for_weights(name for name, weights in model.variants.items()
                                if getattr(weights, 'timebill_of_4_bits', False))  # see inference/variants.py
    return Engine(model, predictor, profile.times, tracker, rule=rule, ranges=ranges, prefill_chunk_tokens=chunk_tokens,
                  prediction_wait_s=settings['prediction_wait_s'],
                  predictor_max_tokens=settings['predictor_max_tokens'], replan_tokens=settings['replan_tokens'],
                  drop_infeasible=settings['drop_infeasible'], states=states,
                  thinking_end_text=settings['thinking_end_text'])
