"A book that was made elsewhere: what comes in, what is asked, what is refused"
import json

import numpy as np
import pandas as pd
import pytest

from gnn_quant.backtest.engine import backtest, ledger_returns, metrics
from gnn_quant.core import BadData, BadParams, toy_bars
from gnn_quant.data.sources.frames import numbers, on_rows_of, read_frame_of, read_prices, wide_frame
from gnn_quant.evidence.trial_ledger import count, trial_returns
from gnn_quant.costs import Costs
from gnn_quant.own_book import audit_of_book, book_ledger, book_returns, judge, line_of
from gnn_quant.portfolio.sizing import dollar_neutral
from gnn_quant.report.markup import loads
from gnn_quant.report.tear_sheet import tearsheet
from gnn_quant.stats.sharpe import moments

BARS = toy_bars(n=8, t=320)
CLOSE = BARS['Close']
SCORES = -CLOSE.pct_change(5, fill_method=None)
WEIGHTS = dollar_neutral(SCORES)
COSTS = Costs(5e-4, 5e-4)


@pytest.fixture
def journal(tmp_path): return tmp_path / 'trials.jsonl'


def one(journal, *a, **kw):
    return judge(*a, **dict(costs=COSTS, ledger=journal, draws=30) | kw)


# ---- what comes in

def test_wide_long_csv_and_parquet_are_one_table(tmp_path):
    long = WEIGHTS.stack(future_stack=True).rename('weight').reset_index()
    WEIGHTS.to_csv(tmp_path / 'wide.csv')
    WEIGHTS.to_parquet(tmp_path / 'wide.parquet')
    long.to_csv(tmp_path / 'long.csv', index=False)
    for given in (WEIGHTS, tmp_path / 'wide.csv', str(tmp_path / 'wide.parquet'), long, tmp_path / 'long.csv'):
        got = on_rows_of(read_frame_of(given, 'weights'), BARS, 'weights')
        assert np.allclose(got, WEIGHTS, rtol=1e-12, atol=0, equal_nan=True) and got.index.equals(BARS.index)


@pytest.mark.parametrize('change, words', [
    (lambda x: x.assign(AAA='n/a'), "AAA on 2020-01-01 is 'n/a'"),
    (lambda x: x.assign(AAA=np.inf), 'no number'),
    (lambda x: pd.concat([x, x.iloc[:1]]).sort_index(), 'there twice'),
    (lambda x: x.iloc[::-1], 'not sorted'),
    (lambda x: pd.concat({'a': x}, axis=1), 'levels'),
    (lambda x: x.stack().reset_index().set_axis(['date', 'symbol', 'a'], axis=1).assign(b=1), '2 value columns')])
def test_a_table_that_can_be_read_two_ways_is_refused(change, words):
    with pytest.raises(BadData, match=words): wide_frame(change(CLOSE.iloc[:20]), 'weights')


def test_dates_and_symbols_have_to_be_those_of_the_prices():
    with pytest.raises(BadData, match='no prices for ZZZ'): on_rows_of(CLOSE.rename(columns=dict(AAA='ZZZ')), BARS, 'w')
    late = CLOSE.iloc[[0]].set_axis(pd.DatetimeIndex(['2020-01-04']))
    with pytest.raises(BadData, match='2020-01-04 is no row of the prices'): on_rows_of(late, BARS, 'w')
    with pytest.raises(BadParams, match='no file'): read_frame_of('nothing.csv', 'weights')
    some = on_rows_of(CLOSE.iloc[[3], :2], BARS, 'w')
    assert some.notna().sum().sum() == 2 and some.shape == CLOSE.shape


