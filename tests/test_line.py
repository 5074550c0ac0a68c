"""The line is rebuilt and held against a run:
an honest one stands still, and every planted fault is named with stage, cell or edge, date and size"""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gnn_quant.graph.edge_builders as edge_builders
import gnn_quant.pipeline.audit as audits
import gnn_quant.pipeline.stages as line
import gnn_quant.portfolio.sizing as sizing
import gnn_quant.training.walk_forward as walk_forward
from _outside import Installed
from gnn_quant.core import BadData, BadParams, bend, toy_bars, toy_sectors
from gnn_quant.data.bundle import Bundle
from gnn_quant.data.events import Events, make_events
from gnn_quant.data.load import load_bundle, load_tables
from gnn_quant.graph.sampling.per_relation import SlotIndex
from gnn_quant.models.base import PanelModel
from gnn_quant.models.tgn import MemoryPanel
from gnn_quant.pipeline.artifacts import Edges, Features, Scores
from gnn_quant.pipeline.audit import ask, attention_of, audit_record, drift_of, not_audited, source_findings
from gnn_quant.lookahead.audit_report import audit_figures, findings_frame
from gnn_quant.pipeline.audit_page import audit_page
from gnn_quant.pipeline.audit_record import draw_cuts, fold_of, named_cuts, record_of, stored_folds
from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.pipeline.stages import STAGES, build_edges, train_scores
from gnn_quant.report.markup import loads

SMALL = dict(window=20, top=2, every=5)
HOW = Experiment(
    features=dict(warmup=40), graph=dict(builders=[dict(name='rolling', **SMALL), dict(name='ewma', **SMALL)]),
    split=dict(train=60, valid=20, test=30), training=dict(epochs=1, neighbors=5, jobs=1), models=[dict(name='ridge')],
    signals=dict(quantile=.34, resolved=60), portfolio=dict(vol_window=20))


def with_models(*names, **sections): return HOW.with_(models=[dict(name=n) for n in names], **sections)


def dataset(t=260, n=6):
    bars = toy_bars(n, t)
    rows = pd.DataFrame(columns=['date', 'symbol', 'field', 'value', 'reason', 'known', 'kept'])
    return Bundle('toy', bars, toy_sectors(n), bars['Close'].mean(axis=1).rename('toy'), 'simulated', (), rows)


def ran(how=HOW, data=None, home=None):
    "What the notebooks from features to signals do, in memory; builders are not checked, so that a fault gets through"
    made = {Bundle: data or dataset()}
    for k in ('features', 'targets'): made |= STAGES[k](made, how)
    made[Edges] = build_edges(made[Bundle], how.graph, checked=False)
    made[Scores] = train_scores(made, how, home)[0]
    for k in ('signals', 'weights'): made |= STAGES[k](made, how)
    return record_of(made, how, home and home / 'checkpoints')


def audited(*args, **more): return audit_record(*args, sources=False, **more)


def cuts_of(r, n=3, seed=1):
    return draw_cuts(r.folds, r.data.bars.index, n, seed, pd.DatetimeIndex(np.unique(r.edges.events.t)))


@pytest.fixture(scope='module')
def honest(): return ran()


# ---- nothing moves where nothing leaks

def test_an_honest_run_stands_still(honest):
    cuts = cuts_of(honest)
    found = audited(honest, cuts)
    a = found.audit
    assert a.passed and not a.findings and (a.table == 'same').all(axis=None) and not a.unfelt and not a.undated
    assert a.stages == ('features', 'edges', 'sampler', 'prediction', 'signal', 'weights') and list(a.cuts) == cuts
    assert len(found.kept) == len(cuts), 'one fit a fold serves the cut, the noise and the blank'
    assert audit_figures(a)['stages'] == dict.fromkeys(a.stages, 'same') and len(findings_frame(a)) == 0
    assert (not_audited(honest, found)
            == ['2 of 5 folds hold none of the dates: their scores are taken as the run kept them.',
                'No model of this run keeps a memory, so there was none to compare.'])


