/* SPDX-License-Identifier: MIT
 * rows.h: a run of the study: what it is of, what came out, and the line of JSON that holds both. Everything that is
 * told is made from such lines, and a run whose line is there already is not repeated. */
#ifndef HETEROGENEITY_ROWS_H
#define HETEROGENEITY_ROWS_H

#include "json.h"
#include "lines.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_KEY = 320, ROW_LINE = 4096 };

typedef enum rule { DPSGD, DSGDM, QGM, QSADDLE, NGC, NSADDLE, RULES } rule;
static const char *const rule_name[RULES] = {"D-PSGD", "DSGDm-N", "QGM", "Q-SADDLe", "NGC", "N-SADDLe"};
static const char *const rule_key[RULES] = {"dpsgd", "dsgdm", "qgm", "qsaddle", "ngc", "nsaddle"};

/* What is sent instead of 32 bits a number. A value of top-k takes 4 bytes and its index 4 more: an eighth of them is a
 * quarter of the bytes. */
typedef enum coding { CODING_NONE, CODING_Q8, CODING_TOP8, CODING_TOP30, CODINGS } coding;
static const char *const coding_name[CODINGS] = {"none", "8 bits", "top 1/8", "top 30 %"};
static const char *const coding_key[CODINGS] = {"none", "q8", "top8", "top30"};

typedef struct run_desc {
    const char *data, *topology;
    uint32_t agents, images, epochs; /* images: of each agent */
    double alpha;
    rule rule;
    coding coding;
    double rate, gamma, rho; /* rho: of the climb, and of the gap that is measured */
    uint64_t seed;
    int tuning; /* only what tuning needs is measured */
} run_desc;

typedef struct run_result {
    int diverged;       /* not finite, or worse than guessing by a factor */
    double accuracy;    /* of the mean model, %, on the test images */
    double local;       /* mean of the agents' own, % */
    double held_out;    /* of the mean model, %, on training images that no agent has */
    double loss;        /* mean model, all agents' training images */
    double eigenvalue;  /* largest of that loss's Hessian */
    double gap;         /* f(x + rho g / |g|) - f(x) */
    double consensus;   /* mean squared distance from the mean model */
    double bytes;       /* of models and gradients sent, an agent and step */
    double control;     /* of everything else */
    double codec_bytes; /* what weft_codec_bytes says of the first */
    double classes;     /* an agent has */
    double gradients;   /* an agent and step */
    double seconds;     /* of processor time */
} run_result;

typedef struct run_row {
    char key[ROW_KEY];
    run_result result;
} run_row;

typedef struct run_rows {
    run_row *row;
    size_t count, room;
} run_rows;

static inline int rule_climbs(rule r) {
    return r == QSADDLE || r == NSADDLE;
}

static inline int rule_crosses(rule r) {
    return r == NGC || r == NSADDLE;
}

/* All that has an influence on the result. */
static inline void row_key(char key[ROW_KEY], const run_desc *d) {
    snprintf(key, ROW_KEY,
             "%s, %s of %u, %u images, %u epochs, alpha %g, %s, codec %s, rate %g, gamma %g, rho %g, %sseed %llu",
             d->data, d->topology, d->agents, d->images, d->epochs, d->alpha, rule_key[d->rule], coding_key[d->coding],
             d->rate, d->gamma, d->rho, d->tuning ? "tuning, " : "", (unsigned long long)d->seed);
}

/* The fields of a result, in the order of a line. */
static const struct {
    const char *name;
    size_t at;
} row_field[] = {
#define ROW_FIELD(name)                                                                                                \
    { #name, offsetof(run_result, name) }
    ROW_FIELD(accuracy), ROW_FIELD(local),     ROW_FIELD(held_out), ROW_FIELD(loss),    ROW_FIELD(eigenvalue),
    ROW_FIELD(gap),      ROW_FIELD(consensus), ROW_FIELD(bytes),    ROW_FIELD(control), ROW_FIELD(codec_bytes),
    ROW_FIELD(classes),  ROW_FIELD(gradients), ROW_FIELD(seconds),
#undef ROW_FIELD
};
enum { ROW_FIELDS = sizeof row_field / sizeof *row_field };

static inline double *row_value(run_result *r, size_t field) {
    return (double *)(void *)((char *)r + row_field[field].at);
}

/* To what a line shows of it, so that what is told does not depend on whether it has been through the file. */
static inline void row_round(run_result *r) {
    char text[32];
    for (size_t i = 0; i < ROW_FIELDS; i++) {
        snprintf(text, sizeof text, "%.6g", *row_value(r, i));
        *row_value(r, i) = strtod(text, NULL);
    }
}

static inline void row_write(FILE *f, const run_desc *d, run_result *r) {
    char key[ROW_KEY];
    json j = {f, 0};
    row_key(key, d);
    json_line_begin(&j);
    json_text(&j, "run", key);
    json_text(&j, "rule", rule_name[d->rule]);
    json_number(&j, "alpha", d->alpha);
    json_text(&j, "codec", coding_name[d->coding]);
    json_integer(&j, "seed", (long long)d->seed);
    json_number(&j, "rate", d->rate);
    json_number(&j, "gamma", d->gamma);
    json_integer(&j, "diverged", r->diverged);
    for (size_t i = 0; i < ROW_FIELDS; i++) json_number(&j, row_field[i].name, *row_value(r, i));
    json_line_end(&j);
}

static inline run_row *rows_add(run_rows *all, const char *key) {
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 256;
        all->row = (run_row *)realloc(all->row, all->room * sizeof *all->row);
        if (!all->row) exit(1);
    }
    run_row *r = &all->row[all->count++];
    memset(r, 0, sizeof *r);
    snprintf(r->key, sizeof r->key, "%s", key);
    return r;
}

static inline const run_result *rows_find(const run_rows *all, const run_desc *d) {
    char key[ROW_KEY];
    row_key(key, d);
    for (size_t i = 0; i < all->count; i++)
        if (!strcmp(all->row[i].key, key)) return &all->row[i].result;
    return NULL;
}

/* Lines that are cut short, as by a run that was stopped, are passed over. */
static inline void rows_read(run_rows *all, const char *path) {
    char line[ROW_LINE];
    FILE *f = fopen(path, "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        const char *key = line_find(line, "run"), *end = key ? strchr(key + 1, '"') : NULL, *v;
        if (!line_whole(line) || !end) continue;
        char text[ROW_KEY];
        snprintf(text, sizeof text, "%.*s", (int)(end - key - 1), key + 1);
        run_row *r = rows_add(all, text);
        v = line_find(line, "diverged");
        r->result.diverged = v && *v == '1';
        for (size_t i = 0; i < ROW_FIELDS; i++) {
            v = line_find(line, row_field[i].name);
            *row_value(&r->result, i) = v && *v != 'n' ? strtod(v, NULL) : (double)NAN;
        }
    }
    fclose(f);
}

#endif
