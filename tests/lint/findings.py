# SPDX-License-Identifier: MIT
"""Prints findings of a tool by file and line of src/, each once. Called by tests/lint/run:

    python3 tests/lint/findings.py TOOL < what the tool said

A finding of tests/lint/known is wrong, for the reason given there; a paragraph of it that no finding fits any more is
an error, too. Status 1 if anything is printed."""
import os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from origins import entries, headers, origins, source


def main():
    tool = sys.argv[1]
    known = {(f, n, e["finding"]): 0 for f, n, e in entries(os.path.join(HERE, "known"),
                                                            ("tool", "finding", "file", "why"))
             if e["tool"] == tool}
    maps = {h: origins(h) for h in headers()}
    seen = set()
    for said in sys.stdin:
        m = re.match(r"(\S+?):(\d+)(?::\d+)?: (warning|error): (.*?)(?: \[([^]]*)\])?$", said.rstrip("\n"))
        if not m:
            continue
        header = os.path.basename(m.group(1))
        where = maps[header][int(m.group(2))] if header in maps else None
        path, n = where or (m.group(1), int(m.group(2)))
        name = (m.group(5) or m.group(3)).split(",")[0]
        if (path, n, name) in known:
            known[path, n, name] += 1
        else:
            text = source(path)[n - 1].strip() if where else ""
            seen.add("%s:%d: %s [%s]\n    %s" % (path, n, m.group(4), name, text))
    for text in sorted(seen):
        print(text)
    stale = ["%s:%d: %s" % k for k, count in sorted(known.items()) if not count]
    for k in stale:
        print("not found any more, so not to be in tests/lint/known: " + k)
    return 1 if seen or stale else 0


if __name__ == "__main__":
    sys.exit(main())
