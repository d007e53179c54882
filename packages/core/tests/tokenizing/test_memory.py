"""Memory comes back when nobody holds it, and only then."""

import copy
import pickle
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

from cellweave.tokenizing import BinTokenizer
from cellweave.tokenizing.memory import SharedRows, TokenMemory

N = 1 << 17


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_the_last_view_is_gone():
    memory = TokenMemory()
    first = memory.empty(N, np.int32)
    at, view = address(first), first[100:200]
    second = memory.empty(N, np.int32)
    assert not np.shares_memory(first, second)
    del first
    assert not np.shares_memory(view, memory.empty(N, np.float32))
    del view, second
    assert address(memory.empty(N, np.float32)) == at


def test_small_and_huge_arrays_are_not_kept():
    memory = TokenMemory()
    made = [memory.empty(n, np.uint8) for n in (10, 1 << 27)]
    assert [len(m) for m in made] == [10, 1 << 27]
    assert memory._blocks == []


def test_at_most_so_much_is_kept():
    memory = TokenMemory()
    held = [memory.empty(1 << 25, np.uint8) for _ in range(6)]
    assert sum(b.nbytes for b in memory._blocks) <= 1 << 27
    assert not any(np.shares_memory(a, b) for a in held for b in held if a is not b)


def test_threads_never_share():
    memory, wrong = TokenMemory(), []

    def work(mark):
        for _ in range(300):
            array = memory.empty(N, np.uint32)
            array[::997] = mark
            if not (array[::997] == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []


def test_tokens_stay_what_they_were_while_more_are_made():
    rng = np.random.default_rng(0)
    tokenizer = BinTokenizer()
    sets = [AnnData(sp.random(300, 2000, 0.3, "csr", dtype="f4", random_state=rng)) for _ in "abc"]
    tokenizer.fit(sets[0])
    kept = [tokenizer.encode(a) for a in sets]
    expected = [(t.ids.copy(), t.values.copy()) for t in kept]
    again = copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))
    for other in (tokenizer, *again):
        for adata, (ids, values) in zip(sets, expected):
            found = other.encode(adata)
            assert np.array_equal(found.ids, ids)
            assert np.array_equal(found.values, values)
    for tokens, (ids, values) in zip(kept, expected):
        assert np.array_equal(tokens.ids, ids)
        assert np.array_equal(tokens.values, values)


def test_rows_that_all_cells_share_are_written_once_while_held():
    shared, row = SharedRows(), np.arange(5, dtype=np.int32)
    held = shared.repeated(row, 4)
    assert held.tolist() == list(range(5)) * 4
    assert np.shares_memory(shared.repeated(row, 2), held)
    assert shared.repeated(row + 1, 2).tolist() == list(range(1, 6)) * 2
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1
    assert copy.deepcopy(shared).repeated(row, 1).tolist() == row.tolist()
    assert pickle.loads(pickle.dumps(shared)).repeated(row, 1).tolist() == row.tolist()
