"The ranking set, adjusted prices and the statistics of a ranking: bad input, known answers"
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as hyp, strategies as st
from scipy.stats import spearmanr

from gnn_quant.core import BadData, BadParams, StoreError, peeks, toy_bars
from gnn_quant.data.sources.sp500_daily import forward_adjusted, load_adjusted
from gnn_quant.data.sources.nasdaq_rsr import blocks, full_max, load_ranking, past_max, write_toy_ranking
from gnn_quant.stats.ic import (Difference, common_cells, daily_ic, graph_sentence, hac_t, icir, random_band,
                                resampled, score_table, stationary_rows)
from gnn_quant.data.target import Target

DAYS = pd.bdate_range('2020-01-01', periods=240, name='date')


@pytest.fixture
def folder(tmp_path): return write_toy_ranking(tmp_path, 12, 260)


def load(folder): return load_ranking(folder, train=180, valid=40)


def noise(seed, rows=240, names=20):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, names)), DAYS[:rows])


# ---- the ranking set

def test_labels_are_the_next_days_returns_whatever_the_array_is_called(folder):
    rs = load(folder)
    same = rs.next_return.iloc[:-1].to_numpy(), rs.returns.iloc[1:].to_numpy()
    known = ~np.isnan(same[0])
    assert known.sum() > 2000 and np.allclose(same[0][known], same[1][known], atol=1e-5)
    assert (rs.next_return.notna().to_numpy()[:-1] == rs.returns.notna().to_numpy()[1:]).all()


def test_an_array_that_is_already_shifted_is_taken_as_it_is(folder):
    path = next(folder.glob('published_*.npz'))
    a = dict(np.load(path))
    first = load(folder).next_return
    a['next_return'] = np.roll(a['next_return'], -1, axis=1)
    np.savez(path, **a)
    pd.testing.assert_frame_equal(load(folder).next_return, first)


def test_labels_that_the_prices_do_not_bear_out_are_refused(folder):
    path = next(folder.glob('published_*.npz'))
    a = dict(np.load(path))
    a['next_return'] = np.roll(a['next_return'], 3, axis=1)
    np.savez(path, **a)
    with pytest.raises(BadData, match='neither the return of its own day nor of the next'): load(folder)


def test_no_level_of_the_set_knows_its_future(folder):
    rs = load(folder)
    first = rs.bars['Close'].bfill().iloc[0]
    assert (np.allclose(first, 1) and not peeks(lambda b: past_max(b['Close']), rs.bars, DAYS[100])
            and peeks(lambda b: full_max(b['Close']), rs.bars, DAYS[100]))


@pytest.mark.parametrize(
    'broken, error, says',
    [(lambda f: next(f.glob('*.npz')).unlink(), BadData, 'no files published_'),
     (lambda f: (f / 'NASDAQ_dates.csv').unlink(), BadData, 'no files NASDAQ_dates.csv'),
     (lambda f: (f / 'NASDAQ_industry_ticker.json').unlink(), BadData, 'no files NASDAQ_industry_ticker.json'),
     (lambda f: (f / 'NASDAQ_industry_ticker.json').write_text('{'), StoreError, 'not JSON'),
     (lambda f: (f / 'NASDAQ_industry_ticker.json').write_text('[1]'), BadData, 'maps an industry'),
     (lambda f: (f / 'NASDAQ_dates.csv').write_text('2020-01-01'), BadData, '1 lines, wanted 29 [+] 260'),
     (lambda f: next(f.glob('*.npz')).write_bytes(b'no'), StoreError, 'cannot be read'),
     (lambda f: np.savez(next(f.glob('*.npz')), price=np.ones((2, 3))), BadData, 'no array mask'),
     (lambda f: np.savez(next(f.glob('*.npz')),
                         **dict(np.load(next(f.glob('*.npz')))) | dict(mask=np.ones((3, 3)))), BadData, 'mask is'),
     (lambda f: np.save(f / 'NASDAQ_industry_relation.npy', np.array([[0], [99]])), BadData, 'nodes 0 .. 99'),
     (lambda f: np.save(f / 'NASDAQ_industry_relation.npy', np.ones((3, 2), int)), BadData,
      'wanted whole numbers [(]2, edges'),])
