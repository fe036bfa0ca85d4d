"""What ``python3 bundle.pyz`` does on a device: times every network of the bundle, and writes raw samples to a file.

Uses only the standard library and the engine, from Python 3.8 on. Each line is a JSON object: first the device; then
``begun`` before each repetition, and its samples or its error after it. Interrupted at any point and started again, it
continues where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

from latency_nas.engine import serving

__all__ = ["main"]

_MAX_CRASHES = 2


def main() -> None:
    """Run the bundle that this file is part of."""
    parser = argparse.ArgumentParser(prog="bundle.pyz", description="Time the networks in this file.")
    parser.add_argument("-o", "--output", default="samples.jsonl", help="where raw samples go (default: %(default)s)")
    output = Path(parser.parse_args().output)
    archive = zipfile.ZipFile(Path(__file__).parent)
    try:
        with archive, tempfile.TemporaryDirectory(prefix="latency-nas-") as folder:
            _run(archive, json.loads(archive.read("bundle.json")), output, folder)
    except serving.RunnerError as error:
        sys.exit(f"error: {error}")


def _run(archive: zipfile.ZipFile, bundle: dict[str, Any], output: Path, folder: str) -> None:
    import device_side  # type: ignore[import-not-found] # a file of the bundle

    hello = serving.hello(device_side)
    networks = {int(network): min_ms for network, min_ms in bundle["networks"].items()}
    done, failed = _so_far(output, bundle, hello)
    n_repetitions = len(networks) * bundle["rounds"]
    yardstick = archive.extract("yardstick" + bundle["suffix"], folder)
    with output.open("a") as samples:
        if not samples.tell():
            _write(samples, {"bundle": bundle["id"], "run": uuid.uuid4().hex, "hello": hello})
        for number in range(bundle["rounds"]):
            order = sorted(networks)
            random.Random(number).shuffle(order)  # noqa: S311
            for network in order:
                if network in failed or done[network] > number:
                    continue
                _write(samples, {"network": network, "begun": time.time()})
                file = archive.extract(f"network_{network}{bundle['suffix']}", folder)
                try:
                    how = {"describe": number == 0, "min_ms": networks[network], **bundle["repetition"]}
                    raw = serving.repeat(device_side, file, yardstick, **how)
                except serving.RunnerError as error:
                    raw = {"error": str(error)}
                    failed.add(network)
                Path(file).unlink()
                done[network] += 1
                _write(samples, {"network": network, "ended_s": time.time(), **raw})
                print(f"{sum(done.values())} of {n_repetitions} repetitions", file=sys.stderr)  # noqa: T201
    print(f"done: bring {output} to `latency-nas measure ... --samples {output}`", file=sys.stderr)  # noqa: T201


def _write(samples: IO[str], line: dict[str, Any]) -> None:
    samples.write(json.dumps(line) + "\n")
    samples.flush()


def _so_far(output: Path, bundle: dict[str, Any], hello: dict[str, Any]) -> tuple[Counter[int], set[int]]:
    """Repetitions of each network in the file, and networks that failed; an incomplete last line is removed."""
    begun: Counter[int] = Counter()
    done: Counter[int] = Counter()
    failed: set[int] = set()
    if not output.exists():
        return done, failed
    data = output.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    output.write_bytes(whole)
    for position, text in enumerate(whole.splitlines()):
        line = json.loads(text)
        if position == 0:
            if (line["bundle"], line["hello"]["processor"]) != (bundle["id"], hello["processor"]):
                sys.exit(f"error: {output} is of another bundle or another device: name another file with -o")
        elif "begun" in line:
            begun[line["network"]] += 1
        else:
            done[line["network"]] += 1
            failed |= {line["network"]} if "error" in line else set()
    crashed = [network for network, count in begun.items() if count - done[network] >= _MAX_CRASHES]
    with output.open("a") as samples:
        for network in set(crashed) - failed:
            _write(samples, {"network": network, "error": bundle["engine"] + " crashed on it, again and again"})
            done[network] += 1
    return done, failed | set(crashed)


if __name__ == "__main__":
    main()
