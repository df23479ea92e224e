"""Write the parts of the documentation that come from the code: ``scripts/docs [--check]``.

A part stands between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``. With ``--check`` nothing is
written, and stale files are named with exit status 1.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import firewall_docs
import msgspec

from dovetail import assembly, errors
from dovetail.api import dispatch, problems, requests
from dovetail.api.views import driver_view
from dovetail.cli.main import root
from dovetail.cli.reference import reference
from dovetail.cni import errors as cni_errors
from dovetail.cni.conf import keys_of
from dovetail.cni.plugins import PLUGINS, plugin_type
from dovetail.cnm import options as docker_options
from dovetail.cnm import server
from dovetail.drivers.protocol import Driver

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "bench" / "results" / "latest.json"
DOCKER_RESULT = ROOT / "bench" / "results" / "docker.json"
PLUGINS_RESULT = ROOT / "bench" / "results" / "plugins.json"
DRIVERS = {driver.name: driver for driver in assembly._drivers()}  # noqa: SLF001


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def driver_options(driver: Driver) -> str:
    """Describe the options of a driver's networks, and Docker's names for them."""
    rows = [
        (f"`{key}`", " ".join(f"`{name}`" for name in option.synonyms), option.meaning)
        for key, option in driver.options().items()
    ]
    return table(("option", "Docker's name", "meaning (default)"), rows)


def drivers() -> str:
    """List the drivers, and their names in Docker."""
    views = [driver_view(driver) for driver in DRIVERS.values()]
    rows = [(f"`{view.name}`", f"`{view.plugin}`" if view.addressed else "", view.summary) for view in views]
    return table(("driver", "in Docker", "an endpoint gets"), rows)


def docker() -> str:
    """Describe the options of ours that are given to Docker."""
    create, connect = "docker network create", "docker network connect"
    rows = [(f"`{create} -o {key}=…`", text) for key, text in docker_options.KNOWN.items()]
    rows += [(f"`{create} --ipam-opt {key}=…`", text) for key, text in docker_options.KNOWN_IPAM.items()]
    rows += [
        (f"`{connect} --driver-opt {key}=…`", text) for key, text in docker_options.KNOWN_ENDPOINT.items()
    ]
    return table(("option", "meaning"), rows)


def docker_keys() -> str:
    """List Docker's own options of networks, and which of ours each is."""
    found: dict[str, tuple[str, list[str]]] = {}
    for driver in DRIVERS.values():
        for key, option in driver.options().items():
            for synonym in option.synonyms:
                found.setdefault(synonym, (key, []))[1].append(driver.name)
    rows = [(f"`{key}`", f"`{ours}`", ", ".join(names)) for key, (ours, names) in sorted(found.items())]
    return table(("Docker's option", "option", "of the drivers"), rows)


def plugin_list() -> str:
    """List the CNI plugins with what each is for."""
    rows = [(f"[`{name}`](#{name})", _plugin_summary(name)) for name in sorted(PLUGINS) if name != "dovetail"]
    return table(("type", "what it does"), rows)


def plugin_keys() -> str:
    """Describe the keys and the capabilities of each CNI plugin, from its types."""
    parts = []
    for name in sorted(PLUGINS):
        kind = plugin_type(name)
        if name == "dovetail" or kind is None:
            continue  # it has a page of its own
        summary = _plugin_summary(name)
        parts += [f"## {name}", f"{summary[:1].upper()}{summary[1:]}."]
        keys = [
            (f"`{key.name}`", key.accepts, f"`{key.default}`" if key.default else "", key.meaning)
            for key in keys_of(kind.conf)
        ]
        where = f" of `{kind.where.removeprefix('$.')}`" if kind.where != "$" else ""
        parts.append(table((f"key{where}", "value", "default", "meaning"), keys) if keys else "No keys.")
        if kind.capabilities:
            rows = [(f"`{capability}`", meaning) for capability, meaning in kind.capabilities.items()]
            parts.append(table(("capability", "value"), rows))
    return "\n\n".join(parts)


def _plugin_summary(name: str) -> str:
    kind = plugin_type(name)
    first = (inspect.getmodule(kind).__doc__ or "").strip().splitlines()[0]
    return first.partition(": ")[2].removesuffix(".").replace("``", "`")


def routes() -> str:
    """List the routes of the HTTP API from the comment that the dispatcher begins with."""
    doc = inspect.cleandoc(dispatch.__doc__ or "")
    rules = [number for number, line in enumerate(doc.splitlines()) if line.startswith("====")]
    columns = [match.start() for match in re.finditer("=+", doc.splitlines()[rules[0]])]
    rows = []
    for line in doc.splitlines()[rules[1] + 1 : rules[2]]:
        cells = [line[a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)]
        path, method, request, reply = (cell.replace("``", "`") for cell in cells)
        rows.append((f"`{method}`", path, f"`{request}`" if request else "", reply))
    return table(("method", "path", "request", "reply"), rows)


