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

"""The paths of the door as one ASGI application."""
from __future__ import annotations

from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from timebill_ros.door.completions import Completions
from timebill_ros.door.gate import Gate
from timebill_ros.door.node_link import NodeLink
from timebill_ros.door.refusal import SERVER, Refusal


@dataclass(frozen=True)
class Door:
    """How the door is set. Times in seconds; `token` empty: none is asked for."""

    host: str = '127.0.0.1'
    token: str = ''
    model: str = 'timebill'
    default_deadline_s: float = 30.0
    most_bytes: int = 2 * 2 ** 20


def make_app(link: NodeLink, door: Door) -> Gate:
    """Return the application that serves requests through `link`."""
    model = {'id': door.model, 'object': 'model', 'created': 0, 'owned_by': 'timebill_ros'}

    async def health(request: Request) -> JSONResponse:
        await link.look()
        return JSONResponse({'status': 'ok', 'server': link.client.server})

    async def models(request: Request) -> JSONResponse:
        await link.wait_until_ready()
        return JSONResponse({'object': 'list', 'data': [model]})

    async def one_model(request: Request) -> JSONResponse:
        name = request.path_params['name']
        if name != door.model:
            raise Refusal(404, f'there is no model {name!r:.80}: the only one is {door.model!r}',
                          code='model_not_found', param='model')
        return JSONResponse(model)

    def completions(is_chat: bool) -> Completions:
        return Completions(link, is_chat=is_chat, model=door.model, default_deadline_s=door.default_deadline_s,
                           most_bytes=door.most_bytes)

    return Gate(Starlette(
        routes=[Route('/health', health), Route('/v1/models', models), Route('/v1/models/{name:path}', one_model),
                Route('/v1/chat/completions', completions(True), methods=['POST']),
                Route('/v1/completions', completions(False), methods=['POST'])],
        exception_handlers={Refusal: _refused, HTTPException: _no_such_path, Exception: _failed}),
        token=door.token, host=door.host)


async def _refused(request: Request, error: Refusal) -> JSONResponse:
    return JSONResponse(error.body(), error.status, error.headers)


async def _no_such_path(request: Request, error: HTTPException) -> JSONResponse:
    # Not request.url, which has the header Host in it, and raises for one that is no name.
    sentence = f'{request.method} {request.scope["path"]:.80} is not served here: there are ' \
               'POST /v1/chat/completions, POST /v1/completions, GET /v1/models and GET /health'
    told = Refusal(error.status_code, sentence, code='unknown_url')
    return JSONResponse(told.body(), told.status, {**told.headers, **(error.headers or {})})


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Tell of a fault of the door's own; starlette raises it again, so that its traceback is logged."""
    told = Refusal(500, f'the door has a fault: {type(error).__name__}', kind=SERVER, code='internal')
    return JSONResponse(told.body(), told.status, told.headers)
