"""A session for 20,000 kernels: its memory, and the time until it measures.

    python benchmarks/session_scale.py [--repetitions 200]

It reads the file of the op space, makes the session, and measures the given number of repetitions. Then it prints the
peak memory of the process, and that of the device side, which is another process. With `--ops` the space has 20,000
torch modules instead of kernels, so that torch is in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import tempfile
import time
from pathlib import Path

MODULES = """
latency_nas: 1
ops:
  - class: torch.nn.Conv2d
    parameters:
      in_channels: {range: [8, 320, 8]}
      out_channels: {range: [8, 400, 8]}
      kernel_size: [1, 3]
      padding: {tied_to: kernel_size, values: [0, 1]}
    sizes: {size: [4, 7, 10, 14, 20]}
"""


class EnoughError(Exception):
    """The given number of repetitions was made."""


def kernels_text() -> str:
    """40 x 50 x 10 convolutions."""
    from latency_nas.kernel import Kernel
    from latency_nas.measure.space.space_file import kernels_yaml

    return kernels_yaml(
        (
            Kernel.of(
                "conv2d", [(1, c_in, size, size)], [(1, c_out, size, size)], kernel=(kernel, kernel), stride=(1, 1),
                pad=(kernel // 2,) * 4, dilation=(1, 1), group=1, bias=1, act="relu",
            )
            for c_in in range(8, 328, 8)
            for c_out in range(8, 408, 8)
            for kernel in (1, 3)
            for size in (4, 7, 10, 14, 20)
        ),
        "20,000 kernels",
    )  # fmt: skip


def main() -> None:
    """Run one session and print its times and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--ops", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "ops.yaml")
        source.write_text(MODULES if options.ops else kernels_text())
        run(source, Path(folder, "session.sqlite"), options.repetitions)


def run(source: Path, path: Path, n_repetitions: int) -> None:
    """Run a session, from its file to the last repetition."""
    start = time.perf_counter()
    from latency_nas.measure.device.runner import LocalRunner
    from latency_nas.measure.session.options import SessionOptions
    from latency_nas.measure.session.run import run_session
    from latency_nas.measure.session.session import Session
    from latency_nas.measure.session.work_item import WorkItem
    from latency_nas.measure.space import read_space

    space = read_space(source)
    print(f"{len(space)} work items read after {time.perf_counter() - start:.1f} s")
    first_s: list[float] = []

    def on_progress(done: int, _total: int) -> None:
        first_s.append(time.perf_counter() - start)
        if done >= n_repetitions:
            raise EnoughError

    with Session.create(path, (WorkItem.of(item) for item in space.items), SessionOptions()) as session:
        del space
        with LocalRunner() as runner, contextlib.suppress(EnoughError):
            run_session(session, runner, on_progress=on_progress)
    peak_mb, child_mb = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"first repetition done after {first_s[0]:.1f} s, {len(first_s)} repetitions after {first_s[-1]:.1f} s")
    print(f"peak memory: {peak_mb:.0f} MB here, {child_mb:.0f} MB of the device side")


if __name__ == "__main__":
    main()
