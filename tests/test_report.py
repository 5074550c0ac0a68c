"The report: what one page notebook cannot say about bad input, silence, numbers and the network"
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from gnn_quant.backtest.engine import ledger_returns

from gnn_quant.stats.performance import return_metrics
from gnn_quant.core import BadData, BadParams, toy_bars
from gnn_quant.evidence.collect import Evidence, StrategyCase, collect_evidence
from gnn_quant.stats.paired import Gap, sharpe_draws, sharpe_gaps
from gnn_quant.stats.sharpe import sharpe
from gnn_quant.stats.ic import stationary_rows
from gnn_quant.evidence.trial_ledger import Count, count, recorded, trial_returns
from gnn_quant.data.target import make_target
from gnn_quant.data.events import correlation_events, edges_on
from gnn_quant.costs import Costs
from gnn_quant.market import simulate, orders_for_tomorrow
from gnn_quant.report import evidence_sections as ev
from gnn_quant.report.evidence_sections import absurd_banner, evidence_pages, prob, verdict_words
from gnn_quant.report.evidence_charts import _bars, curves, forest, histogram, strips
from gnn_quant.report.index import index_page, link
from gnn_quant.report.leaderboard import leaderboard_page
from gnn_quant.report.links import PUBLISHED, links_page
from gnn_quant.report.markup import loads, num, text
from gnn_quant.report.tear_sheet import ic_gaps, judgement, tearsheet
from gnn_quant.report.run_sections import unfilled_words
from gnn_quant.report.tear_sheet_data import TearSheet, absurd, alarms, compare, ic_frame, page_verdict
from gnn_quant.report.quantstats import align, metric_rows, month_returns, qs_parts, quantstats_pages, tail_risk
from gnn_quant.report.comparison import best_of, comparison_sentence
from gnn_quant.storage.files import plain

EVIL = '" onload="alert(0)" x="><script>alert(1)</script><img src=x onerror=alert(2)>$x_1$&'
BARS = toy_bars(n=6, t=420)
PX = BARS['Close']
EQUAL = PX * 0 + 1 / 6
SEVEN = Count(n=7, effective=7., returns=0, failed=1, abandoned=2, sharpe_sd=float('nan'), head='9c0d' * 16, seq=14)


def ranked(s, k=3): return s.rank(axis=1).gt(6 - k).div(k).where(s.notna().all(axis=1))


def make(bars=BARS, **more):
    score = -PX.pct_change(5, fill_method=None)
    weights = {'TGAT': ranked(score), 'edge-free twin': ranked(score, 2), 'ridge': ranked(score, 4),
               'equal weight': EQUAL}
    ledgers = {n: simulate(w, bars, Costs()) for n, w in weights.items()}
    base = dict(strategies=ledgers, benchmark=PX.mean(axis=1).rename('SP500'),
                data=dict(name='us20', hash='ab' * 32, source='test'), run=dict(id='r1'), trials=SEVEN,
                scores={'TGAT': score}, target=make_target(bars, 5), costs=Costs(), draws=100)
    return TearSheet(**base | more)


@pytest.fixture(scope='module')
def sheet(): return make()


@pytest.fixture(scope='module')
def page(sheet): return tearsheet(sheet)


@pytest.fixture
def quick(monkeypatch):
    "Pages without those of QuantStats, which take seconds and are tested on their own"
    monkeypatch.setattr('gnn_quant.report.tear_sheet.quantstats_pages', lambda *a: '')


class Reader(HTMLParser):
    "Tags, attributes and visible words of a page"
    def __init__(self, html):
        super().__init__()
        self.tags, self.attrs, self.words = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, k, v or '') for k, v in attrs]

    def handle_data(self, data): self.words.append(data)


def words(html): return re.sub(r'\s+', ' ', ' '.join(Reader(html).words))


# --- offline --------------------------------------------------------------------------------------

def test_the_page_loads_nothing(page):
    r = Reader(page)
    assert loads(page) == []
    assert not [a for a in r.attrs if a[1].split(':')[-1] in ('src', 'srcset')
                or (a[1].split(':')[-1] == 'href' and not a[2].startswith('#'))]
    assert not {'script', 'link', 'iframe', 'object', 'embed', 'base'} & set(r.tags)
    assert 'url(http' not in page and '@import' not in page and '<?xml' not in page and page.count('<!DOCTYPE') == 1
    assert page.count('<style') == 1, 'a style rule of a picture would hold for the whole page'
    outside = set(re.findall(r'https?://[^\s"\'<>)]+', page))
    assert outside <= {'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'}, (
        'names of languages, never fetched')


def test_the_policy_forbids_the_browser_to_fetch(page):
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'none'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in page


@pytest.mark.parametrize('bad', [
    '<img src="http://a/b.png">', '<link rel=icon href=//a/b.ico>', '<script src="x.js"></script>',
    '<style>@import "http://a";</style>', '<p style="background:url(http://a/b)">',
    '<svg><image xlink:href="http://a/b.png"/></svg>', '<iframe src="/x"></iframe>', '<use href="x.svg#a"/>'])
def test_loads_sees_every_way_of_loading(bad): assert loads(f'<main>{bad}</main>')


@pytest.mark.filterwarnings('ignore')
def test_quantstats_own_page_would_load(sheet, tmp_path):
    from gnn_quant.report.quantstats import qs
    r = page_verdict(sheet).ret
    qs.html(r['TGAT'], r['SP500'], output=str(tmp_path / 'theirs.html'), match_dates=False)
    assert loads((tmp_path / 'theirs.html').read_text()) == ['https://qtpylib.io/favicon.ico']


# --- the same bytes, and no traces ----------------------------------------------------------------

def test_the_same_sheet_gives_the_same_bytes(page):
    assert tearsheet(make()) == page
    assert not re.search(r'dc:date|0x[0-9a-f]{8,}|/tmp/|/home/|/root/', page)


def test_styles_of_the_caller_are_left_alone(sheet, page):
    import matplotlib.pyplot as plt
    with mpl.rc_context({'font.family': ['serif'], 'lines.linewidth': 7, 'axes.facecolor': 'red',
                         'axes.linewidth': 9, 'xtick.labelsize': 30, 'svg.hashsalt': None}):
        before, open_figures, html = dict(mpl.rcParams), plt.get_fignums(), tearsheet(sheet)
        assert dict(mpl.rcParams) == before and plt.get_fignums() == open_figures
    assert html == page, 'the style of the caller leaks into the page'


def test_ids_never_mean_two_things_on_one_page(page):
    defs = {}
    for svg in re.findall(r'<svg.*?</svg>', page, re.S):
        for kind, name, body in re.findall(r'<(clipPath|path) id="([^"]+)"(.*?)(?:</clipPath>|/>)', svg, re.S):
            assert defs.setdefault((kind, name), body) == body


# --- escaping -------------------------------------------------------------------------------------