def test_all_kinds_of_models_and_several_seeds():
    how = with_models('tgat', 'rewired', 'lightgbm', 'constant', training=dict(seed=4, seeds=2))
    r = ran(how)
    assert ({k for k in r.scores if k.startswith('seed')}
            == {f'seed{s}.{m}' for s in (4, 5) for m in ('tgat', 'rewired', 'lightgbm')}), 'a constant has no seeds'
    cuts = cuts_of(r)
    found = audited(r, cuts)
    assert found.audit.passed, str(found.audit)
    assert ([s['tgat'] for s in found.asked.seeds] == [[4], [5], [4]]
            and [s['constant'] for s in found.asked.seeds] == [[4]] * 3), 'another seed in every fold'
    assert any('1 of 2 seeds of tgat' in w for w in not_audited(r, found))
    whole = audited(r, cuts[-1:], ['tgat'], seeds=0)
    assert (whole.audit.passed and len(whole.kept) == 2 and whole.asked.models == ['tgat']
            and any('Nothing was asked of rewired' in w for w in not_audited(r, whole)))
    other = replace(r, scores=r.scores | {'seed5.tgat': r.scores['seed5.tgat'] + 1e-9})
    assert not audited(other, cuts, ['tgat']).audit.passed, (
        'a seed that was trained anew is compared by itself too')
    a = attention_of(r, found, looks=2, strongest=4)
    assert (a['date'].nunique() == 6 and a.groupby('date').size().max() == 4 and set(a['date']) >= set(cuts)
            and (a['date'] <= max(cuts)).all())
    pd.testing.assert_frame_equal(a, attention_of(r, audited(r, cuts, ['tgat']), looks=2, strongest=4))


def test_a_memory_is_compared_with_what_the_run_saved(tmp_path):
    r = ran(with_models('tgn'), home=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    found = audited(r, cuts_of(r, 2))
    assert (found.audit.passed and found.audit.stages[3] == 'memory'
            and not any('memory' in w for w in not_audited(r, found)))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}, 'the run is only read'
    none = audited(replace(r, checkpoints=None), cuts_of(r, 2))
    assert (none.audit.passed and 'memory' not in none.audit.stages
            and any('tgn remembered in the run is not known' in w for w in not_audited(r, none)))


def test_several_horizons_and_a_static_sector_map():
    how = with_models('tgat', split=dict(embargo='auto'), graph=dict(static_sectors=True))
    r = ran(how.override(['target.horizons=[5, 1]']), dataset(720))
    found = audited(r, cuts_of(r, 2))
    assert found.audit.passed, str(found.audit)
    given = ' '.join(not_audited(r, found))
    assert 'horizons 5, 1' in given and 'sector map is of a later date' in given and found.audit.undated == ('sectors',)
    assert 'same_sector' in found.full['edges'].fields


# ---- every planted fault is named

def caught(r, stage, seed=1, words=(), **want):
    "The first cause, after checking that it is the stage and that the audit says where"
    found = audited(r, cuts_of(r, seed=seed))
    a = found.audit
    assert not a.passed and a.causes[0].stage == stage and a.causes[0].kind == want.pop('kind', 'moved'), str(a)
    assert not (a.table.loc[list(a.stages[:a.stages.index(stage)])] != 'same').any(axis=None), (
        'what stands before the fault is not blamed')
    f = a.causes[0]
    assert all(getattr(f, k) == v for k, v in want.items()), f
    assert len(findings_frame(a)) == len(a.findings) and audit_figures(a)['sentence'] == f'The past moved. {f}.'
    page = audit_page(r, found, attention_of(r, found), drift_of(r, 'ridge', [1]), {'who': '<b>'}) if words else ''
    assert all(w in page for w in words) and not loads(page)
    return f, a


def test_a_feature_scaled_over_all_dates(monkeypatch):
    plain = line.make_features
    def scaled(data, *how):
        x, b = plain(data, *how), data.bars
        return pd.concat({f: b['Close'] / b['Close'].max() if f == 'ret_5' else x[f] for f in x.columns.unique(0)},
                         axis=1, names=['feature', 'symbol'])
    monkeypatch.setattr(line, 'make_features', scaled)
    r = ran()
    f, a = caught(r, 'features', frame='ret_5')
    assert (f.symbol in r.data.bars['Close'] and f.date == r.data.bars.index[HOW.features.warmup] and f.by > 0
            and f.was != f.now)
    assert (a.table.loc['prediction'] == 'follows').all()


def test_an_edge_stamped_a_row_early(monkeypatch):
    plain = edge_builders.correlation_events
    def early(b, *how):
        e, rows = plain(b, *how), b.index.as_unit('ns').asi8
        return make_events(e.src, e.dst, rows[np.searchsorted(rows, e.t) - 1], e.msg, e.symbols, e.fields)
    monkeypatch.setattr(edge_builders, 'correlation_events', early)
    r = ran()
    for seed in (1, 2):
        f, a = caught(r, 'edges', seed)
        assert len(f.edge) == 2 and set(f.edge) <= set(r.data.bars['Close']) and f.date in a.cuts, (
            'the edge of the very row that the data is cut at')
        assert f.edge[0] + ' -> ' + f.edge[1] in str(f)


def test_a_sampler_that_answers_with_what_comes(monkeypatch):
    plain = SlotIndex.recent
    monkeypatch.setattr(SlotIndex, 'recent',
                        lambda self, nodes, times, k: plain(self, nodes, times + 7 * 86_400 * 10**9, k))
    f, _ = caught(ran(), 'sampler')
    assert len(f.edge) == 2 and f.date is not None


