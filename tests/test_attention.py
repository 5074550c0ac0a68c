"What the notebooks of attention cannot say: any shape, any hole, any thread, other people's layers"
import math, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor

import numba, numpy as np, pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from gnn_quant.core import BadData
from gnn_quant.models.layers import attention
from gnn_quant.kernels import attention as kernel
from gnn_quant.models.layers.attention import TemporalAttention, fusable, joined
from gnn_quant.kernels.attention import FusedAttention, cuts_of, each
from gnn_quant.kernels.simd_nn import exp_below, load_lanes, store

NAMES = 'q h tie w_q w_k w_v'.split()
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def case(n=9, p=7, k=5, dq=4, dh=6, dt=3, d=3, heads=2, real=.7, seed=0, dtype=torch.float32):
    """A layer, and what it is asked:
    positions outside the states, NaN and infinity stand wherever the mask says nobody looks"""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64).to(dtype)
    layer = TemporalAttention(dq, dh + dt, heads * d, heads).to(dtype)
    with torch.no_grad():
        for w in layer.parameters(): w.copy_(draw(*w.shape) / 2)
    mask = torch.rand(n, k, generator=g) < real if p else torch.zeros(n, k, dtype=torch.bool)
    nbr = torch.randint(0, max(p, 1), (n, k), generator=g)
    tie = draw(n, k, dt).masked_fill(~mask.unsqueeze(-1), math.nan)
    return layer, draw(n, dq), draw(p, dh), nbr.masked_fill(~mask, -9), tie, mask


def double(layer, *tensors):
    "The same in 64 bits, as new leaves"
    other = TemporalAttention(layer.w_q.shape[1], layer.w_k.shape[1], len(layer.w_q), layer.heads).double()
    other.load_state_dict({k: v.double() for k, v in layer.state_dict().items()})
    return other, *(x.detach().double() for x in tensors)


def naive(layer, q, h, nbr, tie, mask):
    "Two loops and the textbook formula; a list of the weights beside it"
    d, rows, said = layer.d_head, [], []
    for i in range(len(q)):
        real = [j for j in range(nbr.shape[1]) if mask[i, j]]
        row, a = [], torch.zeros(layer.heads, nbr.shape[1], dtype=q.dtype)
        for x in range(layer.heads):
            part = slice(x * d, (x + 1) * d)
            if not real: row.append(q.new_zeros(d)); continue
            z = torch.stack([torch.cat([h[nbr[i, j]], tie[i, j]]) for j in real])
            w = ((z @ layer.w_k[part].T) @ (layer.w_q[part] @ q[i]) / math.sqrt(d)).softmax(0)
            row.append(w @ (z @ layer.w_v[part].T))
            a = a.index_put((torch.tensor(x), torch.tensor(real)), w)
        rows.append(torch.cat(row))
        said.append(a)
    return torch.stack(rows), torch.stack(said)


def grads(layer, q, h, nbr, tie, mask, how, goals):
    "Answer, weights, and the gradients of a loss over both"
    leaves = [x.detach().clone().requires_grad_() for x in (q, h, tie)]
    a, b, c = leaves
    out, w = how(layer, a, b, nbr, c, mask)
    nothing = 0 * sum(x.sum() for x in leaves)
    g = torch.autograd.grad((out * goals[0]).sum() + (w * goals[1]).sum() + nothing, [*leaves, *layer.parameters()],
                            allow_unused=True)
    return [out.detach(), w.detach(),
            *(torch.zeros_like(x) if y is None else y for x, y in zip([*leaves, *layer.parameters()], g))]


def fused(layer, q, h, nbr, tie, mask): return layer.gather(q, h, nbr, tie, mask, weights=True)


def close(ours, exact, tol=5e-6):
    "Within a few last bits of a 32-bit sum: a weight's gradient adds over questions, and much of it cancels"
    for name, a, b in zip(['answer', 'weights', *NAMES], ours, exact):
        assert a.shape == b.shape and not a.isnan().any(), name
        if b.numel():
            assert float((a - b).abs().max()) <= tol * max(1., float(b.abs().max())), (name, float((a - b).abs().max()))


