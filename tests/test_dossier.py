"What is gathered, what is concluded from it, and that neither can be changed afterwards without being found"
import itertools
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from gnn_quant.backtest.engine import ledger_returns, metrics
from gnn_quant.core import BadData, BadParams, frame_hash, toy_bars
from gnn_quant.data.bundle import Bundle
from gnn_quant.evidence.checks import REQUIRED_CHECKS, Check, run_checks
from gnn_quant.evidence.collect import StrategyCase, against, collect_evidence, family
from gnn_quant.stats.paired import common
from gnn_quant.evidence.verdict import verdict
from gnn_quant.evidence.trial_ledger import count, recorded, trial_returns
from gnn_quant.data.target import make_target
from gnn_quant.data.events import correlation_events
from gnn_quant.costs import Costs
from gnn_quant.market import simulate
from gnn_quant.portfolio.sizing import dollar_neutral, equal_weight, rebalance_every
from gnn_quant.pipeline import evidence as kept
from gnn_quant.pipeline.artifacts import Edges, Features, Ledgers, Scores, Targets, Weights
from gnn_quant.pipeline.experiment import Experiment
from gnn_quant.runs.folders import Run, write_manifest
from gnn_quant.pipeline.verify import check_evidence, flat
from gnn_quant.storage.files import read_frame, read_json, write_frame, write_json


def believe(figures, name): return verdict(run_checks(SimpleNamespace(figures=figures)), name).facts


BARS, COSTS = toy_bars(n=8, t=500), Costs(1e-4, 1e-4)
PX = BARS['Close']


def noise(seed): return pd.DataFrame(np.random.default_rng(seed).normal(size=PX.shape), PX.index, PX.columns)


def weights(scores): return rebalance_every(dollar_neutral(scores), 5)


@pytest.fixture(scope='module')
def ledger(tmp_path_factory):
    path = tmp_path_factory.mktemp('ledger') / 'trials.jsonl'
    for seed in range(4):
        with recorded(path, f'noise {seed}', dict(seed=seed), frame_hash(BARS)) as t:
            t.returns = ledger_returns(simulate(weights(noise(seed)), BARS, COSTS))
    with recorded(path, 'elsewhere', dict(market='another'), 'f' * 64) as t:
        t.returns = pd.Series(.001, pd.bdate_range('1990-01-01', periods=300, name='date')).mul(np.arange(300) % 3)
    return path


def case_with(ledger, scores, **more):
    w = {k: weights(v) for k, v in scores.items()} | dict(equal_weight=equal_weight(BARS))
    ledgers = {k: simulate(v, BARS, COSTS) for k, v in w.items()}
    return StrategyCase(w, ledgers, BARS, COSTS, PX.mean(axis=1), count(ledger),
                trial_returns(ledger), scores, make_target(BARS, 5), draws=100, **more)


@pytest.fixture(scope='module')
def case(ledger): return case_with(ledger, dict(ours=noise(0), twin=noise(9)), twins={'edge-free': 'twin'})


@pytest.fixture(scope='module')
def evidence(case): return collect_evidence(case)


def test_every_part_is_there_or_says_why(evidence):
    f, t = evidence.figures, evidence.frames
    assert f['trials']['n'] == 5 and f['trials']['head'] and f['audit'] is None
    assert ({'bootstrap', 'permutation', 'logits', 'costs', 'delays', 'regimes', 'twins', 'models', 'quantiles',
             'decay', 'months', 'survivorship', 'capacity'} <= set(t))
    assert f['overfit']['trials'] == 4 and f['selection']['models'] == 4 and f['permutation']['dates']['draws'] == 100
    assert (f['verdict']['level'] in ('refuted', 'not established')
            and 'not run: the look-ahead audit was not run' in f['verdict']['reasons'])


