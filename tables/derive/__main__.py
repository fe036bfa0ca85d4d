"""Builds the derived tables and the accuracy page: ``cd tables && python -m derive FOLDER``.

FOLDER holds ``paddleslim_optables``, ``paddlelite_docs`` and ``paddleclas_sd855``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from derive.page import write_page
from derive.phones import build
from derive.transferred import deviation, with_computing_ops
from latency_nas.estimate.regressor.accuracy import regressor_accuracy
from latency_nas.estimate.regressor.regressor import with_fitted_forms
from latency_nas.table import load_table, save_table

_HERE = Path(__file__).resolve().parents[1]

_CHECKED = ("SD865/threads=1",)  # tables of other phones have the same rows with other scales


def main(folder: Path, target: Path) -> None:
    tables, scores = build(folder)
    measured = load_table("x86-mnn")
    relative_std = deviation(folder, measured)
    for name, derived in tables.items():
        table = with_computing_ops(derived, measured, relative_std)
        path = target / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_table(with_fitted_forms(replace(table, fitted=None)), path)
    accuracies = {
        name: regressor_accuracy(load_table(target / f"{name}.parquet"), beside_peer=True) for name in _CHECKED
    }
    write_page(target / "README.md", tables, scores, accuracies)


main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else _HERE)
