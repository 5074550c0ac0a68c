"Every way of asking the index is strictly before, the same in any batch, and the same as asking one by one"
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadData, BadParams, toy_bars
from gnn_quant.kernels import correlation as kernels
from gnn_quant.graph.sampling import neighbors
from gnn_quant.data.events import Events, correlation_events, make_events, take, to_temporal_data
from gnn_quant.graph.sampling.loader import batch_queries, batches, false_partners, local_graph, slices
from gnn_quant.graph.sampling.neighbors import NeighborIndex, below, distinct, mix, multi_hop

FEW = settings(max_examples=25, deadline=None)
SEED = st.integers(0, 10_000)


def random_events(seed, n=6, e=40, instants=8):
    "Repeated and simultaneous events included"
    rng = np.random.default_rng(seed)
    src = rng.integers(0, n, e)
    dst = (src + rng.integers(1, n, e)) % n
    return make_events(src, dst, rng.integers(0, instants, e), rng.normal(size=(e, 1)), [f'S{i}' for i in range(n)],
                       ['x'])


def queries(seed, q=40, n=6, instants=8):
    rng = np.random.default_rng(seed + 1)
    return rng.integers(0, n, q), rng.integers(-1, instants + 2, q)


def past(e, node, time, both=False):
    at = (e.dst == node) | (both & (e.src == node))
    return np.flatnonzero(at & (e.t < time)).tolist()


def equal(a, b):
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in ('nbr', 't', 'event', 'mask', 'times'))


def rows(found, at): return type(found)(*(getattr(found, k)[at] for k in ('nbr', 't', 'event', 'mask', 'times')))


# ---- uniform

@given(seed=SEED, k=st.integers(1, 9), e=st.integers(0, 60), instants=st.integers(1, 9), both=st.booleans())
@FEW
def test_uniform_draws_different_earlier_events_and_all_when_there_are_few(seed, k, e, instants, both):
    g = random_events(seed, e=e, instants=instants)
    nodes, times = queries(seed, instants=instants)
    got = NeighborIndex(g, both).uniform(nodes, times, k, seed)
    assert (got.t < times[:, None])[got.mask].all()
    for q in range(len(nodes)):
        want, ids = past(g, nodes[q], times[q], both), got.event[q][got.mask[q]].tolist()
        assert len(ids) == min(k, len(want)) == len(set(ids)) and set(ids) <= set(want)
        if len(want) <= k: assert sorted(ids) == want
        assert ids == sorted(ids, key=lambda i: (g.t[i], i), reverse=True), 'most recent first'
        assert got.nbr[q][got.mask[q]].tolist() == [g.src[i] if g.dst[i] == nodes[q] else g.dst[i] for i in ids]
        assert (got.event[q][~got.mask[q]] == -1).all() and (got.t[q][~got.mask[q]] == times[q]).all() and (
            got.nbr[q][~got.mask[q]] == -1).all()


@given(seed=SEED, how=st.sampled_from(['recent', 'uniform']), k=st.integers(1, 6))
@FEW
def test_an_answer_depends_on_no_other_query_nor_on_the_thread(seed, how, k):
    ix = NeighborIndex(random_events(seed, e=120))
    nodes, times = queries(seed, q=64)
    f = lambda at: ix.recent(nodes[at], times[at], k) if how == 'recent' else ix.uniform(nodes[at], times[at], k, seed)
    whole, perm = f(slice(None)), np.random.default_rng(seed).permutation(64)
    assert equal(f(perm), rows(whole, perm))
    assert all(equal(f(slice(i, i + 1)), rows(whole, slice(i, i + 1))) for i in range(64))
    with ThreadPoolExecutor(4) as pool: parts = list(pool.map(f, np.array_split(np.arange(64), 8)))
    assert all(equal(p, rows(whole, at)) for p, at in zip(parts, np.array_split(np.arange(64), 8)))


