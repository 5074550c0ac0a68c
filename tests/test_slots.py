"Slots for each relation: the look-up against brute force, one relation as before, and what models make of several"
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings, strategies as st
from gnn_quant.core import BadData, BadParams, CheckpointMismatch, instants, toy_symbols
from gnn_quant.evidence import leaderboard as ladder
from gnn_quant.data.target import Target
from gnn_quant.data.events import Events, make_events, merge, take
from gnn_quant.graph.sampling.neighbors import NeighborIndex, multi_hop
from gnn_quant.graph.relations import of_type, relation_types, typed
from gnn_quant.graph.sampling.per_relation import SlotIndex, slot_types
from gnn_quant.models import graphmixer, inspect as look, panel
from gnn_quant.models import tgn as memory
from gnn_quant.models import gnn as static_graph
from gnn_quant.models.panel import Panel, Wiring
from gnn_quant.models.panel_net import with_mask
from gnn_quant.training.task import Scaler, rank_ic
from gnn_quant.models.tgat import TGATNet
from gnn_quant.training.walk_forward import Fold, run_fold
from gnn_quant.models.registry import make_model

DAY = 86_400 * 10**9
FEW = settings(max_examples=25, deadline=None)
SEED = st.integers(0, 10**6)
K = st.integers(1, 6)
FIELDS = ('corr', 'is_a', 'is_b', 'is_c')


