"Size and power are measured on markets that are what they say, and the measure itself can be wrong neither way"
import numpy as np
import pandas as pd
import pytest

from gnn_quant.backtest.engine import backtest, ledger_returns
from gnn_quant.core import BadParams, GnnQuantError, peeks, toy_bars
from gnn_quant.data.load import load_bundle
from gnn_quant.stats.ic import daily_ic
from gnn_quant.evidence.power import (PLACEBOS, expected_power, noise_strategies, placebo, planted, planted_scores,
                                      plot_power, shares, simulated_market)
from gnn_quant.stats.deflated_sharpe import deflated_sharpe
from gnn_quant.stats.sharpe import moments
from gnn_quant.evidence.trial_ledger_check import verify_trials
from gnn_quant.evidence.trial_ledger import count, trial_returns
from gnn_quant.costs import Costs
from gnn_quant.portfolio.sizing import dollar_neutral
from gnn_quant.runs.engine import run


@pytest.fixture(scope='module')
def real():
    try: return load_bundle('us20').bars.iloc[-1500:]
    except GnnQuantError as e: pytest.skip(f'no real prices: {e}')


def returns(bars): return bars['Close'].pct_change(fill_method=None)


def within(table, share):
    "Does every interval hold the share that should be?"
    return ((table['lo'] <= share) & (share <= table['hi'])).all()


@pytest.mark.parametrize('ic', [0., .03, .2, -.1])
def test_scores_are_worth_what_was_planted(ic):
    s, bars = simulated_market(60, 4000, ic, keep=.9, seed=5)
    r = returns(bars)
    z = r.shift(-1).iloc[:-1]
    pooled = np.corrcoef(s.iloc[:-1].to_numpy().ravel(), z.sub(z.mean(axis=1), axis=0).to_numpy().ravel())[0, 1]
    assert abs(pooled - np.exp(-.125) * ic) < .012 and abs(daily_ic(s, r.shift(-1)).mean() - 1.08 * ic) < .012
    assert abs(daily_ic(s, r.shift(-2)).mean() - .9 * 1.08 * ic) < .015 and abs(s.std().mean() - 1) < .05


def test_a_score_is_worth_nothing_against_the_row_it_is_made_on():
    s, bars = simulated_market(60, 3000, .1, keep=0., seed=2)
    assert (abs(daily_ic(s, returns(bars)).mean()) < .01
            and bars['Open'].iloc[1:].to_numpy().tolist() == bars['Close'].iloc[:-1].to_numpy().tolist())


def test_the_market_has_the_four_things_that_go_wrong():
    s, bars = simulated_market(40, 3000, keep=.98, together=.5, seed=1)
    r = returns(bars).iloc[1:]
    pairs = np.triu_indices(40, 1)
    assert r.kurt().median() > 3 and r.abs().apply(lambda x: x.autocorr(5)).median() > .1
    of = r.corr().to_numpy()[pairs]
    assert of.mean() > .2 and np.quantile(of, .95) > of.mean() + .2
    assert s.apply(lambda x: x.autocorr(1)).mean() > .95 and np.quantile(s.corr().to_numpy()[pairs], .97) > .3
    calm = simulated_market(40, 3000, keep=0., seed=1)[0]
    assert calm.apply(lambda x: x.autocorr(1)).abs().mean() < .05


def test_planted_scores_on_real_prices(real):
    y = real['Close'].shift(-2) / real['Close'].shift(-1) - 1
    for ic in (0., .1): assert abs(daily_ic(planted_scores(real, ic, seed=3), y, 'rank').mean() - ic) < .02
    assert (peeks(lambda b: planted_scores(b, .1), real, real.index[700])
            and not peeks(planted_scores, real, real.index[700], ('noise', 'blank')))


def test_planted_scores_know_of_no_name_without_a_price():
    bars = toy_bars(5, 60)
    bars.loc[bars.index[:20], (slice(None), 'AAA')] = np.nan
    s = planted_scores(bars, .5)
    assert (s['AAA'].iloc[:20].isna().all() and s['AAA'].iloc[20:].notna().all()
            and s.drop(columns='AAA').notna().all(axis=None))


def test_sizes_are_right_where_the_test_is():
    "Every kind of book without knowledge, exact interval around 5 %"
    p = placebo(60, 20, 200, tests={'dates': ('dates', 'sharpe'), 'names': ('names', 'sharpe')}, draws=59)
    each, all_ = shares(p, ['test', 'signal']), shares(p, ['test'])
    assert each['lo'].max() <= .06 and all_['lo'].max() <= .055 and all_['hi'].min() >= .04


def test_a_null_that_pays_other_costs_in_units_of_risk_is_caught():
    p = placebo(25, 40, 250, {'reversal': PLACEBOS['reversal']},
                {'net': ('names', 'net'), 'sharpe': ('names', 'sharpe')}, 59)
    t = shares(p, ['test'])
    assert t.loc['net', 'lo'] > .2 and t.loc['sharpe', 'lo'] <= .05


def test_sizes_on_real_prices(real):
    p = placebo(30, signals={k: PLACEBOS[k] for k in ('fresh noise', 'slow noise')},
                tests={'dates': ('dates', 'sharpe'), 'names': ('names', 'sharpe')}, draws=59, bars=real.iloc[-600:])
    t = shares(p, ['test'])
    assert t['lo'].max() <= .05 and t['hi'].min() >= .03


