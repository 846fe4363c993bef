/* SPDX-License-Identifier: MIT
 * golden_aggregators.c: the rules that subspace.h is compared with (bench/aggregators.h, examples/train/adasum.h), and
 * through subspace_combine the ones that it has itself: the plain mean, and AdaCons with shifted weights. Values from a
 * model in Python, written from the equations (tests/golden/aggregators). */
#define SUBSPACE_IMPLEMENTATION
#include "../bench/aggregators.h"
#include "../subspace.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_WORKERS = 64, MOST_LAYERS = 64 };

typedef struct golden {
    const char *path, *name;
    size_t workers, n, layers, layer[MOST_LAYERS];
    double *g[MOST_WORKERS], *scratch[MOST_WORKERS], *out;
    unsigned long checks, misses;
    double worst;
} golden;

static void fail(const golden *c, const char *what) {
    fprintf(stderr, "%s, %s: %s\n", c->path, c->name ? c->name : "-", what);
    exit(EXIT_FAILURE);
}

/* ---- reading ---- */

static char *whole_file(const char *path) {
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long n;
    if (f && !fseek(f, 0, SEEK_END) && (n = ftell(f)) >= 0 && n < 1L << 26 && !fseek(f, 0, SEEK_SET) &&
        (text = (char *)calloc(1, (size_t)n + 1)) != NULL && fread(text, 1, (size_t)n, f) != (size_t)n) {
        free(text);
        text = NULL;
    }
    if (f) fclose(f);
    return text;
}

static double *numbers(const golden *c, const cJSON *list, size_t n) {
    double *x = (double *)calloc(n ? n : 1, sizeof *x);
    const cJSON *j;
    size_t k = 0;
    if (!x || !cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) != n) fail(c, "a list of another length");
    cJSON_ArrayForEach(j, list) {
        if (!cJSON_IsNumber(j)) fail(c, "not a number");
        x[k++] = j->valuedouble;
    }
    return x;
}

/* ---- comparing ---- */

static void compare(golden *c, const cJSON *item, const char *rule, const double *got) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(item, rule);
    double *want, size = 0.0;
    size_t k;
    if (!list) return; /* not every case has every rule */
    want = numbers(c, list, c->n);
    for (k = 0; k < c->n; k++) size = fmax(size, fabs(want[k]));
    for (k = 0; k < c->n; k++) {
        const double error = fabs(got[k] - want[k]) / (size > 0.0 ? size : 1.0);
        c->checks++;
        c->worst = fmax(c->worst, error);
        if (error <= 1e-12) continue;
        if (!c->misses++)
            fprintf(stderr, "%s, %s, %s, element %zu: %.17g instead of %.17g\n", c->path, c->name, rule, k, got[k],
                    want[k]);
    }
    free(want);
}

static double **copies(golden *c) {
    size_t i;
    for (i = 0; i < c->workers; i++) memcpy(c->scratch[i], c->g[i], c->n * sizeof(double));
    return c->scratch;
}

/* By the header, all gradients in one address space. */
static void library(golden *c, subspace_desc *d) {
    weft_tensor one[MOST_WORKERS], result = {c->out, c->n, WEFT_F64};
    weft_tensors all[MOST_WORKERS], out = {&result, 1};
    subspace *a;
    size_t i, bytes;
    void *memory;
    for (i = 0; i < c->workers; i++) {
        one[i] = (weft_tensor){c->g[i], c->n, WEFT_F64};
        all[i] = (weft_tensors){&one[i], 1};
    }
    d->struct_size = sizeof *d;
    d->gradients = out;
    d->here = (uint32_t)c->workers;
    bytes = subspace_memory(d, NULL);
    memory = malloc(bytes);
    if (!memory || subspace_init(&a, d, memory, bytes) != WEFT_OK ||
        subspace_combine(a, all, (uint32_t)c->workers, NULL, &out) != WEFT_OK)
        fail(c, "the library refuses");
    subspace_close(a);
    free(memory);
}

static void check_rules(golden *c, const cJSON *item) {
    const double *g[MOST_WORKERS];
    subspace_desc mean = {0}, shift = {0};
    double **scratch;
    size_t i;
    for (i = 0; i < c->workers; i++) g[i] = c->g[i];
    aggregate_mean(c->workers, g, c->n, c->out);
    compare(c, item, "mean", c->out);
    aggregate_unit_mean(c->workers, g, c->n, 1e-8, c->out);
    compare(c, item, "unit_mean", c->out);
    scratch = copies(c);
    aggregate_adasum(c->workers, scratch, 1, &c->n);
    compare(c, item, "adasum_whole", scratch[0]);
    scratch = copies(c);
    aggregate_adasum(c->workers, scratch, c->layers, c->layer);
    compare(c, item, "adasum_layerwise", scratch[0]);

    mean.rule = SUBSPACE_MEAN;
    library(c, &mean);
    compare(c, item, "mean", c->out);
    shift.negative = SUBSPACE_NEGATIVE_SHIFT;
    shift.assignment = SUBSPACE_FORWARD; /* as the model has it */
    shift.scale = SUBSPACE_SCALE_OFF;
    library(c, &shift);
    compare(c, item, "adacons_shift_m0", c->out);
}

static void check_case(golden *c, const cJSON *item) {
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name"), *g, *j;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(item, "layers");
    size_t i = 0, l = 0;
    c->name = cJSON_IsString(name) ? name->valuestring : NULL;
    g = cJSON_GetObjectItemCaseSensitive(item, "g");
    c->workers = (size_t)cJSON_GetArraySize(g);
    c->n = (size_t)cJSON_GetArraySize(cJSON_GetArrayItem(g, 0));
    c->layers = (size_t)cJSON_GetArraySize(layers);
    if (!c->name || !c->n || !c->workers || c->workers > MOST_WORKERS || !c->layers || c->layers > MOST_LAYERS)
        fail(c, "not a case");
    cJSON_ArrayForEach(j, layers) {
        c->layer[l] = (size_t)j->valuedouble;
        i += c->layer[l++];
    }
    if (i != c->n) fail(c, "the layers are not the gradient");
    i = 0;
    cJSON_ArrayForEach(j, g) {
        size_t k;
        c->g[i] = numbers(c, j, c->n);
        for (k = 0; k < c->n; k++) c->g[i][k] = (double)(float)c->g[i][k]; /* written as short as tells them apart */
        c->scratch[i++] = (double *)calloc(c->n, sizeof(double));
    }
    c->out = (double *)calloc(c->n, sizeof(double));
    check_rules(c, item);
    for (i = 0; i < c->workers; i++) {
        free(c->g[i]);
        free(c->scratch[i]);
    }
    free(c->out);
}

int main(int argc, char **argv) {
    unsigned long checks = 0, misses = 0;
    double worst = 0.0;
    int f;
    for (f = 1; f < argc; f++) {
        golden c;
        char *text = whole_file(argv[f]);
        cJSON *doc = text ? cJSON_Parse(text) : NULL;
        const cJSON *cases = cJSON_GetObjectItemCaseSensitive(doc, "cases"), *j;
        memset(&c, 0, sizeof c);
        c.path = argv[f];
        if (!cJSON_GetArraySize(cases)) fail(&c, "cannot be read");
        cJSON_ArrayForEach(j, cases) check_case(&c, j);
        checks += c.checks;
        misses += c.misses;
        worst = fmax(worst, c.worst);
        cJSON_Delete(doc);
        free(text);
    }
    printf("%d files, %lu checks, %lu missed, worst %.2g\n", argc - 1, checks, misses, worst);
    return checks && !misses ? EXIT_SUCCESS : EXIT_FAILURE;
}
