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

"""The real worker with faults built in; node_process.worker_program makes a worker_python that runs it.

Words of the prompt choose what goes wrong. The faults happen inside the model's own calls, where real ones happen, so
that everything around them is the real code.
"""
from __future__ import annotations

import os
import signal
import time

FAULTS = ('w30', 'w31', 'w32', 'w33', 'w34', 'w35', 'w36')
OOM_IN_PREFILL, OOM_IN_DECODE, NAN, HANG_IN_PREFILL, HANG_IN_DECODE, CRASH, STICKY = FAULTS


def main() -> None:
    import torch

    from timebill_ros.codes import ErrorCode, GoalError
    from timebill_ros.inference.model import CausalLM
    from timebill_ros.worker import main as worker

    prefill, step, tokenize, synchronize = CausalLM.prefill, CausalLM.step, CausalLM.tokenize, CausalLM.synchronize

    def noting(self, text, **options):
        self.fault = next((word for word in FAULTS if word in text.split()), None)
        self.fault_steps = 0
        return tokenize(self, text, **options)

    def failing_synchronize(self):
        if getattr(self, 'is_broken', False):  # a GoalError, because the engine logs others with their traceback
            raise GoalError(ErrorCode.UNKNOWN, 'CUDA error: an illegal memory access was encountered')
        synchronize(self)

    def failing_prefill(self, ids, **options):
        self.is_broken = getattr(self, 'is_broken', False) or getattr(self, 'fault', None) == STICKY
        failing_synchronize(self)
        if getattr(self, 'fault', None) == OOM_IN_PREFILL:
            raise torch.OutOfMemoryError('tried to allocate 99.00 GiB')
        if getattr(self, 'fault', None) == HANG_IN_PREFILL:
            time.sleep(3600.0)
        return prefill(self, ids, **options)

    def failing_step(self, token, position):
        fault = getattr(self, 'fault', None)
        self.fault_steps = getattr(self, 'fault_steps', 0) + 1
        if fault is not None and self.fault_steps >= 200:
            if fault == OOM_IN_DECODE:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
            if fault == NAN:
                return step(self, token, position) * float('nan')
            if fault == HANG_IN_DECODE:
                time.sleep(3600.0)
            if fault == CRASH:
                os.kill(os.getpid(), signal.SIGSEGV)
        return step(self, token, position)

    CausalLM.tokenize, CausalLM.prefill, CausalLM.step = noting, failing_prefill, failing_step
    CausalLM.synchronize = failing_synchronize
    worker.main()


if __name__ == '__main__':
    main()
