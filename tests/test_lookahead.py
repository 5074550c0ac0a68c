"""The audit finds what depends on the future, names it, tells it from chance and from other faults,
and leaves the caller's data alone"""
import functools

import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadData, BadParams, frame_hash, instants, query_instants, toy_bars
from gnn_quant.data.bars import returns, symbols as symbols_of
from gnn_quant.lookahead.audit import FUTURES, WORST, Finding, audit, audit_dates, judge_steps
from gnn_quant.lookahead.warmup import warmup_drift
from gnn_quant.lookahead.diff import Move, edge_move, moved, same_bits
from gnn_quant.graph.sampling.answers import sampled
from gnn_quant.lookahead.replay import Failed, Given, Line, bent, content, other_future, own_copy, rebuild
from gnn_quant.models.memory_state import memory_of
from gnn_quant.features.registry import make_features
from gnn_quant.data.target import make_target
from gnn_quant.lookahead.builder_check import Timed
from gnn_quant.data.events import correlation_events, make_events
from gnn_quant.graph.sampling.neighbors import NeighborIndex
from gnn_quant.graph.relations import group_events
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral, equal_weight

BARS = toy_bars(5, 80)
PX = BARS['Close']
CUT = BARS.index[50]


def one(f, **more): return Line(dict(stage=lambda d, m: f(d['bars'])) | more)


def found(f, bars=BARS, **kw): return audit(one(f), dict(bars=bars), **dict(cuts=[CUT]) | kw)


# ---- what moved

def test_a_cell_is_named_with_field_symbol_date_and_size():
    b = BARS.copy()
    b.loc[b.index[30], ('High', 'CCC')] += 2.
    b.loc[b.index[40], ('Close', 'AAA')] += 5.
    m = moved(dict(bars=BARS), dict(bars=b))
    assert ((m.frame, m.symbol, m.date, m.count, m.most) == ('bars.High', 'CCC', BARS.index[30], 2, 5.)
            and m.by == pytest.approx(2.) and m.now - m.was == pytest.approx(2.))
    assert moved(BARS, b, BARS.index[29]) is None and moved(BARS, b, BARS.index[30]).count == 1
    assert 'bars.High of CCC on 2020-02-12 moves by 2,' in str(m) and str(m).endswith('and 1 more')


def test_the_earliest_row_is_named_and_in_it_the_largest_move():
    b = PX.copy()
    b.iloc[20, 1] += .1
    b.iloc[20, 3] += .3
    b.iloc[10, 2] += .001
    assert moved(PX, b).symbol == 'CCC' and moved(PX.iloc[11:], b.iloc[11:]).symbol == 'DDD'


@pytest.mark.parametrize(
    'change, kind, symbol, date',
    [(lambda x: x.drop(x.index[7]), 'gone', '', 7), (lambda x: x.drop(columns='BBB'), 'gone', 'BBB', 0),
     (lambda x: x.iloc[:, ::-1], 'order', '', 0), (lambda x: pd.concat(
         [x, x.iloc[[9]].set_axis(x.index[[9]] + pd.Timedelta('12h'))]).sort_index(), 'new', '', None),
     (lambda x: x.assign(ZZZ=x['AAA'].where(x.index > x.index[3])), 'new', 'ZZZ', 4),
     (lambda x: x.iloc[::-1], 'order', '', 0), (lambda x: x.rename(columns={'EEE': 'EEZ'}), 'gone', 'EEE', 0),
     (lambda x: x.set_axis(x.index[:-1].append(x.index[-1:] + pd.Timedelta('1D'))), 'gone', '', 79),
     (lambda x: x.mul(np.where(x.index == x.index[5], np.nan, 1.), axis=0), 'moved', 'AAA', 5)])
def test_rows_and_columns_that_come_go_or_change_places(change, kind, symbol, date):
    m = moved(PX, change(PX))
    assert (m.kind, m.symbol) == (kind, symbol) and (date is None or m.date == PX.index[date]) and str(m)


