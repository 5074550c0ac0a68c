"The runner counts before it looks, calls nothing significant by default, and its scenarios are what they say"
import subprocess, sys
from dataclasses import asdict, replace
import numpy as np, pandas as pd, pytest

import gnn_quant.evaluate as runner_module
from gnn_quant.backtest.engine import backtest, ledger_returns, metrics
from gnn_quant.core import BadData, BadParams, JournalBroken, frame_hash, toy_bars
from gnn_quant.stats.deflated_sharpe import deflated_sharpe
from gnn_quant.stats.sharpe import moments
from gnn_quant.evidence.trial_ledger import count, entries_of, trial_returns
from gnn_quant.data.target import make_target
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral, equal_weight, long_only
from gnn_quant.evaluate import (BacktestRunner, as_bars, as_weights, even_benchmark, generate_report, kind_of,
                                max_p, plain_costs)
from gnn_quant.backtest.sensitivity import (capacity, capacity_curve, cost_curve, delay_curve, gains_by_name,
                                            survivorship, survivorship_words, vanished, with_ends)
from gnn_quant.signals import make_signals

BARS = toy_bars(n=6, t=300)
CLOSE = BARS['Close']
SCORE = CLOSE.pct_change(5, fill_method=None)
CALLS = np.sign(SCORE)
KNOWN = (BARS['Open'].pct_change(fill_method=None).shift(-2).rank(axis=1)
         + 2 * np.random.default_rng(0).normal(size=CLOSE.shape))


@pytest.fixture
def run(tmp_path): return BacktestRunner(ledger=tmp_path / 'trials.jsonl', draws=100)


# ---- what goes in

def test_each_kind_of_signal_becomes_its_weights():
    frame = make_signals(SCORE, make_target(BARS, 5), BARS)
    assert [kind_of(x) for x in (frame, CALLS, SCORE, None)] == ['signals', 'calls', 'scores', 'none']
    pd.testing.assert_frame_equal(as_weights(SCORE, BARS), dollar_neutral(SCORE))
    w = as_weights(CALLS, BARS)
    assert np.allclose(w.iloc[5:], CALLS.iloc[5:] / 6) and w.iloc[:5].isna().all(axis=None)
    w, push = as_weights(frame, BARS), frame['side'] * frame['size']
    assert np.allclose(w.iloc[5:].abs().sum(axis=1), 1) and (np.sign(w) == np.sign(push)).iloc[5:].all(axis=None)
    sizes = pd.DataFrame(.1, CLOSE.index, CLOSE.columns)
    assert (np.allclose(as_weights(CALLS, BARS, sizes).iloc[5:], CALLS.iloc[5:] * .1)
            and np.allclose(as_weights(CALLS, BARS, CALLS * .1).iloc[5:], CALLS.iloc[5:] * .1))
    pd.testing.assert_frame_equal(as_weights(SCORE, BARS, long_only(SCORE)), long_only(SCORE))
    pd.testing.assert_frame_equal(as_weights(None, BARS, sizes), sizes)


def test_names_without_a_call_are_not_held_and_rows_without_any_hold():
    calls = CALLS.copy()
    calls.iloc[20, 0], calls.iloc[21] = np.nan, np.nan
    w = as_weights(calls, BARS)
    assert w.iloc[20, 0] == 0 and w.iloc[20].abs().sum() == pytest.approx(1) and w.iloc[21].isna().all()
    flat = as_weights(CALLS * 0, BARS)
    assert (flat.iloc[5:] == 0).all(axis=None)
    sizes = pd.DataFrame(.1, CLOSE.index, CLOSE.columns).mask(CLOSE.index.to_series() == CLOSE.index[30], axis=0)
    w = as_weights(calls, BARS, sizes)
    assert w.iloc[30].isna().all() and w.iloc[20, 0] == 0 and w.iloc[21].isna().all()


@pytest.mark.parametrize(
    'signals, sizes, error, words',
    [(None, None, BadParams, 'neither signals nor position_sizes'),
     (dollar_neutral(SCORE), None, BadParams, 'these are weights'),
     (long_only(SCORE, top=.5) * 1., None, BadParams, 'these are weights'),
     (SCORE[['AAA']], None, BadData, 'symbols'), (CALLS, CALLS * -.1, BadData, 'sign of the call'),
     (CALLS, CALLS * .5, BadData, 'gross is 1'), (CALLS.iloc[1:], None, BadData, 'rows'),
     (CALLS, (CALLS * .1).iloc[:, ::-1], BadData, 'position_sizes'), (BARS, None, BadData, 'side and size'),
     (SCORE.to_numpy(), None, BadData, 'ndarray'), (SCORE > 0, None, BadData, 'not numbers'),
     (SCORE.replace(SCORE.iloc[9, 0], np.inf), None, BadData, 'infinite')])
