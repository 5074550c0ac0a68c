"A model and a sizer of another package work by name, and their leaky twins are found"
from types import SimpleNamespace

import pytest
from _outside import Installed

from gnn_quant.core import BadParams, peeks, toy_bars
from gnn_quant.data.target import make_target
from gnn_quant.models.registry import ablation, make_model, model_params
from gnn_quant.plugins import find, listed
from gnn_quant.portfolio.sizing import make_weights
from gnn_quant.signals import make_signals
from gnn_quant.training.walk_forward import make_folds, run_walk_forward

BARS = toy_bars(n=6, t=120)


@pytest.fixture(autouse=True)
def outside():
    with Installed(): yield


def features(b):
    import pandas as pd
    return pd.concat(dict(ret=b['Close'].pct_change(fill_method=None)), axis=1, names=['field', 'symbol']).dropna()


def scores(b, name): return make_model(name).predict(features(b), None, features(b).index)


@pytest.mark.parametrize('name, leaks', [('feature_mean', False), ('feature_mean_leak', True)])
def test_model(name, leaks):
    assert bool(peeks(lambda b: scores(b, f'outside_pkg:{name}'), BARS, BARS.index[80])) is leaks


@pytest.mark.parametrize('name, leaks', [('sign_weight', False), ('sign_weight_leak', True)])
def test_sizer(name, leaks):
    def book(b):
        s = make_signals(b['Close'].pct_change(5, fill_method=None), make_target(b, 1), b, window=20, least=5)
        return make_weights(s, SimpleNamespace(bars=b), f'outside_pkg:{name}', vol_window=20)
    assert bool(peeks(book, BARS, BARS.index[80])) is leaks


def test_a_model_of_another_package_walks_forward():
    x = features(BARS)
    y = make_target(BARS, 1)
    y = type(y)(y.frame.loc[x.index], *[getattr(y, f) for f in list(y.__dataclass_fields__)[1:]])
    w = run_walk_forward(lambda s: make_model('outside_pkg:feature_mean', seed=s), x, None, y,
                         make_folds(x.index, y.span, 40, 10, 20))
    assert w.scores.notna().any(axis=None)


def test_options_and_names():
    assert model_params('outside_pkg:feature_mean') == ['seed', 'sign']
    with pytest.raises(BadParams, match='sign'): make_model('outside_pkg:feature_mean', sing=2)
    with pytest.raises(BadParams, match='width'): make_model('tgat', widht=8)
    with pytest.raises(BadParams, match='tgat'): make_model('tagt')
    assert 'tgat' in listed('model').index and find('model', 'tgat').needs == ('edges',)
    assert make_model('tgat', width=16).params == find('model', 'tgat').make(width=16).params
    assert ablation('tgat', 'rewired') == 'rewired'
    with pytest.raises(BadParams): ablation('ridge', 'no_edges')