def mixture(seed, n=5, e=60, kinds=(0, 1, 2, 3), span=12):
    "Events of several relations (0 = no mark) at few instants, with duplicates; the last node is told nothing"
    rng = np.random.default_rng(seed)
    dst = rng.integers(0, max(n - 1, 1), e)
    src = (dst + rng.integers(1, n, e)) % n
    src, dst = np.r_[src, src[:e // 5]], np.r_[dst, dst[:e // 5]]
    t, kind = np.sort(rng.integers(0, span, len(src))).astype(np.int64), rng.choice(kinds, len(src))
    msg = np.c_[rng.normal(size=len(src)), *(kind == i for i in (1, 2, 3))]
    return make_events(src, dst, t, msg, toy_symbols(n), FIELDS), rng


def queries(rng, n=5, q=40, span=14): return rng.integers(0, n, q), rng.integers(-1, span, q).astype(np.int64)


def brute(e, types, node, now, k):
    "Positions of the last k events of each relation strictly before now, most recent first; -1 = padding"
    names, kind = relation_types(e)
    rows = [[i for i in range(len(e)) if e.dst[i] == node and e.t[i] < now and names[kind[i]] == r][::-1][:k]
            for r in types]
    return sum((r + [-1] * (k - len(r)) for r in rows), [])


def same(a, b):
    return all(np.array_equal(getattr(a, f), getattr(b, f)) and getattr(a, f).dtype == getattr(b, f).dtype
               for f in ('nbr', 't', 'event', 'mask', 'times'))


# ---- the look-up

@FEW
@given(seed=SEED, k=K, kinds=st.sampled_from([(0, 1, 2, 3), (1, 3), (2,), (0,)]))
def test_the_answer_is_that_of_brute_force(seed, k, kinds):
    e, rng = mixture(seed, kinds=kinds)
    ix, (nodes, times) = SlotIndex(e), queries(rng)
    assert ix.types == (('edge',) if 0 in kinds else ()) + ('a', 'b', 'c')
    f = ix.recent(nodes, times, k)
    want = np.array([brute(e, ix.types, n, t, k) for n, t in zip(nodes, times)])
    assert (np.array_equal(f.event, want) and np.array_equal(f.mask, want >= 0) and (f.age[f.mask] > 0).all()
            and (f.age[~f.mask] == 0).all())
    assert np.array_equal(f.nbr, np.where(want >= 0, e.src[want], -1)) and not f.mask[nodes == 4].any()


@FEW
@given(seed=SEED, k=K)
def test_an_answer_depends_on_no_other_question(seed, k):
    e, rng = mixture(seed)
    ix, (nodes, times) = SlotIndex(e), queries(rng)
    p = rng.permutation(len(nodes))
    for ask in (ix.recent, lambda *q: ix.uniform(*q, seed)):
        whole, other = ask(nodes, times, k), ask(nodes[p], times[p], k)
        assert np.array_equal(whole.event[p], other.event)
        assert all(np.array_equal(whole.event[i], ask(nodes[i:i + 1], times[i:i + 1], k).event[0])
                   for i in range(0, 40, 9))


@FEW
@given(seed=SEED, k=K)
def test_the_slots_of_a_relation_are_the_look_up_in_its_events_alone(seed, k):
    e, rng = mixture(seed)
    ix, ask = SlotIndex(e), queries(rng)
    f, (names, kind) = ix.recent(*ask, k), relation_types(e)
    for i, r in enumerate(ix.types):
        alone, at = NeighborIndex(of_type(e, r)).recent(*ask, k), slice(i * k, (i + 1) * k)
        where = np.r_[np.flatnonzero(kind == names.index(r)), -1]
        assert (ix.relations(k)[at] == r).all() and np.array_equal(f.event[:, at], where[alone.event])
        assert all(np.array_equal(getattr(f, c)[:, at], getattr(alone, c)) for c in ('nbr', 't', 'mask'))


@FEW
@given(seed=SEED, k=K, kind=st.sampled_from(['edge', 'a']))
def test_with_one_relation_nothing_changes(seed, k, kind):
    e, rng = mixture(seed, kinds=(0,))
    e = Events(e.src, e.dst, e.t, e.msg[:, :1], e.symbols, ('corr',))
    e = e if kind == 'edge' else typed(e, kind)
    a, b, ask = SlotIndex(e), NeighborIndex(e), queries(rng)
    assert (a.types == (kind,) and same(a.recent(*ask, k), b.recent(*ask, k))
            and same(a.uniform(*ask, k, seed), b.uniform(*ask, k, seed)))
    for how in ('recent', 'uniform'):
        x, y = (multi_hop(i, *ask, k, 2, how, seed) for i in (a, b))
        assert (all(same(p.found, q.found) and np.array_equal(p.nbr, q.nbr) for p, q in zip(x.rings, y.rings))
                and np.array_equal(x.nodes, y.nodes))


@FEW
@given(seed=SEED)
def test_simultaneous_events_keep_their_order_within_a_relation_and_none_across(seed):
    e, rng = mixture(seed)
    _, kind = relation_types(e)
    by_kind = take(e, np.arange(len(e)))
    order = np.lexsort((kind, e.t))
    by_kind = Events(e.src[order], e.dst[order], e.t[order], e.msg[order], e.symbols, e.fields)
    ask = queries(rng)
    a, b = SlotIndex(e).recent(*ask, 3), SlotIndex(by_kind).recent(*ask, 3)
    assert (np.array_equal(a.nbr, b.nbr) and np.array_equal(a.t, b.t)
            and np.array_equal(a.event, np.r_[order, -1][b.event]))


@FEW
@given(seed=SEED, cut=st.integers(0, 60))
def test_a_graph_that_grows_is_the_graph_built_at_once(seed, cut):
    e, rng = mixture(seed)
    types, ask = slot_types(e), queries(rng)
    grown = SlotIndex(take(e, slice(0, cut)), types)
    for part in (slice(cut, cut + 5), slice(cut + 5, None)): grown.append(take(e, part))
    assert (len(grown) == len(e) and same(grown.recent(*ask, 4), SlotIndex(e, types).recent(*ask, 4))
            and same(grown.uniform(*ask, 2, 7), SlotIndex(e, types).uniform(*ask, 2, 7)))


@FEW
@given(seed=SEED, k=K)
def test_uniform_draws_earlier_events_of_each_relation_without_repetition(seed, k):
    e, rng = mixture(seed)
    ix, (nodes, times) = SlotIndex(e), queries(rng)
    f = ix.uniform(nodes, times, k, seed)
    for i, r in enumerate(ix.types):
        for n, t, got in zip(nodes, times, f.event[:, i * k:(i + 1) * k]):
            there, got = set(brute(e, (r,), n, t, len(e))) - {-1}, got[got >= 0].tolist()
            assert (set(got) <= there and len(set(got)) == len(got) == min(k, len(there))
                    and got == sorted(got, reverse=True))


def test_uniform_is_uniform_in_each_relation():
    n, c = 2000, 6
    dst = np.tile(np.arange(1, n), 2 * c)
    one = lambda name: typed(make_events(np.zeros(c * (n - 1), int), np.tile(np.arange(1, n), c),
                                         np.repeat(np.arange(c), n - 1), np.zeros((c * (n - 1), 0)), toy_symbols(n),
                                         []), name)
    ix = SlotIndex(merge(one('a'), one('b')))
    f = ix.uniform(np.arange(1, n), np.full(n - 1, 99), 2, 5)
    for i in range(2):
        share = np.bincount(f.t[:, 2 * i:2 * i + 2].ravel(), minlength=c) / (2 * (n - 1))
        assert np.abs(share - 1 / c).max() < 4 * np.sqrt(1 / c * (1 - 1 / c) / (2 * n))
    assert np.corrcoef(f.t[:, 0], f.t[:, 2])[0, 1] < .1


@pytest.mark.parametrize('n', [1, 3])
def test_nothing_to_tell(n):
    e = make_events([], [], [], [], toy_symbols(n), FIELDS)
    ix = SlotIndex(e)
    f = ix.recent(np.arange(n), np.full(n, 5), 2)
    assert (len(ix) == 0 and ix.types == ('a', 'b', 'c') and f.nbr.shape == (n, 6) and not f.mask.any()
            and (f.nbr == -1).all() and (f.t == 5).all())
    assert ix.recent(np.zeros(0, int), np.zeros(0, np.int64), 2).event.shape == (0, 6)
    assert (
        SlotIndex(make_events([], [], [], [], toy_symbols(n), [])).recent(np.arange(n), np.full(n, 5), 2).nbr.shape
        == (n, 2))


def test_which_relations_have_slots_does_not_depend_on_the_future():
    e, _ = mixture(0, kinds=(1, 2))
    late = make_events([0], [1], np.array([40 * DAY]), [[0.] * 4], e.symbols, FIELDS)
    both = merge(e, late)
    assert (slot_types(both, pd.Timestamp('1970-02-09')) == slot_types(e) == ('a', 'b', 'c')
            and slot_types(both, pd.Timestamp('1970-02-10')) == ('edge', 'a', 'b', 'c'))
    with pytest.raises(BadData, match='event 72 is of relation edge'): SlotIndex(both, slot_types(e))


def test_refusals():
    e, _ = mixture(1)
    ix = SlotIndex(e)
    with pytest.raises(BadData, match="relation edge .* slots are for a, b"): SlotIndex(e, ('a', 'b'))
    with pytest.raises(BadParams, match='once'): SlotIndex(e, ('a', 'a'))
    with pytest.raises(BadParams, match='k=0'): ix.recent(np.array([0]), np.array([5]), 0)
    with pytest.raises(BadData, match='node 5 in query 0, nodes are 0 .. 4'): ix.recent(np.array([5]), np.array([5]), 1)
    with pytest.raises(BadData, match='NaT'): ix.uniform(np.array([0]), np.array([np.iinfo(np.int64).min]), 1)
    with pytest.raises(BadData, match='float'): ix.recent(np.array([0]), np.array([5.]), 1)
    with pytest.raises(BadData, match='other symbols'):
        ix.append(make_events([0], [1], [99], np.zeros((1, 4)), list('abcde'), FIELDS))
    with pytest.raises(BadData, match='order of time'):
        ix.append(make_events([0], [1], [-9], np.zeros((1, 4)), e.symbols, FIELDS))
    with pytest.raises(BadData, match='relation new'):
        ix.append(make_events([0], [1], [99], [[1.]], e.symbols, ['is_new']))
    assert len(ix) == len(e)


# ---- models

SMALL = dict(layers=1, width=8, neighbors=3, schedule=dict(epochs=1, batch_rows=16))
BOTH = pytest.mark.parametrize('name', ['tgat', 'rewired', 'graphmixer', 'tgn', 'gatv2', 'rgcn'])
HOW = dict(tgat=[{}, dict(layers=2, neighbor_time='event'), dict(layers=2, sampling='uniform'),
                 dict(neighbor_time='event', sampling='uniform')], rewired=[{}], graphmixer=[{}], tgn=[{}],
           gatv2=[{}], rgcn=[{}])


def market(kinds=(1, 2), n=6, t=60, seed=0):
    "SIMULATED: noise, and a graph told at the closes of some rows"
    e, rng = mixture(seed, n, 150, kinds, t)
    idx = pd.bdate_range('2020-01-01', periods=t, name='date')
    frame = lambda v: pd.DataFrame(v, idx, pd.Index(e.symbols, name='symbol'))
    x = pd.concat({k: frame(rng.normal(size=(t, n))) for k in 'ab'}, axis=1, names=['feature', 'symbol'])
    return (x, Events(e.src, e.dst, instants(idx)[e.t], e.msg, e.symbols, e.fields),
            Target(frame(rng.normal(size=(t, n))), 1), idx)


def fitted(name, data, **p):
    x, e, y, idx = data
    p = SMALL | p
    return (
        make_model(name, **{k: v for k, v in p.items() if k != 'layers' or name not in ('graphmixer', 'tgn')}).fit(
            x, e, y, idx[:36], idx[44:54]))


@BOTH
def test_one_relation_gives_the_scores_of_the_plain_look_up_to_the_bit(name, monkeypatch):
    x, e, y, idx = market(kinds=(1,))
    e = typed(Events(e.src, e.dst, e.t, e.msg[:, :1], e.symbols, ('corr',)), 'a')
    ours = [fitted(name, (x, e, y, idx), **p).predict(x, e, idx) for p in HOW[name]]
    class Plain(NeighborIndex):
        types = 'a',
        def __init__(self, events, types=()): super().__init__(events)
    for m in (panel, graphmixer, memory, static_graph): monkeypatch.setattr(m, 'SlotIndex', Plain)
    assert all(a.equals(fitted(name, (x, e, y, idx), **p).predict(x, e, idx)) for a, p in zip(ours, HOW[name]))


def recursion(net, x, clock, e, types, scale, who, when, layer, k, mode):
    "TGAT as it is written, neighbours by brute force, relation by relation"
    if layer == 0:
        row = np.searchsorted(clock, when, side='right') - 1
        return net.encode(with_mask(torch.from_numpy(np.where(row[:, None] >= 0, x[row, who], np.float32(np.nan)))))
    at = np.array([brute(e, types, n, t, k) for n, t in zip(who, when)])
    mask, there = torch.from_numpy(at >= 0), np.where(at >= 0, e.src[at], who[:, None])
    then = np.where(at >= 0, e.t[at], when[:, None]) if mode == 'event' else np.repeat(when[:, None], at.shape[1], 1)
    deeper = lambda w, t: recursion(net, x, clock, e, types, scale, w, t, layer - 1, k, mode)
    own, h = deeper(who, when), deeper(there.ravel(), then.ravel()).view(len(who), at.shape[1], -1)
    days = torch.from_numpy(np.where(at >= 0, (when[:, None] - e.t[at]) / DAY, 0).astype(np.float32))
    z, part = torch.cat([h, torch.from_numpy(scale(e.msg)[at]), net.time(days)], -1), net.layers[layer - 1]
    said = part.attention(torch.cat([own, net.time(torch.zeros(len(who)))], -1), z, mask)
    return part.merge(torch.cat([said, own], -1))


@pytest.mark.parametrize('mode', ['query', 'event'])
def test_two_layers_over_three_relations_are_the_recursion_as_written(mode):
    x, e, y, idx = market((0, 1, 2))
    e = Events(e.src, e.dst, e.t, e.msg[:, :3], e.symbols, e.fields[:3])
    scale, msg, rows = Scaler(np.zeros(2, np.float32), np.ones(2, np.float32)), Scaler.fit(e.msg), np.array([3, 20, 41])
    torch.manual_seed(0)
    net = TGATNet(2, 3, layers=2, width=8, heads=2, time_dim=4, dropout=0.).eval()
    p = Panel(x, scale, Wiring(e, msg, 2, 2, mode), 2)
    who, when = np.tile(np.arange(6), 3), np.repeat(instants(idx)[rows] + 1, 6)
    ours, want = net(*p.batch(rows)), net.score(recursion(net, p.x.numpy(), instants(idx), e, ('edge', 'a', 'b'),
                                                          msg, who, when, 2, 2, mode))
    assert (ours - want).abs().max() < 1e-5
    for a, b in zip(*(torch.autograd.grad(o.sum(), list(net.parameters())) for o in (ours, want))):
        assert (a - b).abs().max() < 1e-5 * max(1, b.abs().max())


@pytest.mark.parametrize('how', [dict(), dict(layers=2), dict(layers=2, neighbor_time='event'),
                                 dict(layers=2, neighbor_time='event', sampling='uniform')])
def test_leaving_out_empty_slots_changes_no_bit_of_a_score(how, monkeypatch):
    data = x, e, y, idx = market((1, 2))
    sparse = take(e, (relation_types(e)[1] == 1) | (np.arange(len(e)) % 20 == 0))
    m = fitted('tgat', (x, sparse, y, idx), **how)
    widths = {len(h.mask.T) for r in range(0, 60, 7) for h in m._panel(x, sparse).batch(np.array([r]))[1]}
    lean = m.predict(x, sparse, idx)
    m._kept = None
    monkeypatch.setattr(panel, 'filled', lambda *a: a)
    assert (m.predict(x, sparse, idx).equals(lean)
            and {len(h.mask.T) for h in m._panel(x, sparse).batch(np.arange(60))[1]} == {9} and min(widths) < 6)
    monkeypatch.undo()
    plain = Wiring(sparse, m.msg_scale, 3, 1, types=m.types)
    assert plain.asked(np.arange(6), np.full(6, instants(idx)[1]))[0][0][2].nbr.shape == (6, 9)


@BOTH
def test_what_is_told_at_the_close_counts_and_what_is_told_later_does_not(name):
    data = x, e, y, idx = market()
    row, news = idx[56], lambda stamp, kind, src: merge(
        e, make_events([src], [3], np.array([stamp]), [[9., *(kind == i for i in (1, 2, 3))]], e.symbols, e.fields))
    m, t = fitted(name, data), instants(idx)[56]
    if name == 'rewired': m = fitted('tgat', data)
    old = m.predict(x, e, idx[[56]])
    moved = lambda stamp, kind: [not m.predict(x, news(stamp, kind, src), idx[[56]])['DDD'].equals(old['DDD'])
                                 for src in (0, 1, 2, 4, 5)]
    # R-GCN hears a name that it has already heard as the same mean
    for kind in (1, 2): assert not any(moved(t + 1, kind)) and (any if name == 'rgcn' else all)(moved(t, kind))


@BOTH
def test_the_past_does_not_know_which_relations_will_be_told_later(name):
    x, e, y, idx = market((1, 2, 3))
    _, kind = relation_types(e)
    cut = instants(idx)[54]
    early, late = kind != 3, e.t > cut
    whole = take(e, early | late)
    past = take(whole, whole.t <= cut)
    a, b = (fitted(name, (x, g, y, idx)) for g in (whole, past))
    assert a.types == b.types == ('a', 'b', 'c') and a.predict(x, whole, idx[:54]).equals(b.predict(x, past, idx[:54]))
    fewer = take(whole, relation_types(whole)[1] == 1)
    assert a.predict(x, fewer, idx[54:]).notna().all(axis=None)
    unmarked = merge(whole, make_events([0], [1], instants(idx[[40]]), [[0.] * 4], e.symbols, e.fields))
    with pytest.raises(BadData, match='is of relation edge'): fitted(name, (x, unmarked, y, idx))


@BOTH
def test_a_graph_or_checkpoint_of_other_relations_is_refused(name, tmp_path):
    data = x, e, y, idx = market()
    e = typed(Events(e.src, e.dst, e.t, e.msg[:, :1], e.symbols, ('corr',)), 'a')
    other = Events(e.src, e.dst, e.t, e.msg, e.symbols, ('corr', 'is_z'))
    fold, file = Fold(idx[:36], idx[44:50], idx[52:58]), tmp_path / 'train.pt'
    how = {k: v for k, v in SMALL.items() if k != 'layers' or name not in ('graphmixer', 'tgn')}
    m = make_model(name, **how).fit(x, e, y, fold.train, fold.valid, checkpoint=file)
    with pytest.raises(CheckpointMismatch, match='relations was a, is z'):
        make_model(name, **how).fit(x, other, y, fold.train, fold.valid, checkpoint=file)
    with pytest.raises(BadData, match='fitted on events corr, is_a; got corr, is_z'): m.predict(x, other, idx[52:])
    unmarked = Events(e.src, e.dst, e.t,
                      np.where(np.arange(len(e))[:, None] == len(e) - 1, 0, e.msg).astype(np.float32), e.symbols,
                      e.fields)
    with pytest.raises(BadData, match='is of relation edge .1 such events., the slots are for a'):
        m.predict(x, unmarked, idx[52:])
    run_fold(make_model(name, **how), x, e, y, fold, tmp_path / 'home')
    with pytest.raises(CheckpointMismatch, match='fields was corr, is_a, is corr, is_z'):
        run_fold(make_model(name, **how), x, other, y, fold, tmp_path / 'home')


def test_attention_says_by_which_relation_and_keeps_two_ties_of_one_pair_apart():
    x, e, y, idx = market()
    twice = lambda kind: typed(make_events([1, 2], [0, 0], instants(idx[[10, 10]]), [[0.], [0.]], e.symbols,
                                           ['corr']), kind)
    g = merge(twice('a'), typed(make_events([1], [0], instants(idx[[10]]), [[0.]], e.symbols, ['corr']), 'b'))
    m = fitted('tgat', (x, g, y, idx))
    f = look.attention_table(m, x, g, idx[50], 'AAA', top=None)
    assert (f.groupby('head').relation.value_counts().to_dict()
            == {(h, r): c for h in (1, 2) for r, c in (('a', 2), ('b', 1))}
            and set(f.loc[f.neighbour == 'CCC', 'relation']) == {'a'})
    s = look.silence(m, x, g, idx[50], 'AAA')
    assert (list(zip(s.neighbour, s.relation)) == [('CCC', 'a'), ('BBB', 'a'), ('BBB', 'b')]
            and np.isclose(s.weight.sum(), 1) and (s.change != 0).all())
    p = look.relation_profile(m, x, g, idx[50:52])
    assert (np.allclose(p.sum(), 1) and np.allclose(p.ties, [2 / 3, 1 / 3])
            and len(look.top_edges(m, x, g, idx[50:52])) == 3)
    assert any('BBB, b' in t.get_text() for t in look.plot_attention(f).axes[0].get_yticklabels())
    with pytest.raises(BadData, match='no name had a neighbour'):
        look.relation_profile(m, x, take(g, slice(0, 0)), idx[50:52])
    assert look.silence(m, x, take(g, slice(0, 0)), idx[50], 'AAA').empty


def planted(n=16, t=200, k=2, seed=0):
    """SIMULATED: the label is the mean of two neighbours told once; a second relation joins random names every
    five rows. Own features know about .1 of it: a neighbour is never oneself"""
    rng, idx, names = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=t, name='date'), toy_symbols(n)
    others = lambda: np.array([(i + 1 + rng.choice(n - 1, k, replace=False)) % n for i in range(n)])
    f, told, at = rng.normal(size=(t, n)), others(), np.arange(0, t, 5)
    dst, none = np.repeat(np.arange(n), k), lambda c: np.zeros((c, 0))
    once = typed(make_events(told.ravel(), dst, np.repeat(instants(idx[:1]), n * k), none(n * k), names, []),
                 'supplier')
    noise = typed(make_events(np.concatenate([others().ravel() for _ in at]), np.tile(dst, len(at)),
                              np.repeat(instants(idx[at]), n * k), none(n * k * len(at)), names, []), 'corr')
    frame = lambda v: pd.DataFrame(v, idx, pd.Index(names, name='symbol'))
    return (pd.concat({'f': frame(f)}, axis=1, names=['feature', 'symbol']), merge(noise, once),
            Target(frame(f[:, told].mean(2) + .4 * rng.normal(size=(t, n))), 1), idx)


@pytest.mark.parametrize('name, least', [('tgat', .6), ('graphmixer', .2), ('tgn', .25), ('gatv2', .3), ('rgcn', .6)])
def test_a_relation_told_once_is_heard_beside_one_that_is_told_every_week(name, least):
    x, e, y, idx = planted()
    plain = Events(e.src, e.dst, e.t, e.msg, e.symbols, tuple(f.removeprefix('is_') for f in e.fields))
    ic = {}
    for k, g in dict(slots=e, buried=plain).items():
        m = make_model(name, width=16, neighbors=2, schedule=dict(epochs=15, patience=15, lr=1e-2, batch_rows=16)).fit(
            x, g, y, idx[:120], idx[122:150])
        ic[k] = float(rank_ic(m.predict(x, g, idx[152:]), y.frame).mean())
    assert ic['slots'] > least and ic['slots'] > abs(ic['buried']) + .08, ic


# ---- the ladder

def test_a_mixture_of_kinds_climbs_and_is_refused_without_slots(monkeypatch):
    x, e, y, idx = market((1, 2))
    e = Events(e.src, e.dst, e.t, e.msg[:, :3], e.symbols, ('corr', 'is_peers', 'is_group'))
    task = ladder.LeaderboardTask('toy', x, x, e, y, [Fold(idx[:36], idx[44:50], idx[52:58])])
    rungs = {m: (m, ladder.network_params(m, **SMALL))
             for m in ('tgat', 'rewired', 'edge_free', 'graphmixer', 'tgn', 'gatv2', 'rgcn')}
    done = ladder.run_leaderboard(task, rungs, (0,))
    assert all(s[0].loc[idx[52:58]].notna().all(axis=None) for s in done.scores.values())
    monkeypatch.setattr(graphmixer.GraphMixer, 'by_relation', False)
    with pytest.raises(BadParams, match='graphmixer asks for the most recent events of all kinds together'):
        ladder.run_rung(task, *('graphmixer', rungs['graphmixer'][1]), 0)