def test_everything_from_data_is_escaped():
    names = dict(zip(PX.columns, [EVIL, *PX.columns[1:]]))
    bars = BARS.rename(columns=names)
    led = simulate(EQUAL.rename(columns=names), bars, Costs())
    s = make(strategies={EVIL: led, 'equal weight': led}, benchmark=PX['AAA'].rename(EVIL),
             data=dict(name=EVIL, hash=EVIL), run={EVIL: EVIL}, title=EVIL, trials=replace(SEVEN, head=EVIL),
             caveats=(EVIL,), features=(EVIL,), left_out={EVIL: EVIL}, design={EVIL: EVIL}, agreement={EVIL: 1e-9},
             scores={EVIL: PX.rename(columns=names)}, target=make_target(bars, 5),
             folds=pd.DataFrame({EVIL: [EVIL]}), edges=edges_on(correlation_events(bars, top=2), bars.index[-1]),
             orders=orders_for_tomorrow(led, EQUAL.rename(columns=names), bars),
             history=pd.DataFrame({'model': [EVIL], 'epoch': [0], 'train_loss': [1.]}), quarantine=pd.DataFrame(
                 dict(date=[BARS.index[0]], symbol=[EVIL], field=[EVIL], value=[0.], reason=[EVIL])))
    html = tearsheet(s)
    r = Reader(html)
    assert not {'script', 'img'} & set(r.tags) and not [a for a in r.attrs if a[1].startswith('on')]
    assert '<script>alert(1)' in ' '.join(r.words) and loads(html) == []
    drawn = [svg.split('>', 1) for svg in re.findall(r'<svg.*?</svg>', html, re.S)]
    ours, theirs = [body for root, body in drawn if '$x_1$' in root], [body for _, body in drawn if 'alert(1)' in body]
    assert len(ours) == 2 and len(theirs) > 4 and all('$x_1$' in body for body in ours + theirs), (
        'a dollar sign in a name is no formula')


def test_index_is_escaped():
    run = (dict.fromkeys(('name', 'id', 'asof', 'status', 'started', 'data', 'error', 'cell', 'notebook', 'page'),
                         EVIL) | dict(figures={EVIL: EVIL}))
    r = Reader(index_page([run]))
    assert r.tags.count('script') == 1 and 'img' not in r.tags and not [a for a in r.attrs if a[1].startswith('on')]
    assert not [a for a in r.attrs if a[0] == 'a' and not re.fullmatch(r'[\w%./-]+', a[2])]


# --- what a page cannot be built without ----------------------------------------------------------

@pytest.mark.parametrize('trials', [None, 0, -1, 2.5, True, '3', float('nan'), 7, replace(SEVEN, n=0),
                                    replace(SEVEN, effective=8.), replace(SEVEN, effective=float('nan'))])
def test_no_page_without_a_count_of_trials(sheet, trials):
    with pytest.raises(BadParams, match='trials'): replace(sheet, trials=trials)


def test_trials_are_missing_by_default():
    with pytest.raises(BadParams, match='trials: missing'): TearSheet({}, PX['AAA'], dict(name='x', hash='y'), {})
    with pytest.raises(TypeError):
        TearSheet({}, PX['AAA'], dict(name='x', hash='y'), {}, SEVEN), 'a count is handed in by name'


@pytest.mark.parametrize('wrong, word', [(dict(data=dict(name='x')), 'hash'), (dict(fill='Vwap'), 'fill'),
                                         (dict(strategies={}), 'strategies')])
def test_incomplete_sheets_are_refused(sheet, wrong, word):
    with pytest.raises(BadParams, match=word): replace(sheet, **wrong)


def test_strategies_on_other_rows_are_refused(sheet):
    short = simulate(EQUAL.iloc[:-5], BARS.iloc[:-5], Costs())
    with pytest.raises(BadData, match='other rows'): replace(sheet, strategies=sheet.strategies | {'short': short})
    with pytest.raises(BadData, match='Ledger'): replace(sheet, strategies={'equity only': PX['AAA']})


# --- banners --------------------------------------------------------------------------------------

@pytest.mark.parametrize('more',
                         [dict(simulated=True), dict(data=dict(name='toy', hash='x', source='SIMULATED market')),
                          dict(caveats=('The market is simulated.',))])
def test_an_invented_market_is_shouted(sheet, quick, more):
    html = tearsheet(replace(sheet, **more))
    assert ('<p class="banner alarm">SIMULATED' in html and html.index('SIMULATED') < html.index('Side by side')
            and 'On SIMULATED' in html)


def test_a_real_market_is_not_called_invented(page): assert 'SIMULATED' not in page


def test_the_absurd_raises_a_banner(sheet, quick):
    prophet = simulate(ranked(PX.shift(-2) / PX.shift(-1), 1).fillna(0.), BARS, Costs(0., 0.))
    s = replace(sheet, strategies={'TGAT': prophet} | {k: v for k, v in sheet.strategies.items() if k != 'TGAT'},
                scores={'TGAT': make_target(BARS, 5).frame})
    said = alarms(compare(s, page_verdict(s)), page_verdict(s))
    assert ([w for w in said if 'TGAT: a Sharpe' in w] and [w for w in said if 'TGAT: a growth' in w]
            and [w for w in said if 'rank IC' in w])
    red = re.findall(r'<p class="banner alarm">(.*?)</p>', tearsheet(s))
    assert (all(text(w) in red[0] for w in said) and 'audit was not run' in red[1]
            and not [w for w in said if 'ridge' in w])


# --- verdict --------------------------------------------------------------------------------------

DAYS = pd.to_datetime(['2000-01-03', '2022-12-28'])


@pytest.mark.parametrize(
    'twin, says',
    [(Gap('t', .4, .3, .1, .5),
      'ahead of t (0.40; difference +0.30, 95 % interval +0.10 to +0.50), so the graph helped in this sample'),
     (Gap('t', .9, -.3, -.5, -.1),
      'behind t (0.90; difference −0.30, 95 % interval −0.50 to −0.10), so the graph hurt in this sample'),
     (Gap('t', .6, -.1, -.3, .1), 'not distinguishable from t (0.60; '
      'difference −0.10, 95 % interval −0.30 to +0.10), so the graph did not help'),
     (Gap('t', .4, .1, -.1, .3), 'not distinguishable from t (0.40; difference +0.10, '
      '95 % interval −0.10 to +0.30), so there is no evidence that the graph helped'),
     (Gap('t', .4, .1, np.nan, np.nan),
      'not comparable, for want of rows, with t (0.40; difference +0.10), so what the graph adds is unknown'),
     (Gap('t', np.nan, np.nan, np.nan, np.nan),
      'not comparable, since one of them never moved, with t, so what the graph adds is unknown'),
     (None, 'without an edge-free twin beside it, so what the graph adds is unknown')])
def test_every_branch_about_the_graph(twin, says):
    v = comparison_sentence('TGAT', .5, twin, [Gap('ridge', .2, .3, .1, .5)], 'us20', *DAYS)
    assert (v == f'On us20, 2000-01-03 to 2022-12-28, after costs, TGAT earned a Sharpe of 0.50: {says}; '
            'ahead of ridge (0.20; difference +0.30, 95 % interval +0.10 to +0.50).')
    assert 'significan' not in v


