"""What one notebook cannot say of the models:
symmetries of the whole network, strict time, kills, foreign checkpoints, bad input"""
import io, math, os, signal, subprocess, sys
from dataclasses import replace
from pathlib import Path

import numpy as np, pandas as pd, pytest, torch
from gnn_quant.core import BadData, BadParams, CheckpointMismatch, LookAhead, StoreError, instants, peeks, toy_symbols
from gnn_quant.data.target import Target
from gnn_quant.data.events import make_events, take
from gnn_quant.models.layers.attention import TemporalAttention, masked_softmax
from gnn_quant.models.tabular import LightGBM, Ridge
from gnn_quant.models.registry import MODELS, make_model, model_params
from gnn_quant.models.panel import Panel, Wiring
from gnn_quant.models.tgat import TGAT
from gnn_quant.training.loop import Scaler, feature_array, label_ranks, rank_ic, save_checkpoint, load_checkpoint
from gnn_quant.training.walk_forward import Fold, make_folds, run_walk_forward

DAY = 86_400 * 10**9
SMALL = dict(width=8, time_dim=4, neighbors=3, schedule=dict(epochs=3, patience=3, batch_rows=8))


def market(n=5, t=70, seed=0, every=4, strength=1.):
    """Simulated panel: the label is the strongest neighbour's first feature plus noise;
    a random graph is drawn anew every few rows"""
    rng, idx, names = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=t, name='date'), toy_symbols(n)
    f = rng.normal(size=(2, t, n))
    f[1][rng.random((t, n)) < .1] = np.nan
    x = pd.concat({k: pd.DataFrame(v, idx, names) for k, v in zip('ab', f)}, axis=1, names=['feature', 'symbol'])
    stamps = np.repeat(np.arange(0, t, every), n)
    dst = np.tile(np.arange(n), len(stamps) // n)
    src = (dst + rng.integers(1, max(n, 2), len(dst))) % n if n > 1 else dst
    e = make_events(src, dst, instants(idx)[stamps], rng.normal(size=(len(dst), 2)), names, ['corr', 'other'])
    y = Target(pd.DataFrame(strength * np.roll(f[0], 1, axis=1) + rng.normal(size=(t, n)), idx, names), horizon=1)
    return x, e, y, idx


def fitted(x, e, y, idx, **p): return TGAT(**(SMALL | p)).fit(x, e, y, idx[:40], idx[42:52])


@pytest.fixture(scope='module')
def panel(): return market()


@pytest.fixture(scope='module', params=['query', 'event'])
def model(request, panel): return fitted(*panel, neighbor_time=request.param)


def textbook(m, q, z, mask):
    "Every neighbour projected, head by head, question by question"
    out = torch.zeros(len(q), m.heads * m.d_head, dtype=q.dtype)
    for i in range(len(q)):
        real = z[i][mask[i]]
        if not len(real): continue
        for h in range(m.heads):
            part = slice(h * m.d_head, (h + 1) * m.d_head)
            a = ((real @ m.w_k[part].T) @ (m.w_q[part] @ q[i]) / math.sqrt(m.d_head)).softmax(0)
            out[i, part] = a @ (real @ m.w_v[part].T)
    return out


@pytest.mark.parametrize('q,k,dq,dz,heads', [(1, 1, 3, 2, 1), (7, 5, 4, 6, 2), (6, 9, 8, 3, 4)])
def test_folded_attention_is_the_textbook_in_values_and_gradients(q, k, dq, dz, heads):
    g = torch.Generator().manual_seed(q)
    m = TemporalAttention(dq, dz, 8, heads)
    a, z = torch.randn(q, dq, generator=g, requires_grad=True), torch.randn(q, k, dz, generator=g, requires_grad=True)
    mask = torch.rand(q, k, generator=g) > .4
    mask[0] = q == 1
    goal, leaves = torch.randn(q, 8, generator=g), [a, z, m.w_q, m.w_k, m.w_v]
    ours, book = m(a, z, mask), textbook(m, a, z, mask)
    assert (ours - book).abs().max() < 1e-5
    for p, r in zip(torch.autograd.grad((ours * goal).sum(), leaves), torch.autograd.grad((book * goal).sum(), leaves)):
        assert (p - r).abs().max() < 1e-5


@pytest.mark.parametrize('k', [0, 1, 4])
def test_fully_padded_batches_give_zero_and_no_nan(k):
    m = TemporalAttention(3, 2, 4, 2)
    q = torch.randn(5, 3, requires_grad=True)
    out, a = m(q, torch.full((5, k, 2), 1e30), torch.zeros(5, k, dtype=torch.bool), weights=True)
    assert (out == 0).all() and (a == 0).all() and a.shape == (5, 2, k)
    assert all(torch.isfinite(g).all() and (g == 0).all()
               for g in torch.autograd.grad(out.sum(), [q, m.w_q, m.w_k, m.w_v]))


def test_weights_ignore_what_stands_in_the_padding():
    s = torch.tensor([[3., 1e30, -2.]])
    assert torch.equal(masked_softmax(s, torch.tensor([[True, False, True]])),
                       masked_softmax(torch.tensor([[3., -7., -2.]]), torch.tensor([[True, False, True]])))


def naive(net, x, clock, e, scale, node, when, layer, k, mode):
    "The paper's recursion, one question at a time, with a neighbour search by brute force"
    if layer == 0:
        row = np.flatnonzero(clock <= when)
        v = torch.from_numpy(scale[0](x)[row[-1], node]) if len(row) else torch.full((x.shape[-1],), math.nan)
        return net.encode(torch.cat([torch.nan_to_num(v), (~v.isnan()).float()])[None])
    near = [i for i in range(len(e)) if e.dst[i] == node and e.t[i] < when][::-1][:k]
    own = naive(net, x, clock, e, scale, node, when, layer - 1, k, mode)
    z = [torch.cat([naive(net, x, clock, e, scale, int(e.src[i]), int(e.t[i]) if mode == 'event' else when,
                          layer - 1, k, mode)[0], torch.from_numpy(scale[1](e.msg[i])),
                    net.time(torch.tensor((when - e.t[i]) / DAY, dtype=torch.float32))]) for i in near]
    part = net.layers[layer - 1]
    q = torch.cat([own, net.time(torch.zeros(1))], -1)
    said = (part.attention(q, torch.stack(z)[None], torch.ones(1, len(z), dtype=torch.bool)) if z
            else torch.zeros_like(own))
    return part.merge(torch.cat([said, own], -1))


def test_batched_wiring_equals_the_recursion_one_question_at_a_time(model, panel):
    x, e, y, idx = panel
    got, a = model.predict(x, e, idx[[0, 1, 4, 30]]), feature_array(x)
    with torch.no_grad():
        want = [[float(model.net.score(naive(model.net, a, instants(idx), e, (model.scale, model.msg_scale), i,
                                             int(t) + 1, 2, 3, model.how.neighbor_time))) for i in range(5)]
                for t in instants(idx[[0, 1, 4, 30]])]
    assert np.allclose(got, want, atol=1e-5)


def test_relabelled_assets_get_relabelled_scores(model, panel):
    x, e, y, idx = panel
    p = [3, 0, 4, 1, 2]
    where, names = np.argsort(p), [e.symbols[i] for i in p]
    moved = make_events(where[e.src], where[e.dst], e.t, e.msg, names, e.fields)
    columns = pd.MultiIndex.from_product([['a', 'b'], names], names=['feature', 'symbol'])
    a, b = model.predict(x, e, idx), model.predict(x[columns], moved, idx)
    assert list(b.columns) == names and np.allclose(a[names], b, atol=1e-6)


def test_a_score_does_not_depend_on_the_rows_beside_it(model, panel):
    x, e, y, idx = panel
    whole = model.predict(x, e, idx)
    for rows in (idx[[7]], idx[3:20], idx[[2, 33, 69]]):
        assert np.allclose(whole.loc[rows], model.predict(x, e, rows), atol=1e-6)
    cut = idx[25]
    assert model.predict(x.loc[:cut], e.until(cut), idx[:26]).equals(whole.loc[:cut])


def test_an_event_is_visible_from_the_close_it_was_stamped_with(model, panel):
    x, e, y, idx = panel
    t = instants(idx)[20]
    def scores(stamp):
        one = make_events([1], [0], np.array([stamp]), [[9., 9.]], e.symbols, e.fields)
        return model.predict(x, one, idx)['AAA']
    none = model.predict(x, take(e, slice(0, 0)), idx)['AAA']
    at, after = scores(t), scores(t + 1)
    assert at.iloc[:20].equals(none.iloc[:20]) and at.iloc[20] != none.iloc[20]
    assert after.iloc[:21].equals(none.iloc[:21]) and after.iloc[21] != none.iloc[21]


def test_every_batch_that_is_scored_has_one_shape(model, panel, monkeypatch):
    x, e, y, idx = panel
    shapes, forward = set(), type(model.net).forward
    monkeypatch.setattr(type(model.net), 'forward',
                        lambda self, v, hops: shapes.add(len(hops[-1].nbr)) or forward(self, v, hops))
    for rows in (idx[[5]], idx[:9], idx): model.predict(x, e, rows)
    assert shapes == {5 if model.how.neighbor_time == 'event' else model._rows_at_once(x) * 5}


def test_a_ridge_score_has_the_same_bits_alone_and_among_sixty():
    rng, names, idx = np.random.default_rng(0), toy_symbols(5), pd.bdate_range('2020-01-01', periods=200, name='date')
    x = pd.concat({f'f{i}': pd.DataFrame(rng.normal(size=(200, 5)), idx, names) for i in range(18)}, axis=1,
                  names=['feature', 'symbol'])
    m = Ridge().fit(x, None, Target(x['f0'] + x['f1'], 1), idx[:100], idx[102:130])
    whole = m.predict(x, None, idx[140:])
    assert all(m.predict(x, None, idx[[i]]).equals(whole.loc[idx[[i]]]) for i in range(140, 200))


def test_what_is_kept_is_the_best_epoch():
    x, e, y, idx = market(strength=0.)
    m = fitted(x, e, y, idx, schedule=dict(epochs=8, patience=3, batch_rows=8))
    best = m.history.valid_ic.max()
    assert m.history.valid_ic.iloc[-1] < best and len(m.history) < 8
    assert rank_ic(m.predict(x, e, idx[42:52]), y.frame).mean() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize('days', [1, 365, -8_000])
def test_only_gaps_in_time_matter(model, panel, days):
    x, e, y, idx = panel
    later = make_events(e.src, e.dst, e.t + days * DAY, e.msg, e.symbols, e.fields)
    shift = pd.Timedelta(days=days)
    assert np.array_equal(model.predict(x, e, idx), model.predict(x.set_axis(idx + shift), later, idx + shift))


def test_same_seed_same_bits_other_seed_other_bits(panel):
    x, e, y, idx = panel
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    a, b, c = (fitted(*panel, seed=s) for s in (0, 0, 1))
    assert a.predict(x, e, idx).equals(b.predict(x, e, idx)) and a.history.equals(b.history)
    assert not a.predict(x, e, idx).equals(c.predict(x, e, idx))
    assert torch.get_num_threads() == threads and torch.equal(state, torch.get_rng_state())


def test_the_twin_is_the_same_network_with_every_neighbour_masked(panel):
    x, e, y, idx = panel
    a, b = (fitted(*panel, edge_free=f, schedule=dict(epochs=1)) for f in (False, True))
    assert {k: v.shape for k, v in a.net.state_dict().items()} == {k: v.shape for k, v in b.net.state_dict().items()}
    assert all(p.grad is None or (p.grad == 0).all() for k, p in b.net.named_parameters()
               if 'attention' in k or 'time' in k)
    rows = np.arange(10)
    seen, hops = Panel(x, b.scale, Wiring(e, b.msg_scale, 3, 2), 2).batch(rows)
    masked = [replace(h, mask=torch.zeros_like(h.mask)) for h in hops]
    with torch.no_grad(): assert torch.equal(b.net.eval()(seen, masked), b.net(seen, [None, None]))
    assert b.predict(x, e, idx).equals(b.predict(x, take(e, slice(0, 0)), idx))


def test_a_batch_in_parts_has_the_gradient_of_the_batch(model, panel):
    x, e, y, idx = panel
    seen, label, rows = model._panel(x, e), np.array(label_ranks(x, y), dtype=np.float32), np.arange(24)
    model.net.eval()
    loss_of, weights = model._loss_of(seen, label[None]), list(model.net.parameters())
    whole = torch.autograd.grad(loss_of(rows).sum(), weights)
    parts = [torch.autograd.grad(loss_of(r).sum(), weights) for r in np.split(rows, [5, 6, 17])]
    assert (all(torch.allclose(w, sum(p), atol=1e-4, rtol=1e-4) for w, p in zip(whole, zip(*parts)))
            and any((w != 0).any() for w in whole))
    assert TGAT(neighbors=10, max_edges=400)._rows_at_once(x) == 8 and TGAT(max_edges=1)._rows_at_once(x) == 1


def test_five_hundred_names():
    x, e, y, idx = market(n=500, t=30, every=10)
    m = TGAT(neighbors=10, schedule=dict(epochs=1)).fit(x, e, y, idx[:20], idx[22:26])
    assert m.predict(x, e, idx[28:]).notna().all(axis=None)


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import gnn_quant.models.tgat as tgat
from test_models import SMALL, market
kept, calls = tgat.TGAT._verdict, []
def killing(*a):
    verdict = kept(*a)
    def once():
        calls.append(0)
        if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)
        return verdict()
    return once
