"Cost models by name give the market's costs"
import pytest

from gnn_quant.core import BadParams
from gnn_quant.costs import Costs
from gnn_quant.plugins import find


def test_linear_and_square_root():
    assert find('cost', 'linear').make(None) == Costs()
    assert (find('cost', 'linear').make(None, commission_bp=1, slippage_bp=10, lot=100)
            == Costs(1 / 1e4, 10 / 1e4, lot=100))
    c = find('cost', 'square_root').make(None, impact=.5)
    assert (c.impact, c.volume_cap) == (.5, .1) and find('cost', 'square_root').needs == ('bars.Volume',)
    with pytest.raises(BadParams): find('cost', 'linear').make(None, slippage_bp=-1)
