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

"""Loading a model directory: what it must hold, what is never run, and what identifies it."""
import json
import os
import pickle
import shutil

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from timebill_ros.inference import devices
from timebill_ros.inference.model import CausalLM
from timebill_ros.inference.model_directory import ModelError, fingerprint


def load(path, **options):
    return CausalLM(str(path), device='cpu', threads=1, **options)


@pytest.fixture
def directory(tmp_path):
    """A directory that a test may damage."""
    return tiny_models.copy_of('qwen2', tmp_path)


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def drop_weight(path):
    weights = load_file(path / 'model.safetensors')
    del weights['model.layers.1.self_attn.q_proj.weight']
    save_file(weights, path / 'model.safetensors', metadata={'format': 'pt'})


def reshape_weight(path):
    weights = load_file(path / 'model.safetensors')
    weights['model.norm.weight'] = torch.ones(7)
    save_file(weights, path / 'model.safetensors', metadata={'format': 'pt'})


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


AGAIN = r'(safetensors|json) \(.* (bytes|MiB)\) is incomplete or damaged: download it again'
# What is wrong -> (how it becomes so, what the sentence names).
DAMAGES = {
    'no config': (lambda d: (d / 'config.json').unlink(), r'lacks config\.json'),
    'empty config': (lambda d: (d / 'config.json').write_text(''), AGAIN),
    'broken config': (lambda d: (d / 'config.json').write_text('{"model_type": '), AGAIN),
    'unknown architecture': (lambda d: change(d / 'config.json', model_type='nonesuch'), 'nonesuch'),
    'no weights': (lambda d: (d / 'model.safetensors').unlink(), r'lacks \*\.safetensors'),
    'empty weights': (lambda d: (d / 'model.safetensors').write_bytes(b''), AGAIN),
    'truncated weights': (lambda d: truncate(d / 'model.safetensors'), AGAIN),
    'weights of noise': (lambda d: (d / 'model.safetensors').write_bytes(os.urandom(5000)), AGAIN),
    'a weight missing': (drop_weight, r'lack model\.layers\.1\.self_attn\.q_proj\.weight'),
    'a weight of another shape': (reshape_weight, 'cannot be loaded'),
    'no tokenizer': (lambda d: [p.unlink() for p in d.glob('tokenizer*')], 'lacks tokenizer'),
    'half a tokenizer': (lambda d: truncate(d / 'tokenizer.json'), AGAIN),
    'a pointer of Git LFS': (lambda d: (d / 'model.safetensors').write_text('version https://git-lfs.github.com/spec/v1'),
                             'run "git lfs pull"'),
    'broken tokenizer': (lambda d: (d / 'tokenizer.json').write_text('{"model": 3}'), 'cannot be loaded'),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_directory_is_refused_by_name(damage, directory):
    apply, words = DAMAGES[damage]
    apply(directory)
    with pytest.raises(ModelError, match=words) as caught:
        load(directory)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize('name', ['/nonexistent/model', './nonexistent', 'nonexistent', 'a/b/c'])
def test_a_path_that_does_not_exist_is_neither_directory_nor_hub_id(name):
    with pytest.raises(ModelError, match='neither a directory nor a hub id') as caught:
        load(name)
    assert name in str(caught.value)


def test_a_hub_id_that_cannot_be_reached_is_named():
    assert os.environ['HF_HUB_OFFLINE'] == '1'
    with pytest.raises(ModelError, match='nobody/no-such-model cannot be loaded'):
        load('nobody/no-such-model')


# -- code in a directory is not run ----------------------------------------------------------------------------------

class Bomb:
    """Writes a file when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_pickled_weights_are_refused_unless_allowed(directory, monkeypatch):
    weights = load_file(directory / 'model.safetensors')
    (directory / 'model.safetensors').unlink()
    torch.save(weights, directory / 'pytorch_model.bin')
    with pytest.raises(ModelError, match='allow_unsafe_weights'):
        load(directory)
    with monkeypatch.context() as patch:  # as for a hub id, whose files are not known before
        patch.setattr('timebill_ros.inference.model_loading.check_directory', lambda *args, **options: None)
        with pytest.raises(ModelError, match='safetensors'):
            load(directory)
    model = load(directory, allow_unsafe_weights=True)
    assert torch.equal(model.model.lm_head.weight, weights['lm_head.weight'])


@pytest.mark.parametrize('safe_weights_too', [True, False])
def test_a_pickle_is_not_opened_unless_allowed(safe_weights_too, directory, tmp_path):
    marker = tmp_path / 'exploded'
    (directory / 'pytorch_model.bin').write_bytes(pickle.dumps(Bomb(marker)))
    if safe_weights_too:
        load(directory)
    else:
        (directory / 'model.safetensors').unlink()
        with pytest.raises(ModelError, match='allow_unsafe_weights'):
            load(directory)
    assert not marker.exists()


def add_code(directory, marker):
    """Make the directory ask for a configuration class of its own, as models on the hub do."""
    (directory / 'own.py').write_text(
        f'import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n'
        'from transformers import Qwen2Config, Qwen2ForCausalLM\n'
        'class OwnConfig(Qwen2Config):\n    model_type = "own"\n'
        'class OwnModel(Qwen2ForCausalLM):\n    config_class = OwnConfig\n')
    change(directory / 'config.json', model_type='own', auto_map={
        'AutoConfig': 'own.OwnConfig', 'AutoModelForCausalLM': 'own.OwnModel'})


@pytest.mark.parametrize('model_type', ['own', 'qwen2'])
def test_code_in_a_directory_does_not_run_by_default(model_type, directory, tmp_path):
    marker = tmp_path / 'ran'
    add_code(directory, marker)
    change(directory / 'config.json', model_type=model_type)
    if model_type == 'own':
        with pytest.raises(ModelError, match=r'trust_remote_code|custom code'):
            load(directory)
    else:
        load(directory)  # an architecture that transformers knows needs none of the code
    assert not marker.exists()


def test_code_in_a_directory_runs_where_it_is_trusted(directory, tmp_path, caplog, monkeypatch):
    """The counterpart, which shows that the code of the test before would have run."""
    monkeypatch.setattr('transformers.dynamic_module_utils.HF_MODULES_CACHE', str(tmp_path / 'modules'))
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    marker = tmp_path / 'ran'
    add_code(directory, marker)
    load(directory, trust_remote_code=True)
    assert marker.exists() and 'trust_remote_code is on' in caplog.text


@pytest.mark.parametrize('trusted', [False, True])
def test_code_of_a_tokenizer_runs_only_where_it_is_trusted(trusted, directory, tmp_path, monkeypatch):
    monkeypatch.setattr('transformers.dynamic_module_utils.HF_MODULES_CACHE', str(tmp_path / 'modules'))
    monkeypatch.syspath_prepend(str(tmp_path / 'modules'))
    marker = tmp_path / 'ran'
    (directory / 'own_tokenizer.py').write_text(
        f'import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n'
        'from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast):\n    pass\n')
    change(directory / 'tokenizer_config.json', tokenizer_class='Own', auto_map={
        'AutoTokenizer': [None, 'own_tokenizer.Own']})
    try:
        load(directory, trust_remote_code=trusted)
    except ModelError as error:
        assert not trusted and 'trust_remote_code' in str(error)
    assert marker.exists() == trusted


# -- what identifies a model -----------------------------------------------------------------------------------------

def test_a_fingerprint_belongs_to_config_and_weights(directory, tmp_path):
    original = fingerprint(str(directory))
    moved = shutil.copytree(directory, tmp_path / 'elsewhere')
    assert fingerprint(str(moved)) == original
    (moved / 'README.md').write_text('not part of it')
    assert fingerprint(str(moved)) == original
    change(moved / 'config.json', rms_norm_eps=1e-5)
    assert fingerprint(str(moved)) != original
    other = tiny_models.build(tmp_path / 'other', 'qwen2', seed=1)
    assert fingerprint(str(other)) != original
    truncate(directory / 'model.safetensors')
    assert fingerprint(str(directory)) != original


def test_a_hub_model_is_identified_by_its_commit():
    assert fingerprint('nobody/model', 'abc') != fingerprint('nobody/model', 'abd')


# -- device and precision --------------------------------------------------------------------------------------------

def test_weights_stored_in_half_precision_stay_so_where_the_cpu_computes_in_it(directory, monkeypatch):
    monkeypatch.setattr(devices, 'is_emulated', lambda dtype: False)
    AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).save_pretrained(directory)
    model = load(directory)
    assert model.variant == 'bfloat16' and model.model.dtype == torch.bfloat16


def test_every_end_of_text_of_generation_config_and_tokenizer_ends_an_answer(directory):
    change(directory / 'generation_config.json', eos_token_id=[7, 9])
    assert load(directory).eos_ids == {7, 9, tiny_models.EOS}


@pytest.mark.parametrize(('after', 'ends', 'said'), [
    ('<end_of_turn>\n', True, 'ends an answer too'), ('\n### User:', False, 'may run on'), ('<eos>', False, ''),
    (' ', False, '')])
def test_the_token_that_the_template_writes_after_a_turn_ends_an_answer(after, ends, said, directory, caplog):
    """As Gemma's, whose generation config may be missing; text that is no token gets a warning."""
    caplog.set_level('INFO', 'timebill_ros')
    tokenizer = tiny_models.tokenizer()
    tokenizer.add_special_tokens({'additional_special_tokens': ['<end_of_turn>']})
    template = "{% for m in messages %}{{ m['content'] + AFTER }}{% endfor %}"
    tokenizer.chat_template = template.replace('AFTER', repr(after))
    tokenizer.save_pretrained(directory)
    (directory / 'generation_config.json').unlink()
    assert load(directory).eos_ids == {tiny_models.EOS, *[len(tokenizer) - 1] * ends}
    assert said in caplog.text and (said or 'answer' not in caplog.text)


def test_how_the_generation_config_wants_tokens_drawn_is_known_and_said(directory, caplog):
    caplog.set_level('INFO', 'timebill_ros')
    change(directory / 'generation_config.json', repetition_penalty=1.1, do_sample=True, temperature=0.6, max_length=20)
    assert load(directory).sampling == {'temperature': 0.6, 'top_p': 1.0, 'top_k': 50, 'min_p': 0.0,
                                        'repetition_penalty': 1.1}
    assert 'asks for temperature 0.6, top_k 50, repetition_penalty 1.1' in caplog.text
