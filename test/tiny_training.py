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

"""The smallest training of the embedded model's scripts that still passes through every part of them."""
import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from timebill_ros.training import train_target

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


@functools.cache
def trained() -> tuple[Path, list[float]]:
    """The directory of a tiny target after its whole short training, and the loss of each step."""
    out = Path(tempfile.mkdtemp(prefix='timebill_target_'))
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    return out, train_target.train(TINY_TARGET, out, save_every=10)
