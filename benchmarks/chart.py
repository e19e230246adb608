"""The chart: for each measurement a group of bars, as long as what they stand for took. Written as plain SVG."""

from __future__ import annotations

from html import escape

from benchmarks.measurement import Measurement

_WIDTH, _LEFT, _RIGHT = 960, 330, 190
_BAR, _GAP, _HEAD = 15, 12, 30
_COLOURS = {"floor": "#9aa5b1", "ours": "#1f6f5c", "peer": "#d9a441"}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2933}.head{font-weight:600;font-size:14px}.small{fill:#52606d}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.small{fill:#9aa5b1}.page{fill:#1f2933}}"
)


def draw(measurements: list[Measurement], caption: str) -> str:
    """An SVG document. Bars compare within their group only: each group has a scale of its own."""
    parts: list[str] = []
    top, section = 48, ""
    for one in measurements:
        if one.section != section:
            section = one.section
            top += _HEAD
            parts.append(_text(16, top - 10, section, "head"))
        bars = _bars(one)
        longest = max(taken for _, _, taken in bars)
        parts.append(_text(_LEFT - 10, top + 11, one.what, anchor="end"))
        for kind, label, taken in bars:
            width = max(2.0, (_WIDTH - _LEFT - _RIGHT) * taken / longest)
            parts.append(
                f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR - 2}" fill="{_COLOURS[kind]}" rx="2"/>'
            )
            parts.append(_text(_LEFT + width + 6, top + 11, label, "small"))
            top += _BAR
        top += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 10}" width="{_WIDTH}" role="img">'
        f"<title>Benchmarks of totes: {escape(caption)}</title><style>{_STYLE}</style>"
        f'<rect class="page" width="100%" height="100%" fill="#ffffff"/>{_text(16, 28, caption)}{"".join(parts)}</svg>\n'
    )


def _bars(one: Measurement) -> list[tuple[str, str, float]]:
    """Kind, label and length of each bar; what has no floor stands beside what is aimed at."""
    if one.aim and one.aim.unit == "bytes":
        peak = one.peak_bytes or 0
        return [
            ("floor", f"aim {_mebibytes(one.aim.value)}", one.aim.value),
            ("ours", f"totes {_mebibytes(peak)}", peak),
        ]
    first = (one.floor_is or "alone", one.floor) if one.floor else ("aim", one.aim.value) if one.aim else None
    known = [("floor", *first)] if first else []
    bars = [
        *known,
        ("ours", "totes", one.ours),
        *(("peer", name, taken) for name, taken in one.peers.items()),
    ]
    return [(kind, f"{label} {_seconds(taken)}", taken) for kind, label, taken in bars]


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def _mebibytes(value: float) -> str:
    return f"{value / (1 << 20):,.0f} MiB"