SHAPES = st.fixed_dictionaries(dict(n=st.integers(1, 40), p=st.integers(1, 30), k=st.integers(1, 37),
                                    dq=st.integers(1, 20), dh=st.integers(0, 35), dt=st.integers(0, 20),
                                    d=st.integers(1, 19), heads=st.integers(1, 5),
                                    real=st.sampled_from([0., .3, .8, 1.]), seed=st.integers(0, 99)))


@SLOW
@given(SHAPES.filter(lambda s: s['dh'] + s['dt'] > 0))
def test_the_kernel_is_the_double_loop_at_any_shape(shape):
    layer, q, h, nbr, tie, mask = case(**shape)
    g = torch.Generator().manual_seed(1)
    goals = (torch.randn(len(q), len(layer.w_q), generator=g),
             torch.randn(len(q), layer.heads, nbr.shape[1], generator=g))
    assert fusable(q, h, tie, *layer.parameters())
    big = double(layer, q, h, tie)
    exact = grads(big[0], big[1], big[2], nbr, big[3].nan_to_num(), mask, naive, [x.double() for x in goals])
    close(grads(layer, q, h, nbr, tie, mask, fused, goals), exact)
    close(grads(*big[:3], nbr, big[3], mask, fused, [x.double() for x in goals]), exact, 1e-12)


@pytest.mark.parametrize('heads,dh,dt', [(1, 8, 4), (4, 32, 4), (2, 17, 0)])
def test_the_kernel_is_pygs_transformer_layer(heads, dh, dt):
    nn = pytest.importorskip('torch_geometric.nn')
    layer, q, h, nbr, tie, mask = case(n=20, p=20, k=6, dq=dh, dh=dh, dt=dt, d=5, heads=heads)
    peer = nn.TransformerConv(dh, 5, heads=heads, edge_dim=dt or None, root_weight=False).double()
    with torch.no_grad():
        for lin in (peer.lin_query, peer.lin_key, peer.lin_value): lin.bias.zero_()
        peer.lin_query.weight.copy_(layer.w_q)
        peer.lin_key.weight.copy_(layer.w_k[:, :dh])
        peer.lin_value.weight.copy_(layer.w_v[:, :dh])
        if dt: layer.w_v[:, dh:] = layer.w_k[:, dh:]; peer.lin_edge.weight.copy_(layer.w_k[:, dh:])
    at, slot = mask.nonzero(as_tuple=True)
    edges, x = torch.stack([nbr[at, slot], at]), h.double().requires_grad_()
    want = peer(x, edges, tie[at, slot].double() if dt else None)
    mine = h.clone().requires_grad_()
    got = layer.gather(mine, mine, nbr, tie if dt else None, mask)
    goal = torch.randn(20, 5 * heads)
    a, b = torch.autograd.grad((got * goal).sum(), mine)[0], torch.autograd.grad((want * goal).sum(), x)[0]
    assert (got - want).abs().max() < 2e-6 * want.abs().max() and (a - b).abs().max() < 2e-6 * b.abs().max()


def test_gather_is_forward_of_the_joined_rows():
    for dtype in (torch.float32, torch.float64):
        layer, q, h, nbr, tie, mask = case(n=30, dtype=dtype)
        want, a = layer(q, joined(h, nbr, tie, mask), mask, weights=True)
        got, b = layer.gather(q, h, nbr, tie, mask, weights=True)
        tol = dict(rtol=1e-6, atol=1e-6) if dtype == torch.float32 else dict(rtol=1e-13, atol=1e-13)
        assert (torch.allclose(got, want, **tol) and torch.allclose(a, b, **tol)
                and torch.equal(layer.gather(q, h, nbr, tie, mask), got))