def test_the_seed_and_nothing_else_decides():
    g = random_events(1, e=400, instants=300)
    nodes, times = queries(1, q=200, instants=300)
    a = NeighborIndex(g).uniform(nodes, times, 5, 7)
    assert equal(NeighborIndex(g).uniform(nodes, times, 5, 7), a)
    assert ([NeighborIndex(g).uniform(nodes, times, 5, s).event.tobytes() == a.event.tobytes()
             for s in (6, 8, 2**40)] == [False] * 3)
    many = NeighborIndex(g).uniform(nodes, times, 5, 2**70 + 3)
    assert (many.t < times[:, None])[many.mask].all()


@pytest.mark.parametrize('k', [1, 3])
def test_every_set_has_the_same_chance(k):
    "Chi-square over all sets of k out of seven, at a fixed seed; and over places in the past, for each draw"
    g = make_events(np.ones(7, int), np.zeros(7, int), np.arange(7), np.zeros((7, 1)), ['A', 'B'], ['x'])
    q = 21_000
    got = NeighborIndex(g).uniform(np.zeros(q, int), np.arange(q) + 7, k, seed=5)
    sets = {s: i for i, s in enumerate(combinations(range(7), k))}
    seen = np.bincount([sets[tuple(sorted(r))] for r in got.event.tolist()], minlength=len(sets))
    chi2, dof = ((seen - q / len(sets))**2 / (q / len(sets))).sum(), len(sets) - 1
    assert abs(chi2 - dof) < 4 * np.sqrt(2 * dof), (chi2, dof)
    over_seeds = np.concatenate([NeighborIndex(g).uniform(np.zeros(1, int), np.array([7]), k, s).event[0]
                                 for s in range(700)])
    count = np.bincount(over_seeds, minlength=7)
    assert abs(count - 100 * k).max() < 4 * np.sqrt(100 * k), count


@pytest.mark.parametrize('n', [1, 2, 7, 10**6, 2**31, 2**32 - 1])
def test_below_is_the_high_half_of_the_product(n):
    x = np.random.default_rng(n).integers(0, 2**64, 200, dtype=np.uint64)
    assert all(below(v, n) == int(v) * n >> 64 for v in (*x, np.uint64(0), np.uint64(2**64 - 1)))


def test_mix_is_a_bijection_that_moves_half_of_the_bits():
    x = np.random.default_rng(0).integers(0, 2**63, 500)
    flips = [bin(mix(np.uint64(v)) ^ mix(np.uint64(v ^ (1 << b)))).count('1') for v in x.tolist()
             for b in range(0, 64, 7)]
    assert 31.5 < np.mean(flips) < 32.5 and min(flips) > 8


@given(seed=SEED, how=st.sampled_from(['recent', 'uniform']))
@FEW
def test_later_events_change_no_earlier_answer(seed, how):
    g = random_events(seed, e=80)
    nodes, times = np.tile(np.arange(6), 9), np.repeat(np.arange(9), 6)
    f = lambda e, at: getattr(NeighborIndex(e), how)(nodes[at], times[at], 3, *([seed] if how == 'uniform' else []))
    for now in range(9): assert equal(f(take(g, g.t < now), times == now), rows(f(g, slice(None)), times == now))


# ---- both ways, growing

