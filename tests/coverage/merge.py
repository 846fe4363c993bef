# SPDX-License-Identifier: MIT
"""Adds up what gcov counted in many programs, by lines of src/, and writes the report. Called by tests/coverage/run:

    python3 tests/coverage/merge.py OUT MIN_LINES MIN_BRANCHES < names of gcov's JSON files

A line counts as run if any program ran it, in any header, for any element type and instruction set. A branch is one
way out of a condition, as gcc sees it without optimisation; a line that macros make into code of several shapes has
the branches of each shape; what asks for the byte order has none. OUT/report.md: a line for each file.
OUT/missing.txt: what was never run, without what tests/coverage/exclude names. Status 1 below the two limits (per
cent) or if something is excluded that need not be, 2 for what cannot be reported."""
import json, os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from origins import ROOT, entries, fail, headers, origins, source

# The byte order is a constant; tests/cross/run has machines with the other one.
BYTE_ORDER = "weft_big_endian()"

# ---- counting --------------------------------------------------------------------------------------------------------


class Line:
    def __init__(self):
        self.count = 0
        self.shapes = {}  # number of branches -> count of each


def add(total, names):
    maps = {h: origins(h) for h in headers()}
    for name in names:
        with open(name, encoding="utf-8") as f:
            data = json.load(f)
        for part in data["files"]:
            header = os.path.basename(part["file"])
            path = os.path.normpath(os.path.join(data["current_working_directory"], part["file"]))
            if header not in maps or os.path.dirname(path) != ROOT:
                continue
            for entry in part["lines"]:
                where = maps[header][entry["line_number"]]
                if not where:
                    fail("%s:%d: code that is in no file" % (header, entry["line_number"]))
                line = total.setdefault(where, Line())
                line.count += entry["count"]
                taken = [b["count"] for b in entry["branches"] if not b["throw"]]
                if taken and BYTE_ORDER not in source(where[0])[where[1] - 1]:
                    before = line.shapes.get(len(taken), [0] * len(taken))
                    line.shapes[len(taken)] = [a + b for a, b in zip(before, taken)]


def excluded():
    """tests/coverage/exclude: `what` is "line", or "branches" of a line that itself is run."""
    return {(f, n): e["what"] for f, n, e in entries(os.path.join(HERE, "exclude"), ("file", "what", "why"))}


def per_cent(part, all_):
    return 100.0 * part / all_ if all_ else 100.0


def main():
    folder, least_lines, least_branches = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    total = {}
    add(total, [n.strip() for n in sys.stdin if n.strip()])
    if not total:
        fail("nothing was counted")
    left_out, stale = excluded(), []
    files, missing = {}, []
    for (path, n), line in sorted(total.items()):
        out = left_out.get((path, n))
        row = files.setdefault(path, [0, 0, 0, 0])
        text = source(path)[n - 1].strip()
        never = [(k, [i for i, c in enumerate(s) if not c]) for k, s in sorted(line.shapes.items())]
        never = [(k, s) for k, s in never if s]
        if out and not (line.count == 0 if out == "line" else never):
            stale.append("%s:%d: %s" % (path, n, text))
        if out == "line":
            continue
        row[1] += 1
        row[0] += line.count > 0
        if line.count == 0:
            missing.append("%s:%d: line: %s" % (path, n, text))
        if out:
            continue
        for k, s in line.shapes.items():
            row[3] += k
            row[2] += sum(c > 0 for c in s)
        if line.count:
            for k, s in never:
                missing.append("%s:%d: branch %s of %d: %s" % (path, n, ",".join(map(str, s)), k, text))
    sums = [sum(r[i] for r in files.values()) for i in range(4)]
    lines, branches = per_cent(sums[0], sums[1]), per_cent(sums[2], sums[3])
    with open(os.path.join(folder, "missing.txt"), "w", encoding="utf-8") as f:
        f.writelines(m + "\n" for m in missing)
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as f:
        f.write("| file | lines | run | branches | taken |\n| --- | ---: | ---: | ---: | ---: |\n")
        for path, r in list(sorted(files.items())) + [("all", sums)]:
            f.write("| %s | %d | %.2f %% | %d | %.2f %% |\n"
                    % (path, r[1], per_cent(r[0], r[1]), r[3], per_cent(r[2], r[3])))
        f.write("\nLeft out, each with its reason in tests/coverage/exclude: %d lines, the branches of %d.\n"
                % (list(left_out.values()).count("line"), list(left_out.values()).count("branches")))
    print("coverage: %d of %d lines (%.2f %%), %d of %d branches (%.2f %%)"
          % (sums[0], sums[1], lines, sums[2], sums[3], branches))
    for s in stale:
        print("coverage: no need to exclude " + s)
    return 1 if lines < least_lines or branches < least_branches or stale else 0


if __name__ == "__main__":
    sys.exit(main())