def test_gradcheck_of_the_torch_path_in_64_bits():
    layer, q, h, nbr, tie, mask = case(n=4, p=5, k=3, dq=2, dh=2, dt=2, d=2, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (q, h, tie)]
    assert torch.autograd.gradcheck(lambda q, h, t, *w: layer.gather(q, h, nbr, t, mask, weights=True),
                                    (*leaves, *layer.parameters()))


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_nothing_leaks_out_of_a_slot_that_nobody_looks_at(bad):
    "A padded slot points at a node whose state is broken, and holds a broken tie"
    layer, q, h, nbr, tie, mask = case(n=12, p=6, k=4, real=.6)
    mask &= nbr != 0
    clean = layer.gather(q, h, nbr, tie, mask)
    broken = h.clone()
    broken[0] = bad
    for dtype in (torch.float32, torch.float64):
        cast = TemporalAttention(4, 9, 6, 2).to(dtype)
        cast.load_state_dict(layer.state_dict())
        x, y = broken.to(dtype).requires_grad_(), tie.masked_fill(~mask.unsqueeze(-1), bad).to(dtype).requires_grad_()
        out = cast.gather(q.to(dtype), x, nbr.masked_fill(~mask, 0), y, mask)
        g = torch.autograd.grad(out.sum(), [x, y, *cast.parameters()])
        assert torch.allclose(out.float(), clean, atol=1e-6) and all(v.isfinite().all() for v in g)
        assert (g[0][0] == 0).all() and (g[1][~mask] == 0).all()


def test_a_broken_state_that_is_looked_at_breaks_exactly_its_questions():
    layer, q, h, nbr, tie, mask = case(n=40, p=6, k=4)
    h[2] = math.nan
    hit = (mask & (nbr == 2)).any(1)
    leaves = [x.requires_grad_() for x in (q, tie)]
    out, a = layer.gather(*leaves[:1], h, nbr, leaves[1], mask, weights=True)
    assert hit.any() and not hit.all() and out[hit].isnan().all() and out[~hit].isfinite().all()
    for loss in (out.sum(), a.sum(), out.sum() + a.sum()):
        for g in torch.autograd.grad(loss, leaves, retain_graph=True):
            assert g[hit].isnan().any() and g[~hit].isfinite().all()


@pytest.mark.parametrize('shape', [dict(n=0), dict(k=0), dict(p=0), dict(p=0, n=0), dict(real=0.), dict(dt=0),
                                   dict(dh=0), dict(n=1, k=1, p=1)])
def test_the_empty_and_the_smallest(shape):
    layer, q, h, nbr, tie, mask = case(**shape)
    leaves = [x.nan_to_num().requires_grad_() for x in (q, h, tie)]
    out, a = layer.gather(leaves[0], leaves[1], nbr, leaves[2], mask, weights=True)
    assert out.shape == (len(q), 6) and a.shape == (len(q), 2, nbr.shape[1]) and out.isfinite().all()
    assert (out[~mask.any(1)] == 0).all() and (a.sum(-1)[~mask.any(1)] == 0).all()
    g = torch.autograd.grad(out.sum(), [*leaves, *layer.parameters()], allow_unused=True)
    assert all(x is None or x.isfinite().all() for x in g)
    if not mask.any(): assert all(x is None or (x == 0).all() for x in g)


def test_no_ties_is_ties_of_width_zero():
    layer, q, h, nbr, tie, mask = case(dt=0)
    assert torch.equal(layer.gather(q, h, nbr, None, mask), layer.gather(q, h, nbr, tie, mask))


def test_layout_in_memory_does_not_matter():
    layer, q, h, nbr, tie, mask = case(n=10, dtype=torch.float32)
    strange = lambda x: torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x)
    turned = lambda x: x.transpose(0, -1).contiguous().transpose(0, -1)
    goals = torch.randn(10, 6), torch.randn(10, 2, 5)
    plain = grads(layer, q, h, nbr, tie, mask, fused, goals)
    for f in (strange, turned):
        assert not f(tie).is_contiguous()
        leaves = [f(x).requires_grad_() for x in (q, h, tie)]
        out, a = layer.gather(leaves[0], leaves[1], f(nbr), leaves[2], f(mask), weights=True)
        g = torch.autograd.grad((out * goals[0]).sum() + (a * goals[1]).sum(), [*leaves, *layer.parameters()])
        assert all(torch.equal(x, y) for x, y in zip(plain, [out, a, *g]))
    with torch.no_grad():
        assert torch.equal(layer.gather(strange(q), turned(h), strange(nbr), turned(tie), strange(mask)), plain[0])
    one = q[:1].expand(10, 4)
    assert torch.equal(layer.gather(one, h, nbr, tie, mask), layer.gather(one.contiguous(), h, nbr, tie, mask))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_bits_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    layer, q, h, nbr, tie, mask = case(n=333, p=50, k=12, dh=40, dt=7, d=6, heads=3)
    goals, used = (torch.randn(333, 18), torch.randn(333, 3, 12)), []
    kept = kernel.each
    monkeypatch.setattr(kernel, 'each', lambda job, cuts, n: used.append((len(cuts), n)) or kept(job, cuts, n))
    runs = []
    for n in (1, 2, 3, 8):
        threads(n)
        runs.append(grads(layer, q, h, nbr, tie, mask, fused, goals))
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other))
    assert {n for _, n in used} == {1, 2, 3, 8} and min(c for c, _ in used) > 2


