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

"""The true distribution of the length of a right answer to a site-log task. Nothing here imports torch or rclpy."""

import math

import numpy as np

from timebill_ros.length.length_distribution import LengthDistribution
from timebill_ros.tasks.site_log import FULL_SHARE, MORE_NOTES, NOTE_TOKENS, SiteLogTask, count_tokens


def length_law(task: SiteLogTask) -> LengthDistribution:
    """Return the true distribution of the length of a right answer, end token included, in buckets of one token.

    All of it is on one length, except for reports: their length has a fixed part and NOTE_TOKENS for each note. A full
    report has one note more for each object seen. In a mode with r = MORE_NOTES[mode] and s objects seen, the number k
    of other notes is negative binomial: C(k + s - 1, k) * (1 - r)^s * r^k. (The distribution is cut where less than
    1e-15 is left.)
    """
    if task.family != 'report':
        return LengthDistribution.point(task.n_answer_tokens)
    tone = next(tone for tone in FULL_SHARE if tone in task.instruction.split())
    bare = 1 + sum(count_tokens(step) + 1 for step in task.steps) + 1  # mode, newline and line each, end
    n_seen = sum(not step.endswith('not seen') for step in task.steps)
    p = np.zeros(bare + NOTE_TOKENS * (4 * n_seen + 40))
    for mode, share in (('full', FULL_SHARE[tone]), ('brief', 1 - FULL_SHARE[tone])):
        least = n_seen if mode == 'full' else 0
        more = MORE_NOTES[mode]
        for k in range((len(p) - bare) // NOTE_TOKENS - least):
            ways = math.comb(k + n_seen - 1, k) if n_seen else k == 0
            p[bare + NOTE_TOKENS * (least + k) - 1] += share * ways * (1 - more) ** n_seen * more ** k
    return LengthDistribution(1, p)
