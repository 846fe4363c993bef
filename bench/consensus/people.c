/* SPDX-License-Identifier: MIT
 * people.c: a small perceptron on UCI Adult (who earns more than 50,000 dollars, by census data), or on people drawn by
 * a law of the program's own, as many and of the same shape: six numbers, eight properties. */
#include "consensus/flat.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBERS = 6, PROPERTIES = 8, FIELDS = NUMBERS + PROPERTIES, FEATURES_MOST = 256, WORD = 32 };
enum { HIDDEN = 16, SHARES = 8, PIECE = 250, VALIDATION = 4000, DRAWN_TRAIN = 32561, DRAWN_TEST = 16281, LINE = 1024 };

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

typedef struct people {
    size_t words[PROPERTIES], features;
    char word[PROPERTIES][64][WORD];
    model net;
    workspace *space;
    float *row[2]; /* training and test part, a person a row of features */
    uint8_t *label[2];
    size_t count[2], train;
    uint32_t *by_age; /* the training part, the youngest first; NULL: everybody draws from all of it */
    float *x;
    uint8_t *y;
} people;

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

static int word_number(people *own, int property, const char *text, bool learn) {
    for (size_t i = 0; i < own->words[property]; i++)
        if (!strcmp(own->word[property][i], text)) return (int)i;
    if (!learn || own->words[property] == 64) return -1;
    snprintf(own->word[property][own->words[property]], WORD, "%s", text);
    return (int)own->words[property]++;
}

