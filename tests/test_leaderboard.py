"The ladder: bad input, a kill, seeds, costs, and the run notebook"
import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadData, BadParams, CheckpointMismatch, LookAhead, peeks, toy_bars
from gnn_quant.data.sources.nasdaq_rsr import full_max, load_ranking, write_toy_ranking
from gnn_quant.data.load import load_bundle
from gnn_quant.stats.ic import daily_ic, graph_sentence, hac_t
from gnn_quant.evidence.leaderboard import (cost_table, dataset_task, leaderboard_table, published_inputs, rank_average,
                                            ranking_task, run_leaderboard, task_events)
from gnn_quant.costs import Costs
from gnn_quant.report.leaderboard import interval_chart, leaderboard_page

DAYS = pd.bdate_range('2020-01-01', periods=240, name='date')


@pytest.fixture
def folder(tmp_path): return write_toy_ranking(tmp_path, 12, 260)


def load(folder): return load_ranking(folder, train=180, valid=40)


def noise(seed, rows=240, names=20):
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(rows, names)), DAYS[:rows])


def test_unknown_industry_is_no_group_and_self_loops_are_dropped(folder):
    rs = load(folder)
    e = task_events(rs.bars, ('group',), rs.industry)
    unknown = {i for i, g in enumerate(rs.industry) if pd.isna(g)}
    assert (len(unknown) == 2 and not unknown & set(e.src.tolist())
            and (rs.relations['industry'][0] != rs.relations['industry'][1]).all())


def test_daily_rank_ic_is_that_of_the_training():
    from gnn_quant.training.loop import rank_ic
    s, y = noise(0), noise(1).mask(noise(2) > 1)
    assert np.allclose(daily_ic(s, y, 'rank'), rank_ic(s, y))


def test_the_report_uses_the_same_t():
    from gnn_quant.report.comparison import hac_t as theirs
    assert theirs is hac_t


SMALL = dict(layers=1, width=8, neighbors=2, schedule=dict(epochs=2))
RUNGS = dict(ridge=('ridge', {}), edge_free=('edge_free', SMALL), tgat=('tgat', SMALL))


@pytest.fixture
def task(folder): return ranking_task(load(folder), ('ret_1', 'ret_5', 'vol_20'), top=2, window=30, warmup=40)


def test_a_killed_ladder_goes_on_where_it_stopped(task, tmp_path):
    whole = run_leaderboard(task, RUNGS, (0, 1))
    class Killed(Exception): pass
    def bomb(line):
        if line == 'tgat: seed 0': raise Killed
    with pytest.raises(Killed): run_leaderboard(task, RUNGS, (0, 1), tmp_path / 'home', bomb)
    kept = sorted(p.stat().st_mtime_ns for p in (tmp_path / 'home/edge_free').rglob('scores.parquet'))
    again = run_leaderboard(task, RUNGS, (0, 1), tmp_path / 'home')
    assert (len(kept) == 2
            and kept == sorted(p.stat().st_mtime_ns for p in (tmp_path / 'home/edge_free').rglob('scores.parquet')))
    for r in RUNGS:
        for a, b in zip(whole.scores[r], again.scores[r]):
            pd.testing.assert_frame_equal(a, b, check_freq=False, check_names=False)


def test_another_task_does_not_pick_up_its_checkpoints(task, folder, tmp_path):
    run_leaderboard(task, dict(ridge=('ridge', {})), (0,), tmp_path / 'home')
    other = ranking_task(load(folder), ('ret_1', 'vol_20'), top=2, window=30, warmup=40)
    with pytest.raises(CheckpointMismatch): run_leaderboard(other, dict(ridge=('ridge', {})), (0,), tmp_path / 'home')


def test_what_has_no_seed_is_run_once_and_the_rest_differ_by_seed(task):
    done = run_leaderboard(task, RUNGS, (3, 4))
    assert done.seeds == dict(ridge=[3], edge_free=[3, 4], tgat=[3, 4])
    assert not done.scores['tgat'][0].equals(done.scores['tgat'][1])
    t = leaderboard_table(done.scores, task.y, draws=100)
    assert 'interval' in graph_sentence(t) or 'too few' in graph_sentence(t)
    html = leaderboard_page(t, 'toy', 9, done.history, cost_table(done.scores, task.bars, Costs(5e-4, 5e-4), 1),
                       task.caveats)
    assert html.count('<svg') == 2 and '9 trials' in html and 'Selection by the future' in html