def test_a_broken_folder_is_named(folder, broken, error, says):
    broken(folder)
    with pytest.raises(error, match=says): load(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(BadData, match='is not a folder'): load_ranking(tmp_path / 'no')


@hyp(max_examples=40, deadline=None)
@given(st.integers(10, 60), st.integers(6, 30), st.integers(1, 5), st.integers(2, 30))
def test_blocks_never_overlap_and_the_test_days_are_the_published_ones(train, valid, span, test):
    index = pd.bdate_range('2020-01-01', periods=train + valid + test)
    try: b = blocks(index, train, valid, span)
    except BadData: return
    at = {k: index.get_indexer(v) for k, v in b.items()}
    assert at['train'][-1] + span < at['valid'][0] and at['valid'][-1] + span < at['test'][0]
    assert len(b['test']) == test and at['test'][0] + 1 == train + valid


# ---- adjusted prices

def long_table(wide=None, part=.5):
    wide = (toy_bars(3, 40) if wide is None else wide).stack('symbol').rename_axis(['date', 'symbol']).reset_index()
    return wide.assign(**{'Adj Close': wide['Close'] * part})


def test_forward_adjustment_keeps_the_past_the_ratios_and_the_traded_value():
    raw = long_table()
    late = raw['date'] >= raw['date'].unique()[20]
    raw.loc[late, 'Adj Close'] *= 1.25
    x = forward_adjusted(raw.sample(frac=1, random_state=0)).set_index(['symbol', 'date']).sort_index()
    r = raw.set_index(['symbol', 'date']).sort_index()
    assert np.allclose(x['Close'].groupby('symbol').pct_change().dropna(),
                       r['Adj Close'].groupby('symbol').pct_change().dropna())
    early = x.index.get_level_values('date') < raw['date'].unique()[20]
    assert np.allclose(x.loc[early, ['Open', 'High', 'Low', 'Close']], r.loc[early, ['Open', 'High', 'Low', 'Close']])
    assert (np.allclose(x['Close'] * x['Volume'], r['Close'] * r['Volume'])
            and np.allclose(x['High'] / x['Close'], r['High'] / r['Close']))


def test_an_adjusted_folder_and_what_can_be_wrong_with_it(tmp_path):
    with pytest.raises(BadData, match='no prices.parquet'): load_adjusted(tmp_path)
    long_table().to_parquet(tmp_path / 'prices.parquet')
    (tmp_path / 'sectors.csv').write_text('Symbol,Sector\nAAA,Banks\n')
    d = load_adjusted(tmp_path, rows=30)
    assert len(d.bars) == 30 and d.sectors['AAA'] == 'Banks' and any('look-ahead' in c for c in d.caveats)
    with pytest.raises(BadData, match='no column Adj Close'): forward_adjusted(long_table().drop(columns='Adj Close'))
    with pytest.raises(BadData, match='AAA: adjusted over printed close is -1'): forward_adjusted(long_table(part=-1.))


# ---- statistics

@hyp(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, .5))
def test_daily_ic_is_scipys(seed, gone):
    rng = np.random.default_rng(seed)
    s, y = (pd.DataFrame(np.round(rng.normal(size=(4, 15)), 1), DAYS[:4]) for _ in range(2))
    s = s.mask(rng.random(s.shape) < gone)
    both = s.notna()
    for i in range(4):
        m = both.iloc[i].to_numpy()
        if m.sum() < 3 or s.iloc[i][m].nunique() < 2: continue
        a, b = s.iloc[i][m], y.iloc[i][m]
        if b.nunique() < 2: continue
        assert (np.isclose(daily_ic(s, y).iloc[i], np.corrcoef(a, b)[0, 1])
                and np.isclose(daily_ic(s, y, 'rank').iloc[i], spearmanr(a, b)[0]))


def test_scores_without_labels_are_refused():
    with pytest.raises(BadData, match='have no labels'): daily_ic(noise(0).add_prefix('A'), noise(1))
    with pytest.raises(BadParams, match='kind'): daily_ic(noise(0), noise(1), 'kendall')


def test_hac_t_by_hand():
    v = pd.Series(np.random.default_rng(3).normal(.1, 1, 300)).rolling(3).mean().dropna()
    d, n = (v - v.mean()).to_numpy(), len(v)
    var = (d @ d + 2 * sum((1 - k / 5) * d[k:] @ d[:-k] for k in range(1, 5))) / n**2
    assert np.isclose(hac_t(v, 4), v.mean() / np.sqrt(var)) and np.isnan(hac_t(v[:5], 4)) and np.isnan(hac_t(v * 0, 4))


