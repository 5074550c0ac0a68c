"""Kills, resumes, accumulation, sixteen bits, numbers that are none, boards, gaps and seeds:
what one notebook cannot say of training"""
import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from _training import KILLS, problem, run_and_die, small_fit
from gnn_quant.core import BadData, BadParams, CheckpointMismatch, LookAhead, MissingExtra, toy_symbols
from gnn_quant.data.target import Target
from gnn_quant.training import loop as train
from gnn_quant.models.tabular import Ridge
from gnn_quant.training.tensorboard import Board, read_board
from gnn_quant.training.losses import ic_loss
from gnn_quant.training.seeds import run_seeds, seed_ics, seed_mean, seed_table, seeds_words
from gnn_quant.training.task import check_inputs, input_names
from gnn_quant.training.loop import Schedule, carried, fit_network, lr_at, placed, steady
from gnn_quant.training.walk_forward import (check_folds, embargo_rows, gap_rows, make_folds, purged_splits,
                                             run_walk_forward)
from gnn_quant.models.registry import make_model

SMALL = dict(width=8, schedule=dict(epochs=2, patience=2, batch_rows=8))


def same(a, b):
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def inside(path): return torch.load(io.BytesIO(Path(path).read_bytes().partition(b'\n')[2]), weights_only=True)


@pytest.fixture(scope='module')
def dead(tmp_path_factory):
    "A folder in which five trainings died"
    folder = tmp_path_factory.mktemp('dead')
    run_and_die(folder)
    return folder


@pytest.mark.parametrize('i,kill', list(enumerate(KILLS)))
def test_killed_anywhere_and_resumed_is_undisturbed(dead, tmp_path, i, kill):
    state = inside(dead / f'killed{i}.pt')['state']
    assert (len(state['history']), len(state['taken'])) == kill[2:]
    shutil.copy(dead / f'killed{i}.pt', tmp_path / 'killed.pt')
    a, resumed = small_fit(tmp_path / 'killed.pt')
    b, whole = small_fit(tmp_path / 'whole.pt')
    assert resumed.equals(whole) and len(whole) == 4 and same(a.state_dict(), b.state_dict())
    assert same(inside(tmp_path / 'killed.pt'), inside(tmp_path / 'whole.pt'))
    c, plain = small_fit()
    assert plain.equals(whole) and same(b.state_dict(), c.state_dict()), 'a checkpoint changes nothing'


def test_a_schedule_of_rates_is_resumed_too(tmp_path, monkeypatch):
    how = dict(warmup=7, decay='cosine')
    monkeypatch.setattr(train, 'SAVE_SECONDS', 0.)
    class Stop(Exception): pass
    def stop(history):
        if len(history) == 2: raise Stop
    with pytest.raises(Stop): small_fit(tmp_path / 'a.pt', tell=stop, **how)
    a, resumed = small_fit(tmp_path / 'a.pt', **how)
    b, whole = small_fit(**how)
    assert resumed.equals(whole) and same(a.state_dict(), b.state_dict())
    assert whole['lr'].round(12).tolist() == [round(lr_at(Schedule(epochs=4, **how), 5 * e + 4, 20), 12)
                                              for e in range(4)] and whole['lr'].iloc[-1] < whole['lr'].iloc[1]


def test_a_finished_training_and_a_foreign_one(tmp_path):
    _, whole = small_fit(tmp_path / 'a.pt')
    stamp = (tmp_path / 'a.pt').stat().st_mtime_ns
    assert small_fit(tmp_path / 'a.pt')[1].equals(whole) and (tmp_path / 'a.pt').stat().st_mtime_ns == stamp
    for other in (dict(accumulate=2), dict(precision='bf16'), dict(lr=1e-2), dict(decay='cosine')):
        with pytest.raises(CheckpointMismatch, match=next(iter(other))): small_fit(tmp_path / 'a.pt', **other)


@pytest.mark.parametrize('batch,times', [(8, 5), (5, 4), (1, 8)])
def test_accumulated_batches_are_one_large_batch(batch, times):
    a, x = small_fit(dropout=0., batch_rows=batch * times)
    b, y = small_fit(dropout=0., batch_rows=batch, accumulate=times)
    # a correlation has no gradient for the last bias but rounding, which Adam blows up
    learned = lambda net: list(net.parameters())[:-1]
    assert np.allclose(x, y, atol=1e-5) and all(torch.allclose(p, q, atol=1e-5) for p, q in zip(learned(a), learned(b)))
    c, _ = small_fit(dropout=0., batch_rows=batch)
    assert not all(torch.allclose(p, q, atol=1e-3) for p, q in zip(learned(b), learned(c)))


