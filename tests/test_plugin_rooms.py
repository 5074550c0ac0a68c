"Every kind is listed by one call, ours and those of other packages"
import importlib.util

import pytest
from _outside import Installed

from gnn_quant.core import BadParams
from gnn_quant.pipeline.plugin_rooms import ROOMS, broken_packages, plugin_table
from gnn_quant.plugins import KINDS


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_has_a_table(kind):
    with Installed():
        t = plugin_table(f'{kind}s')
        assert t.equals(plugin_table(kind)) and t.index.is_unique
        assert list(t.columns) == ['package', 'needs', 'lookback', 'unit', 'about'] and (t['about'] != '').all()


def test_rooms_exist_and_ours_stand_first():
    assert set(ROOMS) <= set(KINDS)
    for names in ROOMS.values():
        for m in names: assert importlib.util.find_spec(f'gnn_quant.{m}'), m
    with Installed():
        t = plugin_table('features')
        assert t.index[0] == 'ret_1' and t.loc['outside_pkg:mentions', 'lookback'] == '20 days'
        assert {'us20', 'outside_pkg:outside_market'} <= set(plugin_table('sources').index)
        assert broken_packages().empty


def test_no_such_kind():
    with pytest.raises(BadParams, match='features'): plugin_table('feature list')