def test_bootstrap_covers_as_often_as_it_says():
    rng, hit = np.random.default_rng(0), []
    for _ in range(150):
        x = pd.DataFrame(dict(ic=np.convolve(rng.normal(.02, .1, 304), np.ones(5) / 5, 'valid')))
        m = resampled(x, 300, 15, int(rng.integers(1e6)))[0]
        hit.append(np.quantile(m, .025) < .02 < np.quantile(m, .975))
    assert .85 < np.mean(hit) <= 1


def test_resampled_rows_are_paired_and_blocks_are_as_long_as_asked():
    x = noise(5, names=1).set_axis(['a'], axis=1).assign(b=lambda f: f['a'] + .01)
    m, r = resampled(x, 50, 10, 1)
    assert np.allclose(m[:, 1] - m[:, 0], .01) and m[:, 0].std() > .01
    rows = stationary_rows(500, 100, 10, np.random.default_rng(0))
    assert abs((np.diff(rows, axis=1) % 500 == 1).mean() - .9) < .01
    with pytest.raises(BadData, match='not known in every column'): resampled(x.mask(x > 2), 5)


def test_random_band_is_exact_over_permutations():
    y, s = np.array([3., 1, 4, 1.5, 9]), np.arange(5.)
    c = np.array([np.corrcoef(p, y)[0, 1] for p in permutations(s)])
    assert abs(c.mean()) < 1e-12 and np.isclose((c**2).mean(), 1 / 4) and np.isclose(random_band([5])['IC'], 1.96 * .5)


def test_every_model_is_judged_on_the_same_cells():
    y, full = noise(1), noise(2)
    coward = full.mask(noise(3) > 0)
    t = score_table(dict(edge_free=[full], coward=[coward]), Target(y, 1), draws=50)
    assert t['names'].nunique() == 1 and t['names'].iloc[0] < 12 and t.loc['coward', 'vs edge_free'] == 0
    cells = common_cells(dict(a=[full], b=[coward]), y)
    assert (cells.to_numpy() == coward.notna().to_numpy()).all()


def test_seeds_are_averaged_not_pooled_and_ties_to_self_are_not_compared():
    y = noise(1)
    seeds = [.2 * y + noise(10 + i) for i in range(5)]
    t = score_table(dict(edge_free=[noise(50)], tgat=seeds), Target(y, 1), draws=200)
    by_hand = [daily_ic(s, y) for s in seeds]
    assert (np.isclose(t.loc['tgat', 'IC'], np.mean([v.mean() for v in by_hand]))
            and np.isclose(t.loc['tgat', 'ICIR'], np.mean([icir(v) for v in by_hand])))
    assert (np.isclose(t.loc['tgat', 'IC sd'], np.std([v.mean() for v in by_hand], ddof=1))
            and np.isnan(t.loc['edge_free', 'vs edge_free']))
    assert t.loc['tgat', 'edge_free side'] == 'ahead' and 'the graph helped in this sample' in graph_sentence(t)


def test_a_model_without_opinion_and_a_history_that_is_short():
    y = noise(1)
    t = score_table(dict(edge_free=[noise(2)], constant=[noise(3) * 0]), Target(y, 1), draws=50)
    assert t.loc['constant', 'IC'] == 0 == t.loc['constant', 'rank IC'] and np.isnan(t.loc['constant', 't'])
    short = score_table(dict(edge_free=[noise(2, 30)], tgat=[noise(3, 30)]), Target(y, 1), draws=50)
    assert short.loc['tgat', 'edge_free side'] == 'short' and 'too few days' in graph_sentence(short)


def test_no_scores_other_rows_and_wrong_figures():
    y = Target(noise(1), 1)
    with pytest.raises(BadData, match='no scores'): score_table({}, y)
    with pytest.raises(BadData, match='other rows or names'): score_table(dict(a=[noise(2)], b=[noise(2, 100)]), y)
    with pytest.raises(BadParams, match='of='): score_table(dict(a=[noise(2)]), y, of='sharpe')


def test_ahead_needs_the_whole_interval():
    sides = [Difference(*v).side
             for v in ((.1, .01, .3), (.1, -.01, .3), (-.1, -.3, .01), (-.1, -.3, -.01), (.1, np.nan, np.nan))]
    assert sides == ['ahead', 'level', 'level', 'behind', 'short']
