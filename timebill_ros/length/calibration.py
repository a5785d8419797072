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

"""Calibration scores: how surprising a length was to the predictor, and the file of such scores. numpy only.

The score of a length n is -log P(length >= n) under the predicted distribution. Scores of prompts that the predictor
was not trained on become a bound on the length by split conformal prediction (conformal.py, pessimistic_length.py),
which keeps its miss rate also where the predicted probabilities are wrong.
"""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from timebill_ros.length.length_distribution import LengthDistribution

MOST_SURPRISE = 700.0  # score of a length to which the predictor gave no chance; exp(-700) is still above 0
SCORES_FILE = 'calibration.json'  # beside a length predictor's other files
SCORES_FORMAT = 1


def surprise(distribution: LengthDistribution, n: int) -> float:
    """Return the score of the length `n` (tokens): -log P(length >= n), from 0 to MOST_SURPRISE.

    The whole probability of n's bucket counts, as in `LengthDistribution.tail`.
    """
    tail = distribution.tail(n)
    # Rounding may lift a sum of probabilities just above 1.
    return min(max(-math.log(tail), 0.0), MOST_SURPRISE) if tail > 0 else MOST_SURPRISE


def save_scores(path: Path, scores: Sequence[float], **facts) -> None:
    """Write the scores of calibration prompts as JSON, with `facts` about them, such as where they come from.

    They are rounded upwards: a bound made of one rounded down would leave out the very length that had this score.
    """
    data = {'format': SCORES_FORMAT, **facts, 'scores': [math.ceil(float(score) * 1e5) / 1e5 for score in scores]}
    path.write_text(json.dumps(data) + '\n', encoding='utf-8')


def load_scores(path: Path) -> list[float]:
    """Return the scores of a file that `save_scores` wrote, or [] where there is no file.

    ValueError naming the file where it holds anything else.
    """
    if not path.is_file():
        return []
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
        if data['format'] != SCORES_FORMAT:
            raise ValueError(f'its format is {data["format"]!r}, not {SCORES_FORMAT}')
        scores = [float(score) for score in data['scores']]
        if not all(score >= 0 for score in scores):  # false for NaN too
            raise ValueError('a score is negative or not a number')
        return scores
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'calibration scores {path} cannot be used: {type(error).__name__}: {error}') from error
