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

"""A model of a public shape in every precision, and what each precision costs in quality.

Random weights do not show what a precision costs in quality, so the embedded model answers its test tasks in each.
"""
from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean

from rich.progress import track

from timebill_ros import settings
from timebill_ros.bench import answers, llama_peer, shapes, speed
from timebill_ros.tasks import site_log
from timebill_ros.tasks.site_log_scores import step_accuracy
from timebill_ros.worker.loading import load_model

N_TASKS = 60


def quality_rows(values: dict) -> list[dict]:
    """Return the embedded model's mean step accuracy on test tasks, by precision of decoding; prefill is in float32."""
    model, _, choices = load_model(settings.check({
        **values, 'model': 'embedded', 'length_predictor': '', 'dtype': 'float32', 'max_context_tokens': 8192,
        'variants': 'bfloat16, float16, int8, int4'}))
    tasks = [site_log.generate(i, split='test') for i in range(N_TASKS)]
    scores: dict[str, list[float]] = {name: [] for name in model.variants}
    for task in track(tasks, 'quality'):
        request = answers.request_for(task, 512)
        ids = model.tokenize(model.render(request), is_chat=True)
        model.reset()
        logits = model.prefill(ids, chunk_tokens=choices.prefill_chunk_tokens)
        prefilled = model.snapshot()
        for name in model.variants:
            model.restore(prefilled)
            model.use_variant(name)
            scores[name].append(step_accuracy(task, answers.answer(model, request, logits, n_x=len(ids),
                                                                   n_kv=len(ids))))
        model.use_variant(model.variant)
    return [{'precision': name, 'tasks': N_TASKS, 'mean_score': fmean(got)} for name, got in scores.items()]


def measure(values: dict, shape: str, *, rounds: int) -> dict:
    """Return rows of every precision, of generate and of llama.cpp (speed.py), and the quality of each precision.

    `values` are the node's parameters.
    """
    with tempfile.TemporaryDirectory(prefix='timebill_shape_') as folder:
        directory, gguf = shapes.write(Path(folder) / shape, shape), None
        if llama_peer.is_installed():
            gguf = Path(folder) / 'F16.gguf'
            llama_peer.write(gguf, shapes.SHAPES[shape])
        found = speed.measure({**values, 'threads': 0}, str(directory), gguf=gguf, rounds=rounds)
    scores = quality_rows(values)
    for s in scores:
        print(f'{s["precision"]}: the embedded model scores {s["mean_score"]:.3f} on {s["tasks"]} test tasks')
    return {'shape': shape, **found, 'quality': scores}