def test_numbers_are_compared_by_their_bits_and_integers_by_value():
    assert same_bits(np.array([0., np.nan]), np.array([-0., np.nan])).tolist() == [False, True]
    assert same_bits(np.array([np.nan]), -np.array([np.nan])).all(), 'whatever bits a NaN has'
    assert (same_bits(np.array([3], np.int64), np.array([3.])).all()
            and not same_bits(np.array([2**53 + 1]), np.array([2**53])).any())
    assert same_bits(np.array(['a', None], object), np.array(['a', np.nan], object)).all()
    tiny = PX * (1 + 3e-16)
    assert (moved(PX, tiny).rounding and moved(PX, tiny, ulps=4) is None
            and not moved(PX, PX * (1 + 1e-12)).rounding and moved(PX, PX * (1 + 1e-12), ulps=4))


def test_rounding_is_measured_by_the_column_not_by_the_cell():
    "A sum that cancels leaves 1e-17 where its terms were 1: last bits, not a relative move of a hundred percent"
    a = pd.DataFrame({'A': [1., 1e-17]}, PX.index[:2])
    b = a.assign(A=[1., 6e-17])
    assert moved(a, b).rounding and moved(a, b, ulps=1) is None and not moved(a.iloc[1:], b.iloc[1:]).rounding


def test_edges_are_told_by_their_ends_stamp_and_field():
    t = instants(BARS.index)
    e = lambda corr, when=3: make_events([0, 1], [1, 2], t[[2, when]], np.c_[[.5, corr], [1., 1.]], 'ABC',
                                         ['corr', 'w'])
    m = edge_move(e(.25), e(.75))
    assert (m.edge, m.symbol, m.frame, m.date, m.was, m.now, m.by) == (
        ('B', 'C'), 'C', 'corr', BARS.index[3], .25, .75, .5)
    m = edge_move(e(.25), e(.25, 4))
    assert ((m.kind, m.date, m.count) == ('gone', BARS.index[3], 2) and edge_move(e(.25, 4), e(.25)).kind == 'new'
            and moved(e(.25), e(.25)) is None)
    twice = make_events([0, 0], [1, 1], t[[2, 2]], [[1.], [2.]], 'ABC', ['corr'])
    assert edge_move(twice, make_events([0, 0], [1, 1], t[[2, 2]], [[1.], [3.]], 'ABC', ['corr'])).by == 1.


def test_what_has_no_time_is_not_compared_and_what_has_is_found_at_any_depth():
    assert moved(dict(n=1, names=['A']), dict(n=2, names=['B'])) is None
    deep = lambda x: dict(a=[1, dict(b=x)], y=make_target(BARS, 2))
    b = PX.copy()
    b.iloc[3, 0] = 0.
    assert moved(deep(PX), deep(b)).frame == 'a.1.b' and moved(deep(PX), deep(PX)) is None
    long = lambda x: x.stack().rename('px')
    assert moved(long(PX), long(b)).symbol == 'AAA' and moved(long(PX), long(b), PX.index[2]) is None
    assert moved(PX['AAA'], b['AAA']).date == PX.index[3] and moved(PX, None).kind == 'gone'
    w = equal_weight(BARS)
    assert moved(simulate(w, BARS, Costs()), simulate(w, BARS.mul(1.01), Costs())) is not None


def test_labels_count_from_the_row_on_which_they_are_known():
    late = BARS.copy()
    late.loc[late.index > CUT] *= 1.1
    y, z = make_target(BARS, 3), make_target(late, 3)
    assert not y.frame.loc[:CUT].equals(z.frame.loc[:CUT]) and moved(y, z, CUT) is None


# ---- one build

def test_the_callers_data_is_never_touched_and_a_hand_that_does_is_named():
    data = dict(bars=BARS.copy(), groups=Timed(pd.DataFrame({'symbol': ['AAA'], 'asof': BARS.index[:1]}), 'asof'),
                n=[1, 2])
    before = frame_hash(data['bars']), data['groups'].table.copy()
    def hand(d, m):
        d['bars'].iloc[30, 2] = 5.
        d['groups']['symbol'] = 'ZZZ'
        d['n'].append(3)
        return d['bars']['Close']
    a = audit(Line(dict(reads=lambda d, m: d['bars']['Close'], hand=hand)), data, [CUT])
    assert frame_hash(data['bars']) == before[0] and data['groups'].table.equals(before[1]) and data['n'] == [1, 2]
    assert ({(f.stage, f.kind, f.frame) for f in a.findings}
            == {('hand', 'changed', 'bars'), ('hand', 'changed', 'groups'), ('hand', 'changed', 'n')})
    f = next(f for f in a.findings if f.frame == 'bars')
    assert f.now == 5. and f.date == BARS.index[30] and 'changes bars in place' in str(f)


