"""Line charts as SVG, for pages of the documentation: they read in light and dark, and need nothing to draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, TypeAlias

Line: TypeAlias = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 44
# Colours that differ also for those who see few, on white and on black (Okabe and Ito).
_COLOURS: Final = ("#d55e00", "#cc79a7", "#0072b2", "#009e73", "#e69f00")
_STEPS: Final = (1, 2, 2.5, 5, 10)


def chart(title: str, x: str, y: str, lines: Mapping[str, Line]) -> str:
    """A chart with both axes from 0.

    Args:
        title: what it shows.
        x, y: what the axes count.
        lines: points by name, in the order of the legend.
    """
    most_x = max(point[0] for line in lines.values() for point in line) or 1.0
    most_y = max(point[1] for line in lines.values() for point in line) or 1.0
    step_x, step_y = _step(most_x), _step(most_y)
    most_y = step_y * -(-most_y // step_y)

    def across(value: float) -> float:
        return round(_LEFT + value / most_x * (_WIDTH - _LEFT - _RIGHT), 1)

    def down(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / most_y * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#777">',
        f"<title>{escape(title)}</title>",
    ]
    for value in _ticks(step_y, most_y):
        rule = f'<path d="M{_LEFT} {down(value)}H{_WIDTH - _RIGHT}" stroke="#888" stroke-opacity=".25"/>'
        parts += (rule, f'<text x="{_LEFT - 8}" y="{down(value) + 4}" text-anchor="end">{value:,g}</text>')
    parts += (
        f'<text x="{across(value)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{value:,g}</text>'
        for value in _ticks(step_x, most_x)
    )
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y)}</text>')
    legend = _WIDTH - _RIGHT
    for (name, line), colour in reversed(list(zip(lines.items(), _COLOURS, strict=False))):
        points = " ".join(f"{across(a)},{down(b)}" for a, b in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{legend}" y="14" text-anchor="end" fill="{colour}">{escape(name)}</text>')
        legend -= round(6.6 * len(name)) + 18
    return "\n".join([*parts, "</svg>", ""])


def _step(most: float) -> float:
    """A round distance of ticks, so that there are four to eight of them."""
    scale: float = 1
    while most / scale > 10:
        scale *= 10
    while most / scale < 1:
        scale /= 10
    return next(
        step * scale / 10 for step in (*_STEPS, *(10 * step for step in _STEPS)) if most / (step * scale / 10) <= 8
    )


def _ticks(step: float, most: float) -> list[float]:
    return [step * index for index in range(int(most / step + 1e-9) + 1)]