def test_the_gradients_of_many_questions_are_added_up():
    "Enough of them for several jobs, whose sums of the weights' gradients come together at the end"
    layer, q, h, nbr, tie, mask = case(n=333, p=40, k=7, dh=20, dt=5)
    goals = torch.randn(333, 6), torch.randn(333, 2, 7)
    assert len(cuts_of(333)) > 3
    big = double(layer, q, h, tie)
    close(grads(layer, q, h, nbr, tie, mask, fused, goals),
          grads(*big[:3], nbr, big[3], mask, fused, [x.double() for x in goals]), 1e-5)


def test_a_loss_may_be_over_the_weights_alone():
    layer, q, h, nbr, tie, mask = case(n=20)
    goal, leaves = torch.randn(20, 2, 5), [x.requires_grad_() for x in (q, h, tie)]
    ask = lambda layer, q, h, tie: (layer.gather(q, h, nbr, tie, mask, weights=True)[1] * goal.to(q.dtype)).sum()
    big = double(layer, *leaves)
    exact = [x.requires_grad_() for x in big[1:]]
    ours, want = torch.autograd.grad(ask(layer, *leaves), leaves), torch.autograd.grad(ask(big[0], *exact), exact)
    assert (all((a - b).abs().max() < 5e-6 * max(1., float(b.abs().max())) for a, b in zip(ours, want))
            and any(a.abs().max() > .01 for a in ours))


def test_a_second_derivative_is_refused_not_wrong():
    layer, q, h, nbr, tie, mask = case(n=6)
    g, = torch.autograd.grad(layer.gather(q.requires_grad_(), h, nbr, tie, mask).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match='once_differentiable'): g.sum().backward()


@numba.njit
def exp16(x, most, out):
    for i in range(0, len(x), 16): store(out, i, exp_below(load_lanes(x, i), most))


def test_the_exponential_is_numpys_down_to_the_smallest_and_zero_below():
    v, out = np.linspace(-100, 0, 1_600, dtype=np.float32), np.full(1_600, 9, np.float32)
    exp16(v + np.float32(3), np.float32(3), out)
    v = (v + np.float32(3)) - np.float32(3)
    want, tiny = np.exp(v.astype(float)), v < -87
    assert (out[tiny] == 0).all() and np.abs(out[~tiny] / want[~tiny] - 1).max() < 2e-7 and out[-1] == 1


def test_the_same_bits_again_and_under_strict_torch():
    layer, q, h, nbr, tie, mask = case(n=200, p=9, k=8)
    goals = torch.randn(200, 6), torch.randn(200, 2, 8)
    first = grads(layer, q, h, nbr, tie, mask, fused, goals)
    torch.use_deterministic_algorithms(True)
    try: assert all(torch.equal(a, b) for a, b in zip(first, grads(layer, q, h, nbr, tie, mask, fused, goals)))
    finally: torch.use_deterministic_algorithms(False)


@SLOW
@given(st.integers(0, 99), st.integers(1, 90), st.data())
def test_an_answer_has_the_same_bits_whoever_else_asks(seed, n, data):
    layer, q, h, nbr, tie, mask = case(n=n, p=11, k=6, d=5, heads=3, seed=seed)
    pick = torch.tensor(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=70)))
    with torch.no_grad():
        whole, part = layer.gather(q, h, nbr, tie, mask), layer.gather(q[pick], h, nbr[pick], tie[pick], mask[pick])
    assert torch.equal(part, whole[pick])
    leaf = [x[pick].requires_grad_() for x in (q, tie)]
    g = torch.autograd.grad(layer.gather(leaf[0], h, nbr[pick], leaf[1], mask[pick]).sum(), leaf)
    every = [x.clone().requires_grad_() for x in (q, tie)]
    want = torch.autograd.grad(layer.gather(every[0], h, nbr, every[1], mask).sum(), every)
    assert all(torch.equal(a, b[pick]) for a, b in zip(g, want))