def test_wrong_settings_of_a_ladder(task, folder):
    with pytest.raises(BadParams, match="no parameter 'depth'"):
        run_leaderboard(task, dict(tgat=('tgat', dict(depth=3))))
    with pytest.raises(BadParams, match='unknown'): run_leaderboard(task, dict(x=('nobody', {})))
    with pytest.raises(BadParams, match='seeds'): run_leaderboard(task, RUNGS, (1, 1))
    with pytest.raises(BadParams, match='edges'): ranking_task(load(folder), edges=('friends',))
    with pytest.raises(BadParams, match='warmup'): ranking_task(load(folder), warmup=500)
    with pytest.raises(BadParams, match='static_sectors'): dataset_task(load_bundle('toy'), edges=('peers',))
    with pytest.raises(BadParams, match='seeds'): rank_average([1, 2], [1, 2, 3])
    with pytest.raises(BadData, match='compares with nothing'): interval_chart(pd.DataFrame(dict(IC=[1.])))


def test_a_sector_map_is_used_from_the_day_it_was_known_unless_the_flaw_is_accepted():
    bars, two = toy_bars(6, 90), pd.Series(['X', 'Y'] * 3, list(toy_bars(6)['Close'].columns))
    cut = bars.index[70]
    late, static = (task_events(bars, ('peers',), two, asof, window=20) for asof in (cut, None))
    assert late.t.min() >= cut.as_unit('ns').value > static.t.min()
    with pytest.raises(LookAhead, match='this map was known on 2031'):
        task_events(bars, ('peers',), two, '2031-01-01', window=20)


def test_published_inputs_leak_only_when_asked_to():
    close = toy_bars(4, 90)['Close']
    assert (not peeks(published_inputs, close, close.index[60])
            and peeks(lambda c: published_inputs(c, full_max), close, close.index[60]))
    assert published_inputs(close)['ret_1'].abs().max(axis=None) <= .2


def test_costs_take_what_they_should(task):
    s = run_leaderboard(task, dict(ridge=('ridge', {})), (0,)).scores
    free, dear = (cost_table(s, task.bars, Costs(c, 0.), 1).loc['ridge'] for c in (0., .001))
    assert (free['net Sharpe'] == free['gross Sharpe'] == dear['gross Sharpe']
            and dear['net Sharpe'] < free['net Sharpe'])


def test_the_run_notebook_counts_its_models_and_leaves_its_page(tmp_settings):
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.daily import run_named
    from gnn_quant.runs.trials import trials_so_far
    e = Experiment.load('leaderboard', tmp_settings).with_(
        data=dict(rows=440), training=dict(seeds=[0, 1], epochs=1), evidence=dict(draws=50),
        models=[dict(name='reversal'), dict(name='tgat', ablations=['edge_free'])])
    def silent(*a): return None
    r = run_named('leaderboard', dict(experiment=e.to_toml()), tmp_settings, silent)
    html = (r.path / 'leaderboard.html').read_text()
    assert (trials_so_far(tmp_settings) == 6 and 'SIMULATED' in html
            and r.manifest['metrics']['sentence'].startswith('tgat has a rank IC'))
    assert {'leaderboard', 'costs', 'history', 'returns', 'scores.tgat-1', 'scores.reversal-0'} <= set(r.frames)
    assert set(r.manifest['trials']) == {f'{m}, seed {k}' for m in ('reversal', 'tgat', 'edge_free') for k in (0, 1)}
    changed = run_named('leaderboard', {'experiment': e.to_toml(), 'costs.slippage_bp': 12}, tmp_settings, silent)
    assert trials_so_far(tmp_settings) == 12 and changed.manifest['experiment']['hash'] != e.hash
    with pytest.raises(BadParams, match='features.us'):
        run_named('leaderboard', {'experiment': e.to_toml(), 'features.us': 'all'}, tmp_settings, silent)


def test_rows_of_an_experiment():
    from gnn_quant.pipeline.experiment import Experiment
    from gnn_quant.pipeline.leaderboard import experiment_rows
    e = Experiment().with_(models=[dict(name='ridge', seeds=[1]), dict(name='tgat')], training=dict(seeds=[0, 1]))
    with pytest.raises(BadParams, match='other seeds'): experiment_rows(e)