def test_a_predictor_that_reads_the_next_row(monkeypatch):
    plain = PanelModel.predict
    def ahead(self, x, events, rows):
        own, later = plain(self, x, events, rows), x.index[np.minimum(x.index.get_indexer(rows) + 1, len(x) - 1)]
        return own + .1 * x['ret_1'].loc[later].to_numpy()
    monkeypatch.setattr(PanelModel, 'predict', ahead)
    f, a = caught(ran(), 'prediction', frame='ridge',
                  words=('class="banner alarm"', 'prediction: ridge of ', 'What a pass does not prove', '&lt;b&gt;',
                         'No network of this audit'))
    assert f.date == f.cut and f.cut in a.cuts and 0 < f.by <= .1, (
        'the row before the cut is the only one that saw something else')


def test_a_fold_that_trains_on_later_rows(monkeypatch):
    plain = walk_forward.run_fold
    class Late:
        "Learns from rows that it is tested on"
        def __init__(self, model, fold): self.model, self.fold = model, fold
        def __getattr__(self, k): return getattr(self.model, k)
        def fit(self, x, events, y, train, valid, **more):
            t = self.fold.test
            return self.model.fit(x, events, y, *((t[:10], t[16:]) if len(t) > 20 else (train, valid)), **more)
    late = lambda model, x, events, y, fold, *more: plain(Late(model, fold), x, events, y, fold, *more)
    monkeypatch.setattr(walk_forward, 'run_fold', late)
    monkeypatch.setattr(audits, 'run_fold', late)
    r = ran()
    f, a = caught(r, 'prediction', frame='ridge')
    assert f.date == fold_of(r.folds, f.cut).test[0] and a.table.loc['prediction'].tolist() == [
        'moved', 'moved', 'same'], 'the last fold is too short to cheat'


def test_a_memory_that_hears_of_tomorrow(monkeypatch, tmp_path):
    plain = MemoryPanel.batch
    monkeypatch.setattr(MemoryPanel, 'batch', lambda self, rows: plain(self, np.minimum(rows + 1, len(self.x) - 1)))
    r = ran(with_models('ridge', 'tgn'), home=tmp_path)
    f, a = caught(r, 'memory')
    assert f.frame.startswith('tgn.m') and f.date == f.cut and (a.table.loc['prediction'] == 'moved').any()


def test_a_confidence_from_outcomes_that_were_not_known(monkeypatch):
    plain = line.make_signals
    def sure(scores, y, *more):
        f = plain(scores, y, *more)
        f['confidence'] = (y.frame > 0).astype(float).to_numpy()
        return f
    monkeypatch.setattr(line, 'make_signals', sure)
    f, _ = caught(ran(), 'signal')
    assert f.frame == 'ridge.confidence' and f.cut - f.date <= pd.Timedelta(days=10), (
        'the labels of the last rows before the cut')


def test_a_weight_rule_normalised_by_the_whole_sample(monkeypatch):
    plain = sizing.cap_turnover
    monkeypatch.setattr(sizing, 'cap_turnover', lambda w, limit: plain(w, limit) / w.stack().std())
    r = ran()
    f, a = caught(r, 'weights', frame='ridge')
    assert f.symbol in r.data.bars['Close'] and f.by > 0 and (a.table.loc['signal'] == 'same').all()


# ---- what is no look-ahead, and must not be called so

def test_other_code_or_other_bars_are_told_from_look_ahead(honest, monkeypatch):
    cuts = cuts_of(honest)
    x = honest.features.frame.copy()
    x.iloc[30, 5] = np.nextafter(x.iloc[30, 5], 9)
    f = audited(replace(honest, features=Features(x)), cuts).audit
    assert (not f.passed and f.causes[0].stage == 'features' and f.causes[0].kind == 'unrepeatable'
            and f.causes[0].date == x.index[30] and (f.table.loc['features'] == 'unrepeatable').all())
    e = honest.edges.events
    msg = e.msg.copy()
    msg[-3, 0] = np.nextafter(msg[-3, 0], np.float32(9))
    moved = Edges(Events(e.src, e.dst, e.t, msg, e.symbols, e.fields))
    f = audited(replace(honest, edges=moved), cuts).audit
    assert ([c.stage for c in f.causes if c.kind == 'unrepeatable'] == ['edges']
            and f.causes[0].date == pd.Timestamp(int(e.t[-3])))
    other = audited(replace(honest, scores={'ridge': honest.scores['ridge'] + 1e-12}), cuts).audit
    assert (not other.passed and [c.kind for c in other.causes] == ['unrepeatable']
            and other.causes[0].stage == 'prediction')
    assert (audit_figures(other)['verdict'] == 'unrepeatable'
            and audit_figures(other)['sentence'].startswith('Nothing can be said of look-ahead: prediction'))