@SLOW
@given(st.integers(0, 99), st.randoms(use_true_random=False))
def test_neighbours_have_no_order_and_states_no_names(seed, rnd):
    layer, q, h, nbr, tie, mask = case(n=8, p=9, k=6, seed=seed)
    want = layer.gather(q, h, nbr, tie, mask)
    k, p = (torch.tensor(rnd.sample(range(m), m)) for m in (6, 9))
    assert torch.allclose(layer.gather(q, h, nbr[:, k], tie[:, k], mask[:, k]), want, atol=2e-6)
    moved = torch.empty_like(h)
    moved[p] = h
    assert torch.equal(layer.gather(q, moved, torch.where(mask, p[nbr.clamp(0)], -9), tie, mask), want)


def test_a_neighbour_met_twice_counts_twice():
    layer, q, h, nbr, tie, mask = case(n=1, p=1, k=4, dt=0, real=1.)
    goals = torch.randn(1, 6), torch.randn(1, 2, 4)
    out, a, _, g_h, *_ = grads(layer, q, h, nbr, tie, mask, fused, goals)
    assert (torch.allclose(a, torch.full((1, 2, 4), .25))
            and torch.allclose(out, layer.gather(q, h, nbr[:, :1], None, mask[:, :1]), atol=1e-6))
    big = double(layer, q, h, tie)
    close([g_h], [grads(*big[:3], nbr, big[3], mask, naive, [x.double() for x in goals])[3]])


@pytest.mark.parametrize('learns', [[], ['q'], ['h'], ['tie'], ['w_k'], NAMES])
def test_a_gradient_for_whoever_learns_and_for_nobody_else(learns, monkeypatch):
    layer, q, h, nbr, tie, mask = case(n=20)
    scattered, kept = [], kernel.scatter
    monkeypatch.setattr(kernel, 'scatter', lambda *a: scattered.append(0) or kept(*a))
    things = dict(zip(NAMES, (q, h, tie, *layer.parameters())))
    for k, x in things.items(): x.requires_grad_(k in learns)
    out = layer.gather(q, h, nbr, tie, mask)
    assert out.requires_grad == bool(learns)
    if learns: out.sum().backward()
    assert all((x.grad is not None) == (k in learns) for k, x in things.items()) and bool(scattered) == ('h' in learns)


def test_without_gradients_nothing_is_kept():
    layer, q, h, nbr, tie, mask = case()
    with torch.no_grad(): out, a = FusedAttention.apply(q, *layer.parameters(), h, nbr, tie, mask, 2, False)
    assert out.grad_fn is None and a.numel() == 0
    with torch.inference_mode(): assert torch.equal(layer.gather(q, h, nbr, tie, mask), out)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        layer.gather(q, h, nbr, tie, mask)
    assert saved and max(s.numel() for s in saved) <= tie.numel()


def test_states_changed_between_the_two_passes_are_noticed():
    layer, q, h, nbr, tie, mask = case()
    out = layer.gather(q, h, nbr, tie, mask)
    h += 1
    with pytest.raises(RuntimeError, match='modified by an inplace operation'): out.sum().backward()


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_other_numbers_take_the_torch_path(dtype, monkeypatch):
    layer, q, h, nbr, tie, mask = case(dtype=torch.float32)
    want = layer.gather(q, h, nbr, tie, mask)
    monkeypatch.setattr(attention.FusedAttention, 'apply', lambda *a: pytest.fail('the kernel was asked'))
    got = layer.to(dtype).gather(*(x.to(dtype) for x in (q, h)), nbr, tie.to(dtype), mask)
    assert got.dtype == dtype and torch.allclose(got.float(), want,
                                                 atol=dict(float64=1e-6, bfloat16=.1, float16=.02)[str(dtype)[6:]])


