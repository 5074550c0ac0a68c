"""An experiment: what is refused and how, what its hash depends on, its file and back, older formats,
values from a command line"""
import copy
import datetime
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from gnn_quant.core import BadParams
from gnn_quant.pipeline.experiment import UNHASHED, Experiment
from gnn_quant.pipeline.experiment_commands import check_text, diff_text, experiment_text
from gnn_quant.pipeline.experiment_migration import experiment_names
from gnn_quant.pipeline.experiment_problems import all_paths, type_at
from gnn_quant.pipeline.sections import age_of, model_options
from gnn_quant.pipeline.toml_text import freeze, read_toml, thaw, to_toml
from gnn_quant.settings import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
HERE = Settings(notebooks_dir=ROOT / 'nbs/runs')
DEMO = Experiment.load('us20', HERE)

TEXTS = st.text(st.characters(exclude_categories=('Cs',)), max_size=8)
NUMBERS = st.integers(-2**62, 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
PLAIN = st.recursive(TEXTS | NUMBERS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3),
                     max_leaves=6)


def refused(make):
    with pytest.raises(BadParams) as e:
        make()
    return str(e.value)


# the demo

def test_the_demo_is_what_ran_before_there_were_experiments():
    e = DEMO
    assert [(k.label, k.model, k.ablation, k.seeds) for k in e.lines] == [
        ('tgat', 'tgat', '', (0,)), ('edge_free', 'tgat', 'edge_free', (0,)), ('rewired', 'tgat', 'rewired', (0,)),
        ('ridge', 'ridge', '', (0,)), ('lightgbm', 'lightgbm', '', (0,))]
    assert (e.split.train, e.split.valid, e.split.test, e.split.embargo) == (1000, 250, 500, 0)
    assert (e.training.epochs, e.training.loss, e.training.neighbors, e.features.warmup, e.target.horizon,
            e.target.span) == (5, 'ic', 10, 252, 5, 6)
    assert ([(b.name, dict(b.options)) for b in e.graph.builders]
            == [(k, dict(window=60, top=5, every=5)) for k in ('rolling', 'ewma')])
    p = e.portfolio
    assert (p.sizer.name, p.target_vol, p.vol_window, p.max_turnover, p.rebalance_every, p.cash) == (
        'dollar_neutral', .10, 60, .10, 1, 1e6)
    assert (e.signals.quantile, e.signals.resolved) == (.2, 252)
    assert (e.costs.rates()
            == dict(commission=5e-4, slippage=5e-4, borrow=0., impact=0., lot=0., volume_cap=0., window=21))
    assert (e.evidence.draws, e.evidence.permutations, e.evidence.controls, e.evidence.seed, e.strategy) == (
        2000, 1000, 1, 0, 'tgat')
    a = e.evidence.audit
    assert (a.dates, a.models, a.seeds, a.drops, a.looks, a.strongest, a.seed) == (3, (), 1, (1, 100), 3, 20, 0)
    assert e.data.rows == 0 and e.data.source.name == 'us20' and e.features.use == 'all'


def test_an_experiment_without_arguments_is_the_demo():
    assert Experiment().hash == DEMO.hash and Experiment() != DEMO # but for its name


@pytest.mark.parametrize('name', experiment_names(HERE))
def test_experiments_of_the_project_are_valid(name):
    e = Experiment.load(name, HERE)
    assert e.check() == [] and Experiment.loads(e.to_toml()) == e


def test_the_quick_one_is_small():
    e = Experiment.load('quick', HERE)
    assert (e.data.rows, e.split.train, e.split.valid, e.split.test, e.training.epochs) == (780, 250, 60, 60, 2)


# refusals