def test_the_figures_are_those_of_the_parts(case, evidence):
    own = common(case.ledgers).ret['ours']
    assert evidence.figures['sharpe']['sharpe'] == pytest.approx(own.mean() / own.std() * 252**.5, abs=1e-12)
    assert (evidence.frames['bootstrap'].loc['sharpe', 'value']
            == pytest.approx(evidence.figures['sharpe']['sharpe'], abs=1e-12))
    assert evidence.frames['costs'].shape[1] == 3 and evidence.frames['costs']['ours'].is_monotonic_decreasing
    assert evidence.frames['twins'].loc['edge-free', 'diff'] == pytest.approx(
        evidence.figures['sharpe']['sharpe'] - evidence.frames['twins'].loc['edge-free', 'sharpe'], abs=1e-12)


def test_the_break_even_of_the_interval_is_that_of_the_ledger_with_borrowing_too(case):
    dear = Costs(5e-4, 5e-4, .05)
    c = replace(case, costs=dear, ledgers={k: simulate(w, BARS, dear) for k, w in case.weights.items()}, draws=20)
    j, e = common(c.ledgers), collect_evidence(c)
    want = metrics(replace(c.ledgers['ours'], start=j.before))['break_even_bp']
    assert (e.frames['bootstrap'].loc['break_even_bp', 'value'] == pytest.approx(want, rel=.02)
            and (j.paid['ours'] - j.trading['ours']).sum() > 0)
    from gnn_quant.backtest.engine import ledger_intervals
    assert e.frames['bootstrap'].loc['break_even_bp', 'value'] == pytest.approx(ledger_intervals(
        replace(c.ledgers['ours'], start=j.before), draws=20).loc['break_even_bp', 'value'], rel=1e-9)


def test_the_family_is_what_was_tried_on_these_rows_and_the_strategy_once(case):
    ret = common(case.ledgers).ret
    fam = family(case, ret)
    assert (fam.shape[1] == 4 and fam.columns[0] == 'ours'
            and not any('noise 0' in str(c) or 'elsewhere' in str(c) for c in fam))


def test_a_long_book_has_to_beat_standing_still_and_a_hedged_one_cash(ledger, case):
    ret = common(case.ledgers).ret
    assert against(case, ret)[0] == 'cash'
    long = {'ours': equal_weight(BARS).mul(.9), 'equal_weight': equal_weight(BARS)}
    c = replace(case, weights=long, ledgers={k: simulate(w, BARS, COSTS) for k, w in long.items()}, twins={}, scores={})
    assert against(c, common(c.ledgers).ret)[0] == 'equal_weight'


def test_a_strategy_that_never_trades_is_refuted_with_its_reason(case):
    idle = {'idle': PX * 0} | {k: v for k, v in case.weights.items() if k == 'equal_weight'}
    e = collect_evidence(replace(case, weights=idle, ledgers={k: simulate(w, BARS, COSTS) for k, w in idle.items()},
                       scores={}, twins={}))
    assert e.figures['verdict']['level'] == 'refuted' and e.figures['sharpe'] == dict(why='idle took no position')


def test_too_short_a_history_is_no_evidence_and_no_crash(case):
    rows = PX.index[:45]
    w = {k: v.loc[rows] for k, v in case.weights.items()}
    c = replace(case, weights=w, ledgers={k: simulate(v, BARS.loc[rows], COSTS) for k, v in w.items()},
                bars=BARS.loc[rows], benchmark=case.benchmark.loc[rows],
                scores={k: v.loc[rows] for k, v in case.scores.items()}, target=make_target(BARS.loc[rows], 5))
    e = collect_evidence(c)
    assert (e.figures['verdict']['level'] != 'established' and 'why' in e.figures['overfit']
            and 'why' in e.figures['regimes'])


