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

"""`timebill serve` refuses at its start what would not be served or not be safe."""
import socket

import pytest

from timebill_ros.cli.main import main

TOKEN = 'token-of-the-test-0123456789'


@pytest.fixture
def token(tmp_path):
    file = tmp_path / 'token'
    file.write_text(TOKEN)
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize(('options', 'told'), [
    (['--host', '0.0.0.0'], 'can be reached from other machines: give --token-file'),
    (['--host', '::'], 'can be reached from other machines'),
    (['--token-file', '/nowhere/token'], '--token-file /nowhere/token cannot be read: No such file'),
    (['--server', 'no name'], 'no name of a node')])
def test_a_door_that_may_not_be_opened_says_why(options, told, capsys):
    assert main(['serve', '--port', '0', *options]) == 1
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('timebill serve: ') and told in err and len(err.splitlines()) == 1


def test_a_port_that_another_program_has_is_told_at_once(capsys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(['serve', '--port', port]) == 1
    assert f'--host 127.0.0.1 --port {port} cannot be listened on: Address already in use' in capsys.readouterr().err


def test_an_address_that_is_not_this_machines_is_told(token, capsys):
    assert main(['serve', '--port', '0', '--host', '192.0.2.1', '--token-file', token]) == 1  # kept for documentation
    assert 'cannot be listened on: Cannot assign' in capsys.readouterr().err


@pytest.mark.parametrize('options', [['--deadline', '0'], ['--deadline', 'nan'], ['--port', '-1'],
                                     ['--max-connections', '0'], ['--max-body', '0'], ['--model-name', ''],
                                     ['--model-name', ' ']])
def test_options_have_bounds(options, capsys):
    with pytest.raises(SystemExit):
        main(['serve', *options])
    assert options[0] in capsys.readouterr().err
