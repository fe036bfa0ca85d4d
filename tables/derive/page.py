from __future__ import annotations


def write_page(path, tables, times, predicted):
    import numpy as np

    for name, t in times.items():
        e = np.array([predicted[name][n] / v - 1 for n, v in t.items()])
        m = abs(e).mean()
        print(
            name,
            len(t),
            "mape %.4f worst %.3f cover %.2f" % (m, abs(e).max(), (abs(e) < 1.645 * 1.2533 * m).mean()),
            len(tables[name]),
        )
        print("    ", " ".join(f"{n}{x:+.1%}" for n, x in zip(t, e)))
