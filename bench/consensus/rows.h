/* SPDX-License-Identifier: MIT
 * rows.h: a run of the study: what it is of, what came out, and the line of JSON that holds both. Everything that is
 * told is made from such lines, and a run whose line is there already is not repeated. */
#ifndef CONSENSUS_ROWS_H
#define CONSENSUS_ROWS_H

#include "consensus/rules.h"
#include "consensus/task.h"

#include "json.h"
#include "lines.h"

#include <stdio.h>

enum { ROW_KEY = 256, ROW_LINE = 8192, CURVE = 20 };

typedef struct run_desc {
    task *of;
    uint32_t workers, batch, steps; /* batch: of each worker */
    const rule *rule;
    double rate;
    uint64_t seed;
} run_desc;

typedef struct run_result {
    int diverged; /* not finite, or worse than it began */
    double loss, accuracy,
        validation;      /* of the last model: test loss, % of the test part, loss on the validation part */
    double train, whole; /* mean loss of the samples trained on: of the last tenth of the steps, of all */
    double apart, negative, along, cosine, zero_sums, fallbacks, worst_sum, worst_projection; /* see rules.h; means */
    double seconds;                                                                           /* of processor time */
    double curve[CURVE]; /* mean training loss of each twentieth of the steps */
} run_result;

typedef struct run_row {
    char key[ROW_KEY];
    run_result result;
} run_row;

typedef struct run_rows {
    run_row *row;
    size_t count, room;
} run_rows;

/* All that has an influence on the result. */
static inline void row_key(char key[ROW_KEY], const run_desc *d) {
    snprintf(key, ROW_KEY, "%s, %s, %u workers of %u, %u steps, %s, rate %g, seed %llu", d->of->data, d->of->model,
             d->workers, d->batch, d->steps, d->rule->key, d->rate, (unsigned long long)d->seed);
}

static const struct {
    const char *name;
    size_t at;
} row_field[] = {
#define ROW_FIELD(name)                                                                                                \
    { #name, offsetof(run_result, name) }
    ROW_FIELD(loss),
    ROW_FIELD(accuracy),
    ROW_FIELD(validation),
    ROW_FIELD(train),
    ROW_FIELD(whole),
    ROW_FIELD(apart),
    ROW_FIELD(negative),
    ROW_FIELD(along),
    ROW_FIELD(cosine),
    ROW_FIELD(zero_sums),
    ROW_FIELD(fallbacks),
    ROW_FIELD(worst_sum),
    ROW_FIELD(worst_projection),
    ROW_FIELD(seconds),
#undef ROW_FIELD
};
enum { ROW_FIELDS = sizeof row_field / sizeof *row_field };

static inline double *row_value(run_result *r, size_t field) {
    return (double *)(void *)((char *)r + row_field[field].at);
}

/* To what a line shows of it, so that what is told does not depend on whether it has been through the file. */
static inline void row_round(run_result *r) {
    char text[32];
    for (size_t i = 0; i < ROW_FIELDS + CURVE; i++) {
        double *v = i < ROW_FIELDS ? row_value(r, i) : &r->curve[i - ROW_FIELDS];
        snprintf(text, sizeof text, "%.6g", *v);
        *v = strtod(text, NULL);
    }
}

static inline void row_write(FILE *f, const run_desc *d, run_result *r) {
    char key[ROW_KEY];
    json j = {f, 0};
    row_key(key, d);
    json_line_begin(&j);
    json_text(&j, "run", key);
    json_text(&j, "rule", d->rule->name);
    json_integer(&j, "diverged", r->diverged);
    for (size_t i = 0; i < ROW_FIELDS; i++) json_number(&j, row_field[i].name, *row_value(r, i));
    json_begin(&j, "curve", '[');
    for (int i = 0; i < CURVE; i++) json_number(&j, NULL, r->curve[i]);
    json_end(&j, ']');
    json_line_end(&j);
}

static inline run_row *rows_add(run_rows *all, const char *key) {
    if (all->count == all->room) {
        all->room = all->room ? 2 * all->room : 256;
        all->row = (run_row *)realloc(all->row, all->room * sizeof *all->row);
        if (!all->row) broken("out of memory");
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

static inline double row_number(const char *at) {
    return at && *at != 'n' ? strtod(at, NULL) : (double)NAN;
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
        for (size_t i = 0; i < ROW_FIELDS; i++)
            *row_value(&r->result, i) = row_number(line_find(line, row_field[i].name));
        v = line_find(line, "curve");
        for (int i = 0; i < CURVE; i++) {
            r->result.curve[i] = row_number(v ? v + 1 : NULL);
            v = v ? strchr(v + 1, ',') : NULL;
        }
    }
    fclose(f);
}

#endif
