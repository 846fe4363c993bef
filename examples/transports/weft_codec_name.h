/* SPDX-License-Identifier: MIT
 * weft_codec_name.h: a codec by its name, for command lines. Include it after a weft header that has codecs (saddle.h).
 *
 *     weft_codec c;
 *     if (!weft_codec_parse(&c, "topk:0.3")) complain("expected " WEFT_CODEC_NAMES ", got ...");
 *     puts(weft_codec_text(&c, text, sizeof text)); */
#ifndef WEFT_CODEC_NAME_H
#define WEFT_CODEC_NAME_H

#ifndef WEFT_CODEC_KINDS
#error "include saddle.h before weft_codec_name.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KEPT: the fraction of numbers that is sent. BITS: without the sign. */
#define WEFT_CODEC_NAMES                                                                                               \
    "none, bf16, f16, q8, q4, qsgd:BITS (1 to 16), qsgd:BITS:biased, topk:KEPT (above 0, at most 1) or sign"

static const char *const weft_codec_names[WEFT_CODEC_KINDS] = {"none", "bf16", "f16",  "q8",
                                                               "q4",   "qsgd", "topk", "sign"};

/* 1, or 0: the text is no codec, and *c is as before. */
WEFT_FN int weft_codec_parse(weft_codec *c, const char *text) {
    const size_t length = strcspn(text, ":");
    const char *value = text[length] ? text + length + 1 : NULL;
    weft_codec got = weft_codec_identity();
    weft_detail why;
    char *end;
    int i;
    for (i = 0; i < WEFT_CODEC_KINDS; i++)
        if (strlen(weft_codec_names[i]) == length && strncmp(weft_codec_names[i], text, length) == 0) break;
    if (i == WEFT_CODEC_KINDS) return 0;
    got.kind = (weft_codec_kind)i;
    if (got.kind == WEFT_CODEC_QSGD) {
        if (!value || *value < '1' || *value > '9') return 0;
        for (; *value >= '0' && *value <= '9' && got.bits < 100; value++)
            got.bits = got.bits * 10 + (uint32_t)(*value - '0');
        got.biased = strcmp(value, ":biased") == 0;
        if (*value && !got.biased) return 0;
    } else if (got.kind == WEFT_CODEC_TOPK) {
        double kept;
        if (!value || !*value || value[strspn(value, "0123456789.")]) return 0;
        kept = strtod(value, &end);
        if (end == value || *end || !(kept > 0.0 && kept <= 1.0)) return 0;
        got.drop = 1.0 - kept;
    } else if (value)
        return 0;
    memset(&why, 0, sizeof why);
    if (weft_codec_check(&got, &why) != WEFT_OK) return 0;
    *c = got;
    return 1;
}

/* The same text, for headings; returns `out`. */
WEFT_FN const char *weft_codec_text(const weft_codec *c, char *out, size_t capacity) {
    const char *name = weft_codec_names[c->kind];
    if (c->kind == WEFT_CODEC_QSGD)
        snprintf(out, capacity, "%s:%lu%s", name, (unsigned long)c->bits, c->biased ? ":biased" : "");
    else if (c->kind == WEFT_CODEC_TOPK)
        snprintf(out, capacity, "%s:%g", name, 1.0 - c->drop);
    else
        snprintf(out, capacity, "%s", name);
    return out;
}

#endif /* WEFT_CODEC_NAME_H */