def test_what_could_mean_two_things_is_refused(signals, sizes, error, words):
    with pytest.raises(error, match=words): as_weights(signals, BARS, sizes)


def test_closes_alone_are_bars_and_one_symbols_fields_are_not():
    assert list(as_bars(CLOSE).columns.get_level_values(0).unique()) == ['Close'] and as_bars(BARS) is BARS
    for bad, words in ((CLOSE.to_numpy(), 'ndarray'), (CLOSE['AAA'], 'Series'),
                       (BARS.xs('AAA', axis=1, level=1), 'is a field'),
                       (CLOSE.rename(columns=dict(AAA='close')), 'is a field'), (-CLOSE, 'positive'),
                       (BARS.drop(columns='Close', level=0), 'no field Close')):
        with pytest.raises(BadData, match=words): as_bars(bad)
    with pytest.raises(BadParams, match='one symbol'): as_weights(SCORE[['AAA']], as_bars(CLOSE[['AAA']]))


# ---- counting

def test_a_trial_is_written_down_before_it_is_computed(run, monkeypatch):
    seen = []
    monkeypatch.setattr(runner_module, 'backtest',
                        lambda *a: seen.append(count(run.journal)) or (_ for _ in ()).throw(BadData('on purpose')))
    with pytest.raises(BadData, match='on purpose'): run.run(SCORE, BARS)
    assert seen[0].n == 1 and seen[0].abandoned == 1 and count(run.journal).failed == 1


def test_every_run_counts_once_and_its_returns_are_kept(run):
    a = run.run(SCORE, BARS, name='a', validate=False)
    for _ in range(2): b = run.run(-SCORE, BARS, name='b', validate=False, params=dict(window=5))
    assert (a.trials.n, b.trials.n, b.metrics['trials']) == (1, 2, 2) and b.trials.returns == 2
    kept = trial_returns(run.journal)
    assert np.allclose(kept.filter(like='a ').iloc[:, 0].dropna(), a.returns)
    for other in (replace(run, costs=Costs(1e-3)), replace(run, cash=2e6)):
        n = other.run(SCORE, BARS, name='a', validate=False).trials.n
    assert n == 4 and run.run(SCORE, BARS.iloc[:], name='a', validate=False).trials.n == 4
    assert run.run(SCORE.iloc[:-1], BARS.iloc[:-1], name='a', validate=False).trials.n == 5
    said = entries_of(run.journal)[2].body
    assert said['params'] == dict(window=5, costs=asdict(run.costs), cash=1e6,
                                  weights=frame_hash(as_weights(-SCORE, BARS))) and said['data'] == frame_hash(BARS)
    text = run.journal.read_text()
    run.journal.write_text(text.replace('"name"', '"nome"', 1).replace('window', 'windox', 1))
    with pytest.raises(JournalBroken): run.run(SCORE, BARS)


def test_bad_input_is_no_trial(run):
    with pytest.raises(BadParams): run.run(None, BARS)
    with pytest.raises(BadData): run.run(SCORE.iloc[1:], BARS)
    assert not run.journal.exists()


def test_the_ledger_is_that_of_the_settings_unless_named(tmp_path, monkeypatch):
    monkeypatch.setenv('GNNQ_REPORTS_DIR', str(tmp_path / 'r'))
    BacktestRunner(draws=20).run(SCORE, BARS, validate=False)
    assert count(tmp_path / 'r' / 'trials.jsonl').n == 1


# ---- judging

def test_nothing_is_significant_by_default_or_by_nan(run):
    bare = run.run(KNOWN, BARS, validate=False)
    assert (bare.is_significant is False and bare.metrics['is_significant'] is False
            and np.isnan(bare.metrics['permutation_p']) and 'not validated' in bare.sentence)
    nan = float('nan')
    for p, d in ((nan, 1.), (.001, nan), (nan, nan), (.06, 1.), (.001, .94)):
        assert replace(bare, metrics=bare.metrics | dict(permutation_p=p, deflated_sharpe=d)).is_significant is False
    assert replace(bare, metrics=bare.metrics | dict(permutation_p=.05, deflated_sharpe=.95)).is_significant is True
    assert np.isnan(max_p([.01, nan])) and np.isnan(max_p([])) and max_p([.01, .2]) == .2
    idle = run.run(CALLS * 0, BARS, name='idle')
    assert idle.is_significant is False and np.isnan(idle.metrics['permutation_p'])