@pytest.mark.parametrize('text, starts', [
    ('[features]\nus = ["technical"]', 'features.us: unknown key. Did you mean features.use?'),
    ('[featurs]\nuse = "all"', 'featurs: unknown key. Did you mean features?'),
    ('slippage_bp = 5', 'slippage_bp: unknown key. Did you mean costs.slippage_bp?'),
    ('[portfolio]\nslippage_bp = 5', 'portfolio.slippage_bp: unknown key. Did you mean costs.slippage_bp?'),
    ('[evidence.audit]\ncut = 3\nstrongst = 1', 'evidence.audit.cut: unknown key.'),
    ('[costs]\nslippage_bp = "ten"', "costs.slippage_bp: 'ten' should be a number"),
    ('[costs]\nslippage_bp = -1', 'costs.slippage_bp: -1 should be greater than or equal to 0'),
    ('[costs]\nslippage_bp = true', 'costs.slippage_bp: True should be a number'),
    ('[costs]\nslippage_bp = nan', 'costs.slippage_bp: nan is not a finite number'),
    ('costs = 5', 'costs: 5 should be a table'),
    ('[split]\ntrain = 0', 'split.train: 0 should be greater than or equal to 1'),
    ('[split]\ntrain = 10.5', 'split.train: 10.5 should be a whole number'),
    ('[split]\nembargo = "outo"', "split.embargo: 'outo' should be a whole number or 'auto'"),
    ('[signals]\nquantile = 0.6', 'signals.quantile: 0.6 should be less than or equal to 0.5'),
    ('[data]\nmax_age = "3 fortnights"', "data.max_age: '3 fortnights' should be '3 sessions'"),
    ('[data]\nstart = "soon"', "data.start: 'soon' should be a date"),
    ('[training]\nseeds = []', 'training.seeds: [] should'),
    ('[training]\nloss = "icc"', "training.loss: 'icc' should be 'ic'"),
    ('models = []', 'models: [] should have at least 1 item'),
    ('[[models]]\nwidth = 3', 'models.0.name: is missing'),
    ('[[models]]\nname = "tgat"\nseeds = "many"', "models.tgat.seeds: 'many' should be a whole number"),
    ('[graph]\nbuilders = [{ window = 60 }]', 'graph.builders.0.name: is missing'),
])
def test_what_cannot_be_used_is_refused_with_its_path(text, starts):
    assert refused(lambda: Experiment.loads(text, 'mine.toml')).startswith(f'mine.toml: {starts}')


@pytest.mark.parametrize('text, path', [
    ('[target]\nhorizon = 5\nhorizons = [1, 5]', 'target.horizons'),
    ('[target]\nhorizons = [5, 1, 1]', 'target.horizons'),
    ('[data]\nstart = 2012-01-01\nend = 2011-01-01', 'data.start'),
    ('[data]\nend = 2011-01-01\nwanted = 2012-01-01', 'data.wanted'),
    ('[data]\nrows = 780', 'data.rows'),
    ('[training]\nseed = 3\nseeds = [1, 2]', 'training.seed'),
    ('[evidence]\nstrategy = "tgta"', 'evidence.strategy'),
    ('[evidence.audit]\nmodels = ["tgta"]', 'evidence.audit.models'),
    ('[[models]]\nname = "ridge"\nablations = ["rewired"]', 'models.ridge.ablations'),
    ('[[models]]\nname = "tgat"\nablations = ["no_edges"]', 'models.tgat.ablations'),
    ('[[models]]\nname = "ridge"\n[[models]]\nname = "ridge"', 'models'),
    ('[[models]]\nname = "ridge"\nlabel = "a.b"', 'models.a.b'),
])
def test_contradictions_are_refused(text, path):
    assert refused(lambda: Experiment.loads(text)).startswith(f'experiment: {path}: ')


def test_all_problems_are_listed_in_the_order_of_the_file():
    lines = refused(lambda: Experiment.loads('[evidence]\ndraws = 0\n[costs]\nlot = "x"\n[data]\nrow = 1',
                                             'mine.toml')).splitlines()
    assert ([line.removeprefix('mine.toml:').strip().partition(':')[0] for line in lines]
            == ['evidence.draws', 'costs.lot', 'data.row'])


@pytest.mark.parametrize('text, line', [('name = "a"\n[costs]\nslippage_bp =', 3), ('name = "a"\n[costs', 2),
                                        ('name = us20', 1), ('a = 1\na = 2', 2), ('x = [1,\n2', 2)])
def test_a_half_written_file_is_refused_with_its_line(text, line, tmp_path):
    (tmp_path / 'half.toml').write_text(text)
    assert refused(lambda: Experiment.load(tmp_path / 'half.toml', HERE)).startswith(f'half.toml: line {line}')


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / 'b.toml').write_bytes(b'\xff\xfe\x00')
    assert 'cannot be read' in refused(lambda: Experiment.load(tmp_path / 'b.toml', HERE))


def test_an_unknown_experiment_is_answered_with_the_nearest(tmp_path):
    assert 'Did you mean us20?' in refused(lambda: Experiment.load('us2', HERE))
    assert 'There are in' in refused(lambda: Experiment.load(tmp_path / 'none.toml', HERE))