def test_an_outcome_that_a_later_stage_changes_is_named_too():
    def hand(d, m):
        m['first'].iloc[:, 0] = 1.
        return m['first']
    a = audit(Line(dict(first=lambda d, m: d['bars']['Close'].copy(), second=hand)), dict(bars=BARS), [CUT])
    assert [(f.stage, f.kind, f.frame) for f in a.causes] == [('second', 'changed', 'first')]


def test_every_way_of_reading_is_remembered():
    for read, want in ((lambda g: g['a'], {'a'}), (lambda g: g.get('b'), {'b'}), (lambda g: g.get('z'), set()),
                       (lambda g: dict(**g), {'a', 'b'}), (lambda g: list(g), {'a', 'b'}),
                       (lambda g: g | {}, {'a', 'b'}), (lambda g: [v for v in g.values()], {'a', 'b'}),
                       (lambda g: 'a' in g, set())):
        g = Given(dict(a=1, b=2))
        read(g)
        assert g.read == want
    with pytest.raises(BadData, match='a could not be built'): Given(dict(a=Failed('oh')))['a']


@pytest.mark.parametrize('x, y',
                         [(PX, PX.rename(columns={'AAA': 'AAB'})), (PX, PX.set_axis(PX.index + pd.Timedelta('1D'))),
                          (np.array([1.]), np.array([2.])), (dict(a=PX), dict(a=-PX)),
                          (pd.DataFrame({'s': ['a', 'b']}), pd.DataFrame({'s': ['a', 'c']})), ((PX,), (PX, PX))])
def test_content_sees_labels_and_values(x, y): assert content(x) == content(own_copy(x)) and content(x) != content(y)


def test_sources_of_every_kind_get_another_future_and_keep_their_past():
    e = correlation_events(BARS, 20, 2, 5)
    mixed = pd.DataFrame({'px': PX['AAA'], 'word': 'x'})
    for how in FUTURES:
        for source in (BARS, PX['AAA'], e, mixed):
            new = other_future(source, CUT, how)
            assert moved(source, new, CUT) is None and moved(source, new) is not None, (how, type(source))
    assert len(other_future(BARS.index, CUT, 'cut')) == 51 and other_future([1], CUT, 'cut') == [1]
    b = bent(dict(a=PX, b=PX), CUT, 'noise', 0)
    assert not np.allclose((b['a'] / b['b']).iloc[51:], 1), 'two sources with the same noise keep their ratio'


# ---- what is found