def test_foresight_passes_and_a_trend_of_noise_does_not(run):
    bad, good = run.run(SCORE, BARS, name='noise'), run.run(KNOWN, BARS, name='foresight')
    assert (good.is_significant and not bad.is_significant and 'foresight is significant' in good.sentence
            and 'is not significant' in bad.sentence)
    assert (good.metrics['permutation_p'] == max(t.p for t in good.evidence['permutation'].values())
            and set(good.evidence['permutation']) == {'dates', 'names'})
    d = deflated_sharpe(moments(good.returns), good.trials.effective, good.trials.sharpe_sd)
    assert good.metrics['deflated_sharpe'] == d.dsr and good.evidence['intervals'].loc['sharpe', 'lo'] > 0
    assert good.metrics['sharpe'] == pytest.approx(metrics(backtest(as_weights(KNOWN, BARS), BARS))['sharpe'])
    assert ({'capacity', 'capacity_half', 'profit_factor', 'win_rate', 'average_win', 'average_loss', 'turnover',
             'exposure', 'break_even_bp', 'drawdown_rows', 'calmar', 'sortino', 'total_return', 'annual_return',
             'trades', 'round_trips', 'min_track_record', 'probabilistic_sharpe'} <= set(good.metrics))


def test_many_tries_raise_the_hurdle(run):
    first = run.run(KNOWN, BARS, name='foresight')
    for k in range(12):
        run.run(pd.DataFrame(np.random.default_rng(k).normal(size=CLOSE.shape), CLOSE.index, CLOSE.columns), BARS,
                name=f'noise {k}', validate=False)
    again = run.run(KNOWN, BARS, name='foresight')
    assert again.trials.n == 13 and again.evidence['deflated'].hurdle > first.evidence['deflated'].hurdle == 0


def test_a_short_history_has_no_p(run):
    r = run.run(SCORE.iloc[:40], BARS.iloc[:40])
    assert (np.isnan(r.metrics['permutation_p']) and not r.is_significant
            and 'wanted at least 40' in r.evidence['permutation']['dates']['why'])


def test_one_symbol_is_asked_about_its_dates_alone(run):
    r = run.run(CALLS[['AAA']], CLOSE[['AAA']])
    assert (set(r.evidence['permutation']) == {'dates'} and 0 < r.metrics['permutation_p'] <= 1
            and np.isnan(r.metrics['capacity']))


def test_frictions_stay_in_the_null_as_a_mean_price(run):
    hard = replace(run, costs=Costs(impact=1., lot=1, volume_cap=.2), cash=1e5)
    r = hard.run(KNOWN, BARS, name='foresight')
    plain = plain_costs(r.costs, r.ledger)
    assert plain.slippage > 3 * 5e-4 and not plain.frictions and plain.lot == 0
    paid = (r.ledger.costs / r.ledger.equity.shift()).loc[r.returns.index].mean()
    assert r.evidence['permutation']['dates'].accounts['cost'][0] == pytest.approx(paid, rel=.1)


def test_compared_at_one_count_on_the_same_rows(run):
    t = run.compare_strategies({'noise': SCORE, 'foresight': KNOWN, 'long': (None, equal_weight(BARS))}, BARS)
    assert list(t.index) == ['noise', 'foresight', 'long'] and count(run.journal).n == 3
    assert (t['is_significant'].tolist() == [False, True, False] and t['side'].tolist()[1] == 'ahead'
            and t.loc['foresight', 'lo'] > 0)
    assert np.isnan(t.loc['noise', 'diff']) and t.loc['foresight', 'diff'] == pytest.approx(
        t.loc['foresight', 'sharpe'] - t.loc['noise', 'sharpe'])
    assert ((t['lo'] <= t['diff']).iloc[1:].all() and (t['diff'] <= t['hi']).iloc[1:].all()
            and (t['spa_p'] < .05).all() and (t['q'] >= t['permutation_p']).all())
    fresh = replace(run, ledger=run.journal.with_name('fresh.jsonl'))
    assert [r.trials.n for r in fresh.run_all({'noise': SCORE, 'foresight': KNOWN}, BARS, False).values()] == [2, 2]
    none = run.compare_strategies({'noise': SCORE}, BARS, validate=False)
    assert none['is_significant'].tolist() == [False] and none['spa_p'].iloc[0] > .5
    with pytest.raises(BadParams, match='no strategies'): run.compare_strategies({}, BARS)


