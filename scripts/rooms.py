#!/usr/bin/env python3
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

"""Print the rooms of timebill_ros/, their line counts and the imports between them.

    python scripts/rooms.py             # each room, and how many imports go to which rooms
    python scripts/rooms.py --files     # each file with its line count and what its docstring says first

A room is a folder of timebill_ros/ with all that is in it, or one of the files beside them. It may import only rooms
below it in ORDER, and fewer where ONLY says so. The exit status is 1 where an import breaks that, or where modules
import each other in a circle. test/test_imports.py uses the functions of this file.
"""
from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = 'timebill_ros'

# From the top room to the bottom. Every file beside the rooms that is not named here belongs to the vocabulary.
ORDER = ['cli', 'door', 'bench', 'behaviours', 'client', 'asking', 'rqt', 'monitoring', 'training', 'tasks', 'worker',
         'node', 'dispatch', 'engine', 'planning', 'timing', 'length', 'inference', 'vocabulary']

BELOW_THE_ENGINE = {'planning', 'timing', 'length', 'inference', 'vocabulary'}

# What rooms may import that may not import everything below them: rooms, and modules by their full names.
ONLY = {
    'door': {'client', 'asking', 'monitoring', 'vocabulary'},
    'behaviours': {'client', 'asking', 'vocabulary'},
    'client': {'asking', 'vocabulary'},
    'asking': {'vocabulary'},
    'rqt': {'monitoring', 'vocabulary'},
    'monitoring': {f'{NAME}.dispatch.miss_rate', 'vocabulary'},
    'training': {'tasks'} | BELOW_THE_ENGINE,
    'tasks': {'length', 'vocabulary'},
    'worker': {f'{NAME}.dispatch.channel', 'engine'} | BELOW_THE_ENGINE,
    'node': {'dispatch', 'vocabulary'},
    'dispatch': {'vocabulary'},
}

# (module, module it names): what breaks the order on purpose. The node starts the worker as another process.
ALLOWED = {(f'{NAME}.dispatch.worker_process', f'{NAME}.worker.main')}

_MODULE_IN_STRING = re.compile(rf'\b{NAME}(?:\.\w+)+')


def module_name(path: Path, root: Path = ROOT) -> str:
    """Return the dotted name of a file of the package; a room's `__init__.py` has the room's name."""
    parts = path.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """Return the file of a module of the package, None where `name` is none (a class, a generated message)."""
    path = root.joinpath(*name.split('.'))
    for file in (path.with_suffix('.py'), path / '__init__.py'):
        if file.is_file():
            return file
    return None


def room_of(name: str, root: Path = ROOT) -> str:
    """Return the room of a module: 'inference' for timebill_ros.inference.steps.choice."""
    first = name.split('.')[1:2]
    if first and root.joinpath(NAME, *first).is_dir():
        return first[0]
    return first[0] if first and first[0] in ORDER else 'vocabulary'


def _strings(tree: ast.AST) -> Iterator[str]:
    """Yield every string of a file but its docstrings."""
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                  and node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def imports_of(path: Path, root: Path = ROOT) -> set[str]:
    """Return the modules that a file imports, wherever in it, and those of this package that its strings name.

    A module of this package has its full name: 'timebill_ros.timing.drift' for both `from timebill_ros.timing import
    drift` and `from timebill_ros.timing.drift import Drift`. Of other packages, names are as they are written after
    `import` or `from`. A string counts where it names a module that can be run or imported, as in
    ['-m', 'timebill_ros.worker.main']; a logger's name that is only a room's does not.
    """
    tree = ast.parse(path.read_text(), str(path))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                package = module_name(path, root).split('.')
                package = package[:len(package) - node.level + (path.name == '__init__.py')]
                base = '.'.join([*package, *filter(None, [base])])
            if base.split('.')[0] == NAME:
                inside = {f'{base}.{alias.name}' for alias in node.names}
                modules = {name for name in inside if module_file(name, root)}
                names |= modules | ({base} if inside - modules else set())
            else:
                names.add(base)
    for text in _strings(tree):
        for name in _MODULE_IN_STRING.findall(text):
            file = module_file(name, root)
            if file and (file.name != '__init__.py' or file.with_name('__main__.py').is_file()):
                names.add(name)
    return names


def files(root: Path = ROOT) -> list[Path]:
    """Return every Python file of the package."""
    return sorted(path for path in (root / NAME).rglob('*.py') if '__pycache__' not in path.parts)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Return, for each module of the package, the other modules of the package that it imports or names."""
    own = {module_name(path, root): imports_of(path, root) for path in files(root)}
    return {name: {other for other in imports if other != name and module_file(other, root)
                   and other.split('.')[0] == NAME} for name, imports in own.items()}


def edges(root: Path = ROOT) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return the imports between rooms: (room, room) -> {(module, module)}."""
    between: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, imports in graph(root).items():
        for other in imports:
            rooms = room_of(name, root), room_of(other, root)
            if rooms[0] != rooms[1]:
                between.setdefault(rooms, set()).add((name, other))
    return between


def lines(root: Path = ROOT) -> dict[str, dict[str, int]]:
    """Return the line count of each file, by room: {room: {'timebill_ros/dispatch/job.py': 65}}."""
    counts: dict[str, dict[str, int]] = {room: {} for room in ORDER}
    for path in files(root):
        room = room_of(module_name(path, root), root)
        counts.setdefault(room, {})[str(path.relative_to(root))] = len(path.read_text().splitlines())
    return counts


def may_import(name: str, other: str, root: Path = ROOT) -> bool:
    """Return whether one module may import or name another of the package."""
    room, below = room_of(name, root), room_of(other, root)
    if room == below or (name, other) in ALLOWED:
        return True
    if room not in ORDER or below not in ORDER or ORDER.index(below) < ORDER.index(room):
        return False
    return room not in ONLY or not ONLY[room].isdisjoint({below, other})


def wrong(root: Path = ROOT) -> list[tuple[str, str]]:
    """Return the imports (module, module) that the order of the rooms forbids."""
    return sorted(pair for pairs in edges(root).values() for pair in pairs if not may_import(*pair, root))


def circles(root: Path = ROOT) -> list[list[str]]:
    """Return modules that import each other in a circle, one list per circle found."""
    imports = graph(root)
    for name, other in ALLOWED:
        imports.get(name, set()).discard(other)
    done: set[str] = set()
    found = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(path[path.index(name):] + [name])
        elif name not in done:
            for other in sorted(imports.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(imports):
        visit(name, [])
    return found


def summary(path: Path) -> str:
    """Return the first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]


def main(arguments: list[str]) -> int:
    """Print everything; return the exit status."""
    between = edges()
    for room, counts in lines().items():
        biggest = max(counts, key=counts.get, default='')
        largest = f', the longest is {Path(biggest).name} with {counts[biggest]}' if biggest else ''
        print(f'{room}: {len(counts)} files, {sum(counts.values())} lines{largest}')
        below = [f'{other} {len(between[room, other])}' for other in ORDER if (room, other) in between]
        if below:
            print(f'    imports {", ".join(below)}')
        if '--files' in arguments:
            for file, n in counts.items():
                print(f'    {n:4} {file.removeprefix(NAME + "/")}: {summary(ROOT / file)}')
    bad, round_ = wrong(), circles()
    for name, other in bad:
        print(f'WRONG: {name} imports {other}')
    for circle in round_:
        print(f'CIRCLE: {" -> ".join(circle)}')
    return 1 if bad or round_ else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
