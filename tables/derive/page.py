"""The accuracy page, ``README.md`` beside the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from derive.networks import FAMILIES
from latency_nas.estimate.conformal import error_bound
from latency_nas.estimate.regressor.accuracy import FamilyAccuracy
from latency_nas.table import LatencyTable, load_table

__all__ = ["Scores", "write_page"]

Scores = Mapping[str, Mapping[str, tuple[float, float, float]]]

_HEAD = """# Named tables

`load_table("SD865")` loads the table `SD865/threads=1.parquet` beside this page. `load_table("SD855/threads=2")` names
a variant; a name alone means the variant with the fewest threads. `latency-nas tables` lists all tables.

**No table of a phone here was measured on that phone.** Convolutions and pools are op samples that PaddleSlim measured
with Paddle-Lite on a phone that is inferred to be an SD710 (4 threads); other operators follow laws of memory of its
RK3288 table. For each class of kernels, both are scaled to whole-network times that Paddle-Lite and PaddleClas publish
for the phone. `SD710/threads=4` is the source itself and is not calibrated: its error on whole networks is unknown.
Kernels are those of Paddle-Lite 2.11 (opt). Kernels without a row are regressed.

**Powers, roots, logarithms, sines, roundings, selections, lookups, running sums and `topk` are the least certain.** No
source has them. Their rows are multiples of the phone's additions, as measured by MNN on an x86-64
(`derive/transferred.py`). An RK3288 takes 1.5 (hard swish) to 7 (sigmoid, swish) times as long as such a row would say,
so that each has a standard deviation of 1.59 times its latency. They replace rows of `pow` by a law of memory.

`cd tables && python -m derive FOLDER` makes this page and the tables. FOLDER has `paddleslim_optables`,
`paddlelite_docs` and `paddleclas_sd855`. A left-out network is left out everywhere: of the phone's times, of the times
of the phones that its table started from, and of the choice of how freely classes are scaled.

The times are published without the networks. These are built here as in their papers and best known implementations.
Two were changed after their errors were known, so their errors are weaker evidence than the others: InceptionV1 is
that of torchvision and TF-slim, with 3 x 3 convolutions (with 5 x 5, as in the paper, it was too slow on every phone
that has it), and YOLOv5s decodes its boxes, as its export does (without, it was too fast on every phone).

`NAME.forms.npz` has the fitted regressor of a table as plain arrays, so that no prediction has to fit one. A table
without it is fitted when a kernel is first missing. `latency-nas table fit NAME` makes it.
`python benchmarks/regressor.py` prints the errors of the regressor on op samples that it has not seen, by random,
channel and shape splits, beside a forest as PaddleSlim trains it. `python -m derive.this_machine` measured
`x86-mnn.parquet`; it measures the table again on the machine that runs it. Its rows of recurrent layers, of
transformers and of ops that compute (`derive/computing.py`) were added later, when the machine was busy: they are times
by the clock of the thread that ran MNN (and of its yardstick), which stops while other programs run, at the speed at
which the yardstick ran for the older rows. Lookups of single elements, running sums and `topk` are timed whole, since
MNN runs each as several ops; a run of a session, about a microsecond, is part of each.

"""

_KERNELS = """
## Kernels that a table lacks

The table below has the errors of the regressor by family. Each row is predicted by a fit without it. `Near`: single
rows are left out, so their neighbours are in the table. `Far`: all rows of a shape are left out (all channels at this
height, width, kernel and stride), in five folds. The shares in the 90 % interval are of intervals from other rows
(`near`) and from other shapes (`far`). In the latter, each shape counts as one, since intervals are made for the
kernels of an unseen shape. The last column is a forest as PaddleSlim trains it, on the same folds of shapes. The rows
themselves are derived: errors are relative to the rows, not to the phone. Other phones' tables have the same rows with
other scales of their classes. Other families follow laws of memory, which a regressor finds again.

