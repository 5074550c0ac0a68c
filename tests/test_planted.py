"The planted market is what it says, and whoever is asked about it answers for the right reason"
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from gnn_quant.core import BadParams, instants
from gnn_quant.evidence.planted import ceiling, draw_partners, planted_models, planted_table, planted_task, plot_planted
from gnn_quant.training.task import rank_ic


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(4, 9), st.integers(1, 60), st.integers(1, 3), st.integers(1, 30))
def test_everybody_hears_as_many_as_hear_it_and_nobody_itself(seed, n, t, k, every):
    told = draw_partners(n, t, k, every, np.random.default_rng(seed))
    assert told.shape == (t, n, k) and (told != np.arange(n)[:, None]).all()
    for s in range(t):
        assert (np.bincount(told[s].ravel(), minlength=n) == k).all() and all(
            len(set(row)) == k for row in told[s].tolist())
        assert s % every == 0 or (told[s] == told[s - 1]).all()


@pytest.mark.parametrize(
    'how', [dict(), dict(n=7, k=3, every=4, tell=5, t=60, seed=2), dict(k=1, every=10, tell=1, t=48)], ids=str)
def test_the_events_known_at_a_row_are_the_edges_its_labels_came_along(how):
    "Read by brute force: the newest events of a name, at or before the row's close"
    task = planted_task(1., **how)
    f, e, k = task.x['f'].to_numpy(), task.events, how.get('k', 2)
    for r, now in enumerate(instants(task.x.index)):
        for i in range(f.shape[1]):
            mine = np.flatnonzero((e.dst == i) & (e.t <= now))
            newest = mine[e.t[mine] == e.t[mine].max()]
            assert len(newest) == k and np.isclose(f[r, e.src[newest]].sum() / np.sqrt(k), task.y.frame.iloc[r, i])
    assert np.allclose(task.heard, task.y.frame) and task.fold.train[-1] < task.fold.valid[0] < task.fold.test[0]


def test_the_same_seed_is_the_same_market_and_shares_differ_by_labels_alone():
    a, b, c, other = planted_task(.2), planted_task(.2), planted_task(.7), planted_task(.2, seed=1)
    for k in ('x', 'heard'):
        assert (getattr(a, k).equals(getattr(b, k)) and getattr(a, k).equals(getattr(c, k))
                and not getattr(a, k).equals(getattr(other, k)))
    assert (a.y.frame.equals(b.y.frame) and not a.y.frame.equals(c.y.frame)
            and np.array_equal(a.events.src, c.events.src))
    assert a.x.columns.names == ['feature', 'symbol'] and a.y.span == 2 and planted_task(0.).share == 0


@pytest.mark.parametrize('n,k', [(12, 2), (30, 4), (12, 1), (6, 4)])
def test_the_oracle_reaches_the_ceiling_and_nothing_passes_it(n, k):
    for share in (0., .1, .5, 1.):
        task = planted_task(share, n=n, k=k, t=2_500, seed=3)
        ic = rank_ic(task.heard, task.y.frame)
        assert abs(ic.mean() - ceiling(share, n, k)) < .02 + 2.5 * ic.std() / np.sqrt(len(ic))
    assert (ceiling(0., n, k) == 0 and abs(ceiling(1., n, k) - 1) < 1e-12
            and (np.diff(ceiling(np.linspace(0, 1, 50), n, k)) > 0).all())


def test_who_sees_the_edges_finds_them_and_who_does_not_does_not():
    table = planted_table((0., .6), (0,))
    weak, strong = table.loc[(0., 0)], table.loc[(.6, 0)]
    assert (list(table.columns) == ['tgat', 'edge_free', 'rewired', 'ridge_graph', 'oracle']
            and table.index.names == ['share', 'seed'])
    assert (strong['tgat'] > .85 * strong['oracle'] and strong['ridge_graph'] > .9 * strong['oracle']
            and strong[['edge_free', 'rewired']].abs().max() < .25)
    assert weak.abs().max() < .2
    again = planted_table((.6,), (0,), {'ridge_graph': planted_models(('ridge_graph',))['ridge_graph']})
    assert again['ridge_graph'].iloc[0] == strong['ridge_graph'] and list(again.columns) == ['ridge_graph', 'oracle']
    lines = plot_planted(table).axes[0].get_legend_handles_labels()[1]
    assert lines == ['no skill', 'ceiling', *table.columns]


@pytest.mark.parametrize(
    'bad,says', [(dict(share=1.5), 'share=1.5'), (dict(share=-.1), 'share=-0.1'),
                 (dict(share=float('nan')), 'share=nan'), (dict(share=True), 'share=True'), (dict(k=0), 'k=0'),
                 (dict(n=3), 'n=3'), (dict(t=10), 't=10'), (dict(every=0), 'every=0'), (dict(tell=2.), 'tell=2.0')])
def test_a_market_that_cannot_be_is_refused_by_name(bad, says):
    with pytest.raises(BadParams, match=says): planted_task(**bad)


def test_a_picture_of_nothing_is_refused():
    with pytest.raises(BadParams, match='no rows'): plot_planted(pd.DataFrame())