def test_prices_come_as_closes_bars_long_tables_and_folders(tmp_path):
    CLOSE.to_csv(tmp_path / 'closes.csv')
    BARS.to_parquet(tmp_path / 'bars.parquet')
    BARS.stack('symbol', future_stack=True).reset_index().to_csv(tmp_path / 'long.csv', index=False)
    home = tmp_path / 'folder'
    home.mkdir()
    for s in CLOSE: BARS.xs(s, axis=1, level='symbol').to_csv(home / f'{s}.csv')
    for given in (CLOSE, BARS, tmp_path / 'closes.csv', tmp_path / 'bars.parquet', tmp_path / 'long.csv', home):
        got, aside = read_prices(given)
        assert np.allclose(got['Close'], CLOSE, rtol=1e-12) and aside.empty, given
    dirty = CLOSE.copy()
    dirty.iloc[4, 2] = -1
    got, aside = read_prices(dirty)
    assert np.isnan(got['Close'].iloc[4, 2]) and list(aside['reason']) == ['not positive']
    with pytest.raises(BadParams, match='neither a file nor a folder'): read_prices(tmp_path / 'gone.csv')
    assert numbers(pd.DataFrame(dict(a=['1', None])), 'x')['a'].isna().tolist() == [False, True]


# ---- what is asked

def test_weights_are_traded_as_by_the_engine_and_counted_once(journal):
    j = one(journal, BARS, WEIGHTS, name='book')
    led = backtest(WEIGHTS, BARS, COSTS)
    pd.testing.assert_frame_equal(j.case.ledger.book, led.book, check_freq=False)
    assert j.evidence.figures['sharpe']['sharpe'] == pytest.approx(metrics(led)['sharpe'], abs=1e-12)
    assert (j.trials.n, j.trials.returns, count(journal).n) == (1, 1, 1)
    assert np.allclose(trial_returns(journal).iloc[:, 0].dropna(), ledger_returns(led))
    assert one(journal, BARS, WEIGHTS, name='book').trials.n == 1, 'the same book is the same trial'
    assert one(journal, BARS, WEIGHTS * .5, name='half').trials.n == 2


def test_what_cannot_be_asked_of_a_table_is_said(journal):
    by = {c.id: c for c in one(journal, BARS, WEIGHTS).checks}
    assert by['audit'].passed is None and by['controls'].passed is None
    assert 'made elsewhere' in by['audit'].reason and 'ic' not in by
    j = one(journal, returns=ledger_returns(backtest(WEIGHTS, BARS, COSTS)))
    by = {c.id: c for c in j.checks}
    assert ({k for k, c in by.items() if c.passed is None}
            == {'permutation_dates', 'permutation_names', 'pbo', 'controls', 'audit'})
    assert j.evidence.figures['costs']['why'] == j.evidence.figures['capacity']['why'] == 'only returns were given'
    assert not {'costs', 'delays', 'survivorship', 'capacity', 'quantiles'} & set(j.evidence.frames)
    assert {'turnover', 'break_even_bp'}.isdisjoint(j.evidence.frames['bootstrap'].index)
    assert j.verdict.level in ('not established', 'refuted', 'absurd')


def test_no_table_is_ever_established(journal):
    "A book of perfect foresight is loud, not believed"
    ahead = CLOSE.pct_change(fill_method=None).shift(-2)
    assert one(journal, BARS, scores=ahead, costs=Costs()).verdict.level in ('absurd', 'not established')


def test_scores_are_ranked_and_held_against_later_returns(journal):
    j = one(journal, BARS, scores=SCORES)
    pd.testing.assert_frame_equal(j.case.weights['book'], WEIGHTS, check_freq=False)
    both = one(journal, BARS, WEIGHTS * .5, SCORES, name='both')
    assert both.evidence.figures['ic']['mean'] == j.evidence.figures['ic']['mean']
    assert np.nanmax(np.abs(both.case.weights['both'])) == pytest.approx(np.nanmax(np.abs(WEIGHTS)) / 2)


def test_leverage_is_not_cut_and_is_named(journal):
    j = one(journal, BARS, WEIGHTS * 3)
    assert j.case.ledger.book['gross'].max() > 2 * j.case.ledger.equity.max()
    assert any('3.00 times its equity' in c for c in j.sheet.caveats)