def test_other_branches_of_the_sentence():
    assert 'lost money, with a Sharpe of −0.30' in comparison_sentence('TGAT', -.3, None, [], 'x', *DAYS)
    assert comparison_sentence('TGAT', np.nan, None, [], 'x', *DAYS).endswith(
        'never moved: there is nothing to compare.')
    assert comparison_sentence('TGAT', .5, None, [], 'x', *DAYS, fate='lost everything on 2008-10-10').endswith(
        'lost everything on 2008-10-10: there is nothing to compare.')
    assert comparison_sentence('TGAT', .5, None, [], 'x', *DAYS, simulated=True).startswith('On SIMULATED x')


def test_an_interval_that_touches_zero_is_level():
    assert Gap('p', 0, .1, 0., .2).side == Gap('p', 0, -.1, -.2, 0.).side == 'level'


def test_the_page_says_what_the_numbers_say(sheet, page):
    sentence, chance, gaps = judgement(sheet, page_verdict(sheet))
    assert text(sentence) in page and text(chance) in page
    assert {g.peer for g in gaps} == {'edge-free twin', 'ridge', 'equal weight', 'SP500'}
    assert ('7 trials have been counted so far, worth 7.0 independent ones' in page and '9c0d' * 16 in page
            and 'failed</dt><dd>1<' in page and 'abandoned</dt><dd>2<' in page)


def test_a_strategy_that_never_traded_is_named(sheet, quick):
    idle = simulate(PX * np.nan, BARS, Costs())
    html = tearsheet(
        replace(sheet, strategies={'TGAT': idle} | {k: v for k, v in sheet.strategies.items() if k != 'TGAT'}))
    assert ('TGAT took no position: there is nothing to compare.' in html
            and 'TGAT took no position, and is left out' in html)
    assert ('ridge took no position, and is left out'
            in tearsheet(replace(sheet, strategies=sheet.strategies | {'ridge': idle})))


def test_quantstats_is_not_asked_about_a_strategy_that_never_traded(sheet, monkeypatch):
    monkeypatch.setattr('gnn_quant.report.tear_sheet.quantstats_pages', lambda *a: pytest.fail('it was asked'))
    tearsheet(replace(sheet, strategies={'TGAT': simulate(PX * np.nan, BARS, Costs())}
                      | {k: v for k, v in sheet.strategies.items() if k != 'TGAT'}))


def test_a_strategy_that_lost_everything_is_named(sheet):
    crash = BARS.copy()
    crash.loc[crash.index[200]:, (slice(None), 'AAA')] *= 3.
    w = PX * 0.
    w['AAA'] = -1.
    ruin = simulate(w.where(np.arange(len(w))[:, None] * np.ones(6) == 100), crash, Costs())
    assert (ruin.equity <= 0).any()
    j = page_verdict(replace(sheet, strategies=sheet.strategies | {'ridge': ruin}))
    assert j.fate['ridge'].startswith('lost everything on 2020-') and 'ridge' not in j.ret


def test_rows_before_the_first_position_are_cut(sheet):
    late = simulate(EQUAL.where(np.repeat(np.asarray(EQUAL.index > EQUAL.index[150])[:, None], 6, axis=1)), BARS,
                    Costs())
    j = page_verdict(replace(sheet, strategies=sheet.strategies | {'ridge': late}))
    assert j.cut == 152 and (j.ret.index[0] == BARS.index[152]) and (j.ret != 0).any(axis=1).all()
    x = compare(replace(sheet, strategies=sheet.strategies | {'ridge': late}), j)
    assert np.isclose(x.sharpe['ridge'], return_metrics(late.equity.pct_change().iloc[152:])['sharpe'])


def test_a_neutral_portfolio_answers_for_itself(sheet, page):
    neutral = simulate((ranked(PX) - 1 / 6).fillna(0.), BARS, Costs())
    s = replace(sheet, strategies={'TGAT': neutral} | {k: v for k, v in sheet.strategies.items() if k != 'TGAT'})
    j = page_verdict(s)
    x = compare(s, j)
    assert (abs(x.net_exposure['TGAT']) < .1 and np.isnan(x.lead_break_even_bp['TGAT'])
            and np.isfinite(x.lead_break_even_bp['ridge']))
    assert (f"the return of TGAT has a Sharpe of {num(x.sharpe['TGAT'])}" in judgement(s, j)[1]
            and 'the lead over equal weight of TGAT' in page)


# --- bootstrap and hurdle -------------------------------------------------------------------------

def test_blocks_have_the_mean_length_asked_for():
    for block in (1, 5, 40):
        rows = stationary_rows(400, 200, block, np.random.default_rng(1))
        assert rows.min() == 0 and rows.max() == 399
        assert abs((np.diff(rows, axis=1) % 400 == 1).mean() - (1 - 1 / block)) < .02


def test_intervals_cover_as_often_as_they_say():
    rng, hit, runs = np.random.default_rng(5), 0, 120
    for k in range(runs):
        base = rng.normal(0, .01, 750)
        r = pd.DataFrame({'a': base + rng.normal(0, .004, 750), 'b': base + rng.normal(0, .004, 750)})
        hit += sharpe_gaps(r, draws=200, block=10, seed=k)[0].side == 'level'
    assert .87 <= hit / runs <= .99, f'{hit} of {runs} null differences called level, about 95 % wanted'


def test_the_bootstrap_repeats_and_refuses():
    r = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 2)), columns=['a', 'b'])
    assert (sharpe_draws(r, 50, seed=3).equals(sharpe_draws(r, 50, seed=3))
            and not sharpe_draws(r, 50, seed=3).equals(sharpe_draws(r, 50, seed=4)))
    same = sharpe_draws(r.assign(b=r['a']), 50)
    assert (same['a'] == same['b']).all(), 'strategies must share the resampled rows'
    with pytest.raises(BadData): sharpe_draws(r.mask(r > 2), 50)
    with pytest.raises(BadParams): sharpe_draws(r, 50, block=.5)
    assert sharpe_gaps(r[:60])[0].side == 'short' and sharpe_gaps(r.assign(b=0.), 50)[0].side == 'flat'


def test_the_hurdle_grows_with_trials_and_shrinks_with_history():
    grown = [best_of(n, 2520, 252) for n in (1, 2, 10, 100, 10_000)]
    assert grown[0] == 0 and (np.diff(grown) > 0).all()
    assert np.isclose(best_of(10, 2520 * 4, 252), best_of(10, 2520, 252) / 2)


# --- QuantStats -----------------------------------------------------------------------------------

def number(s): return float(s.replace('−', '-').replace(' %', '').replace(',', '')) / (100 if '%' in s else 1)