@given(seed=SEED, k=st.integers(1, 5))
@FEW
def test_both_ways_is_the_doubled_graph_with_the_events_own_positions(seed, k):
    g = random_events(seed)
    two = make_events(np.c_[g.src, g.dst].ravel(), np.c_[g.dst, g.src].ravel(), g.t.repeat(2), g.msg.repeat(2, 0),
                      g.symbols, g.fields)
    nodes, times = queries(seed)
    a, b = NeighborIndex(g, both_ways=True).recent(nodes, times, k), NeighborIndex(two).recent(nodes, times, k)
    assert (np.array_equal(a.event, np.where(b.mask, b.event // 2, -1)) and np.array_equal(a.nbr, b.nbr)
            and np.array_equal(a.t, b.t))


@given(seed=SEED, e=st.integers(0, 80), cuts=st.lists(st.integers(0, 80), max_size=12), both=st.booleans())
@FEW
def test_a_grown_index_is_the_rebuilt_one(seed, e, cuts, both):
    g = random_events(seed, e=e)
    edges = [0, *sorted(min(c, e) for c in cuts), e]
    ix = NeighborIndex(take(g, slice(0, 0)), both)
    for a, b in zip(edges, edges[1:]):
        assert ix.append(take(g, slice(a, b))) is ix
        nodes, times = queries(seed)
        short = NeighborIndex(take(g, slice(0, b)), both)
        assert len(ix) == b and equal(ix.recent(nodes, times, 4), short.recent(nodes, times, 4))
        assert equal(ix.uniform(nodes, times, 2, 3), short.uniform(nodes, times, 2, 3))


@pytest.mark.parametrize('shape', ['panel', 'hub', 'turns'])
def test_growing_costs_a_constant_amount_an_event(shape):
    "Rows copied while growing by one batch after another, and places held, stay within a multiple of the events"
    n, steps = 40, 300
    ix, moved = NeighborIndex(make_events([], [], [], [], [f'S{i}' for i in range(n)], ['x'])), 0
    for s in range(steps):
        to = {'panel': np.arange(1, n), 'hub': np.full(20, 1), 'turns': np.full(20, 1 + s % (n - 1))}[shape]
        before, slab = ix.count.copy(), ix.start.copy()
        ix.append(Events(np.zeros(len(to), np.int32), to.astype(np.int32), np.full(len(to), s),
                         np.zeros((len(to), 1), np.float32), ix.symbols, ('x',)))
        moved += int(before[ix.start != slab].sum())
    assert moved <= 6 * len(ix) and len(ix.slab) <= 8 * len(ix), (moved / len(ix), len(ix.slab) / len(ix))


def test_append_refuses_and_leaves_the_index_alone():
    g = random_events(2)
    ix = NeighborIndex(g)
    with pytest.raises(BadData, match='order of time'): ix.append(take(g, slice(0, 3)))
    with pytest.raises(BadData, match='other symbols'): ix.append(random_events(2, n=5))
    assert len(ix) == len(g) and equal(ix.recent(*queries(0), 3), NeighborIndex(g).recent(*queries(0), 3))


# ---- threads

@pytest.mark.parametrize('n', [2, 3, 7])
def test_the_number_of_threads_changes_no_answer(n, monkeypatch):
    g, (nodes, times) = random_events(3, e=400, instants=300), queries(3, q=501, instants=300)
    ask = lambda: (NeighborIndex(g).recent(nodes, times, 5), NeighborIndex(g).uniform(nodes, times, 5, 9),
                   NeighborIndex(g).recent(nodes[:1], times[:1], 5))
    one, parts = ask(), []
    monkeypatch.setattr(neighbors, 'SHARED', 1)
    monkeypatch.setattr(neighbors, 'threads', lambda: n)
    monkeypatch.setattr(neighbors, 'in_parts', lambda job, q, p: parts.append(p) or kernels.in_parts(job, q, p))
    assert all(equal(a, b) for a, b in zip(one, ask())) and parts == [n] * 3


@pytest.mark.parametrize('min_abs', [0., .3])
def test_windows_shared_among_threads_make_the_same_events(min_abs, monkeypatch):
    bars, parts = toy_bars(n=40, t=430), []
    ask = lambda: correlation_events(bars, window=40, top=4, every=1, min_abs=min_abs)
    one = ask()
    monkeypatch.setattr(kernels, 'threads', lambda: 3)
    monkeypatch.setattr(kernels, 'in_parts', lambda job, q, p, f=kernels.in_parts: parts.append(p) or f(job, q, p))
    three = ask()
    assert parts == [3] and all(np.array_equal(getattr(one, k), getattr(three, k))
                                for k in ('src', 'dst', 't', 'msg')) and len(one)


@pytest.mark.parametrize('n', [3, 16, 65, 330])
@pytest.mark.parametrize('ties', [False, True])
def test_the_strongest_of_rows_of_any_length_and_size(n, ties):
    """Long rows overflow the room for candidates, small numbers lie below any guess,
    and equal ones are told apart by name"""
    rng = np.random.default_rng(n)
    c, names = rng.normal(size=(n, n)) * .01, rng.permutation(n)
    c[:, 1] = np.nan
    if ties: c = c.round(2)
    for top in (1, 10, 15, 16, 70, 400):
        src, dst = kernels.strongest(c, top, names, .0025)
        want = [(j, i) for i in range(n) for j in sorted((j for j in range(n) if j != i and abs(c[i, j]) > .0025),
                                                         key=lambda j: (-abs(c[i, j]), names[j]))[:top][::-1]]
        assert list(zip(src.tolist(), dst.tolist())) == want


def test_threads_are_as_many_as_both_libraries_allow(monkeypatch):
    torch = pytest.importorskip('torch')
    before = torch.get_num_threads()
    try:
        for ours, theirs in ((1, 2), (2, 1), (2, 2), (3, 2)):
            monkeypatch.setattr(kernels.numba.config, 'NUMBA_NUM_THREADS', ours)
            torch.set_num_threads(theirs)
            assert kernels.threads() == min(ours, theirs)
    finally: torch.set_num_threads(before)
    with pytest.raises(ZeroDivisionError): kernels.in_parts(lambda lo, hi: 1 // (lo == 0), 4, 2)
    assert kernels.in_parts(lambda lo, hi: (lo, hi), 1, 3) == [(0, 0), (0, 0), (0, 1)]


# ---- hops

@given(seed=SEED, m=st.integers(0, 200), n=st.integers(1, 5), span=st.sampled_from([1, 3, 40, 2**62]))
@FEW
def test_distinct_are_the_different_pairs_in_order(seed, m, n, span):
    rng = np.random.default_rng(seed)
    nodes, times = rng.integers(0, n, m), rng.integers(-span, span + 1, m)
    who, when, place = distinct(nodes, times)
    assert list(zip(when.tolist(), who.tolist())) == sorted(set(zip(times.tolist(), nodes.tolist())))
    assert np.array_equal(who[place], nodes) and np.array_equal(when[place], times)
    assert {a.dtype for a in (who, when, place)} == {np.dtype(np.int64)}


def test_distinct_of_extreme_times():
    lo, hi = np.iinfo(np.int64).min + 1, np.iinfo(np.int64).max
    who, when, place = distinct(np.array([1, 0, 1, 1]), np.array([hi, lo, lo, hi]))
    assert who.tolist() == [0, 1, 1] and when.tolist() == [lo, lo, hi] and place.tolist() == [2, 0, 1, 2]


@given(seed=SEED, k=st.integers(1, 4), hops=st.integers(1, 3), how=st.sampled_from(['recent', 'uniform']),
       both=st.booleans())
@FEW
def test_hops_are_the_direct_questions_each_asked_once(seed, k, hops, how, both):
    ix = NeighborIndex(random_events(seed), both)
    nodes, times = queries(seed, q=30)
    r = multi_hop(ix, nodes, times, k, hops, how, seed)
    f = lambda q, t: ix.recent(q, t, k) if how == 'recent' else ix.uniform(q, t, k, seed)
    assert (np.array_equal(r.rings[0].nodes[r.place], nodes) and np.array_equal(r.rings[0].times[r.place], times)
            and len(r.rings) == hops)
    below_ = [*((x.nodes, x.times) for x in r.rings[1:]), (r.nodes, r.times)]
    for ring, (who, when) in zip(r.rings, below_):
        p, m = len(ring.nodes), ring.found.mask
        assert (len(set(zip(ring.nodes.tolist(), ring.times.tolist()))) == p
                and len(set(zip(who.tolist(), when.tolist()))) == len(who))
        assert equal(ring.found, f(ring.nodes, ring.times))
        assert np.array_equal(who[:p], ring.nodes) and np.array_equal(when[:p], ring.times)
        assert (np.array_equal(who[ring.nbr][m], ring.found.nbr[m])
                and np.array_equal(when[ring.nbr][m], ring.found.t[m]))
        assert np.array_equal(ring.nbr[~m], np.nonzero(~m)[0])
        assert (when[ring.nbr] < ring.times[:, None])[m].all()
        assert len(who) == len({*zip(ring.nodes.tolist(), ring.times.tolist()),
                                *zip(ring.found.nbr[m].tolist(), ring.found.t[m].tolist())})


# ---- what is refused, and the small cases

def test_isolated_nodes_empty_graphs_and_single_nodes_have_no_neighbours():
    e = make_events([0], [1], np.array([5]), [[1.]], ['A', 'B', 'C'], ['x'])
    none = make_events([], [], [], [], ['A'], ['x'])
    for ix, q in ((NeighborIndex(e), np.array([0, 2])), (NeighborIndex(none), np.array([0, 0])),
                  (NeighborIndex(none, True), np.array([0, 0]))):
        for got in (ix.recent(q, np.array([9, 9]), 2), ix.uniform(q, np.array([9, 9]), 2)):
            assert not got.mask.any() and (got.nbr == -1).all() and (got.age == 0).all()
        r = multi_hop(ix, q, np.array([9, 9]), 2, 2)
        assert set(r.nodes.tolist()) == set(q.tolist())
    empty = np.array([], np.int64)
    assert multi_hop(NeighborIndex(e), empty, empty, 3, 2).rings[1].nbr.shape == (0, 3)
    assert NeighborIndex(make_events([], [], [], [], [], ['x'])).recent(empty, empty, 2).nbr.shape == (0, 2)
    with pytest.raises(BadData, match='nodes are 0 .. -1'):
        NeighborIndex(make_events([], [], [], [], [], ['x'])).recent([0], np.array([1]), 2)


@pytest.mark.parametrize('name', ['recent', 'uniform', 'multi_hop'])
def test_bad_questions_are_refused_by_name(name):
    ix = NeighborIndex(random_events(0))
    f = {'recent': ix.recent, 'uniform': ix.uniform, 'multi_hop': lambda n, t, k: multi_hop(ix, n, t, k, 2)}[name]
    one, now = np.array([0]), np.array([5])
    bad = [(one, now.astype(float)), (one, np.array([np.nan])), (one, now.astype(np.int32)),
           (one, now.astype('M8[ns]')), (one, np.array(['NaT'], 'M8[ns]')),
           (one, np.array([np.iinfo(np.int64).min])), (one.astype(float), now), (one.astype(bool), now),
           (np.array([6]), now), (np.array([-1]), now), (np.array([0, 1]), now), (one[:, None], now[:, None]),
           (np.array(['A']), now)]
    for nodes, times in bad:
        with pytest.raises(BadData, match=name): f(nodes, times, 2)
    for k in (0, -1, 2., True, None):
        with pytest.raises(BadParams, match=f'{name}: k='): f(one, now, k)
    assert f(one.astype(np.uint8), now, 2) is not None


def test_bad_parameters_are_refused_by_name():
    ix, q = NeighborIndex(random_events(0)), (np.array([0]), np.array([5]), 2)
    for seed in (-1, 1., True, None):
        with pytest.raises(BadParams, match='seed='): ix.uniform(*q, seed)
    for kw in (dict(hops=0), dict(hops=1, how='last'), dict(hops=True), dict(hops=1, how='uniform', seed=-1)):
        with pytest.raises(BadParams): multi_hop(ix, *q, **kw)


# ---- batches

@given(seed=SEED, size=st.integers(1, 50), whole=st.booleans())
@FEW
def test_slices_cover_every_event_once(seed, size, whole):
    t = np.sort(np.random.default_rng(seed).integers(0, 9, 60))
    s = slices(t, size, whole)
    assert s[0][0] == 0 and s[-1][1] == 60 and all(a[1] == b[0] for a, b in zip(s, s[1:])) and all(b > a for a, b in s)
    if whole: assert all(t[b - 1] < t[b] for _, b in s[:-1]) and all(t[min(a + size, b) - 1] == t[b - 1] for a, b in s)
    else: assert all(b - a == size for a, b in s[:-1])


@given(seed=SEED, size=st.integers(1, 50), n=st.integers(3, 8))
@FEW
def test_false_partners_are_no_ends_and_do_not_depend_on_the_batch(seed, size, n):
    g = random_events(seed, n=n)
    whole = false_partners(g, 0, len(g), 6, seed)
    parts = [b.neg_dst for b in batches(g, size, negatives=6, seed=seed)]
    assert np.array_equal(np.concatenate(parts), whole) and whole.min() >= 0 and whole.max() < n
    assert not ((whole == g.src[:, None]) | (whole == g.dst[:, None])).any()
    pool = np.array([0, 1, n - 1])
    assert np.isin(false_partners(g, 0, len(g), 6, seed, pool), pool).all()


def test_false_partners_are_uniform_over_the_others():
    g = make_events(np.zeros(6000, int), np.ones(6000, int), np.arange(6000), np.zeros((6000, 1)), list('ABCDEF'),
                    ['x'])
    seen = np.bincount(false_partners(g, 0, 6000, 2, seed=3).ravel(), minlength=6)
    assert seen[:2].tolist() == [0, 0] and ((seen[2:] - 3000)**2 / 3000).sum() < 16
    with pytest.raises(BadData, match='pool'): false_partners(g, 0, 5, 1, pool=[0, 9, 1])


@pytest.mark.parametrize('ratio', [0., .5, 1., 3.])
def test_batches_of_pyg_ask_strictly_before(ratio):
    loader = pytest.importorskip('torch_geometric.loader')
    g = correlation_events(toy_bars(n=6, t=80), window=20, top=2, every=3)
    ix = NeighborIndex(g, both_ways=True)
    seen = 0
    for b in loader.TemporalDataLoader(to_temporal_data(g), batch_size=32, neg_sampling_ratio=ratio):
        for asof in ('event', 'batch'):
            nodes, times = batch_queries(b, asof)
            assert (len(nodes) == 2 * len(b.src) + round(ratio * len(b.src))
                    and set(nodes.tolist()) == set(b.n_id.tolist()))
            got = ix.recent(nodes, times, 6)
            assert (got.t < times[:, None])[got.mask].all() and (asof == 'event' or (times == int(b.t[0])).all())
            assert all(past(g, q, t, both=True)[-6:][::-1] == e[m].tolist()
                       for q, t, e, m in zip(nodes, times, got.event, got.mask))
            seen += got.mask.sum()
    assert seen


def test_pyg_times_that_lost_their_nanoseconds_are_refused():
    pytest.importorskip('torch_geometric')
    d = to_temporal_data(random_events(0))
    d.t = d.t.float()
    with pytest.raises(BadData, match='float32'): batch_queries(d)


@given(seed=SEED, k=st.integers(2, 6))
@settings(max_examples=10, deadline=None)
def test_recent_equals_last_neighbor_loader(seed, k):
    """As sets of edges, as of every batch's first instant;
    nobody has more than k contacts in a batch, beyond which the table is not the last k"""
    torch = pytest.importorskip('torch')
    pyg = pytest.importorskip('torch_geometric.nn.models.tgn')
    rng = np.random.default_rng(seed)
    src = rng.integers(0, 9, 90)
    g = make_events(src, (src + rng.integers(1, 9, 90)) % 9, np.arange(90), np.zeros((90, 1)), list('ABCDEFGHI'), ['x'])
    ix, table = NeighborIndex(g, both_ways=True), pyg.LastNeighborLoader(9, size=k)
    for b in batches(g, k):
        n_id = np.unique(np.r_[b.src, b.dst])
        ours, theirs = local_graph(n_id, ix.recent(n_id, np.full(len(n_id), b.t[0]), k)), table(torch.from_numpy(n_id))
        edges = [set(zip(*n[e].tolist(), i.tolist())) for n, e, i in (ours, theirs)]
        assert edges[0] == edges[1] and torch.equal(ours[0], theirs[0])
        table.insert(torch.from_numpy(b.src), torch.from_numpy(b.dst))
