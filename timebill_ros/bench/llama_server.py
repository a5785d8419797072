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

"""The server of the optional package llama-cpp-python, in a process of its own, for benches that need a real server."""
from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path

START_S = 180.0
NEEDED = ('llama_cpp', 'fastapi', 'uvicorn', 'sse_starlette', 'starlette_context', 'pydantic_settings')


class LlamaServer:
    """Serves a GGUF file below `url`, inside a context. ValueError where packages are missing, or the file is.

    threads:    that it computes with
    n_context:  tokens of a prompt and its answer, at most
    """

    def __init__(self, gguf: Path, *, threads: int, n_context: int):
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise ValueError(f'a server for {gguf} takes {", ".join(missing)}, which are not installed: pip install '
                             '"llama-cpp-python[server]", or name a server that runs by --server-url')
        if not gguf.is_file():
            raise ValueError(f'{gguf} is no file')
        self.model = gguf.stem
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        self.url = f'http://127.0.0.1:{port}/v1'
        self._command = [sys.executable, '-m', 'llama_cpp.server', '--model', str(gguf), '--host', '127.0.0.1',
                         '--port', str(port), '--n_ctx', str(n_context), '--n_threads', str(threads),
                         '--n_threads_batch', str(threads)]

    def __enter__(self) -> LlamaServer:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._log,
                                         stderr=subprocess.STDOUT)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        until_s = time.monotonic() + START_S
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says: it is here
        while self._process.poll() is None and time.monotonic() < until_s:
            try:
                with direct.open(f'{self.url}/models', timeout=5.0):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self._log.seek(0)
        said = self._log.read().decode(errors='replace').strip()[-1000:]
        raise OSError(f'the server of llama-cpp-python did not start: {said}')

    def __exit__(self, *_) -> None:
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