def test_mixed_precision_and_the_compiler_take_the_torch_path(monkeypatch):
    layer, q, h, nbr, tie, mask = case()
    want = layer.gather(q, h, nbr, tie, mask)
    monkeypatch.setattr(attention.FusedAttention, 'apply', lambda *a: pytest.fail('the kernel was asked'))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.allclose(layer.gather(q, h, nbr, tie, mask).float(), want, atol=.1)
    whole = torch.compile(layer.gather, backend='eager', fullgraph=True)
    assert torch.allclose(whole(q, h, nbr, tie, mask), want, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_neighbour_that_does_not_exist_is_named_not_read(dtype):
    for where in (7, -1, 2**40):
        layer, q, h, nbr, tie, mask = case(n=50, real=1., dtype=dtype)
        nbr[41, 2] = where
        with pytest.raises(BadData, match='question 41 is not among the 7 states' if dtype == torch.float32
                           else 'not among the 7 states'):
            layer.gather(q, h, nbr, tie, mask)
        mask[41, 2] = False
        state = h.clone().requires_grad_()
        out = layer.gather(q, state, nbr, tie, mask)
        assert out.isfinite().all() and torch.autograd.grad(out.sum(), state)[0].isfinite().all()


def test_shapes_that_do_not_fit_are_refused_before_memory_is_read():
    layer, q, h, nbr, tie, mask = case()
    for bad in (dict(q=q[:, :2]), dict(q=q[:3]), dict(h=h[:, :3]), dict(nbr=nbr[:, :2]), dict(nbr=nbr[0]),
                dict(nbr=nbr.int()), dict(tie=tie[:2]), dict(tie=tie[..., :1]), dict(tie=None), dict(mask=mask[:2]),
                dict(mask=mask.float()), dict(h=h[0])):
        a = dict(q=q, h=h, nbr=nbr, tie=tie, mask=mask) | bad
        with pytest.raises(BadData, match='gather'): layer.gather(**a)


def test_many_askers_at_once(threads):
    threads(2)
    layer, q, h, nbr, tie, mask = case(n=300, p=50, k=12, dh=40)
    want = layer.gather(q, h, nbr, tie, mask)
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(x, want) for x in pool.map(lambda _: layer.gather(q, h, nbr, tie, mask), range(12)))


FORKS = """
import os, torch
from test_attention import case
torch.set_num_threads(2)
layer, *a = case(n=300, p=50, k=12, dh=40)
want = layer.gather(*a)
child = os.fork()
if not child: os._exit(0 if torch.equal(layer.gather(*a), want) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_process_can_ask_too():
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, '-c', FORKS], cwd=here,
                          env=os.environ | dict(PYTHONPATH=os.pathsep.join([here, os.path.dirname(here)])),
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]


def test_jobs_cover_every_question_once_and_an_error_comes_out(threads):
    for n in (0, 1, 31, 32, 33, 512, 513, 5_000, 250_000):
        cuts = cuts_of(n)
        assert (cuts[0] == 0 and cuts[-1] == n and len(cuts) <= 17 and (np.diff(cuts) > 0).all()
                and not (cuts[:-1] % kernel.PART).any())
    def job(lo, hi):
        if lo == 4: raise ValueError('four')
        return lo
    for n in (1, 3):
        with pytest.raises(ValueError, match='four'): each(job, np.arange(9), n)


@pytest.mark.parametrize('k', [5, 20, 37])
def test_a_large_score_does_not_overflow(k):
    "Wherever it stands: the largest of a row is looked for in every sixteen of its places"
    layer, q, h, nbr, tie, mask = case(n=20, k=k, real=1.)
    with torch.no_grad(): layer.w_k *= 1e4
    big = double(layer, q, h, tie)
    goals = torch.randn(20, 6), torch.randn(20, 2, k)
    ours, exact = (grads(layer, q, h, nbr, tie, mask, fused, goals),
                   grads(*big[:3], nbr, big[3], mask, naive, [x.double() for x in goals]))
    assert (torch.allclose(ours[0].double(), exact[0], atol=1e-2) and all(x.isfinite().all() for x in ours)
            and (ours[1].sum(-1) - 1).abs().max() < 1e-5)