GOOD = dict(trials=dict(n=3, effective=2.), sharpe=dict(sharpe=1.2, dsr=.99),
            permutation=dict(dates=dict(p=.01), names=dict(p=.01)),
            selection=dict(consistent=.02, models=3, against='cash'), overfit=dict(pbo=.05),
            audit=dict(passed=True, cuts=['2020-01-02'], findings=[]), ic=dict(mean=.02), annual_return=.1,
            controls=dict(alarms=[]))
FAULTS = dict(
    controls=[dict(alarms=['labels shuffled']), dict(why='x')],
    sharpe=[dict(sharpe=1.2, dsr=.94), dict(sharpe=1.2, dsr=np.nan), dict(why='too short')],
    permutation=[dict(dates=dict(p=.06), names=dict(p=.01)), dict(dates=dict(p=.01), names=dict(p=np.nan)),
                 dict(dates=dict(why='x'), names=dict(p=.01)), dict(why='x')],
    selection=[dict(consistent=.06, models=3, against='cash'), dict(consistent=np.nan, models=3, against='cash'),
               dict(why='x')], overfit=[dict(pbo=.21), dict(why='x')],
    audit=[
        None, dict(why='not asked'), dict(passed=False, verdict='unrepeatable', cuts=['2020-01-02'], findings=[])])


def test_one_fault_is_enough():
    assert believe(GOOD, 'it')['level'] == 'established'
    for k, options in FAULTS.items():
        for v in options: assert believe(GOOD | {k: v}, 'it')['level'] in ('not established', 'refuted'), (k, v)
        assert believe({n: v for n, v in GOOD.items() if n != k}, 'it')['level'] != 'established', f'without {k}'


def test_no_combination_of_faults_is_better_than_one():
    for a, b in itertools.combinations(FAULTS, 2):
        for v, w in itertools.product(FAULTS[a], FAULTS[b]):
            assert believe(GOOD | {a: v, b: w}, 'it')['level'] in ('not established', 'refuted')


def test_the_absurd_is_absurd_also_after_a_clean_audit_and_a_leak_outranks_it():
    for odd in (dict(sharpe=dict(sharpe=5.1, dsr=1.)), dict(annual_return=1.5), dict(ic=dict(mean=.051))):
        assert believe(GOOD | odd, 'it')['level'] == 'absurd'
        leak = believe(GOOD | odd | dict(audit=dict(passed=False, cuts=['2020-01-02'],
                                                    findings=['features: rsi of AAA on 2020-01-02 moves by 0.1'])),
                       'it')
        assert leak['level'] == 'leaks' and 'rsi of AAA' in leak['sentence']


def test_an_absurd_figure_is_audited_again_at_a_date_in_every_fold(case, monkeypatch):
    asked = {}
    class Made: audit = type('A', (), dict(table=pd.DataFrame({'2020-03-02': ['moved']}, ['weights'])))()
    def audited(record, cuts, tell=None):
        asked['cuts'] = cuts
        return Made
    edges = SimpleNamespace(events=correlation_events(BARS, 40, 2))
    record = SimpleNamespace(folds=['a', 'b'], edges=edges, data=SimpleNamespace(bars=BARS))
    monkeypatch.setattr(kept, 'open_record', lambda run: record)
    monkeypatch.setattr(kept, 'draw_cuts', lambda folds, index, n, seed, told: [folds, n, seed, len(told) > 0])
    monkeypatch.setattr(kept, 'audit_record', audited)
    monkeypatch.setattr(
        kept, 'audit_figures',
        lambda a: dict(passed=False, verdict='moved', cuts=['2020-03-02'], stages=dict(weights='moved'),
                       findings=['weights: AAA moves'], found=1, sentence=''))
    know = PX.shift(-5) / PX - 1  # what nobody can know
    clear = case_of_scores(case, know)
    e = kept.evidence_of(clear, signals=None)
    assert (asked['cuts'] == [['a', 'b'], 0, 1, True] and e.figures['audit']['again']
            and e.figures['verdict']['level'] == 'leaks' and e.frames['audit'].iloc[0, 0] == 'moved')
    asked.clear()
    assert kept.evidence_of(case, signals=None).figures['verdict']['level'] != 'absurd' and not asked, (
        'a modest figure is not audited again')


