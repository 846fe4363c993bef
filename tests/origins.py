# SPDX-License-Identifier: MIT
"""Where the lines of the headers at the top come from: for reports that name files of src/, where one mends things.

A header is put together here once more as src/amalgamate does it, with the origin of every line, and compared with the
header at the top line by line: so a header that is stale, or a change of src/amalgamate that this file does not know,
is an error and never a wrong line number."""
import os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def fail(text):
    sys.stderr.write("origins: %s\n" % text)
    sys.exit(2)


def source(path, cache={}):
    if path not in cache:
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            cache[path] = f.read().split("\n")[:-1]
    return cache[path]


def quoted(line):
    m = re.match(r'[ \t]*#[ \t]*include[ \t]*"([^"]*)"', line)
    return m.group(1) if m else None


def beside(path, name):
    return os.path.normpath(os.path.join(os.path.dirname(path), name))


def expand(path, first, last, preamble, sections, in_section=False):
    """Lines first..last of a file as (text, file, number), with fragments in their place."""
    out, skipping = [], False
    for n in range(first, last + 1):
        text = source(path)[n - 1]
        m = re.match(r"/\*==== WITH ([a-z_]+\.h) ====\*/$", text)
        if m:
            skipping = "/%s" % m.group(1) not in preamble
            continue
        if text == "/*==== END WITH ====*/":
            skipping = False
            continue
        if skipping:
            continue
        name = quoted(text)
        if not name:
            out.append((text, path, n))
            continue
        inner = beside(path, name)
        body = source(inner)
        if re.match(r"/\*==== SECTION ", body[0]):
            if inner not in sections:
                sections[inner] = None
                sections[inner] = expand(inner, 2, len(body), preamble, sections, True)
            out.append((None, path, n))  # an include of the header itself
        else:
            out += expand(inner, 1, len(body), preamble, sections, in_section)
    return out


def hoist(lines):
    """Without the system includes under no condition, which go before everything."""
    depth, out = 0, []
    for text, path, n in lines:
        if text is not None:
            depth += bool(re.match(r"[ \t]*#[ \t]*if", text)) - bool(re.match(r"[ \t]*#[ \t]*endif", text))
            if depth == 0 and re.match(r"#[ \t]*include[ \t]*<", text):
                continue
        out.append((text, path, n))
    return out


def trim(lines):
    while lines and lines[0][0] is not None and not lines[0][0].strip():
        lines = lines[1:]
    while lines and lines[-1][0] is not None and not lines[-1][0].strip():
        lines = lines[:-1]
    return lines


def origins(header):
    """For each line of a header (file, number), or None for what amalgamate itself wrote."""
    main = "src/" + header
    preamble, parts, sections, opened = set(), {}, {}, set()

    def load(path):
        if path in opened:
            return
        opened.add(path)
        text = source(path)
        api, code = text.index("/*==== API ====*/") + 1, text.index("/*==== IMPLEMENTATION ====*/") + 1
        comment = False
        for line in text[: api - 1]:
            name = None if comment else quoted(line)
            if name:
                load(beside(path, name))
            comment = (comment or "/*" in line) and "*/" not in line
        parts[path] = (api, code, len(text))

    comment = False
    for line in source(main)[: source(main).index("/*==== API ====*/")]:
        name = None if comment else quoted(line)
        if name:
            preamble.add("/" + os.path.basename(name))
        comment = (comment or "/*" in line) and "*/" not in line
    load(main)
    made = {}
    for path, (api, code, end) in parts.items():
        made[path, "API"] = trim(expand(path, api + 1, code - 1, preamble, sections))
        made[path, "implementation"] = trim(hoist(expand(path, code + 1, end, preamble, sections)))
    for path, lines in sections.items():
        made[path, "section"] = trim(lines)

    with open(os.path.join(ROOT, header), encoding="utf-8") as f:
        text = f.read().split("\n")
    out, at = [None] * (len(text) + 1), 0
    for i, line in enumerate(text):
        m = re.match(r"/\* ---- (src/[a-z0-9_/.]+): (API|implementation|section) -", line)
        if not m or i < at:
            continue
        lines = made.pop((m.group(1), m.group(2)), None)
        if lines is None:
            fail("%s:%d: a part that is not expected" % (header, i + 1))
        at = i + 1
        while lines and text[at] != lines[0][0]:
            at += 1
            if at > i + 6:
                fail("%s:%d: does not begin like %s" % (header, i + 1, m.group(1)))
        for want, path, n in lines:
            if want is not None and text[at] != want:
                fail("%s:%d is not %s:%d: run make headers" % (header, at + 1, path, n))
            out[at + 1] = (path, n)
            at += 1
    for (path, what), lines in made.items():
        if lines:
            fail("%s lacks %s of %s" % (header, what, path))
    return out


def headers():
    return sorted(h for h in os.listdir(ROOT) if h.endswith(".h"))


def entries(path, keys):
    """A file of paragraphs `key: text`, with file and why among the keys, and `line` once or several times: what is
    excepted, with its reason. `line` is a line of `file` without its indentation; all of a paragraph follow each other
    there, once, or each is there once; `before`, if given, is the line before them, which tells them apart. Yields
    (file, number, paragraph) for each line."""
    block, lines = {}, []
    with open(path, encoding="utf-8") as f:
        for i, text in enumerate(f.read().split("\n") + [""]):
            m = re.match(r"([a-z]+): (.*)$", text)
            if text.startswith("#"):
                continue
            if m and m.group(1) == "line":
                lines.append(m.group(2))
            elif m and m.group(1) not in block:
                block[m.group(1)] = m.group(2)
            elif text:
                fail("%s:%d: %s" % (path, i + 1, text))
            elif block or lines:
                if set(block) - {"before"} != set(keys) or not lines:
                    fail("%s:%d: an entry has line, %s" % (path, i, ", ".join(keys)))
                text = [t.strip() for t in source(block["file"])]
                ahead = [block["before"]] if "before" in block else []
                run = ahead + lines
                found = [n for n in range(len(text)) if text[n : n + len(run)] == run]
                if ahead and len(found) != 1:
                    fail("%s:%d: found %d times: %s" % (path, i, len(found), run[0]))
                if len(found) == 1:
                    numbers = [found[0] + 1 + len(ahead) + n for n in range(len(lines))]
                else:
                    for line in lines:
                        if text.count(line) != 1:
                            fail("%s:%d: found %d times: %s" % (path, i, text.count(line), line))
                    numbers = [text.index(line) + 1 for line in lines]
                for n in numbers:
                    yield block["file"], n, block
                block, lines = {}, []
