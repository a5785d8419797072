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

"""A hub that cannot be reached is asked once, and the sentence says so; a local copy is used where there is one."""
import socket
import threading

import huggingface_hub
import pytest
from huggingface_hub import constants

from timebill_ros.inference.hub import is_here, look_once
from timebill_ros.inference.model_directory import ModelError


@pytest.fixture
def dead_hub(monkeypatch):
    """Put a server in the hub's place that closes every connection; return the list of connections."""
    connections = []
    server = socket.create_server(('127.0.0.1', 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test is over
            connections.append(1)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    address = f'http://127.0.0.1:{server.getsockname()[1]}'
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr('huggingface_hub.hf_api.constants.ENDPOINT', address)
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    yield connections
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_a_hub_that_cannot_be_reached_is_asked_once(dead_hub):
    with pytest.raises(ModelError, match='nobody/nothing is not on this machine, and the hub .* cannot be reached'):
        look_once('nobody/nothing')
    asked = len(dead_hub)
    assert asked in (1, 2)  # one request; its client opens a connection anew that was closed on it
    look_once('nobody/nothing')  # from then on only local copies are looked for
    assert len(dead_hub) == asked


def test_a_local_copy_is_used_where_there_is_one(dead_hub, monkeypatch, caplog):
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *_, **options: '/cache/config.json')
    look_once('owner/name')
    assert 'cannot be reached' in caplog.text and constants.HF_HUB_OFFLINE


def test_a_directory_needs_no_hub(dead_hub, tmp_path):
    look_once(str(tmp_path))
    assert dead_hub == []


@pytest.mark.parametrize(('name', 'here'), [('.', True), ('nobody/nothing', False), ('/no such: folder', False)])
def test_whether_a_model_is_on_this_machine(name, here):
    assert is_here(name) is here