@pytest.fixture(scope='module')
def returns():
    rng, index = np.random.default_rng(3), pd.bdate_range('2016-01-01', periods=900)
    return pd.DataFrame({'TGAT': rng.standard_t(4, 900) * .007 + .0004, 'SP500': rng.normal(.0003, .01, 900)}, index)


def test_shared_figures_agree_with_ours(returns):
    rows = metric_rows(qs_parts(returns['TGAT'], returns['SP500'], 'TGAT', 'SP500')['metrics'], returns['TGAT'],
                       returns['SP500'])
    for col, name in (('strategy', 'TGAT'), ('benchmark', 'SP500')):
        r, ours = returns[name], return_metrics(returns[name])
        level = np.r_[1., (1 + r).cumprod()]
        ours['max_drawdown'] = (level / np.maximum.accumulate(level)).min() - 1
        for theirs, key, tol in (('CAGR', 'annual_return', 1e-4), ('Sharpe', 'sharpe', .006),
                                 ('Sortino', 'sortino', .006), ('Cumulative Return', 'total_return', 1e-4),
                                 ('Volatility (ann.)', 'volatility', 1e-4), ('Max Drawdown', 'max_drawdown', 1e-4)):
            assert abs(number(rows.loc[theirs, col]) - ours[key]) <= tol, theirs


def test_what_misleads_is_left_out_and_said(returns, page):
    made = qs_parts(returns['TGAT'], returns['SP500'], 'TGAT', 'SP500')['metrics']
    rows = metric_rows(made, returns['TGAT'], returns['SP500'])
    gone = {'Prob. Sharpe Ratio', 'Risk of Ruin', 'Treynor Ratio', 'Daily Value-at-Risk',
            'Expected Shortfall (cVaR)', '5Y (ann.)', '10Y (ann.)'}
    assert all(g in made for g in gone), 'a new QuantStats has other rows: look again at what misleads'
    assert not gone & set(rows.index) and '3Y (ann.)' in rows.index
    assert all(w in words(page)
               for w in ('Prob. Sharpe Ratio:', 'Monte Carlo', 'normal-only', 'windows longer than the history'))


def test_tail_risk_is_read_from_the_returns(returns):
    r = returns['TGAT']
    var, es = tail_risk(r)
    assert (r < var).sum() == 45 and np.isclose(es, r.nsmallest(45).mean())
    rows = metric_rows(qs_parts(r, returns['SP500'], 'TGAT', 'SP500')['metrics'], r, returns['SP500'])
    assert np.isclose(number(rows.loc['VaR 95 % of a session (historical)', 'strategy']), var, atol=5e-5)


def test_a_short_history_has_no_quantstats_pages():
    s = make(strategies={'TGAT': simulate(EQUAL.iloc[:100], BARS.iloc[:100], Costs())}, scores={}, target=None)
    html = tearsheet(s)
    assert 'Left out: 99 rows with a position, wanted at least 252.' in html and 'for want of rows' in html


# --- another calendar -----------------------------------------------------------------------------

def test_a_benchmark_that_misses_days_is_aligned_and_said(sheet, quick):
    own = PX.mean(axis=1).rename('SP500')
    holes = pd.concat([own.drop(own.index[[100, 101, 300]]),
                       pd.Series([150.], [own.index[50] + pd.Timedelta(hours=12)])]).sort_index().rename('SP500')
    j = page_verdict(replace(sheet, benchmark=holes))
    assert (j.bench.missing, j.bench.extra) == (3, 1)
    assert (j.ret['SP500'].loc[own.index[[100, 101, 300]]] == 0).all(), 'a missing day carries the last level'
    assert np.isclose((1 + j.ret['SP500']).prod(), (1 + page_verdict(sheet).ret['SP500']).prod()), 'no move is lost'
    assert j.ret.drop(columns='SP500').equals(page_verdict(sheet).ret.drop(columns='SP500')), (
        'strategies do not depend on the benchmark')
    assert ('on 3 of 415 rows it had no level and carries its last one; 1 dates of its own are passed over'
            in words(tearsheet(replace(sheet, benchmark=holes))))


@pytest.mark.parametrize('wrong, word',
                         [('SPY', 'nothing is downloaded'), (PX['AAA'].iloc[50:], 'begins'),
                          (PX['AAA'].iloc[:300], 'days old'), (PX['AAA'].pct_change(), 'not positive')])
def test_a_benchmark_that_would_mislead_is_refused(wrong, word):
    with pytest.raises(BadData, match=word): align(wrong, PX.index[10:])


def test_no_benchmark_level_comes_from_the_future():
    holes = PX['AAA'].drop(PX.index[[100, 200]])
    for cut in (99, 100, 150):
        bent = holes.where(holes.index <= PX.index[cut], holes * 7)
        assert align(bent, PX.index).level.iloc[:cut + 1].equals(align(holes, PX.index).level.iloc[:cut + 1])


# --- the whole page -------------------------------------------------------------------------------

def test_the_page_is_in_the_promised_order(sheet):
    s = replace(sheet, folds=pd.DataFrame(dict(fold=[0], test_rows=[20])),
                edges=edges_on(correlation_events(BARS, top=2), BARS.index[-1]), agreement={'TGAT': 2e-9},
                features=('ret_5',), left_out={'gap': 'no open'}, caveats=('Survivorship.',),
                history=pd.DataFrame(dict(epoch=[0, 1], train_loss=[1., .5])))
    html = tearsheet(s)
    heads = re.findall(r'<h2>(.*?)</h2>', html)
    theirs = [h for h in heads if h.startswith('QuantStats')]
    assert (heads == ['Side by side', 'Growth and drawdown', 'Information coefficient over time', 'Learning',
                      *theirs, 'Evidence', 'Trials', 'What ran', 'Data', 'Costs and fills', 'Walk-forward',
                      'Agreement of engines', 'Features', 'Caveats of the data', 'Graph on the last date']
            and len(theirs) == 4)
    assert ('Two independent engines differ by at most 2e-09 in currency' in words(html)
            and 'of any of the 1 equity curves' in words(html))
    assert (html.index('class=verdict') < html.index('<h2>') and '2e-09 in currency' in html
            and 'next row&#39;s open' in html)
    assert (set(re.findall(r'href="#(\w+)"', html[:html.index('<h2>')]))
            <= set(re.findall(r'<section id="(\w+)"', html))), 'a link of the contents leads nowhere'


def test_the_walk_is_told_in_rows(sheet):
    html = words(tearsheet(replace(sheet, design=dict(horizon=5, horizons=[5, 1, 20], span=6, purge=21, gap=26))))
    said = html[html.index('Walk-forward'):]
    assert all(w in said
               for w in ('horizon 5 rows', 'horizons 5, 1, 20 rows', 'span 6 rows', 'purge 21 rows', 'gap 26 rows'))


def test_parameters_have_units_and_no_brackets(sheet, quick):
    html = words(
        tearsheet(replace(sheet, run={'id': 'r1', 'train models': ['tgat', 'ridge'], 'signals slippage': .0005,
                                      'signals target_vol': .1, 'backtest cash': 1e6, 'train tensorboard': False})))
    assert all(w in html for w in (
        'tgat, ridge', '5 bp of the price, one way', '10 % a year', '1,000,000 in currency',
        'commission 5 bp and slippage 5 bp of the traded value, one way')) and "['tgat'" not in html


