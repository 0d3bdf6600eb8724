#!/usr/bin/env python3
"""What the compiler does not see: licences and origins of the dependencies, habits of the sources, order in the provider files.

No network and nothing beyond the standard library. Each check counts what it looked at: a check that found nothing to look at has failed.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Licences under which a dependency may be linked into a program that is itself Apache-2.0.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-1-Clause", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "NCSA", "OpenSSL", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Zlib",
}  # fmt: skip


def allowed(expression):
    """Whether an SPDX expression can be met with permissive licences alone."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        met = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = both() or met
        return met

    def both():
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0)
        if token == "(":
            met = either()
            tokens.pop(0)
            return met
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            return f"{token} WITH {tokens.pop(0)}" in PERMISSIVE
        return token in PERMISSIVE

    return either()


def tracked(pattern):
    listed = subprocess.run(["git", "ls-files", "-z", pattern], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def short(path):
    return path.relative_to(ROOT)


def dependencies():
    """Every dependency is permissive and comes from the default registry, at the version that the lock file names."""
    if not tracked("Cargo.lock"):
        yield "Cargo.lock is not committed"
    metadata = json.loads(
        subprocess.run(["cargo", "metadata", "--locked", "--format-version", "1"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )
    others = [package for package in metadata["packages"] if package["source"] is not None]
    if len(others) < 50:
        yield f"only {len(others)} dependencies found"
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        if not package["license"] or not allowed(package["license"]):
            yield f"{name}: licence {package['license'] or 'not stated'} is not on the list"
    for package in others:
        if not re.fullmatch(r"registry\+\S+/crates\.io-index", package["source"]):
            yield f"{package['name']} {package['version']}: does not come from the default registry but from {package['source']}"
    for package in metadata["packages"]:
        if package["source"] is None and pathlib.Path(package["manifest_path"]) != ROOT / "Cargo.toml":
            yield f"{package['name']}: is taken from a path"
    print(f"{len(others)} dependencies")


def production(path):
    """The lines of a Rust file that are not tests, with their numbers; comments blanked."""
    lines = path.read_text().splitlines()
    skipping = False
    for number, line in enumerate(lines, 1):
        if line.strip() == "#[cfg(test)]" and number < len(lines) and re.match(r"\s*(pub(\(.*\))? )?mod \w+ \{", lines[number]):
            skipping = True  # by convention the test module ends the file
        if not skipping:
            yield number, re.sub(r"^\s*//.*", "", line)


def habits():
    """What the sources never hold."""
    sources = tracked("src/*.rs")
    if len(sources) < 15:
        yield f"only {len(sources)} source files found"
    names = provider_names()
    for path in sources + tracked("tests/*.rs") + tracked("benches/*.rs"):
        text = path.read_text()
        if not text.startswith("//!"):
            yield f"{short(path)}: does not open with //! saying what it is for"
        for found in re.finditer(r"\b(todo|unimplemented|dbg)!\s*\(|#\[ignore", text):
            yield f"{short(path)}:{text.count(chr(10), 0, found.start()) + 1}: {found.group(0)} is left over"
    for path in sources:
        if path.name == "tests.rs" or "tests" in short(path).parts:
            continue
        for number, line in production(path):
            if ".unwrap()" in line:
                yield f"{short(path)}:{number}: unwrap() outside a test; say with expect() why it cannot fail, or return the error"
    for path in sources:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for name in names:
                # As a word of its own: "otherwise" names nobody.
                if re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", line.lower()):
                    yield f"{short(path)}:{number}: names the provider `{name}`; providers are data"
    print(f"{len(sources)} source files, provider names looked for: {', '.join(names)}")


def provider_names():
    """Providers of real companies: those whose address is one. (The examples are named after the shapes that the code knows.)"""
    names = []
    for path in tracked("providers/*.toml"):
        provider = tomllib.loads(path.read_text())
        host = urllib.parse.urlsplit(provider.get("base_url", "")).hostname
        # This program's own feed is no company's.
        if path.stem != "ringback" and host and "{" not in provider["base_url"] and not host.endswith(".example"):
            names.append(path.stem)
    return names


def providers():
    """Every stream that is polled and every way in of a provider is tested, and every recorded answer is used."""
    files = [path for path in tracked("providers/*.toml")]
    if len(files) < 8 or len(provider_names()) < 3:
        yield f"only {len(files)} provider files found"
    used = set()
    for path in files:
        provider = tomllib.loads(path.read_text())
        if provider.get("name") != path.stem:
            yield f"{short(path)}: its name is not that of the file"
        tests = provider.get("tests", [])
        for test in tests:
            for poll in test.get("polls", []):
                used.update(path.parent / page for page in ([poll] if isinstance(poll, str) else poll))
            used.update(path.parent / test[key] for key in ("request", "native") if key in test)
            given = [str(value) for value in {**test.get("secrets", {}), **test.get("settings", {})}.values()]
            used.update(path.parent / value.removeprefix("file:") for value in given if value.startswith("file:"))
        tested = {test.get("stream") for test in tests if "polls" in test}
        for name, stream in provider["streams"].items():
            if ("path" in stream or "url" in stream) and name not in tested:
                yield f"{short(path)}: stream `{name}` has no test"
        verdicts = {test.get("verdict") for test in tests if "request" in test}
        if "webhook" in provider and ("accept" not in verdicts or verdicts == {"accept"}):
            yield f"{short(path)}: its webhooks need a test that accepts and one that refuses"
    recorded = set(tracked("providers/fixtures/*"))
    for path in sorted(used - recorded):
        yield f"{short(path)}: named by a test, but not committed"
    for path in sorted(recorded - used):
        yield f"{short(path)}: no test uses it"
    print(f"{len(files)} provider files, {len(recorded)} recorded answers")


def main():
    faults = [fault for check in (dependencies, habits, providers) for fault in check()]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
