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

"""The program `timebill_node`: its help, and what keeps it from starting. program.py runs the node."""
from __future__ import annotations

import sys

from timebill_ros.node import command_line


def main(args: list[str] | None = None) -> int:
    """Run the program and return its exit code; `args`: the command line without the program's name."""
    arguments = sys.argv[1:] if args is None else args
    if command_line.asks_for_help(arguments):
        print(command_line.HELP, end='')
        return 0
    if refusal := command_line.refusal(arguments):
        print(f'timebill_node: {refusal}', file=sys.stderr)
        return 2
    try:
        from timebill_ros.node.program import run  # here, so that help needs no ROS, and a missing ROS is a sentence
    except ModuleNotFoundError as error:
        print(f'timebill_node: {command_line.missing(error)}', file=sys.stderr)
        return 1
    return run(args)


if __name__ == '__main__':
    sys.exit(main())