def test_an_order_that_was_not_filled_has_its_reason(sheet, page):
    led = sheet.strategies['equal weight']
    said = re.search(r'equal weight, orders (.*?) Walk-forward', words(page))[1]
    assert (len(led.unfilled) and said.startswith(f'{len(led.unfilled):,} not or not wholly filled, of ')
            and f'{len(led.unfilled):,} out of cash (prices rose' in said and 'of what it wanted' in said)
    holes = BARS.copy()
    holes.loc[BARS.index[200:203], ('Open', 'AAA')] = np.nan
    assert 'no price at the fill' in unfilled_words(simulate(EQUAL, holes, Costs()))


def test_a_difference_in_rank_ic_has_its_interval(sheet, quick):
    score = sheet.scores['TGAT']
    noisy = (score + 3 * score.std(axis=None)
             * pd.DataFrame(np.random.default_rng(0).normal(size=score.shape), score.index, score.columns))
    html = words(tearsheet(replace(sheet, scores={'edge-free twin': noisy, 'TGAT': score})))
    assert 'Paired differences in rank IC' in html and 'Paired differences in rank IC' not in words(
        tearsheet(sheet)), 'one score has nothing to be compared with'
    ic = ic_frame(replace(sheet, scores={'TGAT': score, 'edge-free twin': noisy}), PX.index)
    (peer, own, g), = ic_gaps(ic, 5, draws=300)
    assert (peer == 'edge-free twin' and np.isclose(g.diff, ic['TGAT'].mean() - ic['edge-free twin'].mean())
            and g.lo < g.diff < g.hi)
    assert (ic_gaps(ic.iloc[:50], 5)[0][2].side == 'short'
            and ic_gaps(ic[['TGAT', 'TGAT']].set_axis(['a', 'b'], axis=1), 5, draws=50)[0][2].diff == 0)


def test_a_model_fitted_in_one_step_has_no_dot_among_the_curves():
    from gnn_quant.report.charts import learning_chart
    h = pd.DataFrame(dict(model=['tgat', 'tgat', 'ridge'], fold=0, epoch=[1, 2, 1], train_loss=[1., .5, .3]))
    assert (learning_chart(h) == learning_chart(h[h['model'] == 'tgat'])
            and 'ridge' in learning_chart(h[h['model'] == 'ridge']))


def test_what_was_not_given_is_said(page):
    assert all(w in words(page) for w in ('Walk-forward folds: not given.', 'Quarantine: not given.',
                                          'Used: not given.', 'None given.', 'rests on one engine'))


def test_closes_only_are_filled_at_closes(sheet, quick):
    assert 'filled at the next row&#39;s close' in tearsheet(replace(sheet, fill='Close'))


@pytest.mark.parametrize('value, form, shown',
                         [(-.1234, '.1%', '−12.3 %'), (-.0001, '.2f', '0.00'), (None, '.2f', '–'),
                          (np.inf, '.2f', '–'), (0., '.1%', '0.0 %'), (np.float32(1.5), '+.2f', '+1.50')])
def test_numbers(value, form, shown): assert num(value, form) == shown


def test_sharpe_of_nothing_is_not_zero():
    assert (np.isnan(sharpe(pd.Series([0., 0., 0.])))
            and sharpe(pd.DataFrame({'a': [0., 0.], 'b': [.1, .2]})).isna().tolist() == [True, False])


# --- index ----------------------------------------------------------------------------------------

RUNS = [dict(name='train', id='one', asof='2022-12-27', status='finished', started='2026-01-01T10:00', data='us20',
             figures=dict(Sharpe=.4812, trials=12), page='train/2022-12-27/one/tearsheet.html',
             notebook='train/2022-12-27/one/train.ipynb'),
        dict(name='train', id='two', asof='2022-12-28', status='failed', started='2026-01-02T10:00', data='us20',
             cell=7, error='BadData: 2 duplicate dates', notebook='train/failed/two/train.ipynb'),
        dict(name='daily', id='three', status='interrupted', started='2026-01-03T10:00',
             notebook='.staging/three/daily.ipynb'), dict(id='four', status='damaged')]


def test_failed_and_interrupted_runs_stand_in_the_index():
    html = index_page(RUNS)
    rows = re.findall(r'<tr data-status="(\w+)">', html)
    assert rows == ['interrupted', 'failed', 'finished', 'damaged'], 'newest first, undated last'
    assert ('cell 7: BadData: 2 duplicate dates' in html and 'href="train/failed/two/train.ipynb"' in html
            and 'href="train/2022-12-27/one/tearsheet.html"' in html)
    assert 'Sharpe 0.4812' in html and loads(html) == [] and index_page(RUNS[::-1]) == html


def test_counts_are_written_out_and_times_are_not_broken():
    html = index_page([dict(name='graph', status='finished', asof='2020-01-18T070424',
                            started='2026-01-01 10:00:00',
                            figures={'events': 24780, 'cash': 1e6, 'kept': .250549, 'on': True})])
    assert 'events 24,780, cash 1,000,000, kept 0.2505, on True' in html and 'e+0' not in html
    assert '<td class=d>2020-01-18<br>07:04:24</td>' in html and '.d{white-space:nowrap}' in html


def test_the_model_under_judgement_comes_first_and_any_page_is_linked():
    from gnn_quant.runs.engine import facts_of
    from gnn_quant.runs.folders import Run
    models = ['lightgbm', 'edge_free', 'ridge', 'tgat', 'mlp', 'gru']
    m = dict(run='study', id='x', status='finished', models=models,
             metrics={f'{k} rank IC': .01 for k in sorted(models)} | dict(data='us20', folds=9),
             files={'study.ipynb': '', 'b.html': '', 'a.html': '', 'checkpoints/z.html': ''})
    from pathlib import Path
    told = facts_of(Run(Path('/r/study/2020/x'), m, 'finished'))
    assert (list(told['figures'])[:3] == ['tgat rank IC', 'edge_free rank IC', 'lightgbm rank IC']
            and len(told['figures']) == 6 and told['page'] == 'study/2020/x/a.html')
    assert facts_of(Run(Path('/r/study/2020/x'), m | dict(files={'study.ipynb': ''}), 'finished'))['page'] == ''


def test_an_empty_index_says_so():
    html = index_page([])
    assert 'No run yet' in html and '<table' not in html and loads(html) == []


@pytest.mark.parametrize('path', ['/etc/passwd', '../secret', 'a/../../b', 'javascript:alert(1)', 'http://x/y',
                                  'JaVaScRiPt:x', '\\\\host\\x', 'data:text/html,x', ''])
def test_links_stay_below_the_index(path): assert 'href' not in link(path, 'x')


