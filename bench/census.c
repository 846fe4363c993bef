/* SPDX-License-Identifier: MIT */
#include "census.h"

#include "train/rng.h"
#include "train/util.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 6, PROPERTIES = 8, FIELDS = NUMBERS + PROPERTIES, WORDS_MOST = 64, WORD = 32 };
enum { LEAST = 8000, DRAWN_TRAIN = 32561, DRAWN_TEST = 16281, LINE = 1024, STREAM_PEOPLE = 401, STREAM_LAW };

/* Of a line of the file: which are numbers. The others are words. */
static const bool is_number[FIELDS] = {1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0};
/* How many words each property has in the file; so many has a drawn one, too. */
static const size_t drawn_words[PROPERTIES] = {9, 16, 7, 15, 6, 5, 2, 42};

typedef struct person {
    double number[NUMBERS];
    int word[PROPERTIES]; /* -1: one that the training part has not */
    uint8_t label;
} person;

typedef struct crowd {
    person *of;
    size_t count, room;
} crowd;

/* What is known while rows are made. */
typedef struct reading {
    size_t words[PROPERTIES];
    char word[PROPERTIES][WORDS_MOST][WORD];
} reading;

static person *crowd_add(crowd *c) {
    if (c->count == c->room) {
        c->room = c->room ? 2 * c->room : 4096;
        c->of = (person *)realloc(c->of, c->room * sizeof *c->of);
        if (!c->of) broken("out of memory");
    }
    memset(&c->of[c->count], 0, sizeof *c->of);
    return &c->of[c->count++];
}

/* ---- The file ---- */

static int word_number(reading *own, int property, const char *text, bool learn) {
    for (size_t i = 0; i < own->words[property]; i++)
        if (!strcmp(own->word[property][i], text)) return (int)i;
    if (!learn || own->words[property] == WORDS_MOST) return -1;
    snprintf(own->word[property][own->words[property]], WORD, "%s", text);
    return (int)own->words[property]++;
}

static void read_person(reading *own, crowd *c, char *line, const char *path, size_t number, bool learn) {
    person *p = crowd_add(c);
    int numbers = 0, properties = 0;
    char *at = line;
    for (int f = 0; f <= FIELDS; f++) {
        char *end, *stop;
        while (*at == ' ') at++;
        end = at + strcspn(at, f < FIELDS ? "," : "\r\n");
        if (end == at || (f < FIELDS && !*end))
            bad_input("%s: line %zu: %d fields are expected, not %d", path, number, FIELDS + 1, f + (end > at));
        *end = 0;
        if (f == FIELDS) {
            at[strcspn(at, ".")] = 0; /* the test part's labels end in one */
            if (strcmp(at, ">50K") && strcmp(at, "<=50K"))
                bad_input("%s: line %zu: <=50K or >50K is expected, not '%.20s'", path, number, at);
            p->label = *at == '>';
        } else if (is_number[f]) {
            p->number[numbers++] = strtod(at, &stop);
            if (*stop || !isfinite(p->number[numbers - 1]))
                bad_input("%s: line %zu: a number is expected, not '%.20s'", path, number, at);
        } else {
            if (strlen(at) >= WORD)
                bad_input("%s: line %zu: a word of less than %d characters is expected, not '%.40s'", path, number,
                          WORD, at);
            p->word[properties] = word_number(own, properties, at, learn);
            properties++;
        }
        at = end + 1;
    }
}

static void read_part(reading *own, crowd *c, const char *folder, const char *name, bool learn) {
    char path[4096], line[LINE];
    FILE *f;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) bad_input("the path is too long");
    f = fopen(path, "r");
    if (!f) bad_input("%s: %s (unpacked: examples/data/get.sh adult)", path, strerror(errno));
    for (size_t number = 1; fgets(line, sizeof line, f); number++) {
        if (!strchr(line, '\n') && !feof(f))
            bad_input("%s: line %zu: less than %d characters are expected, not more", path, number, LINE);
        if (line[0] == '|' || line[strspn(line, " \r\n")] == 0) continue; /* a remark, or nothing */
        read_person(own, c, line, path, number, learn);
    }
    fclose(f);
    if (c->count < LEAST) bad_input("%s: at least %d people are expected, not %zu", path, LEAST, c->count);
}

