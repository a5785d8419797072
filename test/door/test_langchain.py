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

"""LangChain's ChatOpenAI, unchanged, through `timebill serve` to a real node; requirements-langchain.txt has it."""
import pytest
from door_program import DoorProgram
from node_client import WAIT_S
from node_process import scripted

langchain_openai = pytest.importorskip('langchain_openai')

SCHEMA = {'title': 'plan', 'description': 'A plan.', 'type': 'object', 'properties': {'step': {'type': 'string'}},
          'required': ['step'], 'additionalProperties': False}


@pytest.mark.slow
def test_chat_stream_and_errors(tmp_path, monkeypatch):
    monkeypatch.setenv('LANGSMITH_TRACING', 'false')  # nothing is sent anywhere
    with scripted(tmp_path) as node:
        node.start()
        with DoorProgram(node.server) as door:
            model = langchain_openai.ChatOpenAI(base_url=door.url, api_key='none', model='timebill', timeout=WAIT_S,
                                                extra_body={'deadline_ms': 30000}, temperature=0)
            answer = model.invoke('one')
            assert answer.content == 'two three' and answer.response_metadata['finish_reason'] == 'stop'
            assert answer.usage_metadata['output_tokens'] == 3
            pieces = list(model.stream([('system', 'be brief'), ('user', 'one')], stream_usage=True))
            assert ''.join(piece.content for piece in pieces) == 'two three'
            assert sum(piece.usage_metadata['output_tokens'] for piece in pieces if piece.usage_metadata) == 3
            assert [answer.content for answer in model.batch(['one', 'one'])] == ['two three'] * 2
            with pytest.raises(Exception, match='schema'):  # the scripted node serves none
                model.with_structured_output(SCHEMA, method='json_schema').invoke('one')
