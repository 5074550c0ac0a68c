"Words for sixteen numbers, and memory without an owner"
import numba, numpy as np, pytest
from numba import types
from hypothesis import given, strategies as st

from gnn_quant.kernels.simd import (aligned, address, copy_in, fill, fma, keep_alive, larger, load_lanes, load_part,
                                    past, plus, absolute, store, store_part, copy_out, top, total, within)

KINDS = np.float32, np.float64
numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16)


@numba.njit
def words(x, y, a, out):
    u, v, p = load_lanes(x, 0), load_lanes(y, 0), address(out)
    store(p, 0, fma(u, v, u))
    store(p, 16, plus(u, a, v))
    store(p, 32, larger(u, v))
    store(p, 48, absolute(u))
    return total(u), top(u)


def folded(x, how):
    while len(x) > 1: x = how(x[:len(x) // 2], x[len(x) // 2:])
    return x[0]


@pytest.mark.parametrize('kind', KINDS)
@given(numbers, numbers, st.floats(-100, 100, width=32))
def test_words_do_to_sixteen_numbers_what_numpy_does(kind, x, y, a):
    x, y, a, out = np.array(x, kind), np.array(y, kind), kind(a), np.zeros(64, kind)
    s, m = words(x, y, a, out)
    assert (np.array_equal(out[16:32], x + a * y) and np.array_equal(out[32:48], np.maximum(x, y))
            and np.array_equal(out[48:], abs(x)))
    near = np.spacing(np.maximum(abs(x * y), abs(x * y + x)))
    assert (abs(out[:16] - (x * y + x)) <= 2 * near).all()
    assert s == folded(x, np.add) and m == x.max() and type(s) is type(float(kind(0)))


@numba.njit
def part(x, i, n, out, o):
    store_part(out, o, load_part(x, i, n), n)
    store(out, 48, within(load_lanes(x, i), n, fill(x[0] - x[0] - x[1] + x[1])))
    return top(within(load_lanes(x, i), n, fill(x[0])))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('n', [-3, 0, 1, 15, 16, 40])
def test_a_part_reads_and_writes_its_own_lanes_alone(kind, n):
    x, out, m = np.arange(64, dtype=kind) + 5, np.full(64, -1, kind), min(max(n, 0), 16)
    most = part(x, 8, n, out, 20)
    assert np.array_equal(out[20:20 + m], x[8:8 + m]) and (np.delete(out[:48], np.arange(20, 20 + m)) == -1).all()
    assert (np.array_equal(out[48:], np.where(np.arange(16) < n, x[8:24], 0))
            and most == (x[8:8 + m].max() if m else x[0]))


@numba.njit
def row(x, i, n, room, o, out):
    p, q, r = address(x), address(room), address(out)
    copy_in(p, i, n, q, o)
    copy_out(q, o, n, r, 1)


@given(st.integers(1, 50), st.integers(0, 20))
def test_a_row_goes_into_a_block_and_comes_back(n, i):
    x, room, out = np.arange(80, dtype=np.float32) + 1, np.full(96, 9, np.float32), np.full(n + 2, 9, np.float32)
    row(x[:i + n], i, n, room, 16, out)
    wide = -(-n // 16) * 16
    assert np.array_equal(out[1:-1], x[i:i + n]) and out[0] == out[-1] == 9
    assert (np.array_equal(room[16:16 + n], x[i:i + n]) and (room[16 + n:16 + wide] == 0).all()
            and (room[:16] == 9).all() and (room[16 + wide:] == 9).all())


@numba.njit
def swapped(x, i, j):
    p = address(x)
    p[i], p[j] = p[j], p[i]
    p[np.uint64(0)] = p[np.uint64(0)]
    return past(p, i)[j - i]


@pytest.mark.parametrize('x', [np.arange(5), np.arange(5.), np.array([True, False, True, False, False]),
                               np.arange(5, dtype=np.int32)], ids=lambda x: str(x.dtype))
def test_memory_holds_every_type_an_array_holds(x):
    y = x.copy()
    assert swapped(y, 1, 2) == x[1] and y.tolist() == x[[0, 2, 1, 3, 4]].tolist()


@numba.njit
def sum_of_what_was_made(n):
    a = np.ones(n + 16)
    p, s = aligned(address(a)), 0.
    for _ in range(20):
        b = np.full(n + 16, 2.)
        s += b[0]
    for i in range(n): s += p[i]
    keep_alive((a,))
    return s


def test_what_is_held_lives_until_then():
    assert [sum_of_what_was_made(n) for n in (8, 100, 1000)] == [48, 140, 1040]


@numba.njit
def passed_over(x):
    p, x[:] = aligned(address(x)), 0
    p[0] = 1


@pytest.mark.parametrize('i', range(17))
def test_aligned_memory_begins_a_line_of_the_cache(i):
    x = np.zeros(64, np.float32)[i:]
    passed_over(x)
    at = int(x.argmax())
    assert x[at] == 1 and at < 16 and (x.ctypes.data + 4 * at) % 64 == 0


@pytest.mark.parametrize('bad', [np.ones((16, 2))[:, 0], np.ones((4, 16)), 3.])
def test_what_is_not_flat_is_refused_before_memory_is_touched(bad):
    with pytest.raises(numba.TypingError): numba.njit(lambda x: total(load_lanes(x, 0)))(bad)
    with pytest.raises(numba.TypingError): numba.njit(lambda x: address(x)[0])(bad)


def test_no_inner_loop_of_a_kernel_is_handed_an_array_to_count():
    import torch
    from gnn_quant.kernels import attention as kernel
    from gnn_quant.kernels import simd_nn as products
    from gnn_quant.models.layers.attention import TemporalAttention
    x = torch.randn(40, 8, requires_grad=True)
    TemporalAttention(8, 8, 8).gather(x, x, torch.randint(0, 40, (40, 5)), None,
                                      torch.ones(40, 5, dtype=torch.bool)).sum().backward()
    for f in (kernel.forward, kernel.backward):
        numba.njit(nogil=True, error_model='numpy')(f.py_func).compile(f.signatures[0])
    for f in (kernel.dots, kernel.fold_query, kernel.gather_neighbors, kernel.to_slots, kernel.backward_one,
              products.matmul):
        found = [s for s in f.signatures if any(isinstance(a, types.Array) for a in s)]
        assert f.signatures and not found, f'{f.__name__}{found}: pass bare(array)'