def test_no_more_rows_at_once_than_were_asked_for():
    sizes = []
    def fit(**how):
        sizes.clear()
        with steady(0):
            net = torch.nn.Linear(3, 1)
            x, label, mask = problem()
            def loss_of(rows):
                sizes.append(len(rows))
                return ic_loss(net(x[rows]).squeeze(-1), label[rows], mask[rows])
            fit_network(net, loss_of, lambda: 0., np.arange(40), Schedule(epochs=1, **how), part_rows=6)
        return max(sizes), sum(sizes)
    assert (fit(batch_rows=20) == (6, 40) and fit(batch_rows=4, accumulate=5) == (4, 40)
            and fit(batch_rows=10, accumulate=4) == (6, 40))


def test_sixteen_bits_are_used_while_learning_and_come_close():
    a, x = small_fit(dropout=0.)
    b, y = small_fit(dropout=0., precision='bf16')
    assert not same(a.state_dict(), b.state_dict()) and np.allclose(x, y, atol=.05) and 'forward' not in vars(b)
    assert all(p.dtype == torch.float32 for p in b.parameters())
    seen = []
    class Looks(torch.nn.Linear):
        def forward(self, v):
            out = super().forward(v)
            seen.append((self.training, out.dtype))
            return out
    net, v = Looks(4, 4), torch.rand(2, 4)
    with placed(net, Schedule(precision='bf16')): assert net.train()(v).dtype == net.eval()(v).dtype == torch.float32
    assert seen == [(True, torch.bfloat16), (False, torch.float32)]


def test_what_is_met_twice_is_carried_once():
    t = torch.ones(2)
    out = carried(dict(a=(t, [t]), b=None, c='x'), lambda v: v + 1)
    assert (out['a'][0] is out['a'][1][0] and out['a'][0].tolist() == [2, 2] and (out['b'], out['c']) == (None, 'x')
            and t.tolist() == [1, 1])


def test_a_network_is_put_back_when_training_fails():
    net = torch.nn.Linear(2, 2)
    with pytest.raises(KeyError):
        with placed(net, Schedule(precision='bf16')): raise KeyError
    assert 'forward' not in vars(net)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_a_gpu_learns_the_same_and_resumes(tmp_path):
    a, x = small_fit(dropout=0.)
    b, y = small_fit(dropout=0., device='cuda')
    assert np.allclose(x, y, atol=1e-3) and all(not p.is_cuda for p in b.parameters())
    class Stop(Exception): pass
    def stop(history):
        if len(history) == 2: raise Stop
    with pytest.raises(Stop): small_fit(tmp_path / 'a.pt', tell=stop, device='cuda')
    assert inside(tmp_path / 'a.pt')['state']['cuda']
    c, resumed = small_fit(tmp_path / 'a.pt', device='cuda')
    d, whole = small_fit(device='cuda')
    assert resumed.equals(whole) and same(c.state_dict(), d.state_dict())


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(BadParams, match='sees no GPU'): small_fit(device='cuda')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_row_that_is_no_number_stops_the_training_and_is_named(tmp_path, value):
    x, label, _ = problem()
    small_fit(tmp_path / 'a.pt', epochs=1)
    x[17, 2, 1] = value
    with pytest.raises(BadData, match=r'epoch 1, rows at positions 17: the loss is nan'):
        small_fit(tmp_path / 'b.pt', x=x)
    assert not (tmp_path / 'b.pt').exists()
    bad = label.clone()
    bad[5] = float('nan')
    with pytest.raises(BadData, match='rows at positions 5: the loss is nan'): small_fit(label=bad)


def test_a_gradient_or_verdict_that_is_no_number_stops_the_training():
    with steady(0):
        w = torch.nn.Linear(1, 1)
        root = lambda rows: torch.sqrt((w.weight * 0).sum().expand(len(rows)))
        with pytest.raises(BadData, match='epoch 1, rows at positions 3, 4, 5: the norm of the gradient is nan'):
            fit_network(w, root, lambda: 0., np.arange(3, 6), Schedule())
        before = w.weight.detach().clone()
        fine = lambda rows: (w.weight**2).sum().expand(len(rows))
        with pytest.raises(BadData, match='and 5 more: the verdict on the validation rows is nan'):
            fit_network(w, fine, lambda: float('nan'), np.arange(10), Schedule())
        with pytest.raises(BadData, match='no row to learn from'):
            fit_network(w, fine, lambda: 0., np.arange(0), Schedule())
    assert torch.isfinite(before).all()


def test_bad_schedules():
    for bad in (dict(accumulate=0), dict(precision='fp16'), dict(decay='step'), dict(warmup=-1), dict(device='tpu'),
                dict(lr=float('nan'))):
        with pytest.raises(BadParams, match=next(iter(bad))): Schedule(**bad)


# ---- boards