def test_the_index_needs_neither_quantstats_nor_matplotlib():
    import subprocess
    import sys
    code = ("import sys, gnn_quant.report.index; "
            "bad = {'quantstats', 'matplotlib', 'torch', 'statsmodels'} & set(sys.modules); assert not bad, bad")
    subprocess.run([sys.executable, '-c', code], check=True)


# --- ladder and links -----------------------------------------------------------------------------

def ladder_of(n):
    t = pd.DataFrame({'seeds': 5, 'IC': .01, 'ICIR': .1, 'rank IC': .02, 't': 2., 'rank IC sd': .001,
                      'vs edge_free': .01, 'edge_free lo': .001, 'edge_free hi': .02, 'edge_free side': 'ahead',
                      'days': 100., 'names': 9.},
                     index=pd.Index([f'rung {i}' for i in range(n - 1)] + ['tgat', 'edge_free'], name='model'))
    t.loc['edge_free', ['vs edge_free', 'edge_free lo', 'edge_free hi']] = np.nan
    return t


def test_a_ladder_says_how_many_intervals_it_shows_and_where_it_is_simulated():
    h = pd.DataFrame(dict(rung=['tgat'], fold=0, epoch=[1], train_loss=[0.], valid_ic=[0.]))
    html = leaderboard_page(ladder_of(20), 'toy', 9, h, pd.DataFrame({'net Sharpe': [.5]}, ['tgat']), simulated=True,
                       ran=dict(data='toy, content abc', costs='commission 5 bp'))
    said = words(html)
    assert ('<h1>Leaderboard on toy</h1>' in html and said.count('20 intervals, not adjusted for their number') == 2
            and said.count('They resample days, not seeds.') == 2)
    assert (re.findall(r'<h2>(.*?)</h2>', html)
            == ['What was run', 'Rungs on SIMULATED prices', 'Differences on SIMULATED prices',
                'After costs on SIMULATED prices'])
    assert ('commission 5 bp.' in said and 'toy, content abc' in said and loads(html) == []
            and 'SIMULATED' not in leaderboard_page(ladder_of(2), 'us20', 9, h))


def test_a_ladder_has_one_sign_for_what_does_not_apply():
    row = re.search(r'<tr><th>edge_free</th>(.*?)</tr>', leaderboard_page(
        ladder_of(2), 'x', 1, pd.DataFrame(dict(rung=['tgat'], fold=0, epoch=[1], train_loss=[0.], valid_ic=[0.]))))[
            1]
    cells = re.findall(r'<td[^>]*>(.*?)</td>', row)
    assert cells[-1] == '–' and all(cells) and 'nan' not in row


def test_later_fills_are_shown_where_given():
    h = pd.DataFrame(dict(rung=['tgat'], fold=0, epoch=[1], train_loss=[0.], valid_ic=[0.]))
    html = leaderboard_page(ladder_of(2), 'x', 1, h, later=pd.DataFrame({'rank_ic': [.0123], 't': [1.5]}, ['tgat']))
    assert ('Filled one row later' in html and '0.0123' in html and '1.50' in html
            and 'Filled' not in leaderboard_page(ladder_of(2), 'x', 1, h))


def test_published_links_never_stand_beside_simulated_ones():
    t = pd.DataFrame({'test_ap': [80., 82.], 'test_auc': [81., 83.]},
                     pd.MultiIndex.from_tuples([('tgat', '0'), ('tgat', '1')], names=['model', 'seed']))
    toy, own, uci = (words(links_page(t, None, dict(contacts='x'), *how))
                     for how in ((True, False), (False, False), (False, True)))
    assert 'SIMULATED' in toy and '81.00' in toy and not any(str(v) in toy + own for v in PUBLISHED.values())
    assert 'PUBLISHED, not made here' in uci and '79.63' in uci and 'SIMULATED' not in uci + own


def test_the_links_run_leaves_a_page_and_a_table(tmp_settings):
    from gnn_quant.runs.engine import page_of, run
    r = run('links', dict(models=['tgat'], seeds=[0], epochs=2), tmp_settings, quiet=True)
    html, csv = page_of(r).read_text(), pd.read_csv(r.path / 'links.csv')
    assert (page_of(r).name == 'links.html' and 'SIMULATED' in html
            and '76.20' not in html + (r.path / 'links.ipynb').read_text() and html.count('<svg') == 1)
    assert csv['model'].tolist() == ['edge_bank', 'tgat'] and csv['test_ap'].between(0, 100).all()


# --- evidence -------------------------------------------------------------------------------------

SECTIONS = ['how far to believe it', 'look-ahead audit', 'trials and deflated Sharpe', 'the best of many',
            'permutations', 'headline figures with intervals', 'costs and delays', 'regimes',
            'what the graph is worth', 'the ranking', 'attention by neighbour', 'controls', 'risk forecasts', 'hashes']
AUDIT = dict(passed=True, cuts=['2020-06-01', '2021-02-01'], stages=dict(features='same', edges='same'),
             findings=[], run='audit-1')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A sheet whose evidence was gathered, every section of it, on the toy market"
    path = tmp_path_factory.mktemp('ledger') / 'trials.jsonl'
    score = {k: -PX.pct_change(d, fill_method=None)
             for k, d in (('TGAT', 5), ('edge-free twin', 6), ('rewired', 4), ('ridge', 10))}
    weights = {k: ranked(s) for k, s in score.items()} | {'equal weight': EQUAL}
    ledgers = {k: simulate(w, BARS, Costs()) for k, w in weights.items()}
    for k, led in ledgers.items():
        with recorded(path, k, {}, 'simulated') as t: t.returns = ledger_returns(led)
    days = PX.index[[100, 200, 300]]
    tables = dict(audit=pd.DataFrame({c: AUDIT['stages'] for c in AUDIT['cuts']}).rename_axis('stage'),
                  attention=pd.DataFrame(dict(date=days.repeat(2), asker='AAA', neighbour=['BBB', 'CCC'] * 3,
                                              relation='corr', weight=[.5, .2] * 3, age=2.)),
                  controls=pd.DataFrame(dict(rank_ic=[.3], lo=[.2], hi=[.4], expected=['found'], verdict=['holds']),
                                        pd.Index(['planted in nodes'], name='control')),
                  warmup=pd.DataFrame({'1': [0.], 'where': ['']}, pd.Index(['features'], name='stage')),
                  risk=pd.DataFrame(dict(test=['Kupiec'], p=[.4])))
    case = StrategyCase(weights, ledgers, BARS, Costs(), PX.mean(axis=1), count(path), trial_returns(path), score,
                make_target(BARS, 5), {'edge-free': 'edge-free twin', 'rewired': 'rewired'}, 'equal weight', AUDIT,
                tables, dict(bars='ab' * 32), 60)
    return make(strategies=ledgers, trials=case.count, evidence=collect_evidence(case), scores=score, draws=50)


@pytest.fixture(scope='module')
def shown(whole): return evidence_pages(whole.evidence, 'TGAT')


def told(html): return [re.sub(r'<.*?>', '', m) for m in re.findall(r'<p class=missing>(.*?)</p>', html)]