def test_a_look_ahead_of_each_kind_is_caught_by_the_futures_that_can_see_it():
    late = BARS.copy()
    late.loc[late.index[60]:, (slice(None), 'DDD')] = np.nan
    sees = lambda f, bars=BARS: {x.how for x in found(f, bars).findings}
    close = lambda b: b['Close']
    assert sees(lambda b: close(b).shift(-1)) == {'cut', 'noise', 'blank'}
    assert sees(lambda b: close(b).loc[:, close(b).iloc[-1].notna()], late) == {'cut', 'blank'}
    assert sees(lambda b: close(b)[sorted(symbols_of(b), key=lambda s: -b['Volume'][s].sum())]) >= {'noise'}
    assert sees(lambda b: close(b).mul(np.arange(len(b))[::-1] % 5 == 0, axis=0)) == {'cut'}
    assert (sees(lambda b: close(b).fillna(close(b).mean()),
                 BARS.mask((BARS.index < BARS.index[5])[:, None] & np.ones(25, bool))) == {'cut', 'noise', 'blank'})
    assert sees(lambda b: close(b).dropna().iloc[:len(close(b).dropna()) // 2]) == {'cut', 'blank'}
    assert sees(lambda b: close(b) * np.random.default_rng(0).normal(size=len(b))[::-1, None]) == {'cut'}


def test_columns_in_an_order_of_the_future_are_an_order_that_moved():
    f = found(lambda b: b['Close'][list(b['Volume'].sum().sort_values().index)], cuts=[BARS.index[10]]).causes[0]
    assert f.kind == 'order' and 'in another order' in str(f)


def test_survivors_are_named():
    late = BARS.copy()
    late.loc[late.index[60]:, (slice(None), 'DDD')] = np.nan
    f = found(lambda b: returns(b).loc[:, b['Close'].iloc[-1].notna()], late).causes[0]
    assert (f.kind, f.symbol, f.date) == ('new', 'DDD', BARS.index[1])


def test_the_first_stage_is_the_cause_and_what_reads_it_follows():
    stages = dict(features=lambda d, m: returns(d['bars']),
                  scaled=lambda d, m: m['features'] / np.nanstd(m['features']),
                  other=lambda d, m: d['bars']['Close'].shift(-2), scores=lambda d, m: -m['scaled'],
                  weights=lambda d, m: dollar_neutral(m['scores']))
    a = audit(Line(stages), dict(bars=BARS), [CUT])
    assert [f.stage for f in a.causes] == ['scaled', 'other'] and a.table.iloc[:, 0].to_dict() == dict(
        features='same', scaled='moved', other='moved', scores='follows', weights='same')
    mended = Line(stages
                  | dict(scaled=lambda d, m: m['features'] / m['features'].expanding().std(), other=lambda d, m: 0))
    assert audit(mended, dict(bars=BARS), [CUT]).passed


def test_a_leak_after_an_innocent_stage_is_not_called_a_follower():
    "The middle stage stands although the first moved; what is wrong in the last is its own"
    stages = dict(first=lambda d, m: d['bars']['Close'].shift(-1), middle=lambda d, m: (m['first'] * 0).fillna(0.),
                  last=lambda d, m: m['middle'] + len(m['middle']))
    assert [f.stage for f in audit(Line(stages), dict(bars=BARS), [CUT], ('cut',)).causes] == ['first', 'last']


def test_a_stage_without_time_is_named_behind_the_one_that_shows_it():
    stages = dict(scaler=lambda d, m: float(d['bars']['Close'].to_numpy().max()),
                  scaled=lambda d, m: d['bars']['Close'] / m['scaler'], more=lambda d, m: m['scaled'] + 1)
    a = audit(Line(stages), dict(bars=BARS), [BARS.index[2]])
    assert (a.untimed == ('scaler',) and [f.stage for f in a.causes] == ['scaled']
            and a.causes[0].via == ('scaler',) and 'it reads scaler, which has no time' in str(a))
    assert a.table.iloc[:, 0].to_dict() == dict(scaler='no time', scaled='moved', more='follows')


def test_what_was_fitted_on_a_moved_stage_passes_the_blame_on():
    "The scaler has no time and is innocent: it was fitted on features that moved"
    stages = dict(features=lambda d, m: d['bars']['Close'].shift(-1),
                  scaler=lambda d, m: float(m['features'].iloc[10].sum()),
                  scaled=lambda d, m: d['bars']['Close'] * len(d['bars']) / m['scaler'])
    a = audit(Line(stages), dict(bars=BARS), [CUT], ('cut',))
    assert ([f.stage for f in a.causes] == ['features']
            and a.table.iloc[:, 0].to_dict() == dict(features='moved', scaler='no time', scaled='follows'))


def test_the_source_of_the_leak_is_named():
    table = pd.DataFrame({'symbol': ['AAA', 'BBB', 'AAA'], 'group': ['X', 'X', 'Y'], 'asof': BARS.index[[0, 0, 60]]})
    data = dict(bars=BARS, groups=Timed(table, 'asof'), index=PX.mean(axis=1), note='text')
    newest = lambda d, m: group_events(d['groups'], d['bars'].index, symbols_of(d['bars']), assume_static=True)
    both = lambda d, m: d['bars']['Close'].sub(d['index'], axis=0).shift(-1)
    a = audit(Line(dict(edges=newest, spread=both)), data, [CUT], ('cut', 'blank'))
    assert [f.source for f in a.causes] == [('groups',), ('bars', 'index')] and a.undated == ('note',)
    assert (a.causes[0].edge == ('AAA', 'BBB')
            and 'when the future of groups after 2020-03-11 is cut off' in str(a.causes[0]))


def test_a_filing_stamped_before_it_was_filed_is_an_edge_that_is_gone():
    facts = pd.DataFrame({'a': [0, 1], 'b': [1, 2], 'end': BARS.index[[10, 40]], 'filed': BARS.index[[30, 60]]})
    at = lambda when: lambda d, m: make_events(d['facts']['a'], d['facts']['b'], pd.DatetimeIndex(d['facts'][when]),
                                               np.ones((len(d['facts']), 1)), symbols_of(d['bars']), ['tie'])
    data = dict(bars=BARS, facts=Timed(facts, 'filed'))
    assert audit(Line(dict(edges=at('filed'))), data, 4).passed
    assert not audit(Line(dict(edges=at('end'))), data, 4).passed
    f = audit(Line(dict(edges=at('end'))), data, [CUT]).causes[0]
    assert (f.kind, f.edge, f.date) == ('gone', ('BBB', 'CCC'), BARS.index[40])


def test_one_row_too_many_at_a_refresh_is_found_because_cuts_go_there():
    greedy = lambda b: correlation_events(pd.concat({'Close': b['Close'].shift(-1)}, axis=1), 20, 2, 10)
    assert not found(greedy, cuts=4).passed and found(lambda b: correlation_events(b, 20, 2, 10), cuts=4).passed


def test_what_fails_with_less_data_is_a_finding_and_not_a_crash():
    def short(b):
        if len(b) < 70: raise ValueError('no quarter is over')
        return b['Close']
    a = audit(one(short, after=lambda d, m: m['stage'] * 2, beside=lambda d, m: d['bars']['Close']),
              dict(bars=BARS), [CUT])
    assert [f.kind for f in found(short).causes] == ['failed'], 'nobody needs to read it'
    f = a.causes[0]
    assert ((f.stage, f.kind, f.how, f.error) == ('stage', 'failed', 'cut', 'ValueError: no quarter is over')
            and 'no quarter is over' in str(a))
    assert a.table.iloc[:, 0].to_dict() == dict(stage='failed', after='not built', beside='same') and len(a.causes) == 1


def test_what_fails_where_nothing_was_known_yet_is_no_finding():
    warm = lambda b: correlation_events(b, 60, 2, 5)
    a = audit(one(warm, px=lambda d, m: d['bars']['Close']), dict(bars=BARS), [CUT])
    assert a.passed and a.table.iloc[:, 0].to_dict() == dict(stage='nothing', px='same')
    needs = audit(one(warm, px=lambda d, m: m['stage'] and d['bars']['Close']), dict(bars=BARS), [CUT], ('cut',))
    assert [(f.stage, f.kind) for f in needs.causes] == [('stage', 'failed')], (
        'a later stage had a past, and cannot be built')


def test_chance_is_told_from_look_ahead():
    rng = np.random.default_rng()
    dice = lambda d, m: m['stage'] * rng.normal()
    a = audit(
        one(returns, dice=dice, after=lambda d, m: m['dice'], leak=lambda d, m: m['stage'] / m['stage'].std()),
        dict(bars=BARS), [CUT])
    assert ({(f.stage, f.kind) for f in a.causes} == {('dice', 'unrepeatable'), ('leak', 'moved')}
            and 'not the same twice' in str(a))
    assert a.table.iloc[:, 0].to_dict() == dict(stage='same', dice='unrepeatable', after='unrepeatable', leak='moved')
    seeded = lambda d, m: m['stage'] * np.random.default_rng(7).normal()
    assert audit(one(returns, dice=seeded), dict(bars=BARS), [CUT]).passed


def test_a_stage_that_counts_its_calls_is_chance_too():
    calls = []
    def counts(b):
        calls.append(1)
        return b['Close'] + len(calls)
    assert [f.kind for f in found(counts).causes] == ['unrepeatable']


def test_an_outcome_from_elsewhere_is_told():
    @functools.cache
    def kept(names): return BARS['Close'].shift(-1)
    a = audit(one(lambda b: kept(tuple(symbols_of(b))), after=lambda d, m: m['stage'] * 2), dict(bars=BARS), [CUT])
    assert ([(f.stage, f.kind) for f in a.causes] == [('stage', 'beside')]
            and a.table.iloc[:, 0].to_dict() == dict(stage='beside', after='follows'))
    alone = audit(Line(dict(file=lambda d, m: PX, own=lambda d, m: d['bars']['Close'])), dict(bars=BARS), [CUT],
                  ('noise',))
    assert [(f.stage, f.kind) for f in alone.causes] == [('file', 'beside')] and 'reads nothing' in str(alone)


def test_no_grip_is_said_where_no_future_moved_anything():
    sliced = lambda b: PX.shift(-1).loc[:b.index[-1]]
    a = found(sliced)
    assert (a.passed and a.unfelt == ('stage',) and 'No grip: no future moved it anywhere: stage' in str(a)
            and found(returns).unfelt == ())


def test_stored_outcomes_are_compared_instead_of_a_new_true_line():
    calls = []
    def stage(b):
        calls.append(len(b))
        return returns(b)
    full = dict(stage=returns(BARS))
    a = audit(one(stage), dict(bars=BARS), [CUT], full=full)
    assert a.passed and calls == [51, 80, 80]
    stale = dict(stage=returns(BARS) * 1.001)
    b = audit(one(stage), dict(bars=BARS), [CUT], full=stale)
    assert [(f.kind, f.how) for f in b.causes] == [('unrepeatable', 'again')], (
        'what was stored is not what this data gives')
    assert [f.kind for f in audit(one(stage), dict(bars=BARS), [CUT], full=stale, again=False).causes] == ['moved']
    hand = lambda b: b.__setitem__(('Close', 'AAA'), 1.) or returns(BARS.loc[b.index])
    assert 'changed' in {f.kind for f in audit(one(hand), dict(bars=BARS), [CUT], ('cut',), full=full).findings}


# ---- where it looks, and what it costs

def test_a_leak_on_one_day_is_found_by_every_cut_or_by_its_own():
    def once(b):
        r = returns(b)
        if BARS.index[33] in r.index: r.loc[BARS.index[33]] = r.shift(-2).loc[BARS.index[33]]
        return r
    assert found(once, cuts=[BARS.index[50]]).passed
    every = found(once, cuts=0, how=('cut',))
    assert ([f.cut for f in every.findings] == list(BARS.index[33:35])
            and {f.date for f in every.findings} == {BARS.index[33]})


def test_cuts_go_where_something_rare_happens():
    gap = BARS.copy()
    gap.loc[gap.index[44:47], (slice(None), 'BBB')] = np.nan
    table = Timed(pd.DataFrame({'asof': BARS.index[[0, 62]]}), 'asof')
    graph = correlation_events(BARS, 20, 2, 25)
    dates = audit_dates(dict(bars=gap, t=table), dict(graph=graph), 6)
    assert ({BARS.index[46], BARS.index[61]} <= set(dates) and set(pd.to_datetime(graph.t)) & set(dates)
            and BARS.index[20] <= min(dates) and max(dates) < BARS.index[-1])
    assert (audit_dates(dict(bars=BARS), dict(x=returns(BARS)), 6)
            == audit_dates(dict(bars=BARS), dict(x=returns(BARS)), 6))
    fill = lambda b: b['Close'].bfill()
    assert not found(fill, gap, cuts=3).passed


def test_what_was_not_served_yet_comes_next():
    from gnn_quant.lookahead.audit import _pick
    r = BARS.index
    assert sorted(_pick(dict(a=r[[10]], b=r[[20, 30]], c=r[[40]]), [r[11], r[12], r[21]])) == list(r[[10, 20, 40]])


@pytest.mark.parametrize('cuts, how', [(1, ('cut',)), (3, ('cut', 'noise')), (5, tuple(FUTURES))])
def test_the_work_is_one_build_a_cut_and_future(cuts, how):
    rows, heard = [], []
    def stage(b):
        rows.append(len(b))
        return returns(b)
    a = found(stage, cuts=cuts, how=how, progress=lambda *told: heard.append(told))
    assert len(rows) == 1 + len(a.cuts) * len(how) and sum(rows) <= len(BARS) * len(rows)
    assert ([h[:2] for h in heard] == [(i + 1, len(rows) - 1) for i in range(len(rows) - 1)]
            and heard[-1][2].endswith(how[-1]))


@pytest.mark.parametrize(
    'call, words',
    [(lambda: audit({}, dict(bars=BARS)), 'Pass Line'), (lambda: Line({}), 'no stages'),
     (lambda: Line(dict(a=3)), "'a' is no stage"), (lambda: audit(one(returns), dict(n=3)), 'no source has dates'),
     (lambda: found(returns, how=('shuffle',)), "how='shuffle'"), (lambda: found(returns, how='cut'), "how='cut'"),
     (lambda: found(returns, cuts=[BARS.index[-1]]), 'no past or no future'),
     (lambda: found(returns, cuts=['2031-01-01']), 'no past or no future'),
     (lambda: found(returns, cuts=[]), 'no cuts'), (lambda: found(returns, cuts=-1), 'cuts=-1'),
     (lambda: found(lambda b: 3.), 'nothing was known'),
     (lambda: found(lambda b: returns(b).iloc[60:]), 'nothing was known'),
     (lambda: warmup_drift(one(returns), dict(bars=BARS), (80,)), 'leaves nothing'),
     (lambda: warmup_drift(one(returns), dict(bars=BARS), (0,)), 'drop=0')])
def test_what_cannot_be_asked_is_refused_with_a_reason(call, words):
    with pytest.raises(BadParams, match=words.replace('(', r'\(')): call()


def test_a_line_that_fails_on_its_true_data_is_refused():
    with pytest.raises(BadData, match='audit: stage cannot be built from the true data .ZeroDivisionError'):
        found(lambda b: 1 / 0)


def test_the_texts_of_a_result():
    a = found(lambda b: b['Close'].shift(-1))
    assert (str(a).startswith('1 of the stages at fault: '
                              '1 stages, 1 cuts from 2020-03-11 to 2020-03-11, cut, noise, blank.')
            and isinstance(a.findings[0], Finding) and isinstance(a.findings[0], Move))
    assert (a.stages == ('stage',) and a.cuts == (CUT,) and list(a.table) == ['2020-03-11']
            and set(a.table.stack()) <= set(WORST))
    assert (judge_steps(dict(stage=PX), rebuild(one(lambda b: b['Close']), dict(bars=BARS)), CUT, 'cut')
            == (dict(stage='beside'), [Finding('beside', stage='stage', cut=CUT, how='cut')]))


# ---- samplers, memories, warm-up

def test_a_sampler_that_lets_the_next_day_in_is_caught_where_the_graph_is_right():
    graph = lambda d, m: correlation_events(d['bars'], 20, 2, 1)
    def greedy(d, m):
        e, at, n = m['edges'], query_instants(d['bars'].index), len(symbols_of(d['bars']))
        f = NeighborIndex(e).recent(np.tile(np.arange(n), len(at)), np.repeat(at + 86_400 * 10**9, n), 2)
        q, slot = np.nonzero(f.mask)
        return make_events(f.nbr[q, slot], q % n, at[q // n] - 1, np.c_[slot], e.symbols, ['slot'])
    right = audit(Line(dict(edges=graph, answers=lambda d, m: sampled(m['edges'], d['bars'].index, 2))),
                  dict(bars=BARS), 3)
    wrong = audit(Line(dict(edges=graph, answers=greedy)), dict(bars=BARS), 3)
    assert right.passed and [f.stage for f in wrong.causes] == ['answers'] and wrong.causes[0].edge


def test_sampled_says_what_the_index_says():
    e = correlation_events(BARS, 20, 2, 5)
    s = sampled(e, BARS.index[40:42], 3)
    f = NeighborIndex(e).recent(np.arange(5), np.full(5, query_instants(BARS.index)[41]), 3)
    last = s.t == instants(BARS.index)[41]
    assert last.sum() == f.mask.sum() and sorted(zip(s.dst[last], s.src[last])) == sorted(
        (q, f.nbr[q, k]) for q, k in zip(*np.nonzero(f.mask)))
    assert s.fields == ('slot', 'age', 'said.corr', 'said.abs_corr') and (s.msg[last, 1] >= 0).all()


def test_memory_of_reads_the_states_that_the_network_reads():
    import torch
    from gnn_quant.models.tgn import TGN
    from gnn_quant.models.rules import Reversal
    x, e, y = make_features(BARS, ['ret_1', 'ret_5']), correlation_events(BARS, 20, 2, 5), make_target(BARS, 2)
    model = TGN(width=4, neighbors=2, window=3, schedule=dict(epochs=1))
    with pytest.raises(BadParams, match='has no memory'): memory_of(model, x, e, BARS.index[60:63])
    model.fit(x, e, y, BARS.index[22:50], BARS.index[55:65])
    m = memory_of(model, x, e, BARS.index[60:75])
    panel = model._panel(x, e)
    with torch.no_grad():
        feats, nbr, mask, tie, live = panel.batch(np.array([70]))
        from gnn_quant.models.graphmixer import mean_of
        from gnn_quant.models.panel_net import with_mask
        h = model.net.encode(with_mask(feats))
        state = h.new_zeros(h.shape[1:])
        for i in range(len(feats)):
            state = model.net.cell(torch.cat([h[i], mean_of(state, nbr[i], mask[i]), tie[i]], -1), state)
    assert (m.shape == (15, 20)
            and np.allclose(m.loc[BARS.index[70]].to_numpy().reshape(4, 5), state.numpy().T, atol=1e-6))
    early = dict(x=x, e=e)
    stage = lambda shift: Line(dict(
        memory=lambda d, _: memory_of(model, d['x'].shift(-shift), d['e'], d['x'].index[60:75][:len(d['x']) - 60])))
    cut = [BARS.index[68]]
    assert audit(stage(0), early, cut, ('noise', 'cut')).passed and not audit(stage(1), early, cut, ('noise',)).passed
    with pytest.raises(BadParams, match='has no memory'): memory_of(Reversal(), x, e, BARS.index[60:63])


def test_warm_up_has_the_closed_form_of_an_average():
    f = lambda b: b['Close'].ewm(alpha=.1, adjust=False).mean()
    t = warmup_drift(one(f, window=lambda d, m: d['bars']['Close'].diff(3),
                         fails=lambda d, m: 1 / (len(d['bars']) - 60)), dict(bars=BARS), (5, 20))
    y = f(BARS)
    gap = lambda k: ((.9 ** (79 - k)) * (y.iloc[k] - PX.iloc[k])).abs() / np.maximum(
        y.iloc[-1], f(BARS.iloc[k:]).iloc[-1])
    for k in (5, 20): assert t.loc['stage', str(k)] == pytest.approx(gap(k).max(), rel=1e-9)
    assert (t.loc['window', ['5', '20']].tolist() == [0, 0] and t.loc['window', 'where'] == ''
            and np.isnan(t.loc['fails', '20']) and 'ZeroDivisionError' in t.loc['fails', 'where'])
    assert t.loc['stage', 'where'].startswith(f'{gap(20).idxmax()} 2020-04-21: ')


def test_warm_up_of_edges_tells_a_refresh_that_is_counted_from_the_first_row():
    t = warmup_drift(one(lambda b: correlation_events(b, 20, 2, 7)), dict(bars=BARS), (3, 7))
    assert t.loc['stage', '7'] == 0 and t.loc['stage', '3'] == np.inf
    both = warmup_drift(one(lambda b: (b['Close'] + len(b)).iloc[-(len(b) - 70):]), dict(bars=BARS), (4,), rows=8)
    assert both.loc['stage', '4'] == np.inf, 'a value moves on the first of the rows, and later ones are gone'
    gone = warmup_drift(one(lambda b: b['Close'].shift(70)), dict(bars=BARS), (20,))
    assert gone.loc['stage', '20'] == np.inf, 'known in one of them only'
