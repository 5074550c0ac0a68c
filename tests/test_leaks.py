"Eight planted leaks are caught and named, their counterparts and more than fifty honest lines are left alone"
import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadParams, LookAhead, toy_bars
from gnn_quant.data.bars import symbols as symbols_of
from gnn_quant.data.sources.nasdaq_rsr import full_max, load_ranking
from gnn_quant.evidence.known_leaks import (LEAKS, ONE_EYED, LEAK_STAGES, future_map, leak_data, leak_table,
                                            month_graph, sample_graph, toy_changes)
from gnn_quant.lookahead.audit import FUTURES, audit
from gnn_quant.evidence.honest_pipelines import honest_lines, toy_sources
from gnn_quant.lookahead.replay import Line, bent, own_copy, rebuild
from gnn_quant.lookahead.builder_check import Timed, vouched
from gnn_quant.data.events import Events
from gnn_quant.graph.relations import group_events

HONEST = list(honest_lines())


# ---- the planted leaks

@pytest.fixture(scope='module')
def table(): return leak_table(cuts=4)


@pytest.mark.parametrize('name', list(LEAKS))
def test_each_leak_is_named_at_its_stage_and_its_counterpart_passes(table, name):
    row = table.loc[name]
    assert row['named'] == row['stage'] == LEAKS[name].stage and row['honest_passes'] is True, row['finding']


@pytest.mark.parametrize('seed', [1])
def test_on_other_markets_too(seed):
    t = leak_table(leak_data(toy_bars(8, 130, seed)), 3)
    assert (t['named'] == t['stage']).all() and t['honest_passes'].all(), t['finding'].tolist()


WHERE = {'month-end graph, early': 'bars', 'full-sample correlation': 'bars', 'future sector map': 'groups',
         'scaler fit on all dates': 'bars', 'rows dropped by label': 'bars', 'back-filled prices': 'bars',
         'target inside a feature': 'bars', 'full-sample maximum': 'bars'}


@pytest.mark.parametrize('name', list(LEAKS))
def test_the_finding_is_true_to_the_number(name):
    """What the sentence says was there and is there now is there,
    in the true line and in the one with that future; nothing moved before it"""
    data, leak = leak_data(), LEAKS[name]
    line = leak.lines()[0]
    f = audit(line, data, 3).causes[0]
    outcome = lambda given: rebuild(line, given)[leak.stage].out
    a, b = outcome({k: own_copy(v) for k, v in data.items()}), outcome(bent(data, f.cut, f.how, 0))
    assert f.source == (WHERE[name],) and f.date <= f.cut
    if isinstance(a, Events):
        rows = lambda e: {(e.symbols[s], e.symbols[d], t): m
                          for s, d, t, m in zip(e.src, e.dst, e.t, e.msg[:, e.fields.index(f.frame)])}
        a, b, at = rows(a), rows(b), (*f.edge, f.date.value)
        before = {k for k in a.keys() | b.keys() if k[2] < f.date.value}
        assert (f.symbol == f.edge[1] and a.get(at) == f.was and b.get(at) == f.now
                and all(a.get(k) == b.get(k) for k in before))
        return
    if f.kind == 'gone' and not f.symbol: return _row_is_gone(a, b, f)
    assert (a.loc[f.date, (f.frame, f.symbol)] == f.was and b.loc[f.date, (f.frame, f.symbol)] == f.now
            and abs(f.was - f.now) == f.by <= f.most)
    assert a[a.index < f.date].equals(b[b.index < f.date])


def _row_is_gone(a, b, f):
    assert f.date in a.index and f.date not in b.index and a[a.index < f.date].index.equals(b[b.index < f.date].index)


@pytest.mark.parametrize('eye', list(ONE_EYED))
def test_some_leaks_show_themselves_to_one_future_only(eye):
    bars = toy_bars(6, 120)
    bars.loc[bars.index[4]:, (slice(None), 'AAA')] *= 3
    stage, f = ONE_EYED[eye]
    line, data = Line(LEAK_STAGES | {stage: f}), dict(bars=bars, groups=Timed(toy_changes(bars), 'asof'))
    for how in FUTURES: assert audit(line, data, 4, (how,)).passed is (how != eye)


