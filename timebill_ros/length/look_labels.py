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

"""What heads on an answer's own states are fitted to: looks at answers that went on, and what was left of them.

A look is at a fixed age, a number of tokens that have come. It holds three hidden states: the one that the prompt left
(inference/prompt_state.py), the newest one and the mean of every fourth (inference/answer_state.py), each normalised.
Each answer gives one look at each age at which it goes on. The tokens that were still to come are the label; where the
answer was cut, there would have been more.

All ages share one table. A new look takes the place of the oldest. There are at most MOST_LOOKS of them, fewer of wide
models, so that the table takes MOST_BYTES at most: 14 MB for a model of width 576, and 32 MB for width 4,096. They lie
in the file of state_labels.py, beside the states of the prompts:

    look_states [n, S] float16: prompt's, newest, mean; look_ages [n] int32; look_lengths [n] int32, tokens still to
    come; look_whole [n] uint8, 0 where the answer was cut
"""
from __future__ import annotations

from bisect import bisect_right

import numpy as np

from timebill_ros.length.hidden_state_head import normalised

# At half the steps of a factor of two: what a head has learned at one age holds until the next one.
AGES = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
MOST_LOOKS = 4096
MOST_BYTES = 32 << 20
_NUMBERS = 9  # bytes of a look besides its states


def age_at(n: int) -> int | None:
    """Return the age, the largest of AGES, that an answer of `n` tokens has reached; None before the first."""
    found = bisect_right(AGES, n)
    return AGES[found - 1] if found else None


def joined(newest: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the states of answers, [..., H] each, normalised and behind each other [..., 2 H]."""
    return np.concatenate([normalised(newest), normalised(mean)], axis=-1)


class LookLabels:
    """The last looks. `width`: S, of the states of a look together."""

    def __init__(self, width: int):
        self.width = width
        self.capacity = min(MOST_LOOKS, MOST_BYTES // (2 * width + _NUMBERS))
        self._states = np.zeros((self.capacity, width), dtype=np.float16)
        self._ages, self._lengths = np.zeros((2, self.capacity), dtype=np.int32)
        self._whole = np.zeros(self.capacity, dtype=np.uint8)
        self._n = 0  # looks ever added, those forgotten too
        self.seen = dict.fromkeys(AGES, 0)  # the same by age

    def __len__(self) -> int:
        return min(self._n, self.capacity)

    @property
    def most_bytes(self) -> int:
        """Bytes that the looks take in a file at most."""
        return self.capacity * (2 * self.width + _NUMBERS)

    def add(self, age: int, states: np.ndarray, left: int, *, whole: bool) -> None:
        """Take over a look: normalised states [S] at one of AGES, and how many tokens, from 1 up, came after it.

        Not `whole`: the answer was cut then.
        """
        at = self._n % self.capacity
        self._states[at], self._ages[at], self._lengths[at], self._whole[at] = states, age, left, whole
        self._n += 1
        self.seen[age] += 1

    def add_answer(self, prompt_state: np.ndarray, looks: list[tuple[int, np.ndarray]], n: int, *, whole: bool) -> None:
        """Take over an answer of `n` tokens.

        prompt_state:  normalised, [H].
        looks:         (tokens that had come, the answer's states as `joined` returns them), one at each age at most.
        """
        for at, states in looks:
            if n > at:
                self.add(age_at(at), np.concatenate([prompt_state, states]), n - at, whole=whole)

    def at(self, age: int, most: int = MOST_LOOKS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return copies of the looks at an age: states [n, S] (float16), tokens left [n], whether whole [n].

        They are the newest, at most `most`. The oldest come first.
        """
        order = self._order()
        rows = order[self._ages[order] == age][-most:]
        return self._states[rows], self._lengths[rows], self._whole[rows].astype(bool)

    def count(self, age: int) -> int:
        """Return how many looks at an age there are."""
        return int(np.count_nonzero(self._ages[:len(self)] == age))

    def _order(self) -> np.ndarray:
        return np.arange(self._n - len(self), self._n) % self.capacity

    # -- their part of the file -------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """Return what the file holds of them."""
        order = self._order()
        return {'look_states': self._states[order], 'look_ages': self._ages[order],
                'look_lengths': self._lengths[order], 'look_whole': self._whole[order]}

    def checked(self, found: dict[str, np.ndarray]) -> tuple[np.ndarray, ...] | None:
        """Return what a file holds of them, for `restore`; None where it holds none. ValueError where it is unfit."""
        if 'look_states' not in found:
            return None
        states, ages, lengths, whole = (found[f'look_{name}'] for name in ('states', 'ages', 'lengths', 'whole'))
        n = len(ages)
        shapes = states.shape, ages.shape, lengths.shape, whole.shape
        if shapes != ((n, self.width), (n,), (n,), (n,)) or n > self.capacity:
            raise ValueError(f'its looks have the shapes {shapes}, for states of {self.width} numbers')
        if (states.dtype, ages.dtype, lengths.dtype, whole.dtype) != (np.float16, np.int32, np.int32, np.uint8):
            raise ValueError(f'its looks are {states.dtype}, {ages.dtype}, {lengths.dtype} and {whole.dtype}')
        if not np.isfinite(states).all() or (n and lengths.min() < 1) or not np.isin(ages, AGES).all():
            raise ValueError('the state of a look is not finite, its age is none of those known, or nothing was left')
        return states, ages, lengths, whole

    def restore(self, checked: tuple[np.ndarray, ...]) -> None:
        """Go on from what `checked` returned."""
        states, ages, lengths, whole = checked
        n = len(ages)
        self._states[:n], self._ages[:n], self._lengths[:n], self._whole[:n], self._n = states, ages, lengths, whole, n
        self.seen = {age: int(np.count_nonzero(ages == age)) for age in AGES}