def test_check_asks_the_code_of_the_models():
    bad = Experiment.loads('[target]\nhorizons = [5, 1]\n[[models]]\nname = "tgat"\nwidht = 3\n[[models]]\nname = '
                           '"ridge"\n[[models]]\nname = "tgta"')
    found = bad.check()
    assert [f.partition(':')[0] for f in found] == ['models.tgat.widht', 'models.ridge', 'models.tgta']
    assert 'Did you mean width?' in found[0] and 'Did you mean tgat?' in found[2]


def test_check_finds_plugins_of_others(tmp_path, monkeypatch):
    (tmp_path / 'mine_sizers.py').write_text('from gnn_quant.plugins import sizer\n@sizer\ndef flat_sizer(signals, '
                                             'bundle): return signals')
    (tmp_path / 'mine_broken.py').write_text('raise RuntimeError("no licence")')
    monkeypatch.chdir(tmp_path)
    assert DEMO.set('portfolio.sizer', 'mine_sizers:flat_sizer').check() == []
    bad = DEMO.set('features.use', ['mine_broken:x']).set('evidence.checks', ['mine_sizers:none']).check()
    assert [f.partition(':')[0] for f in bad] == ['features.use', 'evidence.checks'] and 'no licence' in bad[0]


# the hash

def test_what_is_cosmetic_does_not_change_the_hash():
    a = Experiment.loads('name = "a"\n[costs]\nslippage_bp = 10\n[split]\ntrain = 500\n[[models]]\nname = '
                         '"tgat"\nwidth = 64\ndropout = 1e-1')
    b = Experiment.loads('# b\n[split]\ntrain = 500\n[[models]]\ndropout = 0.1\nwidth = 64\nname = '
                         '"tgat"\n[costs]\nslippage_bp = 10.0 # bp')
    assert a.hash == b.hash and a.canonical() == b.canonical() and len(a.hash) == 64
    assert a.set('models.tgat.width', 64.).hash == a.hash # an option of a plugin has no type here
    assert a.with_(training=dict(jobs=4, tensorboard=True), name='c').hash == a.hash


CHANGED = {'data.source': 'other', 'data.start': '2010-01-04', 'data.end': '2020-01-04', 'data.rows': 5000,
           'data.wanted': '2020-01-04', 'data.max_age': 'mark', 'data.on_bad': 'quarantine',
           'data.tables': ['news'], 'data.rows_a_year': 252., 'features.use': ['ret_1'], 'features.scale': 'z',
           'graph.builders': ['rolling'], 'graph.static_sectors': True, 'target.horizons': [5, 1],
           'target.relative': 'none', 'split.embargo': 'auto', 'training.loss': 'mse', 'training.seeds': [1, 2],
           'models': [dict(name='ridge')], 'signals.quantile': .3, 'portfolio.sizer': 'long_only',
           'portfolio.target_vol': .2, 'portfolio.max_turnover': .3, 'costs.model': 'other', 'costs.volume_cap': .5,
           'evidence.strategy': 'ridge', 'evidence.checks': ['capacity'], 'evidence.sections': ['mine'],
           'evidence.audit.dates': ['2020-01-02'], 'evidence.audit.models': ['ridge'], 'evidence.audit.drops': [2],
           'training.tensorboard': True, 'name': 'other'}
LEAVES = [p for p in all_paths(Experiment) if not any(q.startswith(f'{p}.') for q in all_paths(Experiment))]
FIXED = ('target.kind',) # one value so far


@pytest.mark.parametrize('path', [p for p in LEAVES if p not in FIXED])
def test_every_setting_changes_the_hash_of_its_section_alone(path):
    now = DEMO.get(path)
    other = DEMO.set(path, CHANGED[path] if path in CHANGED else now + 1)
    section = path.partition('.')[0]
    assert other != DEMO and (other.hash == DEMO.hash) == (path in UNHASHED)
    if path != 'name': assert (other.section_hash(section) == DEMO.section_hash(section)) == (path == 'training.jobs')
    rest = [k for k in Experiment.model_fields if k not in (section, 'name')]
    assert other.section_hash(*rest) == DEMO.section_hash(*rest)
    assert Experiment.loads(other.to_toml()) == other


