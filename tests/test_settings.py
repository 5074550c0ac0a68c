"Configuration from files, variables and arguments, and every way of getting it wrong"
import pickle

import pytest

from gnn_quant.core import BadSettings, GnnQuantError
from gnn_quant.settings import Settings, load_settings

WRONG = dict(environment='live', seed='-1', commission='5', slippage='-0.1', threads='0', source='')


def write(folder, **files):
    for name, text in files.items(): (folder / name.replace('dot', '.', 1).replace('_', '.', 1)).write_text(text)
    return folder


def test_defaults(tmp_path):
    s = load_settings(tmp_path)
    assert (s.environment, s.source, s.seed, s.commission, s.slippage, s.threads) == ('dev', 'us20', 0, 5e-4, 5e-4, 1)
    assert (str(s.data_dir), str(s.reports_dir), str(s.notebooks_dir)) == ('data', 'reports', 'nbs/runs')


def test_later_wins(tmp_path, monkeypatch):
    write(tmp_path, dotenv='GNNQ_ENVIRONMENT=test\nGNNQ_SEED=1\nGNNQ_THREADS=1\nGNNQ_SOURCE=a\nUNRELATED=x',
          dotenv_test='GNNQ_SEED=2\nGNNQ_THREADS=2', dotenv_prod='GNNQ_SEED=9')
    monkeypatch.setenv('GNNQ_THREADS', '3')
    assert (load_settings(tmp_path).model_dump(include={'source', 'seed', 'threads'})
            == dict(source='a', seed=2, threads=3))
    assert load_settings(tmp_path, threads=4).threads == 4
    assert load_settings(tmp_path, environment='prod').seed == 9
    assert load_settings(tmp_path, threads=None).threads == 3
    monkeypatch.setenv('GNNQ_ENVIRONMENT', 'prod')
    assert (load_settings(tmp_path).environment, load_settings(tmp_path).seed) == ('prod', 9)


def test_lower_case_and_blank_variables(tmp_path, monkeypatch):
    monkeypatch.setenv('gnnq_seed', '7')
    monkeypatch.setenv('GNNQ_DATA_DIR', '')
    assert load_settings(tmp_path).seed == 7 and str(load_settings(tmp_path).data_dir) == 'data'


@pytest.mark.parametrize('field', [f for f in WRONG if f != 'source'])
def test_wrong_values_name_the_variable_the_value_and_what_is_accepted(tmp_path, monkeypatch, field):
    monkeypatch.setenv(f'GNNQ_{field.upper()}', WRONG[field])
    with pytest.raises(BadSettings) as e: load_settings(tmp_path)
    assert (f'GNNQ_{field.upper()}=' in str(e.value) and WRONG[field] in str(e.value)
            and Settings.model_fields[field].description in str(e.value))
    monkeypatch.delenv(f'GNNQ_{field.upper()}')
    with pytest.raises(BadSettings, match=f'{field}='): load_settings(tmp_path, **{field: WRONG[field]})
    with pytest.raises(BadSettings, match=f'{field}='): Settings(**{field: WRONG[field]})


@pytest.mark.parametrize('bad', ['nan', 'inf', '1e400', 'five', '0,0005'])
def test_costs_that_are_no_number(tmp_path, monkeypatch, bad):
    monkeypatch.setenv('GNNQ_COMMISSION', bad)
    with pytest.raises(BadSettings, match='GNNQ_COMMISSION'): load_settings(tmp_path)


def test_unknown_names_are_refused_with_the_closest_known(tmp_path, monkeypatch):
    for name, near in (('GNNQ_COMISSION', 'GNNQ_COMMISSION'), ('GNNQ_REPORT_DIR', 'GNNQ_REPORTS_DIR'),
                       ('gnnq_enviroment', 'GNNQ_ENVIRONMENT')):
        monkeypatch.setenv(name, '1')
        with pytest.raises(BadSettings, match=f'{name}.*the environment.*Did you mean {near}'): load_settings(tmp_path)
        monkeypatch.delenv(name)
    with pytest.raises(BadSettings, match='sed.*Did you mean seed'): load_settings(tmp_path, sed=1)
    with pytest.raises(BadSettings, match='sed.*Did you mean seed'): Settings(sed=1)
    with pytest.raises(BadSettings, match=r'GNNQ_SED.*\.env.*Did you mean GNNQ_SEED'):
        load_settings(write(tmp_path, dotenv='GNNQ_SED=1'))


def test_an_unknown_name_in_the_second_file(tmp_path):
    with pytest.raises(BadSettings, match=r'GNNQ_SED .*|GNNQ_SED.*\.env\.dev'):
        load_settings(write(tmp_path, dotenv_dev='GNNQ_SED=1'))


def test_the_second_file_may_not_name_another_environment(tmp_path):
    with pytest.raises(BadSettings, match="'prod' in .env.dev"):
        load_settings(write(tmp_path, dotenv_dev='GNNQ_ENVIRONMENT=prod'))


def test_the_benchmark_folder_is_not_a_setting_and_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv('GNNQ_BENCH_DATA', str(tmp_path))
    assert load_settings(tmp_path).seed == 0


def test_production_never_trades_on_the_toy_market(tmp_path):
    with pytest.raises(BadSettings, match='simulated'): load_settings(tmp_path, environment='prod', source='toy')
    assert load_settings(tmp_path, environment='test', source='toy').source == 'toy'


def test_an_unreadable_file(tmp_path):
    (tmp_path / '.env').write_bytes(b'GNNQ_SEED=\xff\xfe')
    with pytest.raises(BadSettings, match=r'\.env.*UTF-8'): load_settings(tmp_path)


def test_frozen_hashable_and_picklable(tmp_path):
    s = load_settings(tmp_path, seed=3)
    with pytest.raises(ValueError): s.seed = 4
    assert s == pickle.loads(pickle.dumps(s)) and hash(s) == hash(load_settings(tmp_path, seed=3))
    assert issubclass(BadSettings, GnnQuantError)