def test_a_table_made_by_a_blind_audit_says_so(monkeypatch):
    "Blind the check: the table must not claim that anything was caught"
    import gnn_quant.lookahead.audit as look
    monkeypatch.setattr(look, 'moved', lambda *a, **k: None)
    t = leak_table(cuts=1)
    assert not (t['named'] == t['stage']).any()


# ---- honest lines

@pytest.fixture(scope='module')
def markets(): return {s: toy_sources(seed=s) for s in (0, 3)}


def test_there_are_fifty_and_no_two_are_the_same_line(markets):
    given = lambda: {k: own_copy(v) for k, v in markets[0].items()}
    last = {k: [v.out for v in rebuild(line, given()).values()][-1] for k, line in honest_lines().items()}
    hashes = {k: str(v.known_by('2020-06-30') if hasattr(v, 'known_by') else v.to_string()) for k, v in last.items()}
    assert len(hashes) >= 50 and len(set(hashes.values())) == len(hashes)


@pytest.mark.parametrize('name', HONEST)
def test_an_honest_line_raises_no_alarm(markets, name):
    a = audit(honest_lines()[name], markets[3 * (HONEST.index(name) % 2)], 3)
    assert a.passed, str(a)
    assert set(a.table.stack()) <= {'same', 'nothing'} and (a.table == 'same').any(axis=None)


def early(stage):
    "The same stage on bars that are two rows early, and on tables that knew everything twenty days before"
    def wrong(d, m):
        d = dict(d.items())
        for k, column in (('groups', 'asof'), ('pairs', 'asof'), ('facts', 'filed'), ('items', 'known'),
                          ('macro', 'released')):
            if k in d: d[k] = d[k].assign(**{column: d[k][column] - pd.Timedelta(days=20)})
        if 'facts' in d: d['facts']['end'] = d['facts']['end'] - pd.Timedelta(days=20)
        return stage(d | dict(bars=d['bars'].shift(-2)), m)
    return wrong


@pytest.mark.parametrize('name', HONEST)
def test_the_same_line_is_caught_when_its_data_is_early(markets, name):
    "So the fifty do not pass because nobody looks: the first stage of each is named"
    line = honest_lines()[name]
    a = audit(Line({n: early(f) for n, f in line.stages.items()}), markets[0], 10, ('cut', 'noise'))
    assert not a.passed and a.causes[0].stage == next(iter(line.stages)), str(a)


SLOW = ['ridge', 'ridge_graph', 'lightgbm', 'tgn']


@pytest.mark.parametrize('model', SLOW)
def test_walk_forward_with_a_real_model_raises_no_alarm_and_a_peeping_one_does(model):
    from gnn_quant.features.registry import make_features
    from gnn_quant.data.target import make_target
    from gnn_quant.data.events import correlation_events
    from gnn_quant.training.walk_forward import Fold, run_fold
    from gnn_quant.models.registry import make_model, model_params
    bars = toy_bars(6, 110)
    own = dict(schedule=dict(epochs=1), neighbors=2, trees=5, min_leaf=5)
    fresh = lambda: make_model(model, seed=0, **{k: v for k, v in own.items() if k in model_params(model)})
    folds = [Fold(bars.index[30:60], bars.index[64:74], bars.index[78:94]),
             Fold(bars.index[46:76], bars.index[80:90], bars.index[94:110])]
    def scores(d, m, ahead=0):
        y = make_target(d['bars'], 2)
        x = m['features'].shift(-ahead)
        done = [run_fold(fresh(), x, m['edges'], y, Fold(f.train, f.valid, f.test[f.test <= x.index[-1]]))[0]
                for f in folds if f.test[0] <= x.index[-1]]
        return pd.concat(done) if done else pd.DataFrame(index=x.index[:0])
    stages = dict(features=lambda d, m: make_features(d['bars'], ['ret_1', 'ret_5', 'vol_20']),
                  edges=lambda d, m: correlation_events(d['bars'], 20, 2, 5), scores=scores)
    cuts = [bars.index[85], bars.index[100]]
    assert (a := audit(Line(stages), dict(bars=bars), cuts, ('cut', 'noise'))).passed, str(a)
    bad = audit(Line(stages | dict(scores=lambda d, m: scores(d, m, 1))), dict(bars=bars), cuts[:1], ('noise',))
    assert bad.causes[0].stage == 'scores'