def case_of_scores(case, scores):
    w = {'ours': dollar_neutral(scores)} | {k: v for k, v in case.weights.items() if k != 'ours'}
    return replace(case, weights=w, ledgers={k: simulate(v, BARS, COSTS) for k, v in w.items()},
                   scores=case.scores | dict(ours=scores))


def test_nobody_types_the_count_and_every_weight_frame_is_backtested(case):
    with pytest.raises(BadParams, match='nobody types it'): replace(case, count=5)
    with pytest.raises(BadData, match='name different strategies'): replace(case, ledgers={})


@pytest.fixture(scope='module')
def sheet(tmp_path_factory, case, ledger):
    "Runs from ingest to tear sheet, made by hand from the toy market"
    home, runs = tmp_path_factory.mktemp('runs'), {}
    shutil.copytree(ledger.parent, home, dirs_exist_ok=True)

    def made(name, above, keep, **more):
        folder = home / name / '2021' / f'{name}1'
        folder.mkdir(parents=True)
        keep(folder)
        frames = {p.stem: frame_hash(read_frame(p)) for p in folder.glob('*.parquet')}
        links = {r.name: dict(id=r.id, path=str(r.path.relative_to(home)), manifest=r.manifest['hash']) for r in above}
        m = dict(run=name, id=f'{name}1', status='finished', asof='2021-11-30', upstream=links,
                 lineage=[n for r in above for n in [r.name, *r.manifest['lineage']]], frames=frames,
                 models=['ours', 'twin'], params={}, metrics={}, files={p.name: '' for p in folder.iterdir()},
                 package='p', versions={}, git=None) | more
        runs[name] = Run(folder, write_manifest(folder, m), 'finished')
        return runs[name]

    data = Bundle('toy', BARS, None, case.benchmark.rename('mean'), 'SIMULATED', (),
                   pd.DataFrame(columns=['date', 'symbol', 'field', 'value', 'reason', 'kept']).astype(
                       {'date': 'datetime64[ns]', 'kept': bool}))
    e = Experiment(models=[dict(name='ridge', label='ours'), dict(name='constant', label='twin')],
                   costs=dict(commission_bp=1, slippage_bp=1),
                   evidence=dict(strategy='ours', permutations=50, draws=50, controls=0))
    folds = pd.DataFrame(dict(fold=[0], block=['test'], first=[BARS.index[0]], last=[BARS.index[-1]], rows=[500]))
    history = pd.DataFrame(dict(model=['ours'], fold=[0], epoch=[1], train_loss=[1.], valid_ic=[.1]))
    design = dict(horizon=5, seeds=[0], features=['ret_1'], left_out={}, span=6, purge=6)
    last = pd.DataFrame(dict(src=['AAA'], dst=['BBB'], weight=[.5]))
    ret = pd.concat({'ret_1': PX.pct_change()}, axis=1, names=['feature', 'symbol'])
    ingest = made('ingest', [], data.save)
    features = made('features', [ingest], lambda p: [
        Features(ret, 1).save(p), Edges(correlation_events(BARS, 40, 2)).save(p), Targets((case.target,)).save(p),
        write_frame(last, p / 'edges_last.parquet')])
    train = made('train', [features], lambda p: [
        write_json(design, p / 'design.json'), Scores(case.scores, {}, folds, history).save(p)])
    own = {k: case.weights[k] for k in case.scores}
    signals = made('signals', [train], lambda p: [
        Weights(own).save(p), write_frame(pd.DataFrame(dict(order=[1.]), ['AAA']), p / 'orders.ours.parquet')])
    back = made('backtest', [signals], lambda p: [
        Weights(case.weights).save(p), Ledgers(case.ledgers).save(p), (p / 'experiment.toml').write_text(e.to_toml())],
                metrics=dict(agreement={}, data='toy'))
    audit = made('audit', [signals], lambda p: write_frame(
        pd.DataFrame({'2021-01-04': ['same']}, pd.Index(['weights'], name='stage')), p / 'audit.parquet'),
                 metrics=dict(passed=True, verdict='same', cuts=['2021-01-04'], stages=dict(weights='same'),
                              findings=[], sentence=''))
    path = home / 'trials.jsonl'
    c = kept.case_of(back, count(path), trial_returns(path), e, audit)
    return made('tearsheet', [back, audit], lambda p: [
        kept.put_evidence(p, kept.evidence_of(c, signals)), (p / 'experiment.toml').write_text(e.to_toml())],
                params=dict(reused=[]))


