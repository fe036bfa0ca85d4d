"""Times of whole networks: Qualcomm AI Hub's perf.yaml and NNLQP's gt.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas import load_table
from latency_nas.errors import TableError, TableFileError
from latency_nas.table import read_network_runs

NEW = """supported_devices:
- Phone A
- Phone B
supported_chipsets:
- chip-a
precisions:
  float:
    components:
      Net:
        universal_assets:
          tflite: {model_id: m1}
        performance_metrics:
          Phone A:
            tflite:
              job_id: j1
              job_status: Passed
              inference_time_milliseconds: 2.5
              primary_compute_unit: NPU
            onnx:
              inference_time_milliseconds: 3.5
          Phone B:
            tflite: {job_id: j2, job_status: Failed}
  w8a8:
    components:
      Net:
        performance_metrics:
          Phone A:
            tflite: {inference_time_milliseconds: 1.25}
"""
OLD = """aggregated:
  supported_devices:
  - Phone A
models:
- name: Net
  universal_assets:
    torchscript_onnx_tflite: m1
  performance_metrics:
  - torchscript_onnx_tflite:
      inference_time: 857.0
      throughput: 1166.8
      precision: fp16
    reference_device_info:
      name: Phone A
      os: '13'
    timestamp: '2025-04-08T06:42:11Z'
  - torchscript_onnx:
      inference_time: 'null'
      precision: fp16
    reference_device_info:
      name: Phone B
"""
GT = """553312 onnx/alexnet/alexnet_0130.onnx 8 90.88183 alexnet 2 train
559608 onnx/alexnet/alexnet_0157.onnx 1 11.1463 alexnet 23 train
549409 onnx/resnet/resnet_0197.onnx 8 64.11547 resnet 2 test

549410 onnx/resnet/resnet_0198.onnx 8 -1 resnet 2
"""


def written(folder: Path, content: str, name: str = "perf.yaml") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_perf_yaml_in_milliseconds(tmp_path: Path) -> None:
    path = written(tmp_path, NEW)
    found = read_network_runs(path, device="Phone A", runtime="tflite", precision="w8a8")
    assert [(run.network, run.latency_ms, run.batch) for run in found.runs] == [("Net", 1.25, 1)]
    assert dict(found.runs[0].conditions) == {"device": "Phone A", "precision": "w8a8", "runtime": "tflite"}
    assert dict(found.skipped) == {
        "Net, Phone B, float, tflite": "it has no inference_time_milliseconds or inference_time"
    }
    assert read_network_runs(path, runtime="onnx").runs[0].latency_ms == 3.5  # the only one of its kind


def test_perf_yaml_in_microseconds(tmp_path: Path) -> None:
    found = read_network_runs(written(tmp_path, OLD))
    assert [(run.network, run.latency_ms) for run in found.runs] == [("Net", pytest.approx(0.857))]
    assert dict(found.runs[0].conditions) == {
        "device": "Phone A", "precision": "fp16", "runtime": "torchscript_onnx_tflite",
    }  # fmt: skip
    assert list(found.skipped) == ["Net, Phone B, fp16, torchscript_onnx"]


def test_what_is_meant_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, NEW)
    several = "Expected the {} whose times are meant, since {} has several ({}): pass --option {}=..."
    cases: list[tuple[dict[str, str], str]] = [
        ({}, several.format("precision", path, "float, w8a8", "precision")),
        ({"precision": "float"}, several.format("runtime", path, "tflite, onnx", "runtime")),
        ({"device": "Phone C"}, f"Expected device of {path} to be one of Phone A, but got 'Phone C'."),
    ]
    for options, message in cases:
        with pytest.raises(TableFileError) as caught:
            read_network_runs(path, **options)
        assert str(caught.value) == message
    with pytest.raises(TableError) as caught:
        read_network_runs(path, unit="ms")
    assert str(caught.value) == (
        "Expected options of perf.yaml of Qualcomm AI Hub Models (device, runtime, precision), but got unit."
    )


@pytest.mark.parametrize("change", [("      Net:\n", "      - Net\n"), ("    components:", "    parts:")])
def test_another_layout_is_one_error(tmp_path: Path, change: tuple[str, str]) -> None:
    path = written(tmp_path, NEW.replace(*change))
    with pytest.raises(TableFileError) as caught:
        read_network_runs(path)
    assert str(path) in str(caught.value)


def test_a_file_without_times_and_a_program_that_reads_such_files(tmp_path: Path) -> None:
    path = written(tmp_path, NEW.replace("inference_time_milliseconds", "tokens_per_second"))
    with pytest.raises(TableFileError) as caught:
        read_network_runs(path)
    assert str(caught.value) == (
        f"Expected times of networks in {path}, but none of 4 jobs has one (Net, Phone A, float, tflite: it has no "
        f"inference_time_milliseconds or inference_time)."
    )
    program = "class Perf:\n    supported_devices: list[str]\n    performance_metrics: dict[str, float]\n"
    with pytest.raises(TableFileError) as caught:
        read_network_runs(written(tmp_path, program, "perf_yaml.py"))
    assert "Expected " in str(caught.value)
    assert "to be a latency table, but it looks like" in str(caught.value)


def test_ground_truth_of_nnlqp(tmp_path: Path) -> None:
    path = written(tmp_path, GT, "gt.txt")
    found = read_network_runs(path, platform="2")
    assert [(run.network, run.latency_ms, run.batch) for run in found.runs] == [
        ("onnx/alexnet/alexnet_0130.onnx", 90.88183, 8),
        ("onnx/resnet/resnet_0197.onnx", 64.11547, 8),
    ]
    assert dict(found.skipped) == {"line 5": "Expected `latency_ms` to be a positive finite number, but got -1.0."}
    assert len(read_network_runs(path, platform=2, family="resnet").runs) == 1
    assert read_network_runs(path, family="resnet").runs[0].conditions["platform"] == "2"
    with pytest.raises(TableFileError) as caught:
        read_network_runs(path)
    assert str(caught.value) == (
        f"Expected the platform whose times are meant, since {path} has several (2, 23): pass --option platform=..."
    )
    with pytest.raises(TableFileError) as caught:
        read_network_runs(written(tmp_path, GT + "1 2 3\n", "gt.txt"), platform=2)
    assert str(caught.value) == (
        f"Expected line 6 of {path} to have number, model, batch, milliseconds, family and platform, but got '1 2 3'."
    )


def test_networks_are_no_kernels(tmp_path: Path) -> None:
    for content, name, title in (
        (NEW, "perf.yaml", "perf.yaml of Qualcomm AI Hub Models"),
        (OLD, "perf.yaml", "perf.yaml of Qualcomm AI Hub Models"),
        (GT, "gt.txt", "gt.txt of NNLQP's data sets"),
    ):
        path = written(tmp_path, content, name)
        with pytest.raises(TableFileError) as caught:
            load_table(path)
        assert str(caught.value) == (
            f"Expected a table of kernels, but {path} is {title}: latency-nas table runs makes the CSV of it that "
            f"latency-nas calibrate reads."
        )
    csv = written(tmp_path, "kernel,latency_ms\n", "t.csv")
    with pytest.raises(TableFileError) as caught:
        read_network_runs(csv)
    assert "Expected times of networks, but " in str(caught.value)