def bodies() -> str:
    """Describe the request bodies."""
    parts = []
    for name in ("NetworkRequest", "SubnetRequest", "SandboxRequest", "ConnectRequest", "DisconnectRequest"):
        kind = getattr(requests, name)
        hints = typing.get_type_hints(kind)
        rows = []
        for field in msgspec.structs.fields(kind):
            needed = field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT
            rows.append((f"`{field.name}`", _type(hints[field.name]), "required" if needed else ""))
        text = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
        parts += [f"**{name}**. {text}", table(("field", "type", ""), rows)]
    return "\n\n".join(parts)


def _type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in {typing.Union, types.UnionType}:
        names = [_type(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(names))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"object of {_type(arguments[1])}"
    if origin is typing.Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    return {
        "str": "string", "bool": "boolean", "int": "number", "IPv4Network": "subnet", "IPv6Network": "subnet",
        "IPv4Address": "address", "IPv6Address": "address", "Mac": "MAC address", "DNS": "object",
        "IPNetwork": "subnet", "IPAddress": "address",
    }.get(hint.__name__, hint.__name__)  # fmt: skip


def error_table() -> str:
    """Describe each class of errors with its code in each protocol."""
    rows = []
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not inspect.isclass(kind) or kind is errors.DovetailError:
            continue
        # the classes' own constructors differ; what maps an error looks at its class only
        error = kind.__new__(kind)
        errors.DovetailError.__init__(error, "x")
        error.kind = ""
        http = problems.problem_of(error)[0]
        plugin = next((code for known, code in server._STATUS if isinstance(error, known)), 500)  # noqa: SLF001
        code = cni_errors.cni_error(error).code
        first = (kind.__doc__ or "").strip().splitlines()[0]
        rows.append((f"`{name}`", first, str(http), str(plugin), str(code)))
    return table(("error", "meaning", "HTTP API", "Docker", "CNI"), rows)


def cni_codes() -> str:
    """Give CNI's codes from the comment that their module begins with."""
    lines = inspect.cleandoc(cni_errors.__doc__ or "").splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("====")]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[rules[1] + 1 : rules[2]]]
    return table(("code", "meaning", "from"), rows)