def test_a_tear_sheet_follows_from_its_folders_and_later_trials_change_nothing(sheet):
    assert check_evidence(sheet) == []
    with recorded(sheet.reports / 'trials.jsonl', 'later', {}, 'data') as t:
        t.returns = ledger_returns(simulate(weights(noise(77)), BARS, COSTS))
    assert check_evidence(sheet) == []


@pytest.fixture(scope='module')
def remade(sheet): return kept.again(sheet)


@pytest.mark.parametrize('path, value', [('verdict.level', 'established'), ('sharpe.dsr', .99), ('trials.n', 2),
                                         ('permutation.dates.p', .01), ('audit.passed', False),
                                         ('overfit', dict(why='not asked')), ('hashes.bars', 'f' * 64)])
def test_an_improved_figure_is_found_and_named(sheet, remade, path, value, monkeypatch):
    monkeypatch.setattr(kept, 'again', lambda run: remade)
    file = sheet.path / 'evidence.json'
    was = read_json(file)
    now = read_json(file)
    *at, last = path.split('.')
    box = now['figures']
    for k in at: box = box[k]
    assert box[last] != value
    box[last] = value
    try:
        write_json(now, file)
        found = check_evidence(sheet)
    finally: write_json(was, file)
    assert found and any(path in f for f in found), found


def test_an_improved_table_is_found_and_named(sheet, remade, monkeypatch):
    monkeypatch.setattr(kept, 'again', lambda run: remade)
    file = sheet.path / 'evidence.bootstrap.parquet'
    was = read_frame(file)
    better = was.copy()
    better.loc['sharpe', 'lo'] = .5
    try:
        h = write_frame(better, file)
        found = check_evidence(
            replace(sheet, manifest=sheet.manifest | dict(frames=sheet.frames | {'evidence.bootstrap': h})))
    finally: write_frame(was, file)
    assert len(found) == 1 and 'evidence.bootstrap, lo, row sharpe: 0.5 is written' in found[0]


def test_flat_names_every_leaf():
    assert flat(dict(a=[1, dict(b=2)], c={}, d=None)) == {'a.0': 1, 'a.1.b': 2, 'c': {}, 'd': None}


def test_an_audit_of_other_signals_does_not_vouch(sheet):
    back, audit = kept.upstream(sheet, 'backtest'), kept.upstream(sheet, 'audit')
    stranger = replace(kept.upstream(back, 'signals'),
                       manifest=kept.upstream(back, 'signals').manifest | dict(id='another'))
    with pytest.raises(BadParams, match='Audit those'): kept.audit_of(audit, stranger)
    assert kept.audit_of(audit, kept.upstream(back, 'signals'))[0]['passed']


def test_an_audit_of_another_model_or_without_its_table_does_not_vouch(sheet):
    audit, signals = kept.upstream(sheet, 'audit'), kept.upstream(kept.upstream(sheet, 'backtest'), 'signals')
    told, frames = kept.audit_of(replace(
        audit, manifest=audit.manifest | dict(metrics=audit.metrics | dict(models=['twin']))), signals, 'ours')
    assert ('asked only twin' in told['why'] and not frames
            and believe(GOOD | dict(audit=told), 'ours')['level'] == 'not established')
    with pytest.raises(BadParams, match='kept no table'):
        kept.audit_of(replace(audit, manifest=audit.manifest | dict(frames={})), signals, 'ours')


