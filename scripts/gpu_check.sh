#!/usr/bin/env bash
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

# What a new device can do, and whether it can be trusted, in one command:
#
#     bash scripts/gpu_check.sh OUT
#
# The figures come first, so that they are there however short the time on a GPU is. JSON and logs go into the folder
# OUT. Nothing is installed and nothing is read from a network: Python with torch, transformers, safetensors, numpy and
# pyyaml is enough, without ROS; with pytest the tests run too. About 5 minutes on one GPU. Without a GPU the tiny shape
# and stand-ins are checked, and the last lines say what was not. PYTHON names an interpreter (otherwise that of the
# checkout's environment, .venv, where there is one, or else python3); SHAPES the shapes to check.
set -u
out=${1:?usage: gpu_check.sh OUT}
own=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python
[ -x "$own" ] || own=python3
python=${PYTHON:-$own}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit 1
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 XDG_CACHE_HOME="$out/cache"
failed=() unchecked=()

part() {  # part NAME SECONDS COMMAND...: run it with a time limit; its output goes to the terminal and OUT/NAME.log
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" 2>&1 | tee "$out/$name.log"
    local status=${PIPESTATUS[0]}
    case $status in
        0) ;;
        124) failed+=("$name (stopped after $limit s, its limit)") ;;
        *) failed+=("$name (exit $status)") ;;
    esac
    return "$status"
}

part imports 60 "$python" - <<'PYTHON' || { echo "torch or transformers cannot be imported: $python"; exit 1; }
import platform, sys
import numpy, safetensors, torch, transformers, yaml
import timebill_ros.bench.device, timebill_ros.engine, timebill_ros.worker.loading
print('Python', platform.python_version(), 'torch', torch.__version__, 'transformers', transformers.__version__)
if torch.cuda.is_available():
    p = torch.cuda.get_device_properties(0)
    print(p.name, f'compute capability {p.major}.{p.minor}, {p.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}')
try:
    import triton
    print('triton', triton.__version__)
except ImportError:
    print('no triton: steps cannot be compiled for a GPU')
PYTHON

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    shapes=${SHAPES:-Qwen2.5-7B Qwen2.5-0.5B}
else
    shapes=${SHAPES:-tiny}
    unchecked+=("CUDA: fused layers, CUDA graphs, streams, torchao; no shape larger than tiny")
fi

# shellcheck disable=SC2086  # several shapes are several words
part device 230 "$python" -m timebill_ros.cli bench device --quick --minutes 3 --shapes $shapes --out "$out/device.json"
last=${shapes##* }
part steps 90 "$python" -m timebill_ros.bench.step_check --shape "$last" --out "$out"
part streams 60 "$python" -m timebill_ros.bench.stream_check --shape "$last" --out "$out"
if "$python" -c 'import pytest, pytest_timeout' 2>/dev/null; then
    parallel=()
    "$python" -c 'import xdist' 2>/dev/null && parallel=(-n 4)
    part tests 120 "$python" -m pytest -q "${parallel[@]}" -m 'not slow' test/inference/steps/test_comparison.py \
        test/inference/steps/test_captured.py test/inference/steps/test_captured_chain.py \
        test/inference/steps/test_captured_draws.py test/inference/steps/test_attention_choice.py \
        test/inference/test_slot_attention.py test/inference/test_devices.py test/inference/test_variants.py
else
    unchecked+=("the test modules, because pytest is not installed")
fi

rm -rf "$out/cache"
echo "== result"
for one in "${unchecked[@]:-}"; do [ -z "$one" ] || echo "not checked: $one"; done
if [ "${#failed[@]}" -gt 0 ]; then
    for one in "${failed[@]}"; do echo "FAILED: $one, see $out"; done
    exit 1
fi
echo "everything that was checked is right; JSON and logs are in $out"
