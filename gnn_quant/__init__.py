__version__ = "0.1.0"

# Entry points by name; a module is imported when its name is asked for
_LAZY = dict(
    Experiment='pipeline.experiment', BacktestRunner='evaluate', Bundle='data.bundle', AsOfTable='data.asof', load_bundle='data.load',
    peeks='core', judge='own_book', Settings='settings', Costs='costs', Check='evidence.checks')
__all__ = ['__version__', *_LAZY]


def __getattr__(name):
    if name not in _LAZY: raise AttributeError(f'module gnn_quant has no attribute {name!r}. There are: {", ".join(_LAZY)}')
    from importlib import import_module
    return getattr(import_module(f'gnn_quant.{_LAZY[name]}'), name)


def __dir__(): return sorted([*globals(), *_LAZY])