def test_sections_are_hashed_by_path_and_unknown_ones_refused():
    e = DEMO.set('evidence.draws', 100)
    assert (e.section_hash('evidence.audit') == DEMO.section_hash('evidence.audit')
            and e.section_hash('evidence') != DEMO.section_hash('evidence'))
    assert DEMO.section_hash('data', 'features') == DEMO.section_hash('features', 'data') != DEMO.section_hash('data')
    assert 'Did you mean features?' in refused(lambda: DEMO.section_hash('feature'))


@pytest.mark.parametrize('path', LEAVES)
def test_every_setting_says_what_it_accepts(path):
    kind, *keys = Experiment, *path.split('.')
    for k in keys[:-1]: kind = kind.model_fields[k].annotation
    assert kind.model_fields[keys[-1]].description


# frozen

def test_it_is_frozen_and_can_be_copied():
    e = DEMO.set('models.tgat.schedule.lr', .01)
    for change in (lambda: setattr(e, 'name', 'x'), lambda: setattr(e.costs, 'lot', 1.),
                   lambda: e.models[0].options.update(a=1), lambda: e.models[0].options['schedule'].clear()):
        with pytest.raises((ValueError, TypeError)): change()
    assert pickle.loads(pickle.dumps(e)) == copy.deepcopy(e) == e and len({e, copy.copy(e)}) == 1
    given = dict(schedule=dict(lr=.01))
    made = Experiment(models=[dict(name='tgat', **given)])
    given['schedule']['lr'] = 1.
    assert made.models[0].options['schedule']['lr'] == .01


# the file

@given(st.dictionaries(TEXTS, PLAIN, max_size=4))
@settings(max_examples=150, deadline=None)
def test_plain_values_are_written_and_read_back(data):
    assert read_toml(to_toml(data)) == data and thaw(freeze(data)) == data


OPTIONS = st.dictionaries(TEXTS.filter(lambda k: k not in ('name', 'label', 'seeds', 'ablations', 'options')),
                          PLAIN, max_size=3)


@given(OPTIONS, TEXTS.filter(bool), st.floats(0, 1e3),
       st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3) | st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_an_experiment_is_written_and_read_back(options, name, bp, seeds):
    e = Experiment(name=name, models=[dict(name='net', seeds=seeds, **options)], costs=dict(slippage_bp=bp),
                   portfolio=dict(sizer=dict(name='mine', **options)))
    back = Experiment.loads(e.to_toml())
    assert back == e and back.hash == e.hash


@pytest.mark.parametrize('value', [None, {1}, float('inf'), object()])
def test_options_that_no_file_can_hold_are_refused(value):
    refused(lambda: Experiment(models=[dict(name='tgat', width=value)]))


def test_dates_of_toml_are_days():
    assert (Experiment.loads('[data]\nstart = 2010-01-04').data.start == '2010-01-04'
            == Experiment(data=dict(start=datetime.date(2010, 1, 4))).data.start)


# older and newer formats

FLAT = '''
format = 0
[ingest]
source = "us20"
rows = 780
[train]
models = ["tgat", "edge_free", "rewired", "ridge", "lightgbm"]
train_rows = 250
valid_rows = 60
test_rows = 60
epochs = 2
window = 40
embargo = "auto"
ingest_run = ""
[signals]
style = "long_only"
turnover = 0.2
commission = 0.001
[backtest]
commission = 0.001
borrow = 0.005
[audit]
cuts = 2
dates = []
[tearsheet]
permutations = 500
'''


def test_parameters_of_notebooks_are_migrated():
    e = Experiment.loads(FLAT)
    assert ([k.label for k in e.lines] == [k.label for k in DEMO.lines]
            and (e.data.rows, e.split.train, e.split.valid, e.split.test) == (780, 250, 60, 60))
    assert (e.training.epochs == 2 and [b.options['window'] for b in e.graph.builders] == [40, 40]
            and [b.options['top'] for b in e.graph.builders] == [5, 5])
    assert (e.portfolio.sizer.name, e.portfolio.max_turnover, e.costs.commission_bp, e.costs.borrow_bp) == (
        'long_only', .2, 10., 50.)
    assert (e.evidence.audit.dates, e.evidence.permutations, e.split.embargo) == (2, 500, 'auto')
    quick = FLAT.partition('window')[0]
    assert Experiment.loads(quick).hash == Experiment.load('quick', HERE).hash


def test_a_bare_name_of_format_0_reaches_all_that_had_it():
    e = Experiment.loads('format = 0\nseed = 7\nslippage = 0.001\nwindow = 30')
    assert (e.training.seed, e.evidence.seed, e.evidence.audit.seed, e.costs.slippage_bp) == (7, 7, 7, 10.)


