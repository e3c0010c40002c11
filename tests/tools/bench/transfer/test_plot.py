import xml.etree.ElementTree as ET

import pytest

from tools.bench.transfer.figures import (
    SCHEMA,
    BothWays,
    BothWaysRow,
    ForwardRow,
    HostMemoryTimes,
    PassTimes,
    PeerRow,
    PeerSpeed,
    SlowDown,
    Speed,
    SpeedRow,
    TransferReport,
)
from tools.bench.transfer.plot import draw_speeds
from tools.bench.transfer.report import speed_lines

SVG = "{http://www.w3.org/2000/svg}"


def row(*, direction, pages=128, ratio=0.5, torch_ratio=0.1):
    speed = Speed(
        bytes=2_500_000,
        gb_per_s=27.5,
        ceiling_gb_per_s=55.0,
        ratio=ratio,
        ratio_low=0.4,
        ratio_high=0.6,
        queued_ratio=0.75,
        torch_ratio=torch_ratio,
        host_ms=0.25,
        layer_bytes=41984,
        first_layer_ms=0.1,
        first_layer_ratio=0.75,
    )
    return SpeedRow(
        pool="dsa",
        layout="page_first",
        backend="kernel",
        direction=direction,
        pages=pages,
        speed=speed,
    )


@pytest.fixture
def report():
    both = BothWays(
        gb_per_s=90.0,
        ceiling_gb_per_s=100.0,
        ratio=0.9,
        ratio_low=0.85,
        ratio_high=0.95,
        queued_ratio=0.93,
    )
    return TransferReport(
        schema=SCHEMA,
        machine={"device_name": "NVIDIA <X>", "driver": "1.2", "torch": "2.11"},
        rounds=5,
        titles={"dsa": "DSA"},
        rows=[
            row(direction="backup"),
            row(direction="load", ratio=1.5),
            row(direction="backup", pages=1, ratio=0.01),
        ],
        both_ways=[
            BothWaysRow(pool="dsa", layout="page_first", backend="kernel", pages=128, speed=both)
        ],
        slow_downs=[
            SlowDown(beside="pinned copy", programs=0, factor=1.0),
            SlowDown(beside="kernel", programs=8, factor=2.0),
        ],
        forward=[
            ForwardRow(
                pool="dsa",
                layout="page_first",
                backend="kernel",
                pages=128,
                times=PassTimes(
                    layers=61,
                    products=2,
                    load_ms=6.5,
                    first_layer_ms=0.25,
                    alone_ms=7.0,
                    behind_ms=13.5,
                    overlapped_ms=7.75,
                ),
            )
        ],
        peers=[
            PeerRow(
                package="sgl_kernel",
                version="0.4.3",
                pool="dsa",
                layout="page_first",
                backend="kernel",
                direction="load",
                pages=128,
                speed=PeerSpeed(gb_per_s=13.75, ratio=0.25, queued_ratio=0.5, host_ms=1.5),
            )
        ],
        host_memory=[HostMemoryTimes(bytes=8 << 30, first_s=4.0, ours_s=0.5, driver_s=3.25)],
    )


def test_bars_of_the_most_pages_have_the_height_of_their_ratio(report):
    drawn = ET.fromstring(draw_speeds(report))

    bars = [bar for bar in drawn.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    # 180 units are the speed of a pinned copy; a faster transfer is cut off at 1.1.
    assert [bar.get("height") for bar in bars] == ["90.0", "198.0"]
    titles = [bar.find(f"{SVG}title").text for bar in bars]
    assert titles == ["backup: 27.5 of 55.0 GB/s", "load: 27.5 of 55.0 GB/s"]
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert "NVIDIA <X>: transfers of 128 random pages over a pinned copy" in texts
    assert "dsa kernel page_first" in texts


def test_the_table_has_a_line_for_every_figure(report):
    lines = list(speed_lines(report))

    assert lines[0] == "NVIDIA <X>, driver 1.2, torch 2.11"
    (small,) = (line.split() for line in lines if line.startswith("dsa") and " 1 " in line)
    assert small == [
        *("dsa", "kernel", "page_first", "backup", "1", "2.5", "27.5", "0.01", "(0.40-0.60)"),
        *("0.75", "0.10", "0.25", "0.75"),
    ]
    assert (
        "dsa      kernel   page_first            128 pages   90.0 GB/s   0.90  (0.85-0.95)    0.93"
        in lines
    )
    assert lines[-8:] == [
        "1.000  pinned copy",
        "2.000  kernel, at most 8 multiprocessors",
        "",
        "a pass of matrix products over all layers, in ms",
        (
            "dsa      kernel   page_first            128 pages  load 6.50  first layer 0.25  "
            "pass alone 7.00  behind the load 13.50  with it 7.75"
        ),
        "",
        (
            "sgl_kernel 0.4.3: dsa      kernel   page_first   load      13.8 GB/s   0.25   0.50 "
            "queued, host 1.50 ms"
        ),
        "8 GiB of page-locked memory: 0.50 s (first 4.00 s), cuMemHostAlloc 3.25 s",
    ]
