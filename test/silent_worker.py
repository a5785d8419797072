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

"""A worker that reads its messages and never answers: a model that loads for ever."""
from __future__ import annotations

import socket
import sys

from timebill_ros.dispatch.channel import Channel


def main() -> None:
    for _ in Channel(socket.socket(fileno=int(sys.argv[2]))).receive():
        pass


if __name__ == '__main__':
    main()