tgat.TGAT._verdict = killing
x, e, y, idx = market()
tgat.TGAT(**(SMALL | dict(schedule=dict(epochs=5, patience=5)))).fit(x, e, y, idx[:40], idx[42:52], \
checkpoint='killed.pt')
"""


def same(a, b):
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_killed_training_ends_where_the_undisturbed_one_does(tmp_path, panel):
    x, e, y, idx = panel
    child = subprocess.run([sys.executable, '-c', CHILD.format(tests=str(Path(__file__).parent))], cwd=tmp_path,
                           capture_output=True, text=True,
                           env=os.environ | dict(PYTHONPATH=str(Path(__file__).parents[1])))
    assert child.returncode == -signal.SIGKILL, child.stderr[-800:]
    how = dict(schedule=dict(epochs=5, patience=5))
    part = torch.load(io.BytesIO((tmp_path / 'killed.pt').read_bytes().partition(b'\n')[2]), weights_only=True)['state']
    assert len(part['history']) == 2
    a = TGAT(**(SMALL | how)).fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'killed.pt')
    b = TGAT(**(SMALL | how)).fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'whole.pt')
    read = lambda f: torch.load(io.BytesIO((tmp_path / f).read_bytes().partition(b'\n')[2]), weights_only=True)
    assert (same(read('killed.pt'), read('whole.pt'))
            and set(read('whole.pt')['state']) >= {'net', 'opt', 'rng', 'best', 'wait', 'history'})
    assert same(a.net.state_dict(), b.net.state_dict()) and a.history.equals(b.history) and len(a.history) == 5
    assert a.predict(x, e, idx).equals(b.predict(x, e, idx))


@pytest.mark.parametrize(
    'change,says',
    [(dict(width=16), 'width was 8, is 16'), (dict(seed=5), 'seed was 0, is 5'),
     (dict(edge_free=True), 'model was tgat, is edge_free'), (dict(market=dict(n=6)), 'universe was 5 symbols'),
     (dict(market=dict(seed=1)), 'features was 2 features'), (dict(market=dict(every=5)), 'events was'),
     (dict(market=dict(strength=2.)), 'target was')])
def test_a_foreign_checkpoint_is_refused_by_its_difference(tmp_path, panel, change, says):
    path, change = tmp_path / 'a.pt', dict(change)
    data = market(**change.pop('market', {}))
    how = SMALL | dict(schedule=dict(epochs=1, patience=3))
    x, e, y, idx = panel
    TGAT(**how).fit(x, e, y, idx[:40], idx[42:52], checkpoint=path)
    x, e, y, idx = data
    with pytest.raises(CheckpointMismatch, match=says):
        TGAT(**(how | change)).fit(x, e, y, idx[:40], idx[42:52], checkpoint=path)


def test_later_bars_do_not_void_a_checkpoint(tmp_path):
    x, e, y, idx = market()
    a = TGAT(**SMALL).fit(x.loc[:idx[53]], e.until(idx[53]), Target(y.frame.loc[:idx[53]], 1), idx[:40], idx[42:52],
                          checkpoint=tmp_path / 'a.pt')
    stamp = (tmp_path / 'a.pt').stat().st_mtime_ns
    b = TGAT(**SMALL).fit(x, e, y, idx[:40], idx[42:52], checkpoint=tmp_path / 'a.pt')
    assert (tmp_path / 'a.pt').stat().st_mtime_ns == stamp and same(a.net.state_dict(), b.net.state_dict())


@pytest.mark.parametrize('damage', [lambda b: b[:-9], lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], lambda b: b''])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    save_checkpoint(tmp_path / 'a.pt', dict(w=torch.ones(64)), {})
    assert load_checkpoint(tmp_path / 'a.pt', {})['w'].sum() == 64
    (tmp_path / 'a.pt').write_bytes(damage((tmp_path / 'a.pt').read_bytes()))
    with pytest.raises(StoreError, match='damaged'): load_checkpoint(tmp_path / 'a.pt', {})


def quick_of(name):
    "A short training on the features of the panel"
    takes = model_params(name)
    return (dict(schedule=dict(epochs=1)) if 'schedule' in takes else {}) | (
        dict(feature='a') if 'feature' in takes else {})


@pytest.mark.parametrize('name', list(MODELS))
def test_every_model_refuses_what_it_cannot_learn_from(name, panel):
    x, e, y, idx = panel
    fit = lambda x=x, e=e, y=y, train=idx[:40], valid=idx[42:52]: make_model(name, **quick_of(name)).fit(
        x, e, y, train, valid)
    with pytest.raises(BadData, match='no feature is known'): fit(x=x * np.nan)
    with pytest.raises(BadData, match='two known labels'): fit(y=Target(y.frame * np.nan, 1))
    with pytest.raises(BadData, match='not in the features'): fit(train=idx[:40] - pd.Timedelta(days=3))
    with pytest.raises(BadData, match='not sorted'): fit(train=idx[:40][::-1])
    with pytest.raises(LookAhead, match='1 rows between'): fit(train=idx[:41])
    with pytest.raises(LookAhead): fit(train=idx[20:60], valid=idx[:10])
    with pytest.raises(BadData, match='another order'):
        fit(e=make_events(e.src, e.dst, e.t, e.msg, e.symbols[::-1], e.fields))
    with pytest.raises(BadData, match="symbols are not the features'"): fit(y=Target(y.frame.iloc[:, ::-1], 1))
    with pytest.raises(BadParams, match='not fitted'): make_model(name, **quick_of(name)).predict(x, e, idx)
    one = make_events([], [], [], [], ['AAA'], e.fields)
    with pytest.raises(BadData, match='two known labels'):
        fit(x=x.loc[:, pd.IndexSlice[:, ['AAA']]], e=one, y=Target(y.frame[['AAA']], 1))


@pytest.mark.parametrize('name', list(MODELS))
def test_every_model_keeps_the_contract(name, panel):
    x, e, y, idx = panel
    x = x.copy()
    x.loc[idx[60]:, pd.IndexSlice[:, 'CCC']] = np.nan
    quick = quick_of(name)
    m = make_model(name, **quick).fit(x, e, y, idx[:40], idx[42:52])
    s = m.predict(x, e, idx[54:])
    assert m.name == name and list(s.columns) == list(e.symbols) and s.index.equals(idx[54:])
    assert s['CCC'].iloc[6:].isna().all() and s.drop(columns='CCC').notna().all(axis=None)
    assert (list(m.history.columns)[:3] == ['epoch', 'train_loss', 'valid_ic']
            and (name == 'constant' or np.isfinite(m.history).all(axis=None)))
    assert make_model(name, **quick).fit(x, e, y, idx[:40], idx[42:52]).predict(x, e, idx[54:]).equals(s)
    with pytest.raises(BadData, match='fitted on features'):
        m.predict(x.rename(columns=dict(a='z'), level=0), e, idx[54:])


def test_an_empty_graph_is_a_graph(panel):
    x, e, y, idx = panel
    m = fitted(x, take(e, slice(0, 0)), y, idx)
    assert m.predict(x, take(e, slice(0, 0)), idx).notna().sum().sum() > 300
    with pytest.raises(BadData, match='no events'): TGAT().fit(x, None, y, idx[:40], idx[42:52])
    with pytest.raises(BadData, match='fitted on events'):
        m.predict(x, make_events([0], [1], e.t[:1], [[1.]], e.symbols, ['corr']), idx)


def test_scaler_and_ridge_do_not_see_rows_outside_train(panel):
    x, e, y, idx = panel
    far = x.copy()
    far.loc[idx[41]] = 1e9
    a, b = (Ridge(alphas=(1.,)).fit(f, e, y, idx[:40], idx[42:52]) for f in (x, far))
    assert np.array_equal(a.model.coef_, b.model.coef_) and np.array_equal(a.scale.mean, b.scale.mean)
    assert (Scaler.fit(np.full((4, 2), 3.)).std == 1).all()


def test_folds_hold_their_promise_for_any_sizes():
    rng, idx = np.random.default_rng(0), pd.bdate_range('2020-01-01', periods=300)
    at = lambda rows: idx.get_indexer(rows)
    for _ in range(60):
        span, train, valid, test, embargo = (int(rng.integers(lo, hi))
                                             for lo, hi in ((2, 12), (5, 90), (1, 30), (1, 60), (0, 5)))
        expanding = bool(rng.integers(2))
        ask = dict(span=span, train_rows=train, valid_rows=valid, test_rows=test, embargo=embargo, expanding=expanding)
        folds = make_folds(idx, **ask)
        for f in folds:
            assert at(f.train)[-1] + span < at(f.valid)[0] and at(f.valid)[-1] + span < at(f.test)[0]
            assert all((np.diff(at(b)) == 1).all() for b in (f.train, f.valid, f.test))
            assert len(f.valid) == valid and (at(f.train)[0] == 0 if expanding else len(f.train) == train)
        tested = np.concatenate([at(f.test) for f in folds])
        assert (np.diff(tested) == 1).all() and tested[-1] == 299
        cut = int(rng.integers(tested[0] + 1, 300))
        for a, b in zip(folds, make_folds(idx[:cut], **ask)):
            assert a.train.equals(b.train) and a.valid.equals(b.valid) and a.test[:len(b.test)].equals(b.test)


def test_hand_made_folds_that_leak_are_refused_before_training(panel):
    x, e, y, idx = panel
    never = lambda seed: pytest.fail('a model was made')
    for train, valid in ((idx[:41], idx[42:50]), (idx[:40], idx[42:51])):
        with pytest.raises(LookAhead, match='1 rows between'):
            run_walk_forward(never, x, e, y, [Fold(train, valid, idx[52:60])])
    with pytest.raises(LookAhead, match='order of time'): Fold(idx[:10], idx[5:9], idx[20:])
    f = Fold(idx[:40], idx[42:50], idx[52:60])
    with pytest.raises(BadData, match='tested twice'): run_walk_forward(never, x, e, y, [f, f])
    with pytest.raises(BadData, match='none'): run_walk_forward(never, x, e, y, [])


def walk(x, e, y, name='tgat', **kw):
    wanted = SMALL | dict(schedule=dict(epochs=1), trees=10, min_leaf=5, feature='b', window=3)
    p = {k: v for k, v in wanted.items() if k in model_params(name)}
    return run_walk_forward(lambda seed: make_model(name, seed=seed, **p), x, e, y,
                            make_folds(x.index, y.span, 24, 8, 10), **kw)


@pytest.mark.parametrize('name', list(MODELS))
def test_no_walk_forward_score_knows_what_came_after_it(name):
    x, e, y, idx = market(n=4, t=64)
    px = x.copy()
    def scores(f, leak=0):
        label = f['a'].shift(-2)
        g = f.copy()
        if leak: g.loc[:, pd.IndexSlice['b', :]] = label.to_numpy()
        return walk(g, e.until(f.index[-1]), Target(label, 1), name).scores
    cut = idx[50]
    assert not peeks(scores, px, cut, how=('noise', 'cut'))
    if name not in ('random', 'constant'): assert peeks(lambda f: scores(f, leak=1), px, cut, how=('noise', 'cut'))


def test_a_walk_forward_resumes_and_keeps_its_folds(tmp_path):
    x, e, y, idx = market(n=4, t=64)
    whole = walk(x, e, y)
    made = []
    class Stops(TGAT):
        def fit(self, *a, **k):
            made.append(0)
            if len(made) == 3: raise KeyboardInterrupt
            return super().fit(*a, **k)
    folds, how = make_folds(x.index, y.span, 24, 8, 10), SMALL | dict(schedule=dict(epochs=1))
    with pytest.raises(KeyboardInterrupt):
        run_walk_forward(lambda seed: Stops(seed=seed, **how), x, e, y, folds, checkpoint_dir=tmp_path)
    again = walk(x, e, y, checkpoint_dir=tmp_path)
    assert again.scores.equals(whole.scores) and again.history.equals(whole.history) and len(folds) == 3
    done = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.pt')}
    short = walk(x.iloc[:-2], e, Target(y.frame.iloc[:-2], 1), checkpoint_dir=tmp_path)
    assert short.scores.equals(whole.scores.iloc[:-2]) and len(done) == 3
    assert walk(x, e, y, checkpoint_dir=tmp_path).scores.equals(whole.scores)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.pt')} == done
    class Never(TGAT):
        def fit(self, *a, **k): pytest.fail('trained again')
    assert (
        run_walk_forward(lambda seed: Never(seed=seed, **how), x, e, y, folds, checkpoint_dir=tmp_path).scores.equals(
            whole.scores))
    with pytest.raises(CheckpointMismatch, match='features was'): walk(x * 2, e, y, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointMismatch, match='seed was 0, is 1'): walk(x, e, y, checkpoint_dir=tmp_path, seed=1)


def test_the_network_finds_a_planted_neighbour_and_its_twin_does_not():
    x, e, y, idx = market(n=8, t=220, strength=2.)
    ring = make_events((e.dst - 1) % 8, e.dst, e.t, np.ones((len(e), 2)), e.symbols, e.fields)
    how = dict(width=16, neighbors=2, schedule=dict(epochs=12, patience=12, lr=1e-2, batch_rows=16))
    ic = {m: float(rank_ic(
        make_model(m, **how).fit(x, ring, y, idx[:150], idx[152:180]).predict(x, ring, idx[182:]), y.frame).mean())
          for m in ('tgat', 'edge_free')}
    assert ic['tgat'] > .6 and abs(ic['edge_free']) < .25


def test_names_and_parameters_are_checked():
    with pytest.raises(BadParams, match='tgat, edge_free, rewired.*lightgbm_graph.*tgn'): make_model('gat')
    with pytest.raises(BadParams, match="no parameter 'wide'"): make_model('tgat', wide=3)
    for bad in (dict(neighbors=0), dict(loss='auc'), dict(dropout=1.), dict(schedule=dict(epochs=0)), dict(seed=-1)):
        with pytest.raises(BadParams):
            x, e, y, idx = market(); make_model('tgat', **bad).fit(x, e, y, idx[:40], idx[42:52])
    with pytest.raises(BadParams): LightGBM(trees=0)
    with pytest.raises(BadParams): Ridge(alphas=())
