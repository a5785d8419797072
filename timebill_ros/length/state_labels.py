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

"""What a hidden-state head is fitted to: the states of prompts with the lengths of their responses, and their file.

At most CAPACITY of them are kept; a new one then takes the place of the oldest. A label counts half after HALF_LIFE
newer ones. In memory and in the file a label takes 2 bytes for each number of its state and 5 bytes more: 1.2 MB for
1,024 labels of a model of width 576, and 8.4 MB for width 4,096.

The file is safetensors, written whole or not at all:

    states [n, H] float16, normalised; lengths [n] int32, tokens; whole [n] uint8, 0 where the response was cut
    the tensors of look_labels.py, where answers are looked at while they are decoded
    metadata: format, model (for people), depth (layers that the states have passed)

Its entries are in the order in which they were observed, the oldest first.
"""
from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from timebill_ros.length.label_grid import Labels, bucket_size_for
from timebill_ros.length.look_labels import LookLabels
from timebill_ros.length.state_file import HEADER_BYTES, facts_of
from timebill_ros.resources import write_whole

log = logging.getLogger(__name__)

CAPACITY = 1024  # labels
HALF_LIFE = 512  # labels, after which one counts half
FORMAT = '1'


class StateLabels:
    """The last CAPACITY labels. `width`: H, of a state; `depth`: how many layers the states have passed.

    `last_width`: of the last hidden states of answers, which looks hold besides (look_labels.py); 0: there are none.
    """

    def __init__(self, width: int, depth: int, last_width: int = 0):
        self.width, self.depth, self.last_width = width, depth, last_width
        self.looks = LookLabels(width + 2 * last_width) if last_width else None
        self.seen = 0  # labels ever added, those forgotten too
        self._states = np.zeros((CAPACITY, width), dtype=np.float16)
        self._lengths, self._whole = np.zeros(CAPACITY, dtype=np.int32), np.zeros(CAPACITY, dtype=np.uint8)

    def __len__(self) -> int:
        return min(self.seen, CAPACITY)

    @property
    def longest_file(self) -> int:
        """Bytes that the file has at most."""
        looks = self.looks.most_bytes if self.looks is not None else 0
        return CAPACITY * (2 * self.width + 5) + HEADER_BYTES + looks

    def add(self, state: np.ndarray, n: int, *, whole: bool) -> None:
        """Take over a normalised state [H] and the length, from 1 up, of the response; not `whole`: it was cut then."""
        at = self.seen % CAPACITY
        self._states[at], self._lengths[at], self._whole[at] = state, n, whole
        self.seen += 1

    def snapshot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return copies of states [n, H] (float16), lengths [n] and whether they are whole [n], the oldest first."""
        order = np.arange(self.seen - len(self), self.seen) % CAPACITY
        return self._states[order], self._lengths[order], self._whole[order].astype(bool)

    def save(self, path: Path, model: str = '') -> None:
        """Write the labels; `model`: its name, for people. OSError where that fails."""
        from safetensors.numpy import save
        states, lengths, whole = self.snapshot()
        facts = {'format': FORMAT, 'model': model[:200], 'depth': str(self.depth)}
        tensors = {'states': states, 'lengths': lengths, 'whole': whole.astype(np.uint8)}
        if self.looks is not None:
            tensors.update(self.looks.tensors())
        write_whole(path, save(tensors, facts))

    def load(self, path: Path) -> bool:
        """Go on from a file, and return whether there is one for states of this width and depth.

        One for others is not used, and one that cannot be used is set aside, with a warning.
        """
        try:
            size = path.stat().st_size
            if size > self.longest_file:
                raise ValueError(f'it has {size} bytes, more than the {self.longest_file} that are ever written')
            facts = facts_of(path)
            if facts['format'] != FORMAT:
                raise ValueError(f'its format is {facts["format"]!r}, not {FORMAT!r}')
            if facts['depth'] != str(self.depth):
                log.warning('the hidden states in %s were read behind layer %s, not %d: they are not used', path,
                            facts['depth'], self.depth)
                return False
            self._restore(_tensors(path))
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            aside = path.with_name(path.name + '.corrupt')
            log.warning('hidden states in %s cannot be used (%s: %s); set aside as %s', path, type(error).__name__,
                        error, aside.name)
            try:
                path.replace(aside)
            except OSError as problem:
                log.warning('nor can they be set aside: %s', problem)
            return False
        return True

    def begin_with(self, path: Path) -> None:
        """Take over the labels of a user's file, which stays as it is. ValueError where it cannot be used."""
        try:
            size, facts = path.stat().st_size, facts_of(path)
            if size > self.longest_file:
                raise ValueError(f'it has {size} bytes; states of this model, of width {self.width}, have at most '
                                 f'{self.longest_file}')
            if facts['format'] != FORMAT or facts['depth'] != str(self.depth):
                raise ValueError(f'its states are of {facts["model"]}, read behind layer {facts["depth"]}, and not '
                                 f'behind layer {self.depth}')
            self._restore(_tensors(path))
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'{type(error).__name__}: {error}') from error

    def _restore(self, found: dict[str, np.ndarray]) -> None:
        """Take over what a file holds. ValueError or KeyError for anything but labels: nothing is changed."""
        states, lengths, whole = found['states'], found['lengths'], found['whole']
        n = len(lengths)
        shapes = states.shape, lengths.shape, whole.shape
        if shapes != ((n, self.width), (n,), (n,)) or n > CAPACITY:
            raise ValueError(f'its tensors have the shapes {shapes}, for states of {self.width} numbers')
        if (states.dtype, lengths.dtype, whole.dtype) != (np.float16, np.int32, np.uint8):
            raise ValueError(f'its tensors are {states.dtype}, {lengths.dtype} and {whole.dtype}')
        if not np.isfinite(states).all() or (n and lengths.min() < 1):
            raise ValueError('a state is not finite, or a length is below 1')
        looks = self.looks.checked(found) if self.looks is not None else None
        self._states[:n], self._lengths[:n], self._whole[:n], self.seen = states, lengths, whole != 0, n
        if looks is not None:
            self.looks.restore(looks)


def for_fitting(lengths: np.ndarray, whole: np.ndarray) -> Labels:
    """Return labels, the oldest first, on a grid that fits them, weighted by age."""
    ages = np.arange(len(lengths))[::-1]
    return Labels(lengths, whole, bucket_size_for(lengths), 0.5 ** (ages / HALF_LIFE))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file. ValueError where it is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(str(error)) from error