@pytest.mark.parametrize('i,before', [(1, 2), (4, 2)])
def test_a_board_shows_each_epoch_once_after_a_kill(dead, i, before):
    folder = dead / f'board{i}'
    assert read_board(folder)['epoch'].max() == before
    b = Board(folder)
    _, history = small_fit(dead / f'killed{i}.pt', tell=b)
    b.close()
    seen = read_board(folder)
    assert not seen.duplicated(['curve', 'epoch']).any()
    wide = seen.pivot(index='epoch', columns='curve', values='value')
    assert (np.allclose(wide['loss/train'], history['train_loss'])
            and np.allclose(wide['ic/valid'], history['valid_ic'])
            and np.allclose(wide['gradient/norm'], history['grad_norm']) and len(wide) == 4)


def test_without_tensorboard_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboard', None)
    with pytest.raises(MissingExtra, match=r"gnn_quant\[tensorboard\]"): Board('x')


# ---- targets, folds, gaps

def panel(n=5, t=70, seed=0):
    rng, idx, names = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=t, name='date'), toy_symbols(n)
    x = pd.concat({k: pd.DataFrame(rng.normal(size=(t, n)), idx, names) for k in 'ab'}, axis=1,
                  names=['feature', 'symbol'])
    return x, Target(pd.DataFrame(x['a'].to_numpy() + rng.normal(size=(t, n)), idx, names), horizon=1), idx


def test_the_longest_horizon_decides():
    x, y, idx = panel()
    far = Target(y.frame.shift(-3), horizon=4)
    with pytest.raises(LookAhead, match='needs 5 rows'): check_inputs(x, None, (y, far), idx[:40], idx[42:52])
    check_inputs(x, None, (y, far), idx[:40], idx[45:52])
    one, two = (input_names(x, None, t, idx[:40], idx[45:52])['target'] for t in (y, (y, far)))
    assert two.startswith(one) and two != one and input_names(x, None, (y,), idx[:40], idx[45:52])['target'] == one
    with pytest.raises(BadData, match='two known labels'):
        check_inputs(x, None, (y, Target(far.frame * np.nan, 4)), idx[:40], idx[45:52])
    folds = make_folds(idx, y.span, 24, 8, 10)
    with pytest.raises(LookAhead, match='fold 0'):
        run_walk_forward(lambda s: pytest.fail('a model was made'), x, None, (y, far), folds)
    run_walk_forward(lambda s: make_model('ridge'), x, None, (y, far), make_folds(idx, far.span, 24, 8, 10))


def test_an_embargo_is_as_long_as_the_longest_memory():
    x, y, idx = panel(t=200)
    folds = make_folds(idx, y.span, 40, 20, 30, embargo='auto', lookback=(3, 11))
    at = lambda rows: idx.get_indexer(rows)
    for f in folds: assert at(f.valid)[0] - at(f.train)[-1] - 1 == at(f.test)[0] - at(f.valid)[-1] - 1 == y.span + 11
    check_folds(folds, idx, y.span)
    same_as = make_folds(idx, y.span, 40, 20, 30, embargo=11)
    assert all(a.train.equals(b.train) and a.test.equals(b.test) for a, b in zip(folds, same_as))
    for bad in (dict(embargo='auto'), dict(embargo=-1), dict(embargo='auto', lookback=-2),
                dict(embargo='some', lookback=3)):
        with pytest.raises(BadParams): gap_rows(2, **bad)
    with pytest.raises(LookAhead): gap_rows(2, purge=1, embargo=20)
    assert embargo_rows(0) == 0


@pytest.mark.parametrize('seed', range(8))
def test_splits_share_no_bar_between_train_and_test(seed):
    rng, idx = np.random.default_rng(seed), pd.bdate_range('2020-01-01', periods=300)
    span, back, groups, tests = (int(rng.integers(1, 8)), int(rng.integers(0, 12)), int(rng.integers(4, 8)),
                                 int(rng.integers(1, 3)))
    splits, count = purged_splits(idx, span, groups, back, tests), np.zeros(300, int)
    for s in splits:
        train, test = idx.get_indexer(s.train), idx.get_indexer(s.test)
        count[test] += 1
        told = np.sort(test)
        for t in train[::7]:
            assert not set(range(t + 1, t + span + 1)) & set(told.tolist()), 'a training label reaches into the test'
            after = told[told < t]
            if len(after) and t - after[-1] <= span + back + 1:
                assert not set(range(t - back, t + 1)) & set(range(after[-1] + 1, after[-1] + span + 1))
    assert (count == count[0]).all() and count[0] == len(splits) * tests / groups
    with pytest.raises(LookAhead, match='look back 9'): purged_splits(idx, span, groups, 9, embargo=8)
    with pytest.raises(BadParams): purged_splits(idx, span, 3, 0, tests=3)
    with pytest.raises(BadData, match='no row is left'): purged_splits(idx, span, 2, 300)


