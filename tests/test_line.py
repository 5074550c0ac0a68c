"""The line is rebuilt and held against a run:
an honest one stands still, and every planted fault is named with stage, cell or edge, date and size"""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import gnn_quant.training.walk_forward as walk_forward
import gnn_quant.pipeline.audit as audits
import gnn_quant.pipeline.stages as line
from gnn_quant.core import BadData, BadParams, bend, toy_bars, toy_sectors
from gnn_quant.data.bundle import Bundle
from gnn_quant.data.events import make_events
from gnn_quant.graph.sampling.per_relation import SlotIndex
from gnn_quant.models.base import PanelModel
from gnn_quant.training.losses import span_of
from gnn_quant.models.tgn import MemoryPanel
from gnn_quant.training.seeds import run_seeds
from gnn_quant.report.markup import loads
from gnn_quant.pipeline.audit_page import audit_figures, audit_page, findings_frame
from gnn_quant.pipeline.audit import (Record, ask, attention_of, audit_record, draw_cuts, drift_of, fold_of,
                                      named_cuts, not_asked, stored_folds)
from gnn_quant.pipeline.stages import (Recipe, Sizing, line_edges, line_features, line_folds, line_targets, prints,
                                       recipe, sizing)

HOW = Recipe(('ridge',), 0, 1, 5, (), 60, 20, 30, 0, 1, 'ic', 40, 20, 2, 5, 5, False)
SIZED = Sizing('dollar_neutral', .1, 20, .1, .34, 60)


def dataset(t=260, n=6):
    bars = toy_bars(n, t)
    rows = pd.DataFrame(columns=['date', 'symbol', 'field', 'value', 'reason', 'known', 'kept'])
    return Bundle('toy', bars, toy_sectors(n), bars['Close'].mean(axis=1).rename('toy'), 'simulated', (), rows)


def ran(how=HOW, data=None, checkpoints=None):
    "What train.ipynb and signals.ipynb do, in memory"
    d = data or dataset()
    x, e, ys = line_features(d.bars, how), line_edges(d.bars, how, d.sectors), line_targets(d.bars, how)
    folds = line_folds(x, span_of(ys), how)
    done = {m: run_seeds(line.fresh(m, how), x, e, ys, folds, how.seeds, checkpoints) for m in how.models}
    scores = {m: r.mean.reindex(d.bars.index) for m, r in done.items()}
    many = {f'seed{s}.{m}': f.reindex(d.bars.index) for m, r in done.items() if len(r.scores) > 1
            for s, f in r.scores.items()}
    return Record(d, how, SIZED, folds, scores | many,
                  {m: line.line_signals(s, d.bars, ys[0], SIZED) for m, s in scores.items()},
                  {m: line.line_weights(s, d.bars, SIZED) for m, s in scores.items()}, prints(x, e), checkpoints)


def cuts_of(r, n=3, seed=1):
    return draw_cuts(r.folds, r.data.bars.index, n, seed, pd.DatetimeIndex(np.unique(line_edges(r.data.bars, r.how).t)))


@pytest.fixture(scope='module')
def honest(): return ran()


# ---- nothing moves where nothing leaks

def test_an_honest_run_stands_still(honest):
    cuts = cuts_of(honest)
    found = audit_record(honest, cuts)
    a = found.audit
    assert a.passed and not a.findings and (a.table == 'same').all(axis=None) and not a.unfelt and not a.undated
    assert a.stages == ('features', 'edges', 'sampler', 'prediction', 'signal', 'weights') and list(a.cuts) == cuts
    assert len(found.kept) == len(cuts), 'one fit a fold serves the cut, the noise and the blank'
    assert audit_figures(a)['stages'] == dict.fromkeys(a.stages, 'same') and len(findings_frame(a)) == 0
    assert (not_asked(honest, found)
            == ['2 of 5 folds hold none of the dates: their scores are taken as the run kept them.',
                'No model of this run keeps a memory, so there was none to compare.'])