def test_bad_questions(honest):
    index = honest.data.bars.index
    with pytest.raises(BadParams, match='gru was not trained'): ask(honest, cuts_of(honest), ['gru'])
    with pytest.raises(BadParams, match='seeds=-1'): ask(honest, cuts_of(honest), seeds=-1)
    with pytest.raises(BadParams, match='cuts=-2'): draw_cuts(honest.folds, index, -2)
    with pytest.raises(BadParams, match='no row of a test block'): named_cuts([str(index[-1])], honest.folds, index)
    with pytest.raises(BadData, match='no future to change'): draw_cuts(honest.folds[-1:], honest.folds[-1].test[:1], 3)
    table = walk_forward.fold_table(honest.folds, index, 6).reset_index()
    with pytest.raises(BadData, match='fold 0, train: 55 rows .* the run had 60'): stored_folds(table, index[45:])


def test_dates_are_spread_and_half_of_them_are_stamps(honest):
    index, told = honest.data.bars.index, pd.DatetimeIndex(np.unique(honest.edges.events.t))
    for seed in range(20):
        cuts = draw_cuts(honest.folds, index, 4, seed, told)
        assert (cuts == draw_cuts(honest.folds, index, 4, seed, told) == sorted(cuts) and cuts[-1] in told
                and cuts[-1] >= index[-21] and cuts[-1] < index[-1])
        assert fold_of(honest.folds, cuts[0]) is honest.folds[0] and sum(c in told for c in cuts) >= 2
    assert (len(draw_cuts(honest.folds, index, 0)) == len(honest.folds)
            and len({tuple(draw_cuts(honest.folds, index, 4, s)) for s in range(20)}) > 10)


def test_a_fit_reads_nothing_after_the_first_day_it_is_used(honest):
    "The same model for every future after that day, and another one for another past"
    bars, fold, kept = honest.data.bars, honest.folds[2], {}
    def made(b):
        data = audits.bundle_at(honest, dict(bars=b))
        x, e = audits.features_at(honest, dict(bars=b)), build_edges(data, HOW.graph, checked=False).events
        return audits.fitted(kept, honest.line('ridge'), 0, fold, x, e, audits.targets_at(honest, b))
    first = made(bars)
    assert made(bars.loc[:fold.test[0]]) is first is made(bend(bars, fold.test[0], 'noise')) and len(kept) == 1
    assert made(bend(bars, fold.valid[-1], 'noise')) is not first and len(kept) == 2


# ---- what a package brings is audited like ours

OUTSIDE = dict(source='outside_pkg:outside_market')


def outside(data=OUTSIDE, tables=(), **sections):
    e = HOW.with_(data=dict(data, tables=list(tables)), **sections)
    b = load_bundle(data['source'])
    for t in tables: b = load_tables(b, [t], True)
    return e, b


def test_a_source_that_gives_another_past_is_named():
    with Installed():
        for source, n in (('outside_pkg:outside_market', 0), ('outside_pkg:outside_rewriter', 1)):
            r = ran(*outside(dict(source=source)))
            f = source_findings(r, cuts_of(r, 1))
            assert len(f) == n
        assert f[0].stage == 'source outside_pkg:outside_rewriter' and f[0].symbol and f[0].by > 0
        a = audit_record(r, cuts_of(r, 1)).audit
        assert (not a.passed and a.causes[0].stage == f[0].stage
                and 'source outside_pkg:outside_rewriter: ' in str(a.causes[0]))


def test_a_table_with_hindsight_is_named():
    with Installed():
        for table, leaks in (('outside_pkg:outside_news', False), ('outside_pkg:outside_hindsight', True)):
            r = ran(*outside(tables=[table]))
            f = source_findings(r, cuts_of(r, 1))
            assert bool(f) is leaks
        assert f[0].stage.startswith('table ') and 'outside_hindsight' in f[0].stage


@pytest.mark.parametrize('kind,name,stage',
                         [('feature', 'mentions', None), ('feature', 'peeks_ahead', 'features'),
                          ('feature', 'mentions_ahead', 'features'), ('model', 'feature_mean', None),
                          ('model', 'feature_mean_leak', 'prediction'), ('sizer', 'sign_weight', None),
                          ('sizer', 'sign_weight_leak', 'weights')])
def test_plugins_of_another_package_are_audited(kind, name, stage):
    full = f'outside_pkg:{name}'
    with Installed():
        if kind == 'feature': given = dict(features=dict(use=['ret_5', 'vol_20', full]))
        elif kind == 'model': given = dict(models=[dict(name=full)])
        else: given = dict(portfolio=dict(sizer=full))
        r = ran(*outside(tables=['outside_pkg:outside_news'], **given))
        a = audit_record(r, cuts_of(r, 2)).audit
        assert a.passed is (stage is None), str(a)
        if stage:
            assert a.causes[0].stage == stage and name in str(a.causes[0]), str(a.causes[0])
