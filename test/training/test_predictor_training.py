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

"""The length predictor in training: its examples, and every part of its loss."""
import pytest
from tiny_training import TINY_PREDICTOR

from timebill_ros.tasks.patrol import OBJECTS
from timebill_ros.tasks.site_log import generate
from timebill_ros.training.predictor_training import PredictorTraining
from timebill_ros.training.site_log_prompts import site_log_prompt, site_log_prompts


def _examples(run, prompts):
    responses = [run.reference_response(prompt) for prompt in prompts]
    return [run.example(prompt, [len(ids)], ids) for prompt, ids in zip(prompts, responses, strict=True)]


def test_examples_are_compressed_as_in_the_node_and_keep_their_partial_lengths(trained, tmp_path, tokenizer):
    config = {**TINY_PREDICTOR, 'max_input_tokens': 40}
    run = PredictorTraining(config, trained[0] / 'model', tmp_path)
    task = next(task for task in (generate(i, n_tokens=120) for i in range(99)) if task.family == 'list')
    prompt = site_log_prompt(task, tokenizer)
    response = run.reference_response(prompt)
    example = run.example(prompt, [len(response)], response)
    assert len(example.prompt) == 40 and example.lengths == [task.n_answer_tokens]
    read = [tokenizer.decode(example.prompt[at]) for at, _ in example.partial]
    assert read == [word for word in task.instruction.split() if word in OBJECTS][-len(read):] and read


def test_length_predictor_training_lowers_every_part_of_the_loss(trained, tmp_path):
    run = PredictorTraining(TINY_PREDICTOR, trained[0] / 'model', tmp_path)
    references, _ = site_log_prompts({**TINY_PREDICTOR, 'reference_prompts': 12}, run.tokenizer)
    examples = _examples(run, references)
    run.compare_with_baselines([n for example in examples for n in example.lengths])
    parts = [run.train_step(examples, 0.003) for _ in range(60)]
    for name in ('length', 'partial', 'remaining', 'language_model', 'baselines'):
        assert parts[-1][name] < 0.8 * parts[0][name], name


def test_a_batch_in_parts_gives_the_same_step_as_the_whole(trained, tmp_path):
    config = {**TINY_PREDICTOR, 'language_model_weight': 0.0, 'remaining_weight': 0.0}
    losses = []
    for parts in ({}, {'micro_batch_tokens': 100}):  # a prompt has about 50
        run = PredictorTraining({**config, **parts}, trained[0] / 'model', tmp_path)
        references, _ = site_log_prompts({**TINY_PREDICTOR, 'reference_prompts': 12}, run.tokenizer)
        examples = _examples(run, references)
        losses.append([run.train_step(examples, 0.003)['length'] for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
