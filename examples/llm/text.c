/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "text.h"

#include "train/rng.h"
#include "train/util.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RNG_BATCH = 101 };

/* Of a file; rng_below counts up to 2^32. */
static const size_t TEXT_MOST = (size_t)1 << 30;

void text_make(text *t, const char *name, const unsigned char *bytes, size_t count, size_t context) {
    uint8_t number[256] = {0};
    bool there[256] = {false};
    const size_t validation = count / 10, least = context + 1;
    if (validation < least) /* so the training part is long enough, too */
        bad_input("%s: expected at least %zu characters (a tenth of them is a context of %zu and one), got %zu", name,
                  10 * least, context, count);
    if (count > TEXT_MOST) bad_input("%s: expected at most %zu characters, got %zu", name, TEXT_MOST, count);
    memset(t, 0, sizeof *t);
    t->name = name;
    for (size_t i = 0; i < count; i++) there[bytes[i]] = true;
    for (int b = 0; b < 256; b++)
        if (there[b]) {
            number[b] = (uint8_t)t->symbols;
            t->symbol[t->symbols++] = (unsigned char)b;
        }
    if (t->symbols < 2) bad_input("%s: expected at least 2 different characters, got %zu", name, t->symbols);
    t->validation_count = validation;
    t->train_count = count - validation;
    t->train = new_array(count, 1);
    t->validation = t->train + t->train_count;
    for (size_t i = 0; i < count; i++) t->train[i] = number[bytes[i]];
}

void text_load(text *t, const char *file, size_t context) {
    FILE *in = fopen(file, "rb");
    size_t room = 1 << 16, count = 0, got;
    if (!in) bad_input("%s: %s", file, strerror(errno));
    unsigned char *bytes = new_array(room, 1);
    /* read until it ends, not as long as it says: pipes are files, too */
    while ((got = fread(bytes + count, 1, room - count, in)) > 0) {
        count += got;
        if (count > TEXT_MOST) bad_input("%s: expected at most %zu characters, got more", file, TEXT_MOST);
        if (count < room) continue;
        unsigned char *more = new_array(2 * room, 1);
        memcpy(more, bytes, count);
        free(bytes);
        bytes = more;
        room *= 2;
    }
    if (ferror(in)) bad_input("%s: %s", file, strerror(errno));
    fclose(in);
    text_make(t, file, bytes, count, context);
    free(bytes);
}

void text_free(text *t) {
    free(t->train);
}

void text_batch(const text *t, uint64_t seed, uint64_t step, size_t first, size_t count, size_t length, uint8_t *x,
                uint8_t *y) {
    for (size_t i = 0; i < count; i++, x += length, y += length) {
        rng r = rng_make(seed + RNG_BATCH, step, first + i);
        const size_t at = rng_below(&r, (uint32_t)(t->train_count - length));
        memcpy(x, t->train + at, length);
        memcpy(y, t->train + at + 1, length);
    }
}

size_t text_windows(const text *t, size_t length, size_t most) {
    const size_t there = (t->validation_count - 1) / length;
    return there < most ? there : most;
}

void text_window(const text *t, size_t windows, size_t first, size_t count, size_t length, uint8_t *x, uint8_t *y) {
    const size_t there = (t->validation_count - 1) / length;
    for (size_t i = first; i < first + count; i++, x += length, y += length) {
        const size_t at = i * there / windows * length; /* spread out, so that few are of all of it */
        memcpy(x, t->validation + at, length);
        memcpy(y, t->validation + at + 1, length);
    }
}

double text_pairs(const text *t) {
    const size_t n = t->symbols;
    double *pair = new_array(n * n, sizeof *pair), *all = new_array(n, sizeof *all), loss = 0.0;
    for (size_t i = 0; i + 1 < t->train_count; i++) {
        pair[t->train[i] * n + t->train[i + 1]] += 1.0;
        all[t->train[i]] += 1.0;
    }
    for (size_t i = 0; i + 1 < t->validation_count; i++) {
        const size_t a = t->validation[i], b = t->validation[i + 1];
        loss -= log((pair[a * n + b] + 1.0) / (all[a] + (double)n));
    }
    free(pair);
    free(all);
    return loss / (double)(t->validation_count - 1);
}

uint64_t text_hash(const text *t) {
    uint64_t h = t->symbols;
    for (size_t i = 0; i < t->symbols; i++) h = rng_mix(h ^ t->symbol[i]);
    for (size_t i = 0; i < t->train_count + t->validation_count; i++) h = rng_mix(h + t->train[i] + 1);
    return h;
}