def test_ruined_and_idle_strategies_stand_in_the_table_without_figures(run):
    crash = BARS.copy()
    for f in ('Open', 'High', 'Low', 'Close'): crash.loc[crash.index[100]:, (f, 'AAA')] *= 5
    short = pd.DataFrame(0., CLOSE.index, CLOSE.columns).assign(AAA=-.9)
    t = run.compare_strategies({'noise': SCORE, 'idle': CALLS * 0, 'ruin': (None, short)}, crash)
    assert t.loc[['idle', 'ruin'], 'sharpe'].isna().all() and not t['is_significant'].any()


def test_the_page_counts_and_says_what_it_was_not_told(run, tmp_path):
    r = run.run(SCORE, BARS, name='trend')
    other = run.run(-SCORE, BARS, name='reversal', validate=False)
    page = run.generate_report({'trend': r, 'reversal': other}, tmp_path / 'x' / 'page.html',
                               caveats=('Prices are simulated.',), draws=50).read_text()
    assert ('SIMULATED' in page and '2 trials' in page and 'cannot show' in page
            and 'http' + '://' not in page.replace('http://www.w3.org', ''))
    assert 'audit was not run' in page
    with pytest.raises(BadParams, match='no results'): generate_report({}, tmp_path / 'y.html')
    with pytest.raises(BadData, match='other bars'):
        generate_report({'a': r, 'b': replace(other, bars=BARS * 2)}, tmp_path / 'y.html')


def test_import_stays_light():
    code = ("import sys, gnn_quant.evaluate; "
            "print([m for m in ('vectorbt', 'torch', 'quantstats', 'lightgbm') if m in sys.modules])")
    assert (subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
            == '[]')


# ---- sensitivity

W = dollar_neutral(KNOWN)


def test_cost_curve_is_the_backtest_at_each_cost():
    c = cost_curve(W, BARS, Costs(5e-4, 5e-4, .05), (0, 5, 20))
    assert (c.index.tolist() == [0, 5, 20] and c.index.name == 'bp' and c['annual_return'].is_monotonic_decreasing
            and c['sharpe'].is_monotonic_decreasing)
    m = metrics(backtest(W, BARS, Costs(5e-4, 0., .05)))
    assert c.loc[5].to_dict() == pytest.approx({k: m[k] for k in c.columns})
    with pytest.raises(BadParams, match='empty'): cost_curve(W, BARS, bp=())


def test_delay_curve_is_the_backtest_of_late_weights_on_common_rows():
    d = delay_curve(W, BARS)
    led = backtest(W.shift(2), BARS)
    assert d.index.tolist() == ['t+1', 't+2', 't+3'] and d.loc['t+3', 'sharpe'] == pytest.approx(metrics(led)['sharpe'])
    now = backtest(W, BARS)
    assert d.loc['t+1', 'sharpe'] == pytest.approx(metrics(replace(now, start=led.start))['sharpe'])
    assert d.loc['t+1', 'sharpe'] > 3 * d['sharpe'].iloc[1:].max() > 0
    for bad in (-1, .5, True):
        with pytest.raises(BadParams, match='delay'): delay_curve(W, BARS, delays=(bad,))


def test_an_end_is_a_loss_of_just_that_size():
    bars = toy_bars(n=4, t=60)
    for f in ('Open', 'High', 'Low', 'Close'): bars[f] = bars[f] * 0 + 10.
    bars.loc[bars.index[30]:, (slice(None), 'BBB')] = np.nan
    hold = pd.DataFrame(np.nan, bars.index, bars['Close'].columns)
    hold.iloc[5] = .25
    s = survivorship(hold, bars, Costs(0, 0), ends=(-.3, -.999, .3), hazard=0., draws=1)
    assert (np.allclose(s['total_return'].iloc[:4], [0, -.25 * .3, -.25 * .999, .25 * .3], atol=1e-9)
            and (s['vanished'].iloc[:4] == 1).all())
    assert (s.loc['survivors only', 'total_return'] == pytest.approx(0) and s['vanished'].iloc[-1] == 0
            and s['total_return'].iloc[-1] == pytest.approx(0))
    assert '1 of 4 names vanish' in survivorship_words(s, 4)
    assert vanished(bars).to_dict() == {'BBB': bars.index[29]} and vanished(BARS).empty
    for bad in (-1., -2., float('nan')):
        with pytest.raises(BadParams, match='above -1'): with_ends(bars, vanished(bars), bad)


