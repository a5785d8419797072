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

"""The embedded model's first weights."""
import json

import torch
from tiny_training import TINY_TARGET

from timebill_ros.training import train_target
from timebill_ros.training.target_model import build_model


def test_first_heads_start_as_attention_to_the_tokens_before(tokenizer):
    torch.manual_seed(0)
    shape = json.loads(train_target.DEFAULT_CONFIG.read_text())['model']
    model = build_model(shape, tokenizer)
    model.set_attn_implementation('eager')
    ids, _ = train_target.make_batch(TINY_TARGET['stages'][0], 0, tokenizer, 0)
    weights = model(input_ids=ids[:2], output_attentions=True).attentions[0]  # [batch, head, query, key]
    query = torch.arange(5, 30)
    for head, offset in ((0, 1), (1, 2)):
        assert weights[:, head, query, query - offset].min() > 0.9
