"""Work spread over processes: everything comes back, and no end of a process goes unnoticed."""
import os

import pytest

from timebill_ros.inference.model_directory import ModelError
from timebill_ros.training.parallel import spread


def double(share, offset):
    for item in share:
        if item == 'dies':
            os._exit(3)
        if item == 'fails':
            raise ModelError('a sentence')
        yield 2 * item + offset


def test_every_item_comes_back_once():
    assert sorted(spread(double, list(range(7)), 2, 100)) == [100 + 2 * i for i in range(7)]


@pytest.mark.parametrize(('item', 'sentence'), [('fails', 'a sentence'), ('dies', 'code 3')])
def test_a_process_that_ends_early_is_an_error(item, sentence):
    results = spread(double, [1, item], 1, 0)
    assert next(results) == 2
    with pytest.raises(ModelError, match=sentence):
        next(results)
