"One registry: ours, packages of others, scripts; what is wrong with a name or a package is said by name"
import subprocess
import sys

import pytest
from _outside import FOLDER, Installed, lay_package, outside_env

from gnn_quant import plugins
from gnn_quant.core import BadParams
from gnn_quant.plugins import KINDS, find, listed, options_of, plugins_of, source_hash

HEAD = 'from gnn_quant.plugins import feature, sizer\n'
ONE = HEAD + '''
@feature(lookback="20 days", needs="news bars.Close", unit="count")
def mentions(b):
    "Mentions"
    return {}
'''


@pytest.fixture
def here():
    with Installed(FOLDER.parent): yield plugins


def test_the_kinds_have_a_decorator_each():
    assert KINDS == ('source', 'table', 'feature', 'builder', 'model', 'sizer', 'cost', 'check', 'section')
    for k in KINDS: assert callable(getattr(plugins, 'cost_model' if k == 'cost' else k))


def test_a_new_kind_is_one_line(here):
    ensemble = plugins.decorator_of('ensemble', 'fn(scores) -> scores')
    try:
        @ensemble('mean')
        def average(scores, weight=1.): "Plain mean"
        assert (find('ensemble', f'{__name__}:mean').make is average
                and find('ensemble', 'mean').options == {'weight': 1.})
        assert listed('ensemble').loc[f'{__name__}:mean', 'about'] == 'Plain mean'
    finally: del plugins._PLUGINS['ensemble']


def test_bare_called_and_named_decorators_are_the_same(here):
    @plugins.check
    def a(case): "A"

    @plugins.check(id='b')
    def other(case): "B"

    @plugins.check('c', needs=('ledger',))
    def third(case): "C"
    assert [find('check', n).make for n in 'abc'] == [a, other, third] and find('check', 'c').needs == ('ledger',)


def test_a_package_is_found_by_its_entry_point():
    with Installed():
        p = find('feature', 'three_rows')
        assert (p.package, p.module, p.label) == ('outside_pkg', 'outside_pkg.features', 'outside_pkg:three_rows')
        assert p is find('feature', 'outside_pkg:three_rows') is find('feature', 'outside_pkg.features:three_rows')
        assert 'outside_pkg:three_rows' in listed('feature').index and p in plugins_of('feature', 'outside_pkg')
    with pytest.raises(BadParams): find('feature', 'three_rows')


def test_a_subprocess_sees_the_package():
    code = "from gnn_quant.plugins import find; print(find('feature', 'outside_pkg:three_rows').unit)"
    out = subprocess.run([sys.executable, '-c', code], env=outside_env(), capture_output=True, text=True, check=True)
    assert out.stdout.strip() == 'log return'


def test_facts_of_a_plugin(tmp_path):
    with Installed(lay_package(tmp_path, 'facts_pkg', {'': ONE})):
        row = listed('feature').loc['facts_pkg:mentions']
        assert row.to_dict() == dict(package='facts_pkg', needs='news bars.Close', lookback='20 days', unit='count',
                                     about='Mentions')


def test_two_packages_of_one_name(tmp_path):
    lay_package(tmp_path, 'first_pkg', {'': ONE})
    with Installed(lay_package(tmp_path, 'other_pkg', {'': ONE})):
        with pytest.raises(BadParams, match='first_pkg:mentions or other_pkg:mentions'): find('feature', 'mentions')
        assert find('feature', 'other_pkg:mentions').package == 'other_pkg'


def test_one_package_with_a_name_twice_is_broken(tmp_path):
    text = {'': 'from . import a, b', 'a': ONE, 'b': ONE}
    with Installed(lay_package(tmp_path, 'twice_pkg', text)):
        assert 'twice_pkg.a' in plugins.broken()['twice_pkg'] and 'twice_pkg.b' in plugins.broken()['twice_pkg']


def test_a_package_that_raises_stops_only_who_asks_for_it(tmp_path):
    lay_package(tmp_path, 'sick_pkg', {'': ONE + 'raise RuntimeError("no licence")'})
    with Installed(lay_package(tmp_path, 'well_pkg', {'': ONE})):
        assert find('feature', 'mentions').package == 'well_pkg'
        assert plugins.broken() == {'sick_pkg': 'RuntimeError: no licence'}
        for name in ('sick_pkg:mentions', 'mention'):
            with pytest.raises(BadParams, match='sick_pkg raises on import.*no licence'): find('feature', name)


def test_a_script_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / 'my_script.py').write_text(ONE)
    (tmp_path / 'bad_script.py').write_text('import not_there_at_all')
    (tmp_path / 'odd_script.py').write_text('1 / 0')
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with Installed(tmp_path):
        sys.path.remove(str(tmp_path))
        assert find('feature', 'my_script:mentions').label == 'my_script:mentions'
        with pytest.raises(BadParams, match='bad_script raises on import.*not_there_at_all'):
            find('feature', 'bad_script:x')
        with pytest.raises(BadParams, match='odd_script raises on import.*ZeroDivisionError'):
            find('feature', 'odd_script:x')
        with pytest.raises(BadParams, match='no package or module nowhere_script'): find('feature', 'nowhere_script:x')
        with pytest.raises(BadParams, match='Did you mean my_script:mentions'): find('feature', 'my_script:mention')
        sys.path.insert(0, str(tmp_path))
    assert sys.path == path


@pytest.mark.parametrize('kind, name', [('features', 'x'), ('feature', ''), ('feature', None)])
def test_what_is_no_name_is_refused(kind, name):
    with pytest.raises(BadParams): find(kind, name)


def test_the_nearest_name_and_the_right_kind(here):
    @plugins.sizer
    def top_only(signals, bundle, names=10): "Top"
    with pytest.raises(BadParams, match='Did you mean top_only'): find('sizer', 'topp_only')
    with pytest.raises(BadParams, match='it is a sizer'): find('check', 'top_only')


def test_options(here):
    @plugins.builder
    def knn(bundle, window, *, top=5): "Nearest"
    @plugins.builder
    def free(bundle, **more): "Any"
    assert find('builder', 'knn').options == {'top': 5}
    assert (options_of(find('builder', 'knn'), {}) == {'top': 5}
            and options_of(find('builder', 'free'), dict(a=1)) == dict(a=1))
    with pytest.raises(BadParams, match='Did you mean top'): options_of(find('builder', 'knn'), dict(tpo=3))

    @plugins.builder
    def must(bundle, *, window): "Needs a window"
    with pytest.raises(BadParams, match='window'): options_of(find('builder', 'must'), {})


def test_a_name_with_a_colon_is_refused():
    with pytest.raises(BadParams): plugins.feature(lambda b: b, name='a:b')


def test_the_code_of_a_package_is_all_of_its_modules(tmp_path):
    helper = {'': HEAD + 'from .helper import k\n@feature\ndef f(b): return k\n', 'helper': 'k = 1\n'}
    hashes = []
    for i, text in enumerate(('k = 1\n', 'k = 2\n', 'k = 1\n')):
        with Installed(lay_package(tmp_path / str(i), "code_pkg", helper | dict(helper=text))):
            hashes.append(find('feature', 'code_pkg:f').identity)
    assert hashes[0] == hashes[2] != hashes[1]


def test_code_typed_at_a_prompt_has_a_hash():
    scope = dict(__name__='typed')
    exec('def f(b): return b', scope)
    assert len(source_hash(scope['f'])) == 64