def test_every_section_is_there_and_none_is_missing(shown):
    html = shown
    assert re.findall(r'<h2>Evidence: (.*?)</h2>', html) == SECTIONS and told(html) == []
    assert html.count('<svg') >= 11 and html.count('aria-label="') == html.count('<svg'), 'a picture without words'
    assert not re.search(r'\bnan\b|\binf\b|None', ' '.join(Reader(html).words))


def test_what_was_not_run_is_said_in_every_section():
    html = evidence_pages(Evidence({}, {}), 'TGAT')
    assert re.findall(r'<h2>Evidence: (.*?)</h2>', html) == SECTIONS
    for part in re.split(r'<h2>', html)[2:]: assert 'class=missing><b>Not run:</b>' in part, part[:60]
    assert 'No verdict was reached' in html and '<svg' not in html


PARTS = dict(audit=ev.audit_part, trials=ev.trial_part, sharpe=ev.trial_part, selection=ev.selection_part,
             overfit=ev.selection_part, permutation=ev.permutation_part, bootstrap=ev.bootstrap_part,
             costs=ev.curve_part, delays=ev.curve_part, survivorship=ev.curve_part, capacity=ev.curve_part,
             regimes=ev.regime_part, twins=ev.twin_part, ic=ev.signal_part, quantiles=ev.signal_part,
             decay=ev.signal_part, months=ev.signal_part, models=ev.signal_part, attention=ev.attention_part,
             controls=ev.control_part, risk=ev.risk_part)


@pytest.mark.parametrize('key', PARTS)
def test_a_part_that_failed_leaves_its_reason(whole, key):
    figures = whole.evidence.figures | {key: dict(why=f'because <{key}> was too short')}
    html = PARTS[key](Evidence(figures, {k: v for k, v in whole.evidence.frames.items() if k != key}), 'TGAT')
    assert any(f'because &lt;{key}&gt; was too short.' in w for w in told(html)) and len(told(html)) == 1
    assert len(re.findall(r'<h2>Evidence: (.*?)</h2>', html)) == 1, 'the section stays'


def test_the_page_opens_with_how_far_to_believe_it(whole, quick):
    html = tearsheet(whole)
    said, earned = text(whole.evidence.figures['verdict']['sentence']), text(judgement(whole, page_verdict(whole))[0])
    assert html.index('<h1>') < html.index(said) < html.index(earned) < html.index('<h2>')
    heads = re.findall(r'<h2>(.*?)</h2>', html)
    assert (heads.index('Evidence: how far to believe it') < heads.index('What ran') and 'Trials' not in heads
            and loads(html) == [])
    assert 'only those of the evidence are adjusted' in html and 'No figure on this page is adjusted' not in html
    assert tearsheet(whole) == html


def test_quantstats_come_before_the_evidence(whole):
    heads = re.findall(r'<h2>(.*?)</h2>', tearsheet(whole))
    last = max(i for i, h in enumerate(heads) if h.startswith('QuantStats'))
    assert heads.index('Side by side') < last < heads.index('Evidence: how far to believe it')


def test_without_evidence_the_page_says_so(page):
    assert ('evidence was not gathered for this page, so no test of luck or of look-ahead stands behind it' in page
            and 'No figure on this page is adjusted for the number of trials' in page)


def test_evidence_of_another_count_is_refused(whole):
    other = Evidence(whole.evidence.figures | dict(trials=whole.evidence.figures['trials'] | dict(head='0' * 64)), {})
    with pytest.raises(BadData, match='gathered when the ledger ended at 000000000000'): replace(whole, evidence=other)


def test_numbers_of_the_evidence_reach_the_page(whole, shown):
    f, said = whole.evidence.figures, words(shown)
    s, o, p = f['sharpe'], f['overfit'], f['permutation']
    for shown in (f"Sharpe a year {num(s['sharpe'])}", f"DSR {num(s['dsr'], '.3f')}",
                  f"expected max Sharpe under H0 {num(s['hurdle'])}", f"trials counted {f['trials']['n']}",
                  f"failed {f['trials']['failed']}", f"in {num(o['pbo'], '.0%')} of them",
                  f"{p['dates']['draws']:,} draws", f"p = {prob(p['names']['p'])}",
                  f"Mean rank IC {num(f['ic']['mean'], '.4f')}", f"{prob(f['selection']['consistent'])} (lower",
                  'ab' * 32):
        assert shown in said, shown
    t = whole.evidence.frames['twins'].loc['edge-free']
    assert f"{num(t['diff'], '+.2f')} ({num(t['lo'], '+.2f')} to {num(t['hi'], '+.2f')})" in said
    assert (f"Sharpe {num(whole.evidence.frames['bootstrap'].loc['sharpe', 'value'])}, "
            f"{num(whole.evidence.frames['bootstrap'].loc['sharpe', 'lo'])} to" in said)
    for reason in f['verdict']['reasons']: assert reason.partition(': ')[2] in said


def test_figures_that_were_written_down_make_the_same_page(whole, shown):
    "NaN becomes None in JSON, and a frame comes back from Parquet"
    e, known = whole.evidence, {k: v for k, v in whole.evidence.figures['sharpe'].items()
                                if not (isinstance(v, float) and np.isinf(v))}
    kept = json.loads(json.dumps(plain(e.figures | dict(sharpe=known))))
    assert evidence_pages(Evidence(kept, e.frames), 'TGAT') == shown
    holes = {k: {i: None for i in v} | {i: v[i] for i in ('rows', 'n', 'splits', 'trials', 'blocks', 'models',
                                                          'against', 'draws', 'horizon') if i in v}
             if isinstance(v, dict) and k in ('sharpe', 'overfit', 'selection', 'ic') else v
             for k, v in kept.items()}
    assert not re.search(r'\bnan\b|None', words(evidence_pages(Evidence(holes, e.frames), 'TGAT'))), (
        'what is not known is a dash')


def test_everything_from_the_evidence_is_escaped(whole):
    e = whole.evidence
    bad = dict(passed=False, cuts=[EVIL], stages={EVIL: EVIL}, findings=[EVIL] * 25, run=EVIL)
    def evil(x):
        x = x.copy()
        if x.index.dtype == object or str(x.index.dtype) == 'str':
            x.index = pd.Index([EVIL + str(i) for i in range(len(x))], name=x.index.name)
        for c in x.columns:
            if x[c].dtype == object or str(x[c].dtype) == 'str': x[c] = EVIL
        return x
    frames = ({k: v if k == 'months' else evil(v) for k, v in e.frames.items()}
              | dict(audit=pd.DataFrame({EVIL: [EVIL]}, [EVIL])))
    figures = e.figures | dict(audit=bad, hashes={EVIL: EVIL},
                               verdict=dict(level=EVIL, sentence=EVIL, reasons=[f'failed: {EVIL}', EVIL]),
                               selection=e.figures['selection'] | dict(best=EVIL, against=EVIL))
    r = Reader(evidence_pages(Evidence(figures, frames), EVIL))
    assert not {'script', 'img'} & set(r.tags) and not [a for a in r.attrs if a[1].startswith('on')]
    assert 'And 5 more.' in ' '.join(r.words)


