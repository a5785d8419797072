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

"""`timebill serve`: a door for programs that speak OpenAI's HTTP API."""
from __future__ import annotations

import argparse
import sys

from timebill_ros.cli.option_values import not_blank, number, whole

FIND_S = 5.0  # how long the node is looked for before the door opens; requests find one that comes later


def add(commands) -> None:
    """Add the subcommand's parser."""
    command = commands.add_parser('serve', help="answer OpenAI's HTTP API with goals of a running node")
    command.add_argument('--server', default='/timebill', help='name of the node')
    command.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                         help='address to listen on; any but those of this machine itself need --token-file')
    command.add_argument('--port', type=whole(0, 65535), default=8000, metavar='N',
                         help='port to listen on; 0: a free one')
    command.add_argument('--token-file', metavar='FILE', help='file with the token that clients must send')
    command.add_argument('--deadline', type=number(0, 2 ** 31 - 1), default=30.0, metavar='S',
                         help='deadline of requests that name none, in seconds')
    command.add_argument('--model-name', type=not_blank, default='timebill', metavar='NAME',
                         help='what the model is called in answers')
    command.add_argument('--max-body', type=whole(1), default=2048, metavar='KIB',
                         help='largest body of a request, in KiB')
    command.add_argument('--max-connections', type=whole(1), default=32, metavar='N',
                         help='how many connections may be open at a time')
    command.set_defaults(run=run, talks=True)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which cancels the goals that are not over."""
    from timebill_ros.client import Client, ServerUnavailable
    from timebill_ros.door.app import Door
    from timebill_ros.door.gate import check_address, read_token
    from timebill_ros.door.program import listen, make_server, url_of
    token = read_token(options.token_file) if options.token_file else ''
    check_address(options.host, token)
    door = Door(options.host, token, options.model_name, options.deadline, options.max_body * 1024)
    with listen(options.host, options.port) as opened, Client(options.server, watch_status=True) as client:
        try:
            client.wait_until_active(FIND_S)
        except ServerUnavailable as error:
            print(f'{error}. Until then, requests get the status 503.', file=sys.stderr, flush=True)
        print(f'{url_of(door, opened)} answers for {client.server}, with a deadline of {options.deadline:g} s where a '
              'request names none. Ctrl-C ends it.', flush=True)
        make_server(client, door, options.max_connections).run(sockets=[opened])
    return 0
