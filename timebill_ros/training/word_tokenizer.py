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

"""The embedded model's tokenizer: one token per word of the site-log language and one per newline."""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from timebill_ros.tasks.site_log import vocabulary

PAD, UNKNOWN, END = '<|pad|>', '<|unknown|>', '<|end|>'
ROLES = ('<|system|>', '<|user|>', '<|assistant|>')

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] + ' <|end|> ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer(model_max_length: int) -> PreTrainedTokenizerFast:
    """Build a fast tokenizer whose decode returns the text that was encoded.

    That holds for text as the task writes it: words separated by single spaces, lines by a newline with no space
    around it. The decoding of a prefix of the ids is then a prefix of the whole decoding, so the pieces of a stream
    add up to the whole text. A word outside the vocabulary becomes `<|unknown|>`.
    """
    words = [PAD, UNKNOWN, END, *ROLES, *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split('\n', behavior='isolated'),
        pre_tokenizers.Split(Regex('[^\\S\n]+'), behavior='removed'),
    ])
    # The WordPiece decoder puts a space before every token that lacks its prefix '##', and no word here has that.
    tokenizer.decoder = decoders.Sequence([
        decoders.WordPiece(prefix='##', cleanup=False),
        decoders.Fuse(),
        decoders.Replace(' \n', '\n'),
        decoders.Replace('\n ', '\n'),
    ])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END,
        additional_special_tokens=list(ROLES), clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE, model_max_length=model_max_length, padding_side='left',
        model_input_names=['input_ids', 'attention_mask'],
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: str | Path) -> None:
    """Write tokenizer.json, tokenizer_config.json (with the chat template) and special_tokens_map.json.

    `save_pretrained` of transformers 5 writes a class name and a key that transformers 4 cannot read. So the two small
    files are written here, in a form that both read.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.backend_tokenizer.save(str(directory / 'tokenizer.json'))
    special = {'pad_token': PAD, 'unk_token': UNKNOWN, 'eos_token': END,
               'additional_special_tokens': list(ROLES)}
    config = {
        'tokenizer_class': 'PreTrainedTokenizerFast', 'clean_up_tokenization_spaces': False,
        'padding_side': 'left', 'model_input_names': ['input_ids', 'attention_mask'],
        'model_max_length': tokenizer.model_max_length,
        'chat_template': CHAT_TEMPLATE, **special,
    }
    for name, content in (('tokenizer_config.json', config), ('special_tokens_map.json', special)):
        (directory / name).write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
