"Two rivals of attention, a mixer and a memory: strict in time, indifferent to names, defined where little is known"
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadParams, toy_bars
from gnn_quant.features.registry import make_features
from gnn_quant.data.target import make_target
from gnn_quant.data.events import correlation_events, make_events
from gnn_quant.models.graphmixer import FixedTime, GraphMixer, LinkEncoder, MixerLinks, mean_of
from gnn_quant.linkpred.train import LinkNet, LinkSchedule, fit_links, train_batch
from gnn_quant.linkpred.data import make_link_task, toy_contacts
from gnn_quant.models.tgn import MemoryLinks, NodeMemory, TGN, rounds
from gnn_quant.training.loop import Schedule

FEW = settings(max_examples=15, deadline=None)
SECOND = 10**9
ENCODERS = dict(mixer=lambda n: MixerLinks(8, 3, 6, 1, 0.), memory=lambda n: MemoryLinks(n, 8, 3, 2, 6, 0.))
PANELS = (GraphMixer, TGN)


def stream(seed, n=5, e=30, span=12):
    "Random letters with many simultaneous ones, both ways, in seconds"
    rng = np.random.default_rng(seed)
    a = rng.integers(0, n, e)
    b = (a + rng.integers(1, n, e)) % n
    t = np.sort(rng.integers(1, span, e)).astype(np.int64) * SECOND
    return a, b, t, make_events(np.r_[a, b], np.r_[b, a], np.r_[t, t], np.zeros((2 * e, 0)),
                                [f'S{i}' for i in range(n)], [])


def encoder(kind, n, graph, seen):
    "A fresh encoder with fixed weights that has listened to a graph and observed contacts in batches of four"
    torch.manual_seed(0)
    enc = ENCODERS[kind](n).eval()
    enc.listen(graph)
    for i in range(0, len(seen[0]), 4): enc.observe(*(x[i:i + 4] for x in seen))
    return enc


@pytest.mark.parametrize('kind', ENCODERS)
@FEW
@given(seed=st.integers(0, 999), cut=st.integers(2, 12))
def test_what_happens_at_the_question_or_later_changes_nothing(kind, seed, cut):
    a, b, t, whole = stream(seed)
    early = t < cut * SECOND
    past = make_events(*(np.r_[p, q]
                         for p, q in ((a[early], b[early]), (b[early], a[early]), (t[early], t[early]))),
                       np.zeros((2 * early.sum(), 0)), whole.symbols, [])
    upto = t <= cut * SECOND
    ask = np.arange(5), np.full(5, cut * SECOND)
    with torch.no_grad():
        full = encoder(kind, 5, whole, (a[upto], b[upto], t[upto])).embed(*ask)
        short = encoder(kind, 5, past, (a[early], b[early], t[early])).embed(*ask)
    assert torch.allclose(full, short, atol=1e-6)