def test_what_is_planted_is_found_as_often_as_the_law_says():
    t = shares(planted(.03, 40, ((20, 250), (50, 500)), draws=59), ['names', 'rows'])
    assert t.loc[(50, 500), 'share'] >= .8 and t['lo'].iloc[0] <= expected_power(.03, 20, 250) <= t['hi'].iloc[0]
    nothing = shares(planted(0., 60, ((20, 250),), draws=59), ['names', 'rows'])
    assert within(nothing, .05)


def test_it_is_found_on_real_prices_too(real):
    from gnn_quant.backtest.permutation import permutation_test
    p = [permutation_test(dollar_neutral(planted_scores(real, .05, seed=k)), real, Costs(), 'dates', 99, k).p
         for k in range(20)]
    assert np.mean(np.array(p) <= .05) >= .8


def test_the_law_in_numbers():
    assert (np.allclose(expected_power(0., np.array([5, 500]), 100), .05)
            and np.isclose(expected_power(0., 9, 9, .01), .01))
    assert np.isclose(expected_power(.1, 2, 100, .5, np.sqrt(np.pi / 3)), .8413447460685429)
    assert (np.diff(expected_power(.03, np.arange(5, 400), 250)) > 0).all() and np.isclose(
        expected_power(.03, 11, 1000), expected_power(.03, 101, 100))


@pytest.mark.parametrize('k,of,lo,hi', [(10, 200, .024234, .090035), (0, 20, 0., .168433), (20, 20, .831567, 1.),
                                        (160, 200, .737774, .853106)])
def test_intervals_of_shares_are_exact(k, of, lo, hi):
    from statsmodels.stats.proportion import proportion_confint
    r = shares(pd.DataFrame(dict(p=np.r_[np.zeros(k), np.ones(of - k)], g='x')), ['g']).iloc[0]
    assert (np.allclose([r['lo'], r['hi']], proportion_confint(k, of, .05, 'beta'), atol=1e-9)
            and np.allclose([r['lo'], r['hi']], [lo, hi], atol=1e-5) and r['of'] == of)


def test_noise_is_counted_by_the_ledger_and_by_nobody_else(tmp_path):
    path, bars = tmp_path / 'noise.jsonl', simulated_market(8, 200)[1]
    noise, c = noise_strategies(12, path, bars)
    assert (c.n == c.returns == 12 and count(path).head == c.head and not verify_trials(path)
            and trial_returns(path).shape == (199, 12))
    r = ledger_returns(backtest(dollar_neutral(planted_scores(bars, 0., .9, [0, 5])), bars, Costs(0., 0.)))
    want = deflated_sharpe(moments(r), c.effective, c.sharpe_sd)
    assert (np.allclose(noise.loc[5], [moments(r).sharpe, want.psr, want.dsr, want.hurdle])
            and (noise['hurdle'] == want.hurdle).all())
    more, c2 = noise_strategies(6, path, bars, seed=1)
    assert c2.n == 18 and more['hurdle'].iloc[0] > noise['hurdle'].iloc[0]


def test_alone_noise_passes_and_counted_it_does_not(tmp_path):
    noise, c = noise_strategies(80, tmp_path / 'n.jsonl', simulated_market(12, 300)[1])
    assert (noise['alone'].ge(.95).any() and noise['deflated'].ge(.95).mean() <= .05
            and (noise['deflated'] < noise['alone']).all())
    assert noise['sharpe'].max() < 1.6 * noise['hurdle'].iloc[0]


def test_real_prices_pass_no_more_noise(tmp_path, real):
    noise, c = noise_strategies(25, tmp_path / 'n.jsonl', real.iloc[-250:])
    assert noise['deflated'].ge(.95).mean() <= .05 and c.n == 25


def test_the_figure_says_what_the_tables_say(tmp_path):
    size = shares(pd.DataFrame(dict(signal=['a'] * 40 + ['b'] * 40, test=['dates', 'names'] * 40,
                                    p=np.tile([.01, .2, .3, .4], 20))), ['signal', 'test'])
    power = shares(pd.DataFrame(dict(names=20, rows=[250] * 10 + [500] * 10, p=[.01] * 15 + [.5] * 5)),
                   ['names', 'rows'])
    noise = pd.DataFrame(dict(sharpe=[.01, -.02, .03], hurdle=.05))
    a, b, c = plot_power(size, power, noise, rows=400).axes
    dots = a.containers[0].lines[0]
    assert (dots.get_ydata().tolist() == size.xs('dates', level=1)['share'].tolist()
            and [t.get_text() for t in a.get_legend().get_texts()] == ['dates', 'names'])
    assert b.containers[0].lines[0].get_xydata().tolist() == [[19 * 250, 1.], [19 * 500, .5]]
    assert np.allclose([x.get_xdata()[0] for x in c.lines],
                       np.array([1.6448536 / 20, .05 + 1.6448536 / 20]) * 252 ** .5)


@pytest.mark.parametrize('bad', [dict(ic=2.), dict(keep=-1.), dict(together=1.5)], ids=str)
def test_impossible_markets(bad):
    with pytest.raises(BadParams): simulated_market(5, 60, **bad)
    if 'ic' in bad:
        with pytest.raises(BadParams): planted_scores(toy_bars(4, 60), **bad)


def test_the_notebook_runs_and_is_no_trial(tmp_settings):
    r = run('power',
            dict(seeds=2, names=8, rows=100, draws=19, strategies=3, planted_names=[10], planted_rows=[100]),
            tmp_settings, quiet=True)
    assert ({'size', 'power', 'noise'} <= set(r.frames) and (r.path / 'power.svg').is_file()
            and r.manifest['metrics']['counted'] == 3)
    from gnn_quant.runs.trials import trials_so_far
    assert trials_so_far(tmp_settings) == 0