def test_what_is_missing_or_of_another_kind_is_not_passed():
    for k, v in [('permutation', {}), ('permutation', dict(dates=dict(p=.01))),
                 ('permutation', dict(dates='x', names=dict(p=.01))), ('controls', {}),
                 ('controls', dict(alarms=None)), ('audit', dict(passed=True, cuts=[], findings=[])),
                 ('audit', dict(passed=np.nan, cuts=['2020-01-02'], findings=[])),
                 ('sharpe', dict(sharpe=1.2, dsr=None)), ('overfit', dict(pbo=None)),
                 ('selection', dict(consistent=None))]:
        assert believe(GOOD | {k: v}, 'it')['level'] != 'established', (k, v)


def test_one_difference_has_one_interval(evidence):
    twin, peer = evidence.frames['twins'].loc['edge-free'], evidence.frames['paired'].loc['twin']
    for k in ('sharpe', 'diff', 'lo', 'hi', 'rank_ic', 'ic_diff', 'ic_lo', 'ic_hi'): assert twin[k] == peer[k], k
    assert twin['twin'] == 'twin'


def test_the_verdict_of_the_figures_is_that_of_the_checks(evidence):
    v = evidence.verdict
    assert v.facts == evidence.figures['verdict'] and {c.id: c.passed for c in v.checks}['audit'] is None
    assert set(REQUIRED_CHECKS) <= {c.id for c in v.checks}


def checks_of(figures, others=(), **more): return run_checks(SimpleNamespace(figures=figures, **more), others)


def test_a_graph_claim_needs_a_market_row_and_a_rewired_row():
    rows = pd.DataFrame(dict(lo=[.1, -.1], ic_lo=[.01, -.01]), ['rewired', 'market'])
    def found(graph, **tables): return checks_of(GOOD | dict(graph=graph), tables=tables)
    def passed(graph, **tables): return {c.id: c.passed for c in found(graph, **tables)}
    assert 'market_row' not in passed(False)
    assert passed(True)['market_row'] is None and passed(True)['rewired_row'] is None
    assert passed(True, twins=rows)['rewired_row'] is True and passed(True, twins=rows)['market_row'] is False
    for x in (rows, rows.iloc[:1]): assert verdict(found(True, twins=x)).level == 'not established'
    assert verdict(found(True, twins=rows.abs())).level == 'established'


def test_a_required_check_that_is_missing_counts_as_not_run():
    checks = checks_of(GOOD)
    assert verdict(checks).level == 'established' and verdict([]).level == 'not established'
    for k in REQUIRED_CHECKS: assert verdict([c for c in checks if c.id != k]).level == 'not established', k


def test_a_check_of_another_package_bears_its_name_and_stops_no_page():
    def asked(make, needs=()): return checks_of(dict(GOOD), (('pkg:it', make, needs),), scores={})[-1]
    def failing(case): return Check('audit', 1., 0., False, 'no')
    def broken(case): raise ValueError('no such column')
    assert asked(failing).id == 'pkg:it' and verdict((*checks_of(GOOD), asked(failing))).level == 'not established'
    assert asked(broken).passed is None and 'no such column' in asked(broken).reason
    assert asked(lambda case: 'yes').passed is None and 'scores' in asked(failing, ('scores',)).reason


def test_a_check_that_changes_the_case_is_refused_by_name(case):
    held = replace(case, bars=BARS.copy(), figures=dict(GOOD))
    def greedy(case): case.bars.iloc[0, 0] = 9.
    with pytest.raises(BadData, match='pkg:greedy'): run_checks(held, (('pkg:greedy', greedy, ()),))
