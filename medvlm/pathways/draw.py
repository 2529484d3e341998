"""A picture of a pathway: variables, rules and tables from left to right, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from medvlm.pathways.relations import inputs_of
from medvlm.pathways.spec import Pathway

_COLUMN, _ROW, _WIDTH, _TOP = 300, 58, 220, 84
_COLOURS = {
    "boolean": "#e8f1fb",
    "categorical": "#eaf6ec",
    "ordinal": "#fdf3e0",
    "number": "#f3ecf9",
    "set": "#fbeaea",
}


def draw_pathway(pathway: Pathway) -> str:
    """An SVG document: one box a variable in the column of its depth, arrows from what decides it."""
    inputs = {name: list(dict.fromkeys(_variables(pathway, names))) for name, names in _dependencies(pathway).items()}
    depth = {name: _depth(name, inputs, ()) for name in pathway.variables}
    columns: dict[int, list[str]] = {}
    for name in pathway.variables:
        columns.setdefault(depth[name], []).append(name)
    place: dict[str, tuple[int, int]] = {}
    tallest = max(len(names) for names in columns.values())
    for column, names in columns.items():
        offset = (tallest - len(names)) * _ROW // 2
        for row, name in enumerate(names):
            place[name] = (30 + column * _COLUMN, _TOP + offset + row * _ROW)
    width = 60 + max(columns) * _COLUMN + _WIDTH
    height = _TOP + tallest * _ROW + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#5b6b7b"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="30" y="30" font-size="18" font-weight="bold">{escape(pathway.title)}</text>',
        f'<text x="30" y="52" fill="#5b6b7b">{escape(pathway.id)} {escape(pathway.version)}: '
        f"{len(pathway.variables)} variables, {len(pathway.rules)} rules, {len(pathway.decisions)} tables</text>",
    ]
    decided = {pathway.slots[decision.target].variable.id for decision in pathway.decisions}
    for name, sources in inputs.items():
        for source in sources:
            dashed = name not in decided
            parts.append(_arrow(place[source], place[name], dashed))
    parts += [_box(pathway, name, place[name], name in decided) for name in pathway.variables]
    parts.append(
        f'<text x="30" y="{height - 14}" fill="#5b6b7b" font-size="11">solid arrow: decides by table; dashed arrow: '
        f"prerequisite. {escape(pathway.notice)}</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _dependencies(pathway: Pathway) -> Mapping[str, list[str]]:
    """Variable → slots that decide it or are its prerequisite."""
    found: dict[str, list[str]] = {name: [] for name in pathway.variables}
    for decision in pathway.decisions:
        found[pathway.slots[decision.target].variable.id] += inputs_of(decision)
    for rule in pathway.rules:
        if rule.id.startswith("when_") and rule.id[5:] in pathway.slots:
            name = pathway.slots[rule.id[5:]].variable.id
            found[name] += [slot for slot in rule.expression.slots if slot != rule.id[5:]]
    return found


def _variables(pathway: Pathway, slots: list[str]) -> list[str]:
    return [pathway.slots[slot].variable.id for slot in slots]


def _depth(name: str, inputs: Mapping[str, list[str]], seen: tuple[str, ...]) -> int:
    below = [_depth(source, inputs, (*seen, name)) for source in inputs[name] if source not in (*seen, name)]
    return 1 + max(below) if below else 0


def _arrow(start: tuple[int, int], end: tuple[int, int], dashed: bool) -> str:
    x1, y1 = start[0] + _WIDTH, start[1] + 20
    x2, y2 = end[0] - 2, end[1] + 20
    if x2 <= x1:
        return ""
    middle = (x1 + x2) // 2
    dash = ' stroke-dasharray="4 4" opacity="0.5"' if dashed else ""
    return (
        f'<path d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}" fill="none" stroke="#5b6b7b"'
        f'{dash} marker-end="url(#tip)"/>'
    )


def _box(pathway: Pathway, name: str, place: tuple[int, int], decided: bool) -> str:
    variable = pathway.variables[name]
    x, y = place
    if variable.type == "number":
        detail = f"{variable.low:g} to {variable.high:g} {variable.unit}"
    else:
        detail = " | ".join(variable.symbols) if variable.type != "boolean" else "yes | no"
    if variable.scope:
        detail = f"each {variable.scope}: {detail}"
    if len(detail) > 38:
        detail = detail[:37] + "…"
    stroke = "#1b2b3b" if decided else "#9aa7b4"
    title = name.replace("_", " ")
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="42" rx="6" fill="{_COLOURS[variable.type]}" stroke="{stroke}"'
        f' stroke-width="{2 if decided else 1}"/>'
        f'<text x="{x + 10}" y="{y + 18}" font-weight="bold">{escape(title)}</text>'
        f'<text x="{x + 10}" y="{y + 34}" font-size="10.5" fill="#5b6b7b">{escape(detail)}</text>'
    )


def tables_text(pathway: Pathway) -> str:
    """Variables, rules and decision tables as plain text."""
    lines = [f"{pathway.title} ({pathway.id}, {pathway.version})", ""]
    lines += [f"source: {source}" for source in pathway.source]
    lines += [f"uncertain: {text}" for text in pathway.uncertain]
    lines += [pathway.notice, "", "VARIABLES"]
    for variable in pathway.variables.values():
        kind = variable.type if not variable.scope else f"{variable.type}, each {variable.scope}"
        values = ", ".join(variable.symbols) if variable.type not in ("boolean", "number") else ""
        if variable.type == "number":
            values = f"{variable.low:g} to {variable.high:g} {variable.unit}"
        when = f"  (when {variable.when})" if variable.when else ""
        lines.append(f"  {variable.id:24} {kind:22} {values}{when}".rstrip())
    written = [rule for rule in pathway.rules if not rule.id.startswith("when_")]
    if written:
        lines += ["", "RULES"]
        lines += [f"  {rule.id:28} {rule.text}{_doubt(rule.uncertain)}" for rule in written]
    for decision in pathway.decisions:
        lines += ["", f"TABLE {decision.id} -> {decision.target} (hit: {decision.hit})"]
        for number, row in enumerate(decision.rows, start=1):
            outcome = getattr(row.outcome, "text", None) or str(row.outcome)
            lines.append(f"  {number:2}. {row.condition.text}  ->  {outcome}{_doubt(row.uncertain)}")
    return "\n".join(lines)


def _doubt(text: str) -> str:
    return f"  [uncertain: {text}]" if text else ""