"""


def write_page(
    path: Path,
    tables: Mapping[str, LatencyTable],
    scores: Scores,
    accuracies: Mapping[str, Sequence[FamilyAccuracy]],
) -> None:
    """Write the page.

    Args:
        path: File to write.
        tables: All derived tables, by name.
        scores: Table -> network -> three times in milliseconds: the published one, the one predicted while the network
            was left out, and the one that a single scale for all kernels of the SD710 then predicts.
        accuracies: Accuracy of the regressor of each table, by name.
    """
    parts = [
        _HEAD,
        "## Whole networks, each left out\n\n",
        _row(
            "table", "kernels", "networks", "mean error", "worst", "90 % within", "of these", "mean error of one scale"
        ),
    ]
    parts.append(_row(*["---"] * 8))
    pooled: list[NDArray[np.bool_]] = []
    for name, table in tables.items():
        if name not in scores:
            parts.append(_row(f"`{name}`", str(len(table)), "0", "not known", "", "", "", ""))
            continue
        errors, one = _errors(scores[name], 1), _errors(scores[name], 2)
        mean = np.abs(errors).mean()
        inside = _inside(scores[name])
        pooled.append(inside)
        parts.append(
            _row(
                f"`{name}`", str(len(table)), str(len(errors)), f"{mean:.1%}", f"{np.abs(errors).max():.1%}",
                f"{table.datasheet.error_90 or 0:.1%}", f"{inside.mean():.0%}", f"{np.abs(one).mean():.1%}",
            )
        )  # fmt: skip
    inside = np.concatenate(pooled)
    parts.append(
        "\n`90 % within` is the bound of the table's ± (1.645 standard deviations): the error that nine tenths of "
        "other networks are to keep within. `Of these`: how many of the left-out times do, each by the bound that the "
        f"other networks' errors give; of all {len(inside)} it is {inside.mean():.0%}. The last column is the same "
        "without classes: the SD710's table times one number.\n"
    )
    parts += _measured(path.parent)
    parts += _regressors(accuracies) if accuracies else []
    for name, runs in scores.items():
        parts += [f"\n### {name}\n\n", _row("network", "published ms", "left out ms", "error"), _row(*["---"] * 4)]
        for network, (published, predicted, _) in runs.items():
            parts.append(_row(network, f"{published:.2f}", f"{predicted:.2f}", f"{predicted / published - 1:+.1%}"))
        parts.append(f"\nBy family: {_families(runs)}.\n")
    path.write_text("".join(parts))


def _measured(folder: Path) -> list[str]:
    """A sentence on each measured table. These are not in the folder of a phone."""
    sheets = {path.stem: load_table(path).datasheet for path in sorted(folder.glob("*.parquet"))}
    return [
        f"\n`{name}` was measured by this library's meter on one thread of an {sheet.device} ({sheet.soc}), with "
        f"{sheet.engine} {sheet.engine_version}: {sheet.expected_error or 0:.1%} mean error on "
        f"{sheet.expected_error_method}; nine tenths of others within {sheet.error_90 or 0:.1%}.\n"
        for name, sheet in sheets.items()
    ]


def _regressors(accuracies: Mapping[str, Sequence[FamilyAccuracy]]) -> list[str]:
    parts = [
        _KERNELS,
        _row("table", "family", "rows", "form", "near", "within 10 %", "in 90 %", "far", "in 90 %", "far, PaddleSlim"),
        _row(*["---"] * 10),
    ]
    for name, rows in accuracies.items():
        parts += [
            _row(
                f"`{name}`", row.family, str(row.n_rows), row.form, f"{row.near_error:.1%}", f"{row.near_within:.0%}",
                f"{row.near_covered:.0%}", f"{row.far_error:.1%}", f"{row.far_covered:.0%}",
                f"{row.peer_error:.1%}",
            )
            for row in rows
            if row.peer_error is not None
        ]  # fmt: skip
    return parts


def _inside(runs: Mapping[str, tuple[float, float, float]]) -> NDArray[np.bool_]:
    """Whether the error of each network is within the bound from the others' errors."""
    measured, predicted = np.array([run[:2] for run in runs.values()]).T
    rows = np.arange(len(measured))
    bounds = np.array([error_bound(predicted[rows != row], measured[rows != row]) for row in rows], dtype=np.float64)
    return np.abs(np.log(predicted / measured)) <= np.log1p(bounds)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _errors(runs: Mapping[str, tuple[float, float, float]], column: int) -> NDArray[np.float64]:
    return np.array([run[column] / run[0] - 1 for run in runs.values()])


def _families(runs: Mapping[str, tuple[float, float, float]]) -> str:
    errors: dict[str, list[float]] = {}
    for network, (published, predicted, _) in runs.items():
        errors.setdefault(FAMILIES[network], []).append(abs(predicted / published - 1))
    return ", ".join(f"{family} {np.mean(values):.1%} ({len(values)})" for family, values in errors.items())
