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

"""The table of `timebill bench decode --speed`: prefill and steps of one model beside transformers and llama.cpp."""
from __future__ import annotations

from results_tables import table


def speed(data: dict) -> str:
    """Return a row for each precision, and how ours compare with llama.cpp's.

    The best round says more than the median where others use the machine.
    """
    rows = [(r['method'], r['precision'] + (f' (weights in {r["reads"]})' if r.get('reads') else ''),
             f'{r["median_ms"]:.1f}', f'{r["best_round_ms"]:.1f}', f'{r["p99_ms"]:.1f}',
             f'{r["prefill_tokens_per_s"]:.0f}') for r in data['rows']]
    bars = [f'- {bar["what"]}: {bar["ratio"]:.2f} times as long ({bar["best_ratio"]:.2f} by best rounds); aimed at: '
            f'{bar["bar"]:.1f} at most' for bar in data['bars']]
    facts = (f'{data["model"]}, {data["prompt_tokens"]} tokens of prompt, {data["threads"]} threads, '
             f'{data["rounds"]} interleaved rounds.')
    made = table(['', 'precision', 'ms per token', 'best round', 'p99 ms', 'prefill tokens/s'], rows, left=2)
    return '\n\n'.join([facts, made, *['\n'.join(bars)] * bool(bars)])