@pytest.mark.parametrize('kind', ENCODERS)
def test_an_answer_depends_on_no_other_question(kind):
    a, b, t, graph = stream(3)
    enc = encoder(kind, 5, graph, (a, b, t))
    when = np.full(5, t[-1] + SECOND)
    with torch.no_grad():
        together = enc.embed(np.arange(5), when)
        alone = torch.cat([enc.embed(np.array([i]), when[:1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-6) and together.std(0).max() > 1e-3


def test_the_memory_sees_what_the_mixer_cannot():
    "Equal rhythms, different company"
    t = np.arange(1, 7, dtype=np.int64) * SECOND
    a, b = np.array([0, 1, 0, 1, 2, 0]), np.array([2, 3, 2, 3, 4, 4])
    graph = make_events(np.r_[a, b], np.r_[b, a], np.r_[t, t], np.zeros((12, 0)), list('abcde'), [])
    ask = np.array([2, 3]), np.full(2, 9 * SECOND)
    enc = encoder('memory', 5, graph, (a, b, t))
    with torch.no_grad(): assert not torch.allclose(*enc.embed(*ask), atol=1e-4)


def test_the_gradient_of_the_next_batch_reaches_the_cell():
    task = make_link_task(toy_contacts())
    net = LinkNet(MemoryLinks(len(task.events.symbols), 8, 3, 2, 6, 0.))
    net.encoder.listen(task.graph('train'))
    opt = torch.optim.SGD(net.parameters(), lr=0.)
    edges = [x.astype(np.int64) for x in task.edges('train')]
    for rows in (slice(0, 20), slice(20, 40)):
        train_batch(net, opt, edges[0][rows], edges[1][rows], edges[1][rows][::-1].copy(), edges[2][rows])
    assert net.encoder.store.cell.weight_ih.grad.abs().sum() > 0


@pytest.mark.parametrize('kind', ENCODERS)
def test_training_repeats_and_an_interrupted_one_resumes(kind, tmp_path):
    task = make_link_task(toy_contacts())
    make = lambda: ENCODERS[kind](len(task.events.symbols))
    fit = lambda epochs, file=None: fit_links(make, task, LinkSchedule(epochs=epochs, patience=9, lr=1e-3), file,
                                              seed=1)
    whole = fit(2)
    stopped = tmp_path / 'a.pt'
    class Stop(Exception): pass
    import gnn_quant.linkpred.train as link
    real, calls = link._epoch, []
    def once(*a):
        calls.append(1)
        if len(calls) > 1: raise Stop
        return real(*a)
    link._epoch = once
    try:
        with pytest.raises(Stop): fit(2, stopped)
    finally: link._epoch = real
    again = fit(2, stopped)
    assert again.history.equals(whole.history)
    assert all(torch.equal(v, again.net.state_dict()[k]) for k, v in whole.net.state_dict().items())


@FEW
@given(seed=st.integers(0, 999), size=st.integers(2, 30))
def test_a_memory_told_in_one_batch_or_in_many_is_one_memory(seed, size):
    a, b, t, _ = stream(seed)
    stores = []
    for step in (1, size):
        torch.manual_seed(0)
        m = NodeMemory(5, 4, 0, FixedTime(2))
        for i in range(0, len(t), step):
            m.observe(*(torch.from_numpy(x[i:i + step]) for x in (a, b)), torch.from_numpy(t[i:i + step] / SECOND),
                      torch.zeros(len(t[i:i + step]), 0))
        stores.append(m.at(torch.arange(5), torch.full((5,), 99., dtype=torch.float64)).detach())
    assert torch.allclose(*stores, atol=1e-6) and stores[0].abs().max() > 1e-3


@FEW
@given(seed=st.integers(0, 999))
def test_rounds_keep_every_event_once_and_each_node_in_order(seed):
    a, b, t, _ = stream(seed)
    r = rounds(a.tolist(), b.tolist(), t.tolist())
    level = {i: k for k, rows in enumerate(r) for i in rows}
    assert sorted(level) == list(range(len(t)))
    for i in range(len(t)):
        for j in range(i):
            if {a[i], b[i]} & {a[j], b[j]}: assert level[j] < level[i] if t[j] < t[i] else level[j] <= level[i]


def test_a_memory_asked_at_the_instant_of_an_event_does_not_know_it():
    m, at = NodeMemory(2, 4, 0, FixedTime(2)), lambda t: torch.tensor([t], dtype=torch.float64)
    m.observe(torch.tensor([0]), torch.tensor([1]), at(5.), torch.zeros(1, 0))
    assert m.at(torch.tensor([0]), at(5.)).abs().sum() == 0 < m.at(torch.tensor([0]), at(5.001)).abs().sum()


def test_mean_of_is_the_mean():
    g = torch.Generator().manual_seed(0)
    h, nbr, mask = (torch.randn(7, 3, generator=g), torch.randint(0, 7, (5, 4), generator=g),
                    torch.rand(5, 4, generator=g) > .4)
    want = torch.stack([h[nbr[i][mask[i]]].mean(0) if mask[i].any() else torch.zeros(3) for i in range(5)])
    assert torch.allclose(mean_of(h, nbr, mask), want, atol=1e-6)


# ---- panels

def market(n=6, t=200, seed=0):
    bars = toy_bars(n=n, t=t, seed=seed)
    x = make_features(bars, ['ret_1', 'ret_5', 'vol_20'])
    return bars, x, correlation_events(bars, window=20, top=2), make_target(bars, horizon=2)


def fitted(kind, x, events, y, **kw):
    how = dict(width=8, neighbors=2, schedule=Schedule(epochs=2, batch_rows=16), **kw)
    return kind(**how).fit(x, events, y, x.index[30:120], x.index[125:150])


@pytest.mark.parametrize('kind', PANELS)
def test_names_in_another_order_get_the_same_scores(kind):
    _, x, events, y = market()
    m = fitted(kind, x, events, y)
    rows, names = x.index[160:170], list(events.symbols)
    order = [3, 0, 5, 1, 4, 2]
    new = [names[i] for i in order]
    place = np.argsort(order)
    moved = make_events(place[events.src], place[events.dst], events.t, events.msg, new, events.fields)
    x2 = pd.concat({f: x[f][new] for f in x.columns.unique(0)}, axis=1, names=x.columns.names)
    a, b = m.predict(x, events, rows), m.predict(x2, moved, rows)[names]
    assert np.allclose(a, b, atol=1e-5) and a.std(axis=1).min() > 0


@pytest.mark.parametrize('kind', PANELS)
def test_no_edges_gaps_and_late_listings_are_defined(kind):
    _, x, events, y = market()
    m = fitted(kind, x, events, y)
    nobody = make_events([], [], [], [], events.symbols, events.fields)
    gone = x.copy()
    gone.loc[x.index[160]:, pd.IndexSlice[:, 'BBB']] = np.nan
    s = m.predict(gone, nobody, x.index[155:165])
    assert s['BBB'].isna().tolist() == [False] * 5 + [True] * 5 and s.drop(columns='BBB').notna().all(axis=None)
    assert fitted(kind, x, nobody, y).predict(x, nobody, x.index[155:165]).notna().all(axis=None)


@pytest.mark.parametrize('kind', PANELS)
def test_scores_do_not_depend_on_the_rows_asked_with_them(kind):
    _, x, events, y = market()
    m = fitted(kind, x, events, y)
    many = m.predict(x, events, x.index[150:190])
    assert np.allclose(many.loc[x.index[170:171]], m.predict(x, events, x.index[170:171]), atol=1e-6)


@pytest.mark.parametrize('kind', PANELS)
def test_the_same_seed_gives_the_same_bits(kind):
    _, x, events, y = market()
    rows = x.index[160:170]
    a, b, c = (fitted(kind, x, events, y, seed=s).predict(x, events, rows) for s in (1, 1, 2))
    assert a.equals(b) and not a.equals(c)


def test_the_memory_is_bounded():
    "What happened more rows ago than the window cannot be told from what did not happen"
    _, x, events, y = market()
    m = fitted(TGN, x, events, y, window=3)
    row = x.index[160]
    old, near = x.copy(), x.copy()
    old.loc[:x.index[157]] += .3
    near.loc[x.index[158]] += .3
    base = m.predict(x, events, x.index[160:161])
    assert (base.equals(m.predict(old, events, x.index[160:161]))
            and not base.equals(m.predict(near, events, x.index[160:161])))
    assert base.index[0] == row


def test_nonsense_is_refused():
    for call in (lambda: FixedTime(0), lambda: GraphMixer(blocks=0), lambda: GraphMixer(neighbors=0),
                 lambda: TGN(time_dim=0), lambda: TGN(window=0), lambda: NodeMemory(0, 4, 0, FixedTime(2)),
                 lambda: GraphMixer(attention=1)):
        with pytest.raises(BadParams): call()


def test_an_empty_slot_is_never_read():
    torch.manual_seed(0)
    enc = LinkEncoder(2, 3, 8, FixedTime(4)).eval()
    age, msg, mask = torch.rand(4, 3), torch.randn(4, 3, 2), torch.rand(4, 3) > .5
    other = enc(torch.where(mask, age, age + 7), torch.where(mask.unsqueeze(-1), msg, msg - 3), mask)
    assert torch.equal(enc(age, msg, mask), other)