# ---- the builders

def test_a_months_graph_is_stamped_when_the_month_is_seen_to_be_over():
    bars = toy_bars(6, 90)
    early, late = month_graph(bars, early=True), month_graph(bars)
    first_of = bars.index.to_series().groupby(bars.index.to_period('M')).min().tolist()
    assert set(pd.to_datetime(late.t)) <= set(first_of[1:]) and set(pd.to_datetime(early.t)) <= set(first_of[:-1])
    assert len(early) == len(late) and (early.msg == late.msg).all()
    with pytest.raises(BadParams, match='no whole month'): month_graph(toy_bars(4, 10))


def test_the_door_names_builder_edge_and_date():
    bars = toy_bars(6, 90)
    with pytest.raises(LookAhead, match=r'sample_graph: AAA -> \w+ stamped 2020-01-01'): vouched(sample_graph, bars)
    with pytest.raises(LookAhead, match='future_map: .* stamped 2020-01-01'):
        vouched(future_map, bars, Timed(toy_changes(bars), 'asof'))


def test_a_dated_map_moves_edges_only_from_its_date_on():
    bars = toy_bars(6, 90)
    moves = toy_changes(bars)
    e = group_events(moves, bars.index, symbols_of(bars))
    assert set(pd.to_datetime(e.t)) == {bars.index[0], moves['asof'].max()}


# ---- the same on the real ranking set

@pytest.fixture(scope='module')
def ranking(shared_data):
    if not (shared_data / 'rsr_nasdaq').is_dir(): pytest.skip('no ranking set among the shared data')
    return load_ranking(shared_data / 'rsr_nasdaq')


@pytest.fixture(scope='module')
def few(ranking):
    """The last 110 days of twelve names of three real industries, one with a real gap,
    and their map as if one name had changed sides late"""
    rows = ranking.mask.iloc[-110:]
    whole, holes = ranking.industry[rows.all()], rows.columns[rows.iloc[45:].all() & ~rows.all() & rows.iloc[0]]
    names = [s for g in ('Major Banks', 'Semiconductors', 'EDP Services') for s in whole.index[whole == g][:4]]
    bars = ranking.bars.loc[:, pd.IndexSlice[:, names]].iloc[-110:].copy()
    first = pd.DataFrame({'symbol': names, 'group': whole[names].to_numpy(), 'asof': bars.index[0]})
    late = pd.DataFrame({'symbol': names[:1], 'group': ['Semiconductors'], 'asof': [bars.index[75]]})
    bars.loc[bars.index[55:59], (slice(None), names[2])] = np.nan
    return dict(bars=bars, groups=Timed(pd.concat([first, late], ignore_index=True), 'asof'))


def test_published_prices_are_divided_by_the_maximum_of_the_whole_period(ranking):
    "So the leak that is kept under the name full_max is the one in the published file, up to one number a name"
    ratio = (ranking.published / full_max(ranking.bars['Close'])).loc[:, ranking.mask.all()]
    assert (ratio.shape[1] > 800 and ratio.std().max() < 1e-6 and (ratio.iloc[0] - 1).abs().median() < 1e-6
            and ratio.iloc[0].between(.96, 1 + 1e-6).all())


def test_each_leak_is_named_on_real_prices_and_industries(few):
    t = leak_table(few, 3)
    assert (t['named'] == t['stage']).all() and t['honest_passes'].all(), t['finding'].tolist()


def test_the_real_industry_map_is_refused_on_days_before_it_was_made(ranking, few):
    bars = few['bars']
    names, made = symbols_of(bars), ranking.index[-1] + pd.Timedelta(days=1)
    with pytest.raises(LookAhead, match='no row may use it'):
        group_events(ranking.industry[list(names)], bars.index, names, asof=made, relation='industry')
    with pytest.raises(LookAhead, match='future_map: .* is_sector'): vouched(future_map, bars, few['groups'])
