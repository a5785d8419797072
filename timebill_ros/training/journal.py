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

"""A file beside a result in which every finished piece of work is one line, so that work goes on where it stopped.

The file holds JSON lines. The first one says what the pieces depend on: with other facts they would not belong
together. A line that was cut, because the process was killed while it wrote, is dropped and its piece done again.
"""
from __future__ import annotations

import json
from pathlib import Path

FORMAT = 1
BEGIN_ANEW = 'delete it to begin anew, or name another --out'


class Journal:
    """The finished pieces of one command, `entries`, in their order. A context manager, which closes the file.

    `facts`: what the pieces depend on, as JSON-ready data. ValueError where the file is of other facts, or no journal.
    """

    def __init__(self, path: Path, facts: dict):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = _whole(lines)
        header = json.loads(json.dumps({'journal': FORMAT, **facts}))
        found, self.entries = _parsed(path, whole) if whole else (header, [])
        check(path, found, facts, BEGIN_ANEW)
        if whole != lines:
            with open(path, 'r+b') as file:
                file.truncate(sum(map(len, whole)))
        self._file = open(path, 'a', encoding='utf-8')
        if not whole:
            self._write(header)

    def add(self, entry: dict) -> None:
        """Append a finished piece; it is in the file when this returns."""
        self.entries.append(entry)
        self._write(entry)

    def _write(self, entry: dict) -> None:
        self._file.write(json.dumps(entry) + '\n')
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def read(path: Path) -> tuple[dict, list[dict]]:
    """Return (what the pieces depend on, the finished pieces), and leave the file as it is.

    Another process may be writing it. ValueError where the file is no journal; OSError where it cannot be read.
    """
    lines = _whole(path.read_bytes().splitlines(keepends=True))
    if not lines:
        raise ValueError(f'{path} is empty: no answer is finished')
    return _parsed(path, lines)


def check(path: Path, found: dict, facts: dict, remedy: str) -> None:
    """Raise ValueError where the first line of a journal, `found`, is of other facts. `remedy` ends the sentence."""
    header = json.loads(json.dumps({'journal': FORMAT, **facts}))
    other = [name for name in {**header, **found} if header.get(name) != found.get(name)]
    if other:
        was, now = ({name: facts.get(name) for name in other} for facts in (found, header))
        raise ValueError(f'{path} holds answers of {was}, not of {now}; {remedy}')


def _whole(lines: list[bytes]) -> list[bytes]:
    return lines[:-1] if lines and not lines[-1].endswith(b'\n') else lines


def _parsed(path: Path, lines: list[bytes]) -> tuple[dict, list[dict]]:
    """Return (header, pieces) of whole lines. ValueError where they are those of another file."""
    try:
        header, *entries = map(json.loads, lines)
        return dict(header), entries
    except (ValueError, TypeError) as error:
        raise ValueError(f'{path} is no list of finished answers ({error}); delete it to begin anew') from error


def beside(out: Path) -> Path:
    """Return where the journal of a result lies: out.json -> out.answers.jsonl."""
    return out.with_suffix('.answers.jsonl')