def numbers() -> str:
    """Show the committed result of the benchmark."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    median, machine = result["median_ms"], result["machine"]
    names = [
        ("kernel floor", "the kernel's own part: the same messages from a warm process"),
        ("dovetail", "dovetail"),
        ("go bridge", "Go `bridge` + `host-local`"),
        ("dovetail, masquerade", "dovetail, masquerading"),
        ("go bridge, ipMasq", "Go `bridge` + `host-local` with `ipMasq`"),
        ("dovetail, masquerade and port", "dovetail, masquerading and a published port"),
        ("go chain of four", "Go bridge → portmap → firewall → tuning"),
        ("dovetail without daemon, masquerade", "dovetail without a daemon, masquerading"),
    ]
    rows = [(text, f"{median[name]['ADD']:.1f}", f"{median[name]['DEL']:.1f}") for name, text in names]
    intro = (
        f"CNI ADD and DEL through the installed executable, medians of {result['repeats']} repeats in turns of"
        f" {result.get('turn', 1)}, in"
        f" milliseconds, on a virtual machine with {machine['cpus']} CPUs beside Debian 12's Go plugins:"
    )
    comparisons = [
        f"- {row['what']}, dovetail's time as a part of Go's: ADD {part(row['ADD'])}, DEL {part(row['DEL'])}"
        for row in result["ratios"]
    ]
    flat = {
        row["in_use"]: row["allocate_ns"] / 1000 for row in result["allocation"] if row["pattern"] == "holes"
    }
    low, high = min(flat), max(flat)
    comparisons += [
        f"- an address takes {flat[low]:.0f} µs with {low} in use and {flat[high]:.0f} µs with {high:,}",
        f"- the daemon takes {result['daemon_kb']['idle'] / 1024:.0f} MB of memory when idle",
    ]
    return "\n\n".join([intro, table(("", "ADD", "DEL"), rows), "\n".join(comparisons)])


def docker_numbers() -> str:
    """Show the committed result of the benchmark with a Docker Engine."""
    result = json.loads(DOCKER_RESULT.read_text(encoding="utf-8"))
    median, machine = result["median_ms"], result["machine"]
    names = [
        ("none", "`--network none`: what Docker takes by itself"),
        ("ours", "dovetail"),
        ("native", "Docker's own bridge driver"),
        ("ours, port", "dovetail, a published port"),
        ("native, port", "Docker's own bridge driver, a published port"),
    ]
    operations = ("connect", "disconnect", "run")
    rows = [
        (text, *(f"{median[o][name]:.0f}" if name in median[o] else "" for o in operations))
        for name, text in names
    ]
    intro = (
        f"Docker Engine {machine['docker'].partition('+')[0]}, `docker network connect` and `disconnect` of a running"
        f" container and `docker run --rm … true`, medians of {result['rounds'] * result['turn']} and {result['rounds']}"
        f" in turns, in milliseconds:"
    )
    header = ("", "connect", "disconnect", "run")
    comparisons = [
        f"- {row['what']}, dovetail's time as a part of Docker's own: {row['ratio']:.2f}"
        for row in result["ratios"]
        if row["theirs"].startswith("native")
    ]
    return "\n\n".join([intro, table(header, rows), "\n".join(comparisons)])


def plugin_numbers() -> str:
    """Show the committed result of the benchmark of the CNI plugins."""
    result = json.loads(PLUGINS_RESULT.read_text(encoding="utf-8"))
    growth, places = result["growth"]["median_ms"], result["places"]
    intro = (
        f"One at a time, medians of {result['repeats']} repeats in turns of {result['turn']} (without a daemon fewer), in"
        f" milliseconds, on a virtual machine with {result['machine']['cpus']} CPUs; behind each its part of Go's time."
    )
    goals = [(goal["what"], part(goal["ratio"]), part(goal["at_most"])) for goal in result["goals"]]
    added = [f"{found['ADD']:.1f} as number {int(number):,}" for number, found in growth.items()]
    return "\n\n".join(
        [
            table(("dovetail's time as a part of Go's", "is", "wanted at most"), goals),
            intro,
            _plugin_times(result["median_ms"], "one", ("daemon", "process", "fallback")),
            f"{places} at once, the time until the last is done:",
            _plugin_times(result["median_ms"], "at once", ("daemon", "process")),
            f"An ADD of the chain in one process takes {' and '.join(added)}. {_sentence(result['growth']['prepared'])}",
        ]
    )


def _plugin_times(medians: dict[str, Any], how: str, ways: Sequence[str]) -> str:
    names = {"daemon": "with a daemon", "process": "in one process", "fallback": "without a daemon"}
    rows = []
    for name, found in medians.items():
        for verb, go in found["go"][how].items():
            times = (found[way][how].get(verb) if how in found[way] else None for way in ways)
            cells = ("" if ms is None else f"{ms:.1f} ({part(ms / go)})" for ms in times)
            rows.append((f"{name} {verb}", f"{go:.1f}", *cells))
    return table(("", "Go", *(names[way] for way in ways)), rows)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def part(ratio: float) -> str:
    """Say a ratio as people do."""
    return f"1/{1 / ratio:.1f}" if ratio < 1 else f"{ratio:.1f}"


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"numbers": numbers, "docker-numbers": docker_numbers},
    "docs/reference/options.md": {
        "drivers": drivers,
        **{
            f"{n}-options": partial(driver_options, driver)
            for n, driver in DRIVERS.items()
            if driver.addressed
        },
        "docker-options": docker,
        "docker-keys": docker_keys,
    },
    "docs/reference/cni-plugins.md": {"plugins": plugin_list, "keys": plugin_keys},
    "docs/reference/api.md": {"routes": routes, "requests": bodies},
    "docs/reference/errors.md": {"errors": error_table, "cni-codes": cni_codes},
    "docs/explanation/firewall.md": firewall_docs.PARTS,
    "docs/explanation/cni-speed.md": {"plugin-numbers": plugin_numbers},
}


def wanted() -> dict[Path, str]:
    """Give every generated file as it should be."""
    from dovetail.main import daemon

    assert daemon.name in root.commands
    files = {ROOT / "docs/reference/cli.md": reference(root)}
    for name, parts in PARTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for part, make in parts.items():
            begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
            head, _, rest = text.partition(begin)
            _, found, tail = rest.partition(end)
            if not found:
                message = f"{name} has no part {part!r}"
                raise SystemExit(message)
            text = f"{head}{begin}\n\n{make()}\n\n{end}{tail}"
        files[ROOT / name] = text
    return files


def main() -> int:
    """Write or check."""
    stale = {
        path: text for path, text in wanted().items() if not path.exists() or path.read_text("utf-8") != text
    }
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale; run: make docs\n")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