@pytest.mark.parametrize('level, colour', [('leaks', 'leaks'), ('absurd', 'absurd'), ('refuted', 'refuted'),
                                           ('not established', 'open'), ('established', 'established')])
def test_each_level_has_its_colour_and_its_words(level, colour):
    html = verdict_words(Evidence(dict(verdict=dict(level=level, sentence='So it is.', reasons=[])), {}))
    assert html == f'<p class="verdict {colour}">So it is.</p>' and f'.verdict.{colour}' in page_of()


def page_of():
    from gnn_quant.report.markup import style
    return style


@pytest.mark.parametrize('audit, says',
                         [(None, 'The look-ahead audit was not run. Until it is, presume a leak.'),
                          (dict(why='no checkpoint'), 'was not run: no checkpoint. Until it is, presume a leak.'),
                          (AUDIT, 'everything before was the same, bit for bit. That is an answer about time only'),
                          (AUDIT | dict(passed=False, findings=['edges: AAA knew.']),
                           '1 thing moved. edges: AAA knew. That is the explanation until another is shown.'),
                          (AUDIT | dict(again=True), 'Because of this the audit was run again, on more dates.')])
def test_the_absurd_is_answered_by_the_audit(whole, quick, audit, says):
    prophet = simulate(ranked(PX.shift(-2) / PX.shift(-1), 1).fillna(0.), BARS, Costs(0., 0.))
    strategies = {'TGAT': prophet} | {k: v for k, v in whole.strategies.items() if k != 'TGAT'}
    html = tearsheet(replace(whole, strategies=strategies,
                             evidence=Evidence(whole.evidence.figures | dict(audit=audit), {})))
    red = re.findall(r'<p class="banner alarm">(.*?)</p>', html)
    assert ('TGAT: a Sharpe of' in red[0] and says in red[1]
            and html.index('banner alarm') < html.index('class="verdict'))


def test_a_sober_page_has_no_banner(whole, quick):
    assert (not absurd(compare(whole, page_verdict(whole))) and 'banner alarm' not in tearsheet(whole)
            and absurd_banner([], AUDIT) == '')


# --- pictures of evidence -------------------------------------------------------------------------

@pytest.mark.parametrize('values', [np.random.default_rng(0).normal(size=500), np.repeat([-2., -1., 0., 1.], 30),
                                    np.r_[np.zeros(50), .3], np.random.default_rng(1).standard_t(2, 800)])
@pytest.mark.parametrize('found', [-.5, 0., .3, 5.])
def test_bars_of_a_histogram_are_the_p_value_to_be_seen(values, found):
    at, size, wide = _bars(values, found)
    assert size.sum() == len(values) and size[at >= found - 1e-12].sum() == (values >= found - 1e-9).sum(), (
        'a bar stands on both sides of the found value')
    assert len(at) < 400 and wide > 0


def test_a_histogram_draws_the_strong_side():
    v = pd.Series(np.r_[np.zeros(20), np.ones(5)])
    right, left = (histogram(v, .5, 't', 'x', strong=k) for k in ('right', 'left'))
    assert right != left and right.count('#d55e00') >= 1 and left.count('#d55e00') >= 1
    for bad in (v * np.nan, v):
        with pytest.raises(BadData, match='histogram'): histogram(bad, np.nan, 't', 'x')


def test_pictures_do_not_share_ids(shown):
    defs = {}
    for svg in re.findall(r'<svg.*?</svg>', shown, re.S):
        for kind, name, body in re.findall(r'<(clipPath|path) id="([^"]+)"(.*?)(?:</clipPath>|/>)', svg, re.S):
            assert defs.setdefault((kind, name), body) == body


def test_colours_of_intervals_follow_their_side():
    x = pd.DataFrame(dict(value=[1., -1., .2], lo=[.5, -2., -1.], hi=[2., -.5, 1.]), ['up', 'down', 'level'])
    one = lambda k: forest({'x': x.loc[[k]]}, 't')
    assert ('#0072b2' in one('up') and '#d55e00' in one('down') and '#777777' in one('level')
            and '#0072b2' not in one('down') + one('level'))
    assert one('up').count('#0072b2') > forest({'x': x.loc[['up']].assign(lo=np.nan)}, 't').count('#0072b2'), (
        'no interval, no line and no colour')


def test_empty_curves_and_strips_are_refused():
    with pytest.raises(BadData, match='no point'): curves(pd.DataFrame({'a': [np.nan]}, [1]), 't', 'x', 'y')
    with pytest.raises(BadData, match='no figure'):
        strips(pd.DataFrame(dict(value=[np.nan], lo=[0.], hi=[1.]), ['a']), {})


# --- windows and months ---------------------------------------------------------------------------

def test_windows_hold_the_months_they_say(returns):
    r = returns['TGAT']
    rows = metric_rows(qs_parts(r, returns['SP500'], 'TGAT', 'SP500')['metrics'], r, returns['SP500'])
    last = r.index[-1]
    for name, months in (('3M', 3), ('6M', 6), ('1Y', 12)):
        want = (1 + r[r.index > last - pd.DateOffset(months=months)]).prod() - 1
        assert number(rows.loc[name, 'strategy']) == pytest.approx(want, abs=6e-5)
    x = r[r.index > last - pd.DateOffset(years=3)]
    assert number(rows.loc['3Y (ann.)', 'strategy']) == pytest.approx((1 + x).prod() ** (252 / len(x)) - 1, abs=6e-5)


def test_figures_that_lie_are_gone_and_said(returns):
    made = qs_parts(returns['TGAT'], returns['SP500'], 'TGAT', 'SP500')['metrics']
    rows, html = (metric_rows(made, returns['TGAT'], returns['SP500']),
                  words(quantstats_pages(returns['TGAT'], returns['SP500'])))
    for gone in ('Kelly Criterion', 'Recovery Factor', 'Ulcer Performance Index', 'Serenity Index', 'Profit Ratio',
                 'Risk-Return Ratio', 'Gain/Pain (1M)'):
        assert gone in made and gone not in rows.index and f'{gone}:' in html
    assert rows.loc['R^2', 'benchmark'] == '–' != rows.loc['R^2', 'strategy']


def test_a_month_without_rows_is_no_gain_of_zero(returns):
    r = returns['TGAT'].loc['2016-02-10':'2017-03-15']
    m = month_returns(r)
    assert (np.isnan(m.loc[2016, 'Jan']) and np.isnan(m.loc[2017, 'Apr'])
            and m.loc[2016, 'Mar'] == pytest.approx((1 + r['2016-03']).prod() - 1))
    assert (1 + m['year']).prod() == pytest.approx((1 + r).prod()) and np.allclose(
        (1 + m.drop(columns='year')).prod(axis=1) - 1, m['year'])