def test_folds_side_by_side_have_the_same_bits(tmp_path):
    x, y, idx = panel()
    folds, make = make_folds(idx, y.span, 24, 8, 10), lambda seed: make_model('mlp', seed=seed, **SMALL)
    one, two = (run_walk_forward(make, x, None, y, folds),
                run_walk_forward(make, x, None, y, folds, jobs=2, checkpoint_dir=tmp_path / 'a'))
    assert (one.scores.equals(two.scores) and one.history.equals(two.history)
            and len(list((tmp_path / 'a').rglob('fold.json'))) == len(folds))
    with pytest.raises(BadParams, match='jobs=0'): run_walk_forward(make, x, None, y, folds, jobs=0)


def test_a_walk_forward_keeps_boards_and_says_where_it_is(tmp_path):
    x, y, idx = panel()
    folds, said = make_folds(idx, y.span, 24, 8, 10), []
    run = lambda **kw: run_walk_forward(lambda seed: make_model('mlp', seed=seed, **SMALL), x, None, y, folds, 4,
                                        tmp_path / 'kept', said.append, tmp_path / 'board', **kw)
    first = run()
    assert said == [f'mlp: fold {i + 1} of {len(folds)}' for i in range(len(folds))]
    boards = sorted((tmp_path / 'board/mlp/seed4').iterdir())
    assert [b.name for b in boards] == [f'fold{i:02d}' for i in range(len(folds))]
    again = run()
    assert again.history.equals(first.history) and {'grad_norm', 'lr'} <= set(first.history)
    for i, b in enumerate(boards):
        seen, h = read_board(b), first.history.query('fold == @i')
        assert (not seen.duplicated(['curve', 'epoch']).any()
                and np.allclose(seen.query("curve == 'loss/train'")['value'], h['train_loss']))


# ---- seeds

def runs(seeds, tmp=None, **kw):
    x, y, idx = panel()
    return run_seeds(lambda seed: make_model('mlp', seed=seed, **SMALL), x, None, y,
                     make_folds(idx, y.span, 24, 8, 10), seeds, tmp, **kw), y


def test_seeds_are_walk_forwards_of_their_own(tmp_path):
    r, y = runs((0, 3), tmp_path)
    x, y, idx = panel()
    alone = run_walk_forward(lambda seed: make_model('mlp', seed=seed, **SMALL), x, None, y,
                             make_folds(idx, y.span, 24, 8, 10), 3)
    assert r.scores[3].equals(alone.scores) and not r.scores[0].equals(r.scores[3])
    assert (list(r.history.columns[:4]) == ['model', 'seed', 'fold', 'epoch']
            and sorted(r.history['seed'].unique()) == [0, 3])
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*.pt')}
    more, _ = runs((0, 3, 5), tmp_path)
    assert (more.scores[0].equals(r.scores[0]) and {p: p.stat().st_mtime_ns for p in kept} == kept
            and set(more.scores) == {0, 3, 5})
    beside, _ = runs((0, 3), jobs=2)
    assert beside.mean.equals(r.mean) and beside.history.equals(r.history)
    with pytest.raises(BadParams, match='each once'): runs((1, 1))
    with pytest.raises(BadParams, match='at least one'): runs(())


def test_the_mean_ignores_the_scale_of_a_seed():
    r, y = runs((0, 1))
    loud = replace(r, scores={0: r.scores[0] * 1e6 - 5, 1: r.scores[1]})
    assert loud.mean.equals(r.mean) and not np.allclose(r.mean.dropna(), r.scores[0].dropna())
    assert (r.mean.dropna().abs() <= .5).all(axis=None) and r.mean.isna().equals(r.scores[0].isna())
    assert seed_mean({0: r.scores[0]}) is r.scores[0]
    with pytest.raises(BadData, match='different rows'): seed_mean({0: r.scores[0], 1: r.scores[1].iloc[1:]})


def test_a_table_says_how_many_seeds_it_rests_on():
    r, y = runs(range(5))
    one = replace(r, scores={0: r.scores[0]})
    x, _, idx = panel()
    ridge = run_seeds(lambda seed: Ridge(), x, None, y, make_folds(idx, y.span, 24, 8, 10))
    t = seed_table(dict(five=r, one=one, ridge=ridge), y)
    assert t['seeds'].tolist() == [5, 1, 1] and t['note'].tolist() == ['', '1 of 5 seeds', 'not random']
    ic = seed_ics(r, y)
    assert (t.loc['five', 'rank_ic'] == pytest.approx(ic.mean())
            and t.loc['five', 'spread'] == pytest.approx(ic.std(ddof=1))
            and t.loc[['one', 'ridge'], 'spread'].isna().all())
    assert ('one draw' in seeds_words([7]) and 'fewer than' in seeds_words([1, 2])
            and 'fewer' not in seeds_words(range(5)))