def test_returns_come_back_as_they_were_given():
    r = pd.Series(np.random.default_rng(0).normal(0, .01, 90), pd.bdate_range('2020-01-01', periods=90))
    _, _, led = book_ledger(r, 'x')
    got = led.equity.pct_change(fill_method=None).iloc[1:]
    assert got.index.equals(r.index) and np.allclose(got, r, rtol=0, atol=1e-14)


@pytest.mark.parametrize('change, words', [
    (lambda r: r * 100, 'percents'), (lambda r: r.where(r.index != r.index[7]), 'nothing on'),
    (lambda r: r * 0 + np.nan, 'no number'), (lambda r: r.where(r.index != r.index[7], -1.5), 'more than everything')])
def test_returns_that_are_none_are_refused(change, words, journal):
    r = pd.Series(np.random.default_rng(0).normal(0, .01, 90), pd.bdate_range('2020-01-01', periods=90), name='r')
    with pytest.raises(BadData, match=words): one(journal, returns=change(r))
    with pytest.raises(BadData, match='2 columns'): book_returns(pd.DataFrame(dict(a=r, b=r)))
    assert not journal.exists()


def test_rows_a_year_follow_the_dates(journal):
    week = pd.Series(np.random.default_rng(1).normal(.002, .02, 300),
                     pd.date_range('2015-01-02', periods=300, freq='W-FRI'))
    j = one(journal, returns=week)
    assert j.case.periods == 52
    assert j.evidence.figures['sharpe']['sharpe'] == pytest.approx(moments(week).sharpe * 52**.5)
    assert one(journal, returns=week, year=12).case.periods == 12


@pytest.mark.parametrize('given',
                         [dict(prices=BARS), dict(weights=WEIGHTS),
                          dict(prices=BARS, weights=WEIGHTS, returns=CLOSE), dict(returns=CLOSE['AAA'], audit=len)])
def test_what_could_mean_two_things_is_refused_before_it_counts(given, journal):
    with pytest.raises(BadParams): one(journal, **given)
    assert not journal.exists()


# ---- audit

def honest(bars): return -bars['Close'].pct_change(5, fill_method=None)
def peeking(bars): return honest(bars) / bars['Close'].std()


def test_the_function_behind_a_book_is_audited(journal):
    good = one(journal, BARS, scores=honest(BARS), audit=honest)
    bad = one(journal, BARS, scores=peeking(BARS), audit=peeking, name='bad')
    for j, passed in ((good, True), (bad, False)):
        assert {c.id: c.passed for c in j.checks}['audit'] is passed
    assert bad.evidence.figures['audit']['findings'][0].startswith('book: ')
    with pytest.raises(BadData, match='the book has'): audit_of_book(honest, peeking(BARS), BARS)


def test_what_makes_a_book_can_be_named(tmp_path, monkeypatch):
    (tmp_path / 'my_line_of_a_test.py').write_text('def f(bars): return bars["Close"]\n')
    monkeypatch.chdir(tmp_path)
    assert list(line_of('my_line_of_a_test:f').stages) == ['book']
    for odd in ('my_line_of_a_test:g', 'no_such_module:f', 3):
        with pytest.raises(BadParams, match='audit: '): line_of(odd)


# ---- the page

def test_the_page_of_a_book_is_whole_and_says_what_it_is(journal, tmp_path):
    j = one(journal, CLOSE, WEIGHTS, name='mine', params=dict(window=5), caveats=('simulated prices',))
    html = tearsheet(j.sheet)
    assert (loads(html) == [] and 'made elsewhere' in html and 'SIMULATED' in html
            and 'edge-free twin beside it' not in html)
    assert html == j.save(tmp_path / 'x.html').read_text(encoding='utf-8')
    r = tearsheet(one(journal, returns=ledger_returns(j.case.ledger), name='r').sheet)
    assert loads(r) == [] and 'turnover a year' not in r and 'no order was simulated' in r


def test_the_figures_are_json(journal):
    from gnn_quant.pipeline.evidence import packed
    json.dumps(packed(one(journal, BARS, WEIGHTS).evidence.figures), allow_nan=True)
