"The package of tests/fixtures/outside_pkg as somebody else's installed package"
import importlib
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'tests/fixtures/outside_pkg'


def outside_env(folder=FOLDER):
    "Environment of a subprocess in which the package is installed"
    path = [str(folder), str(ROOT), os.environ.get('PYTHONPATH', '')]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in path if p))


def lay_package(folder, name, modules):
    "Write a package with an entry point into a folder: module name -> source; '' for its __init__"
    info = Path(folder) / f'{name}-0.1.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n')
    (info / 'entry_points.txt').write_text(f'[gnn_quant]\n{name} = {name}\n')
    (Path(folder) / name).mkdir()
    for k, text in ({'': ''} | modules).items(): (Path(folder) / name / f'{k or "__init__"}.py').write_text(text)
    return Path(folder)


def copy_package(folder):
    "The fixture package in a folder of the test"
    return Path(shutil.copytree(FOLDER, Path(folder) / 'outside'))


class Installed:
    "Context in which packages of a folder are installed in this process, and after which the registry is as before"
    def __init__(self, folder=FOLDER): self.folder = str(folder)

    def __enter__(self):
        from gnn_quant import plugins
        self.before = {k: dict(v) for k, v in plugins._PLUGINS.items()}
        self.state = [(d, dict(d)) for d in (plugins._OUTSIDE, plugins._BROKEN)]
        self.seen, self.modules = set(plugins._SEEN), set(sys.modules)
        sys.path.insert(0, self.folder)
        importlib.invalidate_caches()
        return plugins

    def __exit__(self, *_):
        from gnn_quant import plugins
        sys.path.remove(self.folder)
        for k, old in self.before.items():  # rooms of ours that were imported meanwhile stay registered
            now = plugins._PLUGINS[k].items()
            plugins._PLUGINS[k] = {key: p for key, p in now if p.package == plugins.GROUP or key in old}
        for d, old in self.state:
            d.clear()
            d.update(old)
        plugins._SEEN.clear()
        plugins._SEEN.update(self.seen)
        for m in set(sys.modules) - self.modules:
            if str(getattr(sys.modules[m], '__file__', '') or '').startswith(self.folder): del sys.modules[m]
