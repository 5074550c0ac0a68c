"Artefacts: content in and out, hashes, damage, and what was known at a date"
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from gnn_quant.core import BadParams, StoreError, toy_bars
from gnn_quant.storage.artefact import ARTEFACTS, Artefact, content_hash, stored_hash


@dataclass(frozen=True, eq=False)
class Table(Artefact):
    kind: ClassVar[str] = 'test_table'
    a: pd.DataFrame
    b: pd.DataFrame
    note: str = ''

    def frames(self): return {'test_a': self.a, 'test_b': self.b}
    def facts(self): return dict(note=self.note)
    @classmethod
    def from_parts(cls, frames, facts): return cls(frames['test_a'], frames['test_b'], facts['note'])


@pytest.fixture
def table():
    close = toy_bars(3, 20)['Close']
    return Table(close, close.pct_change(), 'x')


def test_what_is_saved_is_what_is_read(table, tmp_path):
    h = table.save(tmp_path)
    back = Table.load(tmp_path)
    assert h == table.hash == back.hash == stored_hash('test_table', tmp_path) and back.note == 'x'
    assert back.a.equals(table.a) and list(back.frames()) == ['test_a', 'test_b'] and ARTEFACTS['test_table'] is Table


def test_the_hash_sees_names_values_and_facts(table):
    assert Table(table.a, table.b, 'y').hash != table.hash and Table(table.b, table.a, 'x').hash != table.hash
    assert content_hash(dict(a='1'), {}) != content_hash(dict(b='1'), {})
    moved = table.a.copy()
    moved.iloc[3, 1] = np.nextafter(moved.iloc[3, 1], np.inf)
    assert Table(moved, table.b, 'x').hash != table.hash


@pytest.mark.parametrize('damage', ['facts', 'frame', 'missing', 'other', 'half'])
def test_damage_is_found(table, tmp_path, damage):
    table.save(tmp_path)
    path = tmp_path / 'test_table.json'
    if damage == 'facts': path.write_text(path.read_text().replace('"note": "x"', '"note": "z"'))
    if damage == 'frame':
        (Table(table.a * 2, table.b, 'x').save(tmp_path / 'b')
         and (tmp_path / 'b/test_a.parquet').replace(tmp_path / 'test_a.parquet'))
    if damage == 'missing': (tmp_path / 'test_b.parquet').unlink()
    if damage == 'other': path.write_text('{"kind": "scores"}')
    if damage == 'half': path.write_text(path.read_text()[:40])
    with pytest.raises(StoreError): Table.load(tmp_path)


def test_a_kill_between_the_files_leaves_no_artefact(table, tmp_path, monkeypatch):
    monkeypatch.setattr('gnn_quant.storage.artefact.write_json', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): table.save(tmp_path)
    assert stored_hash('test_table', tmp_path) == ''
    with pytest.raises(StoreError): Table.load(tmp_path)


def test_what_was_known(table):
    cut = table.a.index[10]
    later = Table(table.a.loc[:cut], table.b.where(table.b.index.to_series() <= cut, 9.), 'x')
    assert all(np.array_equal(p, q, equal_nan=p.dtype.kind == 'f')
               for p, q in zip(table.known_by(cut), later.known_by(cut)))


def test_a_class_without_a_kind_is_not_saved(table, tmp_path):
    class Nameless(Artefact):
        def frames(self): return {}
    with pytest.raises(BadParams, match='kind'): Nameless().save(tmp_path)