static void read_person(people *own, crowd *c, char *line, const char *path, size_t number, bool learn) {
    person *p = crowd_add(c);
    int numbers = 0, properties = 0;
    char *at = line;
    for (int f = 0; f <= FIELDS; f++) {
        char *end, *stop;
        while (*at == ' ') at++;
        end = at + strcspn(at, f < FIELDS ? "," : "\r\n");
        if (end == at || (f < FIELDS && !*end))
            bad_input("%s: line %zu: %d fields are expected, not %d", path, number, FIELDS + 1, f);
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

static void read_part(people *own, crowd *c, const char *folder, const char *name, bool learn) {
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
    if (c->count < 2 * VALIDATION)
        bad_input("%s: at least %d people are expected, not %zu", path, 2 * VALIDATION, c->count);
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
static void draw_part(people *own, crowd *c, size_t count, uint64_t which) {
    double of_word[PROPERTIES][64];
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
static void to_rows(people *own, const crowd c[2]) {
    double mean[NUMBERS] = {0}, scale[NUMBERS] = {0};
    for (int k = 0; k < NUMBERS; k++) {
        for (size_t i = 0; i < c[0].count; i++) mean[k] += c[0].of[i].number[k] / (double)c[0].count;
        for (size_t i = 0; i < c[0].count; i++)
            scale[k] += (c[0].of[i].number[k] - mean[k]) * (c[0].of[i].number[k] - mean[k]) / (double)c[0].count;
        scale[k] = scale[k] > 0.0 ? 1.0 / sqrt(scale[k]) : 0.0;
    }
    own->features = NUMBERS;
    for (int k = 0; k < PROPERTIES; k++) own->features += own->words[k];
    for (int s = 0; s < 2; s++) {
        own->count[s] = c[s].count;
        own->row[s] = new_floats(c[s].count * own->features);
        own->label[s] = (uint8_t *)new_array(c[s].count, 1);
        for (size_t i = 0; i < c[s].count; i++) {
            float *row = own->row[s] + i * own->features, *at = row + NUMBERS;
            for (int k = 0; k < NUMBERS; k++) row[k] = (float)((c[s].of[i].number[k] - mean[k]) * scale[k]);
            for (int k = 0; k < PROPERTIES; at += own->words[k++])
                if (c[s].of[i].word[k] >= 0) at[c[s].of[i].word[k]] = 1.0f;
            own->label[s][i] = c[s].of[i].label;
        }
    }
    own->train = own->count[0] - VALIDATION;
}

/* By merging; of the same age, in the order of the file. */
static void sort_by_age(people *own) {
    uint32_t *from = (uint32_t *)new_array(own->train, sizeof *from), *to;
    own->by_age = (uint32_t *)new_array(own->train, sizeof *own->by_age);
    to = own->by_age;
    for (size_t i = 0; i < own->train; i++) from[i] = (uint32_t)i;
    for (size_t width = 1; width < own->train; width *= 2) {
        for (size_t lo = 0; lo < own->train; lo += 2 * width) {
            const size_t mid = lo + width < own->train ? lo + width : own->train,
                         hi = mid + width < own->train ? mid + width : own->train;
            for (size_t a = lo, b = mid, k = lo; k < hi; k++) {
                const int left = b == hi || (a < mid && own->row[0][from[a] * own->features] <=
                                                            own->row[0][from[b] * own->features]);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *const swap = from;
        from = to;
        to = swap;
    }
    own->by_age = from;
    free(to);
}

/* ---- The task ---- */

static void init(task *t, float *params, uint64_t seed) {
    const people *own = (const people *)t->own;
    tensor_list p = flat_tensors(&own->net, params);
    model_init(&own->net, &p, seed);
}

static double gradient(task *t, const float *params, uint64_t seed, size_t step, size_t worker, size_t batch,
                       float *grads) {
    people *own = (people *)t->own;
    uint32_t index[TASK_MOST_BATCH];
    const tensor_list p = flat_tensors(&own->net, params);
    tensor_list g = flat_tensors(&own->net, grads);
    size_t right = 0;
    task_draw(seed, step, worker, own->by_age ? own->train / SHARES : own->train, batch, index);
    for (size_t i = 0; own->by_age && i < batch; i++)
        index[i] = own->by_age[worker % SHARES * (own->train / SHARES) + index[i]];
    for (size_t i = 0; i < batch; i++) {
        memcpy(own->x + i * own->features, own->row[0] + index[i] * own->features, own->features * sizeof(float));
        own->y[i] = own->label[0][index[i]];
    }
    return model_batch(&own->net, own->space, &p, own->x, own->y, batch, &g, &right) / (double)batch;
}

static double measure(task *t, const float *params, task_part which, double *accuracy) {
    people *own = (people *)t->own;
    const int s = which == PART_TEST;
    const size_t from = s ? 0 : own->train, count = own->count[s] - from;
    const tensor_list p = flat_tensors(&own->net, params);
    double loss = 0.0;
    size_t right = 0;
    for (size_t i = 0; i < count; i += PIECE) {
        const size_t n = count - i < PIECE ? count - i : PIECE;
        loss += model_batch(&own->net, own->space, &p, own->row[s] + (from + i) * own->features,
                            own->label[s] + from + i, n, NULL, &right);
    }
    *accuracy = 100.0 * (double)right / (double)count;
    return loss / (double)count;
}

static void close_people(task *t) {
    people *own = (people *)t->own;
    workspace_free(own->space);
    for (int s = 0; s < 2; s++) {
        free(own->row[s]);
        free(own->label[s]);
    }
    free(own->by_age);
    free(own->x);
    free(own->y);
    free(own);
}

void task_people(task *t, const char *folder, int by_age) {
    const size_t piece = (int)PIECE > (int)TASK_MOST_BATCH ? PIECE : TASK_MOST_BATCH;
    people *own = (people *)new_array(1, sizeof *own);
    crowd c[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    dataset shape;
    if (folder) {
        read_part(own, &c[0], folder, "adult.data", true);
        read_part(own, &c[1], folder, "adult.test", false);
    } else {
        draw_part(own, &c[0], DRAWN_TRAIN, 0);
        draw_part(own, &c[1], DRAWN_TEST, 1);
    }
    to_rows(own, c);
    if (by_age) sort_by_age(own);
    free(c[0].of);
    free(c[1].of);
    memset(&shape, 0, sizeof shape);
    shape.width = shape.features = own->features;
    shape.height = shape.channels = 1;
    shape.classes = 2;
    model_make(&own->net, MODEL_MLP, HIDDEN, &shape);
    own->space = workspace_new(&own->net, piece);
    own->x = new_floats(piece * own->features);
    own->y = (uint8_t *)new_array(piece, 1);
    t->key = by_age ? "ages" : "people";
    snprintf(t->data, sizeof t->data, "%s%s", folder ? "UCI Adult" : "drawn people", by_age ? " by age" : "");
    snprintf(t->title, sizeof t->title, "%s%s", folder ? "UCI Adult" : "Drawn people",
             by_age ? ", each worker with people of its own age" : "");
    flat_shape(t, &own->net);
    t->rate = 0.8;
    t->accuracy = 1;
    snprintf(t->model, sizeof t->model, "a perceptron of %zu parameters; plain SGD", t->parameters);
    t->init = init;
    t->gradient = gradient;
    t->measure = measure;
    t->close = close_people;
    t->own = own;
}