def test_all_kinds_of_models_and_several_seeds():
    how = replace(HOW, models=('tgat', 'rewired', 'lightgbm', 'constant'), n_seeds=2, seed=4)
    r = ran(how)
    assert ({k for k in r.scores if k.startswith('seed')}
            == {f'seed{s}.{m}' for s in (4, 5) for m in ('tgat', 'rewired', 'lightgbm')}), 'a constant has no seeds'
    cuts = cuts_of(r)
    found = audit_record(r, cuts)
    assert found.audit.passed, str(found.audit)
    assert ([s['tgat'] for s in found.asked.seeds] == [[4], [5], [4]]
            and [s['constant'] for s in found.asked.seeds] == [[4]] * 3), 'another seed in every fold'
    assert any('1 of 2 seeds of tgat' in w for w in not_asked(r, found))
    whole = audit_record(r, cuts[-1:], ['tgat'], seeds=0)
    assert (whole.audit.passed and len(whole.kept) == 2 and whole.asked.models == ['tgat']
            and any('Nothing was asked of rewired' in w for w in not_asked(r, whole)))
    other = replace(r, scores=r.scores | {'seed5.tgat': r.scores['seed5.tgat'] + 1e-9})
    assert not audit_record(other, cuts, ['tgat']).audit.passed, (
        'a seed that was trained anew is compared by itself too')
    a = attention_of(r, found, looks=2, strongest=4)
    assert (a['date'].nunique() == 6 and a.groupby('date').size().max() == 4 and set(a['date']) >= set(cuts)
            and (a['date'] <= max(cuts)).all())
    pd.testing.assert_frame_equal(a, attention_of(r, audit_record(r, cuts, ['tgat']), looks=2, strongest=4))


def test_a_memory_is_compared_with_what_the_run_saved(tmp_path):
    r = ran(replace(HOW, models=('tgn',)), checkpoints=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    found = audit_record(r, cuts_of(r, 2))
    assert (found.audit.passed and found.audit.stages[3] == 'memory'
            and not any('memory' in w for w in not_asked(r, found)))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}, 'the run is only read'
    none = audit_record(replace(r, checkpoints=None), cuts_of(r, 2))
    assert (none.audit.passed and 'memory' not in none.audit.stages
            and any('tgn remembered in the run is not known' in w for w in not_asked(r, none)))


def test_several_horizons_and_a_static_sector_map():
    r = ran(replace(HOW, models=('tgat',), horizons=(5, 1), embargo='auto', static_sectors=True), dataset(720))
    found = audit_record(r, cuts_of(r, 2))
    assert found.audit.passed, str(found.audit)
    given = ' '.join(not_asked(r, found))
    assert 'horizons 5, 1' in given and 'sector map is of a later date' in given and found.audit.undated == ('sectors',)
    assert ('same_sector' in found.full['edges'].fields
            and audit_record(replace(r, prints=None), cuts_of(r, 2)).audit.passed)


# ---- every planted fault is named

def caught(r, stage, seed=1, words=(), **want):
    "The first cause, after checking that it is the stage and that the audit says where"
    found = audit_record(r, cuts_of(r, seed=seed))
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
    def scaled(b):
        x = plain(b)
        return pd.concat({f: b['Close'] / b['Close'].max() if f == 'ret_5' else x[f] for f in x.columns.unique(0)},
                         axis=1, names=['feature', 'symbol'])
    monkeypatch.setattr(line, 'make_features', scaled)
    r = ran()
    f, a = caught(r, 'features', frame='ret_5')
    assert f.symbol in r.data.bars['Close'] and f.date == r.data.bars.index[HOW.warmup] and f.by > 0 and f.was != f.now
    assert (a.table.loc['prediction'] == 'follows').all()


def test_an_edge_stamped_a_row_early(monkeypatch):
    plain = line.correlation_events
    def early(b, *how):
        e, rows = plain(b, *how), b.index.as_unit('ns').asi8
        return make_events(e.src, e.dst, rows[np.searchsorted(rows, e.t) - 1], e.msg, e.symbols, e.fields)
    monkeypatch.setattr(line, 'correlation_events', early)
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
    r = ran(replace(HOW, models=('ridge', 'tgn')), checkpoints=tmp_path)
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
    plain = line.cap_turnover
    monkeypatch.setattr(line, 'cap_turnover', lambda w, limit: plain(w, limit) / w.stack().std())
    r = ran()
    f, a = caught(r, 'weights', frame='ridge')
    assert f.symbol in r.data.bars['Close'] and f.by > 0 and (a.table.loc['signal'] == 'same').all()