@pytest.mark.parametrize('text, says',
                         [('format = 2', 'newer gnn_quant'), ('format = "1"', "format='1'"),
                          ('format = true', 'format=True'), ('[train]\nepochs = 2', 'format = 0 at the top'),
                          ('format = 0\n[train]\nepoch = 2', 'Did you mean train.epochs?'),
                          ('format = 0\nsignals.cash = 1.0\nbacktest.cash = 2.0', 'are one setting now')])
def test_what_cannot_be_migrated_is_refused_with_the_way_out(text, says):
    assert says in refused(lambda: Experiment.loads(text, 'old.toml'))


def test_every_parameter_of_the_old_notebooks_has_a_place():
    from gnn_quant.pipeline.experiment_migration import MOVED_KEYS
    for old, path in MOVED_KEYS.items():
        assert path == 'models' or '*' in path or type_at(Experiment, path) is not None, old


# changes

def test_changes_give_another_experiment():
    e = DEMO.with_(costs=dict(slippage_bp=10), evidence=dict(audit=dict(dates=5)), name='dear')
    assert (e.costs.slippage_bp, e.costs.commission_bp, e.evidence.audit.dates, e.evidence.draws, e.name) == (
        10., 5., 5, 2000, 'dear')
    assert DEMO.costs.slippage_bp == 5. and e.diff(DEMO) == {
        'name': ('dear', 'us20 demo'), 'costs.slippage_bp': (10., 5.), 'evidence.audit.dates': (5, 3)}
    assert DEMO.with_(portfolio=dict(sizer=dict(top=.1))).portfolio.sizer.options == dict(top=.1)
    assert (DEMO.with_(portfolio=dict(sizer=dict(name='long_only', top=.1))).with_(
        portfolio=dict(sizer=dict(name='equal_weight'))).portfolio.sizer.options == {})


@pytest.mark.parametrize(
    'item, path, value',
    [('costs.slippage_bp=10', 'costs.slippage_bp', 10.), ('costs.slippage_bp=.5', 'costs.slippage_bp', .5),
     ('split.train=500', 'split.train', 500), ('split.embargo=10', 'split.embargo', 10),
     ('split.embargo=auto', 'split.embargo', 'auto'), ('graph.static_sectors=True', 'graph.static_sectors', True),
     ('data.source=sp500_2010', 'data.source', 'sp500_2010'),
     ('data.source={ name = "yfinance", symbols = ["A"] }', 'data.source', dict(name='yfinance', symbols=['A'])),
     ('data.source=/data/prices', 'data.source', '/data/prices'),
     ('data.start=2010-01-04', 'data.start', '2010-01-04'), ('name=5', 'name', '5'), ('name="a b"', 'name', 'a b'),
     ('features.use=["ret_1"]', 'features.use', ['ret_1']), ('features.use=all', 'features.use', 'all'),
     ('models.tgat.width=64', 'models.tgat.width', 64),
     ('models.tgat.schedule.lr=0.01', 'models.tgat.schedule.lr', .01),
     ('models.tgat.seeds=[1, 2]', 'models.tgat.seeds', [1, 2]),
     ('graph.builders.ewma.top=3', 'graph.builders.ewma.top', 3),
     ('graph.builders.0.top=3', 'graph.builders.rolling.top', 3),
     ('portfolio.sizer.gross=0.5', 'portfolio.sizer.gross', .5),
     ('evidence.audit.dates=["2020-01-02"]', 'evidence.audit.dates', ['2020-01-02']),
     ('data.max_age=3 sessions', 'data.max_age', '3 sessions')])
def test_values_of_a_command_line_are_read_by_the_type_of_the_field(item, path, value):
    got = DEMO.override([item]).get(path)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    'item, says',
    [('costs.slipage_bp=1', 'Did you mean costs.slippage_bp?'), ('train.epochs=2', 'train'),
     ('epochs=2', 'Did you mean training.epochs?'), ('split.train=many', "'many' should be a whole number"),
     ('costs.lot', 'not path=value'), ('models.tgta.width=1', 'Did you mean tgat?'),
     ('models.rewired.width=1', 'models.tgat.width'), ('graph.builders.7.top=1', 'nothing of that name'),
     ('split.train.x=1', 'has no part'), ('data.rows=780', 'hold no fold')])
def test_overrides_that_cannot_be_used_are_refused(item, says):
    assert says in refused(lambda: DEMO.override([item]))


