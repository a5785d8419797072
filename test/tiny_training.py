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

"""The shortest runs of the two training scripts that still pass through every part of them."""
import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from timebill_ros.cli.main import main
from timebill_ros.cli.train_length_predictor import NAME
from timebill_ros.inference.tokenizer import load_tokenizer
from timebill_ros.training import train_length_predictor, train_target
from timebill_ros.training.site_log_prompts import site_log_prompts

TINY_TARGET = {
    'seed': 0,
    'model': {'hidden_size': 32, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 2,
              'num_key_value_heads': 1, 'head_dim': 32, 'rope_theta': 10000.0, 'max_position_embeddings': 512},
    'learning_rate': 0.003, 'final_learning_rate': 0.0003, 'warmup_steps': 5, 'weight_decay': 0.01,
    'autocast': 'float32',
    'stages': [
        {'n_objects': 8, 'n_places': 4, 'move_probability': 0.0, 'max_asked': 2, 'n_tokens': [40, 50],
         'batch_tokens': 400, 'pass': 2.0, 'max_steps': 20},
        {'n_objects': 16, 'n_places': 8, 'move_probability': 0.3, 'max_asked': 3, 'n_tokens': [40, 70],
         'batch_tokens': 500, 'pass': 2.0, 'max_steps': 20},
    ],
}

TINY_PREDICTOR = {
    'seed': 0, 'bucket_size': 4, 'max_new_tokens': 24, 'max_input_tokens': 128, 'temperature': 0.7, 'samples': 2,
    'reference_prompts': 160, 'reference_tokens': [40, 60], 'labelled_prompts': 24, 'labelled_tokens': 50,
    'epochs_on_references': 2, 'epochs_on_labels': 2, 'validation_share': 0.25, 'batch_tokens': 900,
    'learning_rate': 0.005, 'label_learning_rate': 0.002, 'warmup_steps': 5, 'weight_decay': 0.01,
    'language_model_weight': 0.5, 'remaining_weight': 0.5, 'baselines_weight': 0.1, 'autocast': 'float32',
}


@functools.cache
def trained() -> tuple[Path, list[float]]:
    """The directory of a tiny target after its whole short training, and the loss of each step."""
    out = Path(tempfile.mkdtemp(prefix='timebill_target_'))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    return out, train_target.train(TINY_TARGET, out, save_every=10)


def train_command(arguments: list[str]) -> int:
    """Run `timebill train-length-predictor` in this process; return its exit status."""
    return main([NAME, *arguments])


def train_predictor(config: dict, target_dir: Path, out: Path, **options) -> dict:
    """Train a length predictor on site-log prompts; see `train_length_predictor.train`."""
    prompts = site_log_prompts(config, load_tokenizer(target_dir))
    return train_length_predictor.train(config, target_dir, out, *prompts, **options)
