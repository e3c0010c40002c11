"""A plot of transfers: bars of each layout against the pinned copy, as an SVG image."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import jinja2

from tools.bench.transfer.figures import SpeedRow, TransferReport

_BAR_WIDTH = 15
_GROUP_GAP = 20
_HEIGHT = 180
_LEFT = 46
_DIRECTIONS = (("backup", "#2a6f97"), ("load", "#61a5c2"))

_TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" \
font-family="sans-serif" font-size="10">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="{{ left }}" y="16" font-size="13">{{ title }}</text>
{% for y, label in ticks -%}
<line x1="{{ left }}" x2="{{ width - 8 }}" y1="{{ y }}" y2="{{ y }}" \
stroke="{{ '#333333' if label == '1.0' else '#dddddd' }}"/>
<text x="{{ left - 6 }}" y="{{ y + 3 }}" text-anchor="end">{{ label }}</text>
{% endfor -%}
{% for bar in bars -%}
<rect x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar_width }}" height="{{ bar.height }}" \
fill="{{ bar.colour }}"><title>{{ bar.title }}</title></rect>
<line x1="{{ bar.x }}" x2="{{ bar.x + bar_width }}" y1="{{ bar.torch }}" y2="{{ bar.torch }}" \
stroke="#d00000" stroke-width="2"/>
<text x="{{ bar.x + bar_width / 2 }}" y="{{ bar.y - 2 }}" text-anchor="middle" \
font-size="7">{{ bar.shown }}</text>
{% endfor -%}
{% for x, text in labels -%}
<text transform="translate({{ x }},{{ base + 10 }}) rotate(40)">{{ text }}</text>
{% endfor -%}
{% for x, colour, text in legend -%}
<rect x="{{ x }}" y="{{ height - 14 }}" width="10" height="{{ 2 if loop.last else 10 }}" \
fill="{{ colour }}"/>
<text x="{{ x + 14 }}" y="{{ height - 5 }}">{{ text }}</text>
{% endfor -%}
</svg>
"""


def draw_speeds(report: TransferReport) -> str:
    """Return the plot of the transfers with most pages, as SVG text."""
    most = max(row.pages for row in report.rows)
    rows = [row for row in report.rows if row.pages == most]
    groups = [list(some) for _, some in groupby(rows, key=_group_key)]
    base = 40 + _HEIGHT
    step = _BAR_WIDTH * len(_DIRECTIONS) + _GROUP_GAP
    lefts = [_LEFT + 8 + step * number for number in range(len(groups))]
    title = f"{report.machine['device_name']}: transfers of {most} random pages over a pinned copy"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_TEMPLATE).render(
        title=title,
        width=_LEFT + 110 + step * len(groups),
        height=base + 140,
        left=_LEFT,
        base=base,
        bar_width=_BAR_WIDTH,
        ticks=[(base - _HEIGHT * tick / 10, f"{tick / 10:.1f}") for tick in range(0, 11, 2)],
        bars=[bar for x, group in zip(lefts, groups, strict=True) for bar in _bars(x, group, base)],
        labels=[
            (x, f"{group[0].pool} {group[0].backend} {group[0].layout}")
            for x, group in zip(lefts, groups, strict=True)
        ],
        legend=[
            (_LEFT, _DIRECTIONS[0][1], "backup (to the host)"),
            (_LEFT + 140, _DIRECTIONS[1][1], "load, layer by layer"),
            (_LEFT + 280, "#d00000", "torch's operations"),
        ],
    )


def _group_key(row: SpeedRow) -> tuple[str, str, str]:
    return row.pool, row.backend, row.layout


def _bars(x: int, rows: Sequence[SpeedRow], base: int) -> Iterator[dict[str, object]]:
    colours = dict(_DIRECTIONS)
    for number, row in enumerate(rows):
        speed = row.speed
        height = round(_HEIGHT * min(speed.ratio, 1.1), 1)
        yield {
            "x": x + number * _BAR_WIDTH,
            "y": base - height,
            "height": height,
            "torch": round(base - _HEIGHT * min(speed.torch_ratio, 1.1), 1),
            "colour": colours[row.direction],
            "shown": f"{speed.ratio:.2f}",
            "title": f"{row.direction}: {speed.gb_per_s:.1f} of {speed.ceiling_gb_per_s:.1f} GB/s",
        }