/* ---- Drawn people ---- */

/* Nearly normal, of variance 1. */
static double about(rng *r) {
    double sum = -6.0;
    for (int i = 0; i < 12; i++) sum += rng_uniform(r);
    return sum;
}

/* Rare and frequent words, numbers of which two are mostly zero, as there; a linear law with two products in it, and a
 * twelfth of the labels drawn: about as hard as the file. */
static void draw_part(reading *own, crowd *c, size_t count, uint64_t which) {
    double of_word[PROPERTIES][WORDS_MOST];
    rng law = rng_make(1, STREAM_LAW, 0);
    for (int k = 0; k < PROPERTIES; k++) {
        own->words[k] = drawn_words[k];
        for (size_t i = 0; i < drawn_words[k]; i++) of_word[k][i] = 0.7 * about(&law);
    }
    for (size_t i = 0; i < count; i++) {
        person *p = crowd_add(c);
        rng r = rng_make(1, STREAM_PEOPLE, (which << 32) + i);
        double z = -1.6;
        for (int k = 0; k < NUMBERS; k++) {
            p->number[k] = about(&r);
            if ((k == 3 || k == 4) && rng_uniform(&r) < 0.9) p->number[k] = 0.0;
        }
        for (int k = 0; k < PROPERTIES; k++) {
            const double u = rng_uniform(&r);
            p->word[k] = (int)(u * u * u * (double)drawn_words[k]);
            z += of_word[k][p->word[k]];
        }
        z += 0.8 * p->number[0] - 0.8 * p->number[0] * p->number[0] + p->number[2] + 1.5 * p->number[3] +
             0.7 * p->number[2] * p->number[5];
        p->label = rng_uniform(&r) < 1.0 / 12.0 ? rng_uniform(&r) < 0.24 : z > 0.0;
    }
}

/* ---- Rows of features ---- */

/* Numbers with mean 0 and variance 1 over the training part, a 1 for each word. */
static void to_rows(census *out, const reading *own, const crowd c[2]) {
    double mean[NUMBERS] = {0}, scale[NUMBERS] = {0};
    for (int k = 0; k < NUMBERS; k++) {
        for (size_t i = 0; i < c[0].count; i++) mean[k] += c[0].of[i].number[k] / (double)c[0].count;
        for (size_t i = 0; i < c[0].count; i++)
            scale[k] += (c[0].of[i].number[k] - mean[k]) * (c[0].of[i].number[k] - mean[k]) / (double)c[0].count;
        scale[k] = scale[k] > 0.0 ? 1.0 / sqrt(scale[k]) : 0.0;
    }
    out->features = NUMBERS;
    for (int k = 0; k < PROPERTIES; k++) out->features += own->words[k];
    for (int s = 0; s < 2; s++) {
        out->count[s] = c[s].count;
        out->row[s] = new_floats(c[s].count * out->features);
        out->label[s] = (uint8_t *)new_array(c[s].count, 1);
        for (size_t i = 0; i < c[s].count; i++) {
            float *row = out->row[s] + i * out->features, *at = row + NUMBERS;
            for (int k = 0; k < NUMBERS; k++) row[k] = (float)((c[s].of[i].number[k] - mean[k]) * scale[k]);
            for (int k = 0; k < PROPERTIES; at += own->words[k++])
                if (c[s].of[i].word[k] >= 0) at[c[s].of[i].word[k]] = 1.0f;
            out->label[s][i] = c[s].of[i].label;
        }
    }
}

void census_open(census *out, const char *folder) {
    reading *own = (reading *)new_array(1, sizeof *own);
    crowd c[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    memset(own, 0, sizeof *own);
    memset(out, 0, sizeof *out);
    if (folder) {
        read_part(own, &c[0], folder, "adult.data", true);
        read_part(own, &c[1], folder, "adult.test", false);
    } else {
        draw_part(own, &c[0], DRAWN_TRAIN, 0);
        draw_part(own, &c[1], DRAWN_TEST, 1);
    }
    to_rows(out, own, c);
    free(c[0].of);
    free(c[1].of);
    free(own);
}

void census_close(census *c) {
    for (int s = 0; s < 2; s++) {
        free(c->row[s]);
        free(c->label[s]);
    }
}
