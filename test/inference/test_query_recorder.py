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

"""The last queries of a prompt, whatever its chunks; recorded only while a prompt is read."""
import pytest
import torch

from timebill_ros.inference.query_recorder import QueryRecorder, recording

HEAD_DIM = 8


@pytest.mark.parametrize('chunks', [[50], [25, 25], [49, 1], [1] * 50, [3, 2, 40, 5], [5], [3, 2], [1]], ids=str)
def test_a_query_window_holds_the_last_queries_whatever_the_chunks(chunks):
    queries = torch.randn(1, 4, sum(chunks), HEAD_DIM)
    recorder = QueryRecorder(8)
    for chunk in queries.split(chunks, dim=2):
        recorder.push(chunk, 0.25)
    assert torch.equal(recorder.queries, queries[:, :, -8:]) and recorder.scaling == 0.25
    assert recorder.queries.untyped_storage().nbytes() == recorder.queries.numel() * 4  # not a view of a whole chunk
    recorder.clear()
    assert recorder.queries is None


def test_recording_ends_with_its_block_whatever_happens_inside():
    recorders = [QueryRecorder(4), QueryRecorder(4)]
    with pytest.raises(RuntimeError), recording(recorders):
        assert all(recorder.recording for recorder in recorders)
        raise RuntimeError
    assert not any(recorder.recording for recorder in recorders)


def test_the_latest_chunk_can_be_taken_back():
    queries = torch.randn(1, 4, 30, HEAD_DIM)
    recorder, other = QueryRecorder(8), QueryRecorder(8)
    for chunk in queries.split([20, 3, 7], dim=2):
        recorder.push(torch.randn_like(chunk), 0.25)  # read in part, and to be read again
        recorder.take_back()
        recorder.push(chunk, 0.25)
        other.push(chunk, 0.25)
    assert torch.equal(recorder.queries, other.queries)
    recorder.clear()
    recorder.take_back()
    assert recorder.queries is None
