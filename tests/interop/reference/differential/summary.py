"""Print what our plugins leave otherwise than Go's, the same difference of many cases once. Needs root.

PYTHONPATH=tests/interop/reference .venv/bin/python -m differential.summary bridge portmap
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

from differential.cases import CASES
from differential.comparison import compare, read_allowed
from differential.hosts import GO, OURS, TwinHosts
from dovetail.cni.plugins import PLUGINS

_PAGE = Path(__file__).parents[4] / "docs" / "reference" / "cni-differences.md"


def main() -> None:
    """Run the cases of the plugins that are named, or all."""
    cases = [case for case in CASES if case.plugin in PLUGINS and case.plugin in (sys.argv[1:] or PLUGINS)]
    rows, found, hosts = read_allowed(_PAGE), defaultdict[str, list[str]](list), TwinHosts()
    for case in cases:
        if hosts.lacks(case):
            continue
        try:
            hosts.ours.install_ours()
            runs = hosts.run(case, *([OURS] if case.types <= PLUGINS.keys() else [OURS, GO]))
        except AssertionError as exc:
            found[str(exc)[-500:]].append(str(case))
            continue
        said = {step: table.get("error/text") for run in runs for step, table in run if table["failed"]}
        for difference in compare(case, *runs, rows)[0]:
            reason = (
                f": {said.get(difference.path.partition('/')[0])}"
                if difference.path.endswith("/failed")
                else ""
            )
            text = re.sub(r"^(\w+) [^/]*/", r"\1 */", str(difference))
            found[text[:300] + reason[:300]].append(str(case))
    hosts.stop()
    different = {name for names in found.values() for name in names}
    print(f"{len(cases)} cases, {len(different)} of them differ")
    for text, names in sorted(found.items(), key=lambda row: -len(row[1])):
        once = sorted(set(names))
        print(f"{len(once):4} {text}\n       {', '.join(once[:4])}{' …' if once[4:] else ''}")


if __name__ == "__main__":
    main()
