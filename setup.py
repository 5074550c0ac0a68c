"Packaging facts live in settings.ini; this file only hands them to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
cfg = ConfigParser(delimiters=['='], interpolation=None)
cfg.read(here / 'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
readme = here / 'README.md'

# One extra for each `<name>_requirements` key; names are spelt with dashes.
extras = {k.removesuffix('_requirements').replace('_', '-'): v.split() for k, v in cfg.items() if k.endswith('_requirements')}

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], license='Apache-2.0', license_files=['LICENSE'],
    author=cfg['author'], keywords=cfg['keywords'].split(), long_description_content_type='text/markdown',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else cfg['description'],
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']), include_package_data=False,
    python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(), extras_require=extras,
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Developers', 'Intended Audience :: Financial and Insurance Industry',
                 'Operating System :: POSIX', 'Programming Language :: Python :: 3', 'Topic :: Office/Business :: Financial :: Investment'],
    entry_points={'console_scripts': cfg['console_scripts'].split()},
)
