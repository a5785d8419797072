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

"""Ask a server and the robot's own node at once: the server's answer where it is there in time, the node's otherwise.

The promise stays on board: whatever becomes of the server or the network, there is an answer by the deadline. `server`
speaks OpenAI's API, as vLLM, SGLang, llama.cpp and `timebill serve` do.

    python3 second_tier.py http://server:8000/v1 big-model "Where to?" --budget 2
"""
from __future__ import annotations

import argparse
import asyncio
import os

import openai
import rclpy

from timebill_ros.client import TimebillClient

RESERVE_S = 0.1  # before the deadline, the node's answer is taken


async def ask(client: TimebillClient, server: openai.AsyncOpenAI, model: str, question: str,
              budget_s: float) -> tuple[str, str]:
    """Return an answer by the deadline, and the tier that it is of: 'server' or 'on board'."""
    onboard = client.ask(question, budget_s)
    asked = asyncio.create_task(server.chat.completions.create(
        model=model, messages=[{'role': 'user', 'content': question}]))
    await asyncio.wait({asked}, timeout=max(budget_s - RESERVE_S, 0.0))
    if asked.done() and not asked.exception() and asked.result().choices[0].finish_reason == 'stop':
        onboard.cancel()
        return asked.result().choices[0].message.content, 'server'
    asked.cancel()  # closes the connection, so that the server works for others
    answer = await onboard
    return answer.text or answer.result.error_msg, 'on board'


async def main() -> None:
    """Ask one question, and print its answer."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('url', help='base URL of the server')
    parser.add_argument('model', help='what the server calls its model')
    parser.add_argument('question')
    parser.add_argument('--budget', type=float, default=2.0, help='seconds')
    options = parser.parse_args()
    rclpy.init()
    key = os.environ.get('OPENAI_API_KEY', 'none')
    # No second try by itself: the deadline is the caller's.
    async with openai.AsyncOpenAI(base_url=options.url, api_key=key, max_retries=0) as server:
        with TimebillClient(rclpy.create_node('asker'), '/timebill') as client:
            await asyncio.to_thread(client.wait_until_active, 30.0)
            text, tier = await ask(client, server, options.model, options.question, options.budget)
    print(f'[{tier}] {text}')


if __name__ == '__main__':
    asyncio.run(main())
