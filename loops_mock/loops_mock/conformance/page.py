"""The report as one HTML page that needs nothing else: no script, no style sheet, no network."""

from __future__ import annotations

from html import escape
from typing import Final

from loops_mock.conformance.document import CheckedRule, ConformanceReport
from loops_mock.contract.running import Outcome

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --dim: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.num, th.num { text-align: right; }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere;
  white-space: pre-wrap; }
.verdict { padding: .8rem 1rem; border-left: .4rem solid; }
.kept { border-color: var(--good); } .broken { border-color: var(--bad); }
.passed { color: var(--good); } .failed, .error { color: var(--bad); font-weight: 600; }
.not_offered, .dim { color: var(--dim); }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .2rem 1rem 1rem;
  margin: 1rem 0; }
dt { color: var(--dim); margin-top: .5rem; } dd { margin: 0; }
summary { cursor: pointer; }
"""


def write_page(report: ConformanceReport) -> str:
    """Return the page as text."""
    title = f"Conformance of {report.url}"
    says = "keeps the contract" if report.verdict == "kept" else "does not keep the contract"
    verdict = f"<b>{escape(report.url)} {says}</b>: {escape(_counts(report))}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {report.verdict}">{verdict}</p>',
        _facts(report),
        _broken(report),
        _unsupported(report),
        "<h2>All rules</h2>",
        *_subjects(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _counts(report: ConformanceReport) -> str:
    counts = (f"{n} {o.value.replace('_', ' ')}" for o, n in report.counts.items() if n)
    return f"{len(report.rules)} rules, {', '.join(counts)}."


def _facts(report: ConformanceReport) -> str:
    facts = {
        "profile": report.profile,
        "base model": report.base_model,
        "seed": str(report.seed),
        "rules of": f"Loops {report.loops_version}",
        "run": f"{report.started_at:%Y-%m-%d %H:%M:%S %Z}, {report.seconds:.1f} s",
    }
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f"<table>{''.join(rows)}</table>"


def _broken(report: ConformanceReport) -> str:
    broken = report.broken()
    if not broken:
        return ""
    return f"<h2>Broken rules ({len(broken)})</h2>" + "".join(map(_article, broken))


def _article(rule: CheckedRule) -> str:
    seen = "\n".join(f"{name} = {text}" for name, text in rule.seen.items())
    calls = "\n".join(
        f"{number}. {made.asked}\n   -> {made.answered}"
        for number, made in enumerate(rule.calls, 1)
    )
    fields = {
        "promise": f"{escape(rule.title)} <span class=dim>(section {rule.section})</span>",
        "expected": escape(rule.message),
        "seen": f"<pre>{escape(seen)}</pre>" if seen else "",
        "calls": f"<pre>{escape(calls)}</pre>" if calls else "",
        "repeat": f"<pre>{escape(rule.repeat)}</pre>",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html}</dd>" for name, html in fields.items() if html)
    heading = f'<h3 id="{escape(rule.id)}"><code>{escape(rule.id)}</code> {_mark(rule)}</h3>'
    return f"<article>{heading}<dl>{rows}</dl></article>"


def _unsupported(report: ConformanceReport) -> str:
    if not report.unsupported:
        return ""
    rows = "".join(
        f"<tr><td>{escape(each.feature)}</td><td>{' '.join(map(_code, each.rules))}</td></tr>"
        for each in report.unsupported
    )
    head = "<tr><th>feature</th><th>rules that were not asked</th></tr>"
    return f"<h2>Not offered</h2><table>{head}{rows}</table>"


def _subjects(report: ConformanceReport) -> list[str]:
    by_subject: dict[str, list[CheckedRule]] = {}
    for rule in report.rules:
        by_subject.setdefault(rule.id.partition(".")[0], []).append(rule)
    return [_subject(name, rules) for name, rules in sorted(by_subject.items())]


def _subject(name: str, rules: list[CheckedRule]) -> str:
    num_passed = sum(rule.outcome is Outcome.PASSED for rule in rules)
    head = (
        "<tr><th>rule</th><th>promise</th><th>section</th><th>outcome</th>"
        '<th class="num">seconds</th></tr>'
    )
    rows = "".join(
        f"<tr><td>{_code(rule.id)}</td><td>{escape(rule.title)}</td><td>{rule.section}</td>"
        f'<td>{_mark(rule)}</td><td class="num">{rule.seconds:.2f}</td></tr>'
        for rule in rules
    )
    summary = f"<summary>{escape(name)} ({num_passed} of {len(rules)} passed)</summary>"
    return f"<details>{summary}<table>{head}{rows}</table></details>"


def _mark(rule: CheckedRule) -> str:
    outcome = rule.outcome.value
    return f'<span class="{outcome}">{outcome.replace("_", " ")}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