# ---- what is no look-ahead, and must not be called so

def test_other_code_or_other_bars_are_told_from_look_ahead(honest, monkeypatch):
    cuts = cuts_of(honest)
    moved = honest.prints.copy()
    moved.iloc[30, 0] = '0' * 16
    f = audit_record(replace(honest, prints=moved), cuts).audit
    assert (not f.passed and f.causes[0].stage == 'features' and f.causes[0].kind == 'unrepeatable'
            and f.causes[0].date == moved.index[30] and (f.table.loc['features'] == 'unrepeatable').all())
    moved = honest.prints.copy()
    moved.iloc[-20, 1] += 'x'
    f = audit_record(replace(honest, prints=moved), cuts).audit
    assert ([c.stage for c in f.causes] == ['edges'] and f.causes[0].date == moved.index[-20]
            and 'by fingerprint' in str(f.causes[0]))
    other = audit_record(replace(honest, scores={'ridge': honest.scores['ridge'] + 1e-12}), cuts).audit
    assert (not other.passed and [c.kind for c in other.causes] == ['unrepeatable']
            and other.causes[0].stage == 'prediction')
    assert (audit_figures(other)['verdict'] == 'unrepeatable'
            and audit_figures(other)['sentence'].startswith('Nothing can be said of look-ahead: prediction'))


def test_a_fingerprint_sees_the_last_bit_of_every_row(honest):
    x, e = line_features(honest.data.bars, HOW), line_edges(honest.data.bars, HOW)
    p = prints(x, e)
    pd.testing.assert_frame_equal(p, honest.prints)
    msg = e.msg.copy()
    msg[-3, 0] = np.nextafter(msg[-3, 0], np.float32(9))
    other = prints(x, make_events(e.src, e.dst, e.t, msg, e.symbols, e.fields))
    assert (list(p.index[p['edges'] != other['edges']]) == [pd.Timestamp(int(e.t[-3]))]
            and (p['features'] == other['features']).all())
    y = x.copy()
    y.iloc[9, 5] = np.nextafter(y.iloc[9, 5], 9)
    assert list(np.flatnonzero(p['features'] != prints(y, e)['features'])) == [9]


def test_bad_questions(honest):
    index = honest.data.bars.index
    with pytest.raises(BadParams, match='gru was not trained'): ask(honest, cuts_of(honest), ['gru'])
    with pytest.raises(BadParams, match='seeds=-1'): ask(honest, cuts_of(honest), seeds=-1)
    with pytest.raises(BadParams, match='cuts=-2'): draw_cuts(honest.folds, index, -2)
    with pytest.raises(BadParams, match='no row of a test block'): named_cuts([str(index[-1])], honest.folds, index)
    with pytest.raises(BadData, match='no future to change'): draw_cuts(honest.folds[-1:], honest.folds[-1].test[:1], 3)
    with pytest.raises(BadParams, match='no parameter n_seeds. It was run from another version'):
        recipe({k: v for k, v in vars(HOW).items() if k != 'n_seeds'})
    with pytest.raises(BadParams, match='no parameter style'): sizing({})
    table = walk_forward.fold_table(honest.folds, index, 6).reset_index()
    with pytest.raises(BadData, match='fold 0, train: 55 rows .* the run had 60'): stored_folds(table, index[45:])


def test_dates_are_spread_and_half_of_them_are_stamps(honest):
    index, told = honest.data.bars.index, pd.DatetimeIndex(np.unique(line_edges(honest.data.bars, HOW).t))
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
    made = lambda b: audits.fitted(kept, HOW, 'ridge', 0, fold, line_features(b, HOW), line_edges(b, HOW),
                                   line_targets(b, HOW))
    first = made(bars)
    assert made(bars.loc[:fold.test[0]]) is first is made(bend(bars, fold.test[0], 'noise')) and len(kept) == 1
    assert made(bend(bars, fold.valid[-1], 'noise')) is not first and len(kept) == 2
