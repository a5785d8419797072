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

"""Kinds of values on the command line: numbers within bounds, and files to write. argparse tells what is refused."""
from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return the type of an option that is a whole number from `least` to `most`."""
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f'{text!r} is no whole number from {least} '
                                             + ('up' if most == math.inf else f'to {most}'))
        return value

    return parse


def number(above: float, most: float = math.inf) -> Callable[[str], float]:
    """Return the type of an option that is a finite number above `above`, and `most` at the most."""
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not above < value < math.inf or value > most:
            raise argparse.ArgumentTypeError(f'{text!r} is no number above {above:g}'
                                             + ('' if most == math.inf else f' and at most {most}'))
        return value

    return parse


def not_blank(given: str) -> str:
    """Take a text that is not blank."""
    if not given.strip():
        raise argparse.ArgumentTypeError(f'{given!r} is blank')
    return given


def out_file(text: str) -> Path:
    """Take the path of a file to write, whose folders may be made, but not in the root directory.

    What cannot be written is refused here, and not after the work that fills the file.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text!r} is a directory: name a file')
    folder = path.absolute().parent
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if there != folder and there == Path(there.anchor):
        raise argparse.ArgumentTypeError(f'{text!r} lies in {folder}, which does not exist: make it first')
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text!r} cannot be written: this user may make no file in {there}')
    return path