def test_an_override_given_twice_is_refused():
    assert 'twice' in refused(lambda: DEMO.override(['split.train=1', 'split.train=2']))


def test_differences_go_by_label_and_show_an_order():
    a = Experiment(models=[dict(name='tgat'), dict(name='ridge')])
    assert (a.diff(Experiment(models=[dict(name='ridge'), dict(name='tgat')]))
            == {'models': (['tgat', 'ridge'], ['ridge', 'tgat'])})
    assert (a.diff(Experiment(models=[dict(name='tgat', width=64), dict(name='mlp', layers=1)]))
            == {'models.tgat.width': (None, 64), 'models.ridge': ('ridge', None), 'models.mlp': (None, 'mlp')})
    assert (a.diff(a.with_(data=dict(source=dict(name='yfinance', symbols=['A']))))
            == {'data.source': ('us20', 'yfinance'), 'data.source.symbols': (None, ['A'])})


# models

def test_shared_settings_reach_the_models_that_take_them_and_own_ones_win():
    known = ['width', 'neighbors', 'loss', 'schedule', 'seed']
    net, tree = Experiment(models=[dict(name='tgat', width=64, epochs=9, loss='mse', schedule=dict(lr=.01)),
                                   dict(name='ridge')], training=dict(epochs=3)).lines
    assert model_options(net, known) == dict(neighbors=10, loss='mse', width=64, schedule=dict(epochs=9, lr=.01))
    assert (model_options(tree, ['alphas']) == {}
            and 'no such option' in refused(lambda: model_options(net, ['width', 'schedule'])))


def test_seeds_are_counted_from_the_first_or_listed():
    e = Experiment(models=[dict(name='tgat', seeds=[9, 4]), dict(name='ridge'), dict(name='mlp', seeds=1)],
                   training=dict(seed=3, seeds=2))
    assert [k.seeds for k in e.lines] == [(9, 4), (3, 4), (3,)]


def test_the_second_model_with_an_ablation_puts_its_name_before_it():
    e = Experiment(models=[dict(name='tgat', ablations=['edge_free']),
                           dict(name='tgat', label='wide', width=64, ablations=['edge_free'])])
    assert [k.label for k in e.lines] == ['tgat', 'edge_free', 'wide', 'wide.edge_free']


def test_ages():
    assert [age_of(t) for t in ('', 'mark', '1 week', '3 sessions')] == [None, (0, 'mark'), (1, 'week'), (3, 'session')]


# the environment

def test_the_environment_stands_in_where_the_file_is_silent():
    s = Settings(source='toy', seed=7, commission=1e-4, slippage=2e-4, notebooks_dir=HERE.notebooks_dir)
    e = Experiment.load('costs.slippage_bp = 9', s)
    assert (e.data.source.name, e.training.seed, e.evidence.seed, e.evidence.audit.seed, e.costs.commission_bp,
            e.costs.slippage_bp) == ('toy', 7, 7, 7, 1., 9.)
    assert Experiment.load('us20', s).data.source.name == 'us20'


def test_it_imports_neither_networks_nor_plots():
    code = ('import sys, gnn_quant.pipeline.experiment; '
            'print([m for m in ("torch", "lightgbm", "matplotlib", "vectorbt", "numba") if m in sys.modules])')
    assert (subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
            == '[]')


# the command line

def test_what_is_shown_is_the_experiment_with_its_defaults_marked():
    e = DEMO.set('costs.slippage_bp', 10)
    for about in (False, True): assert Experiment.loads(experiment_text(e, about)) == e
    lines = {line.partition(' = ')[0]: line for line in experiment_text(e).splitlines()}
    assert (lines['commission_bp'].endswith('# default') and 'default' not in lines['slippage_bp']
            and 'basis points' in experiment_text(e, True))


def test_a_check_says_valid_or_what_is_wrong():
    text, valid = check_text(DEMO)
    assert valid and DEMO.hash in text
    text, valid = check_text(DEMO.set('models.tgat.widht', 1))
    assert not valid and text.startswith('models.tgat.widht: ')


def test_differences_are_lines():
    lines = diff_text(DEMO, DEMO.override(['costs.slippage_bp=10', 'name=dear'])).splitlines()
    assert ([line.split() for line in lines]
            == [['setting', 'us20', 'demo', 'dear'], ['costs.slippage_bp', '5.0', '10.0']])
    assert DEMO.hash[:12] in diff_text(DEMO, DEMO.with_(name='x'))