def test_survivors_only_flatters_where_the_losers_went():
    bars, w = BARS.copy(), equal_weight(BARS)
    fall = np.where(np.arange(300) < 150, .99 ** np.arange(300), np.nan)
    for f in ('Open', 'High', 'Low', 'Close'): bars[f, 'AAA'] = 100 * fall
    w = (bars['Close'].notna() / 6.).where(bars['Close'].notna(), 0.)
    s = survivorship(w, bars, draws=3)
    stay = bars.loc[:, [c for c in bars.columns if c[1] != 'AAA']]
    even = pd.DataFrame(np.where(np.arange(300)[:, None] < 150, 1 / 5, 1 / 6) * np.ones(5), stay.index,
                        stay['Close'].columns)
    assert s.loc['survivors only', 'sharpe'] == pytest.approx(metrics(backtest(even, stay))['sharpe'])
    assert (s.loc['survivors only', 'total_return'] > s.loc['as is', 'total_return']
            > s.loc['vanished at -30%', 'total_return'] > s.loc['vanished at -55%', 'total_return'])


def test_data_of_survivors_answer_with_nan_and_words():
    s = survivorship(W, BARS, draws=5)
    assert s.loc[['vanished at -30%', 'vanished at -55%', 'survivors only']].drop(columns='vanished').isna().all(
        axis=None) and (s['vanished'].iloc[:-1] == 0).all()
    assert 'Data of survivors cannot show' in survivorship_words(s, 6) and s['sharpe'].iloc[-1] < s['sharpe'].iloc[0]
    assert survivorship(W, BARS, draws=5).equals(s) and not survivorship(W, BARS, draws=5, seed=1).equals(s)
    for bad in (dict(hazard=1.), dict(draws=0), dict(ends=())):
        with pytest.raises(BadParams, match='survivorship'): survivorship(W, BARS, **bad)


def test_invented_deaths_cost_what_a_hazard_costs_who_is_long():
    flat = toy_bars(n=200, t=253)
    for f in ('Open', 'High', 'Low', 'Close'): flat[f] = flat[f] * 0 + 10.
    w = pd.DataFrame(1 / 200, flat.index, flat['Close'].columns).where(flat.index.to_series() == flat.index[0], axis=0)
    s = survivorship(w, flat, Costs(0, 0), hazard=.1, draws=20)
    assert (s['vanished'].iloc[-1] == pytest.approx(20, abs=2.5)
            and s['total_return'].iloc[-1] == pytest.approx(-.1 * .3, abs=.004))


def test_gains_of_names_add_up():
    c = Costs(1e-3, 2e-3, .02)
    led = backtest(W, BARS, c)
    assert gains_by_name(led, BARS).sum() == pytest.approx(led.equity.iloc[-1] - 1e6 + led.book['borrow'].sum())


def test_capacity_is_where_half_and_all_are_gone():
    c = Costs(1e-4, 0.)
    room = capacity(W, BARS, c)
    def sharpe(x): return ledger_returns(backtest(W, BARS, replace(c, impact=1.), x)).pipe(lambda r: r.mean() / r.std())
    assert (sharpe(room['half']) == pytest.approx(sharpe(1.) / 2, rel=.03)
            and abs(sharpe(room['whole'])) < .02 * sharpe(1.) and room['half'] < room['whole'])
    twice = capacity(W, BARS, replace(c, impact=2.))
    assert np.allclose(twice * 4, room, rtol=.03), (
        'impact grows with the root: twice the coefficient, a quarter of the account')
    assert np.isnan(capacity(W, BARS[['Open', 'Close']])).all() and (capacity(-W, BARS) == 0).all()
    hold = equal_weight(BARS).where(BARS.index.to_series() == BARS.index[30], axis=0)
    rising = BARS.copy()
    for f in ('Open', 'High', 'Low', 'Close'): rising[f] = rising[f].mul(1.01 ** np.arange(300), axis=0)
    assert capacity(hold, rising, top=1e6)['whole'] == np.inf
    k = capacity_curve(W, BARS, c, (1e2, 1e4))
    assert k.index.name == 'equity' and k['sharpe'].is_monotonic_decreasing


def test_the_level_of_the_benchmark():
    b = even_benchmark(BARS)
    assert b.iloc[0] == 1 and b.iloc[1] == pytest.approx(1 + CLOSE.pct_change().iloc[1].mean()) and b.notna().all()
    assert simulate(W, BARS).equity.index.equals(b.index)
