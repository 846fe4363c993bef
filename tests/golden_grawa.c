/* SPDX-License-Identifier: MIT
 * golden_grawa.c: replays golden vectors of GRAWA, EASGD and LSGD (tests/golden/grawa/README.md says what is in them)
 * through the public API: one object per worker over a simulated network, local SGD steps with the prescribed
 * gradients done here.
 *
 * Where a file pins what the published code makes of a zero norm (NaN for everybody), the library deviates by
 * documented rule: zeros share the weight. There, and there only, the values are compared with grawa_model.h instead,
 * and the library's count of such groups is checked. lsgd_05 pins a fault that is not reproduced: compare_replay. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"
#include "grawa_model.h"
#include "train/elastic.h"

#define GOLDEN_NAME "grawa"
#define GOLDEN_USAGE "Replays golden vectors (JSON) of GRAWA, EASGD and LSGD through grawa.h.\n"
/* inputs_doc: the file whose inputs a file without any refers to. may_be_nan: the published code has divided by zero:
 * its values say nothing any more. */
#define GOLDEN_FIELDS                                                                                                  \
    cJSON *inputs_doc;                                                                                                 \
    uint32_t workers;                                                                                                  \
    size_t layers, elements;                                                                                           \
    size_t *count, *start;                                                                                             \
    double c1, c2, p2, lr, mom, wd, ema_mu, step_beta;                                                                 \
    int prox, l_comm, g_comm, has_mu;                                                                                  \
    long tau;                                                                                                          \
    double abs, rel;                                                                                                   \
    double *init, *center;                                                                                             \
    int may_be_nan;
#include "golden.h"

#define MOST_WORKERS 256u
#define MOST_ELEMENTS 10000000u

/* |got - want| <= abs + rel |want|; NaN and infinity must be the same. */
static int near(golden *g, const char *what, long round, long worker, double got, double want, double abs, double rel) {
    double error;
    g->checks++;
    if (isnan(want) || isnan(got) || isinf(want) || isinf(got)) {
        if ((isnan(want) && isnan(got)) || (!isnan(got) && got == want)) return 1;
        g->worst = MODEL_INFINITY;
    } else {
        error = fabs(got - want) / (abs + rel * fabs(want));
        if (fabs(got - want) == 0) error = 0;
        if (error > g->worst) g->worst = error;
        if (error <= 1) return 1;
    }
    return bad(g, "%s, round %ld, worker %ld: %.9g instead of %.9g", what, round + 1, worker, got, want);
}

static int exactly(golden *g, const char *what, long round, long worker, double got, double want) {
    g->checks++;
    if (got == want) return 1;
    return bad(g, "%s, round %ld, worker %ld: %.9g instead of %.9g", what, round + 1, worker, got, want);
}

/* ---- reading ---- */

/* A finite number of an object; `fallback` if the key is absent, which is an error if that is NaN. */
static int optional(golden *g, const cJSON *o, const char *key, double fallback, double *out) {
    const cJSON *j = item(o, key);
    *out = fallback;
    if (!j) return isnan(fallback) ? bad(g, "%s is missing", key) : 1;
    if (!cJSON_IsNumber(j) || !isfinite(j->valuedouble)) return bad(g, "%s: a finite number is expected", key);
    *out = j->valuedouble;
    return 1;
}

static int integer(golden *g, const cJSON *o, const char *key, double lo, double hi, long fallback, long *out) {
    double v;
    if (!optional(g, o, key, fallback < 0 ? MODEL_NAN : (double)fallback, &v)) return 0;
    if (v != floor(v) || v < lo || v > hi) return bad(g, "%s: %g is not a whole number from %g to %g", key, v, lo, hi);
    *out = (long)v;
    return 1;
}

/* [layer][element] */
static int layers(golden *g, const cJSON *j, const char *what, double *out) {
    const cJSON *e;
    size_t l = 0;
    if (!array(g, j, g->layers, what)) return 0;
    cJSON_ArrayForEach(e, j) {
        if (!numbers(g, e, g->count[l], what, out + g->start[l])) return 0;
        l++;
    }
    return 1;
}

/* [worker][layer][element] */
static int all_layers(golden *g, const cJSON *j, const char *what, double *out) {
    const cJSON *e;
    if (!array(g, j, g->workers, what)) return 0;
    cJSON_ArrayForEach(e, j) {
        if (!layers(g, e, what, out)) return 0;
        out += g->elements;
    }
    return 1;
}

/* [worker][n] */
static int worker_rows(golden *g, const cJSON *j, size_t n, const char *what, double *out) {
    return rows(g, j, g->workers, n, what, out);
}

static double *doubles(size_t n) {
    return (double *)room(n, sizeof(double));
}

#define HEAD_KEYS "case provenance provenance_detail note "
#define REPLAY_KEYS                                                                                                    \
    HEAD_KEYS "algorithm workers groups rounds_count local_steps_per_round layers hyper tolerance init rounds"

/* Workers, layers, hyper-parameters, tolerance, initial values. */
static int read_head(golden *g, const cJSON *doc) {
    const cJSON *h = item(doc, "hyper"), *t = item(doc, "tolerance"), *l = item(doc, "layers"),
                *init = item(doc, "init"), *e;
    long v = 0;
    double total = 0;
    size_t i = 0;
    if (!integer(g, doc, "workers", 1, MOST_WORKERS, -1, &v)) return 0;
    g->workers = (uint32_t)v;
    if (!integer(g, doc, "local_steps_per_round", 0, 1e6, -1, &g->tau)) return 0;
    if (!known(g, h, "hyper", "c1 c2 p2 prox l_comm g_comm lr mom wd ema_mu step_beta")) return 0;
    g->has_mu = item(h, "ema_mu") != NULL;
    if (!optional(g, h, "c1", 0, &g->c1) || !optional(g, h, "c2", MODEL_NAN, &g->c2) ||
        !optional(g, h, "p2", 0, &g->p2) || !optional(g, h, "lr", 0.1, &g->lr) || !optional(g, h, "mom", 0, &g->mom) ||
        !optional(g, h, "wd", 0, &g->wd) || !optional(g, h, "ema_mu", GRAWA_MODEL_MU, &g->ema_mu) ||
        !optional(g, h, "step_beta", 0.85, &g->step_beta))
        return 0;
    if (item(h, "prox") && !cJSON_IsBool(item(h, "prox"))) return bad(g, "hyper.prox: true or false is expected");
    g->prox = cJSON_IsTrue(item(h, "prox"));
    if (!integer(g, h, "l_comm", 1, 1e6, 1, &v)) return 0;
    g->l_comm = (int)v;
    if (!integer(g, h, "g_comm", 1, 1e6, g->tau > 0 ? g->tau : 1, &v)) return 0;
    g->g_comm = (int)v;
    g->abs = g->rel = 2e-6;
    if (t && (!known(g, t, "tolerance", "abs rel") || !optional(g, t, "abs", MODEL_NAN, &g->abs) ||
              !optional(g, t, "rel", MODEL_NAN, &g->rel)))
        return 0;
    if (g->abs < 0 || g->rel < 0) return bad(g, "a negative tolerance");
    if (!cJSON_IsArray(l)) return bad(g, "layers: an array is expected");
    g->layers = (size_t)cJSON_GetArraySize(l);
    if (g->layers < 1 || g->layers > 100000) return bad(g, "layers: 1 to 100000 are expected");
    g->count = (size_t *)calloc(g->layers, sizeof *g->count);
    g->start = (size_t *)calloc(g->layers, sizeof *g->start);
    if (!g->count || !g->start) return bad(g, "no memory");
    cJSON_ArrayForEach(e, l) {
        const cJSON *s, *shape;
        double product = 1;
        if (!known(g, e, "a layer", "name shape numel") || !integer(g, e, "numel", 0, MOST_ELEMENTS, -1, &v)) return 0;
        shape = item(e, "shape");
        if (!cJSON_IsArray(shape)) return bad(g, "shape: an array is expected");
        cJSON_ArrayForEach(s, shape) product *= cJSON_IsNumber(s) ? s->valuedouble : -1;
        if (product != (double)v) return bad(g, "shape and numel of a layer differ");
        g->count[i] = (size_t)v;
        g->start[i++] = (size_t)total;
        total += (double)v;
    }
    if (total * g->workers > MOST_ELEMENTS) return bad(g, "too many elements");
    g->elements = (size_t)total;
    g->init = doubles(g->workers * g->elements);
    g->center = doubles(g->elements);
    if (!known(g, init, "init", "params center")) return 0;
    return all_layers(g, item(init, "params"), "init.params", g->init) &&
           layers(g, item(init, "center"), "init.center", g->center);
}

/* ---- what the host does: SGD with weight decay, Nesterov if there is momentum ---- */

typedef struct host {
    float *velocity;
    int moving;
} host;

static void host_step(const golden *g, host *h, const weft_tensors *params, const double *grad) {
    float lr = (float)g->lr, mom = (float)g->mom, wd = (float)g->wd;
    size_t l, i;
    for (l = 0; l < g->layers; l++) {
        float *x = (float *)params->tensor[l].data, *v = h->velocity + g->start[l];
        for (i = 0; i < g->count[l]; i++) {
            float d = (float)grad[g->start[l] + i] + wd * x[i];
            if (mom != 0) {
                v[i] = h->moving ? mom * v[i] + d : d;
                d += mom * v[i];
            }
            x[i] -= lr * d;
        }
    }
    h->moving = 1;
}

static void fill(const golden *g, const weft_tensors *t, const double *v) {
    size_t l, i;
    for (l = 0; l < g->layers; l++)
        for (i = 0; i < g->count[l]; i++) cluster_set(&t->tensor[l], i, v[g->start[l] + i]);
}

/* The same step, in double, on the model. */
static void model_host_step(const golden *g, double *velocity, int moving, double *x, const double *grad) {
    size_t i;
    for (i = 0; i < g->elements; i++) {
        double d = grad[i] + g->wd * x[i];
        if (g->mom != 0) {
            velocity[i] = moving ? g->mom * velocity[i] + d : d;
            d += g->mom * velocity[i];
        }
        x[i] -= g->lr * d;
    }
}

/* Compares all elements with the file (unless that is NaN, where the library is to do better) and with the model. */
static int near_layers(golden *g, const char *what, long round, long worker, const weft_tensors *got,
                       const double *want, const double *by_rule) {
    size_t l, i;
    for (l = 0; l < g->layers; l++)
        for (i = 0; i < g->count[l]; i++) {
            double v = cluster_get(&got->tensor[l], i), m = by_rule ? by_rule[g->start[l] + i] : MODEL_NAN;
            double w = want ? want[g->start[l] + i] : m;
            if (!by_rule) m = w;
            if (isnan(w) && g->may_be_nan) w = m;
            if (!near(g, what, round, worker, v, w, g->abs, g->rel)) return 0;
            if (!near(g, what, round, worker, v, m, g->abs, g->rel)) return 0;
        }
    return 1;
}

/* ---- GRAWA ---- */

typedef struct variant {
    grawa_norm norm;
    grawa_source source;
    const char *nested; /* name of the block in `expected` that holds for it, or NULL */
} variant;

typedef struct replay {
    golden *g;
    const variant *v;
    cluster c;
    model m;
    host *host;
    double *velocity; /* of the model's host steps */
    double *step_ema; /* wrapper: [worker][layer] */
    uint64_t *step_seen;
    double *grad, *a, *b; /* scratch: [worker][element] */
    int deviates;         /* a gradient was not finite: the file follows the published code into NaN from here on */
    int wrapper, by_model;
    uint64_t rounds;
    weft_tensors *center; /* one a worker */
    weft_tensors *bn;     /* buffers of a worker, if the file has any */
    size_t bn_count[64], bn_tensors, bn_elements;
} replay;

static const char *const GRAWA_EXPECTED =
    "params_each_step params_before_comm norms ema ema_corrected running_norms weights "
    "center params_after bn_before_comm bn_after_comm";

/* Something in the file, or NaN everywhere (then only the model counts). */
static const double *wanted(replay *r, const cJSON *e, const char *key,
                            int (*read)(golden *, const cJSON *, const char *, double *), double *into) {
    if (!item(e, key) || r->deviates) return NULL;
    return read(r->g, item(e, key), key, into) ? into : NULL;
}

/* The anchor is what a worker starts from: begins there, and is given its own parameters once that is settled. */
static int replay_prepare(cluster_worker *w) {
    replay *r = (replay *)w->user;
    fill(r->g, &w->params, r->g->center);
    if (r->bn_tensors) w->desc.buffers = r->bn[w->rank] = cluster_tensors(r->bn_tensors, r->bn_count, NULL);
    return 1;
}

static int replay_open(replay *r) {
    golden *g = r->g;
    cluster_desc d = cluster_default(1, g->workers);
    const cJSON *groups = item(g->doc, "groups_of_layers"),
                *first = cJSON_GetArrayItem(item(g->inputs_doc, "rounds"), 0), *e, *k;
    const cJSON *bn = item(item(first, "expected"), "bn_before_comm");
    uint32_t w, *group_of = NULL;
    size_t i = 0;
    double period = g->tau > 0 ? (double)g->tau : 1.0;
    r->host = (host *)calloc(g->workers, sizeof *r->host);
    r->velocity = doubles(g->workers * g->elements);
    r->step_ema = doubles(g->workers * g->layers);
    r->step_seen = (uint64_t *)calloc(g->workers, sizeof *r->step_seen);
    r->grad = doubles(g->workers * g->elements);
    r->a = doubles(g->workers * g->elements);
    r->b = doubles(g->workers * g->elements);
    r->center = (weft_tensors *)calloc(g->workers, sizeof *r->center);
    r->bn = (weft_tensors *)calloc(g->workers, sizeof *r->bn);
    for (w = 0; w < g->workers; w++) {
        r->host[w].velocity = (float *)calloc(g->elements + 1, sizeof(float));
        r->center[w] = cluster_tensors(g->layers, g->count, NULL);
    }
    if (groups) {
        size_t n = 0;
        if (!cJSON_IsArray(groups)) return bad(g, "groups_of_layers: an array is expected");
        group_of = (uint32_t *)malloc((g->layers + 1) * sizeof *group_of);
        for (i = 0; i < g->layers; i++) group_of[i] = UINT32_MAX;
        cJSON_ArrayForEach(e, groups) {
            cJSON_ArrayForEach(k, e) {
                double v = cJSON_IsNumber(k) ? k->valuedouble : -1;
                if (!(v >= 0) || v >= (double)g->layers || v != floor(v) || group_of[(size_t)v] != UINT32_MAX) {
                    free(group_of);
                    return bad(g, "groups_of_layers: each layer is to be named once");
                }
                group_of[(size_t)v] = (uint32_t)n;
            }
            n++;
        }
        for (i = 0; i < g->layers; i++)
            if (group_of[i] == UINT32_MAX) {
                free(group_of);
                return bad(g, "groups_of_layers: each layer is to be named once");
            }
        d.grawa.group_of_tensor = group_of;
        d.grawa.groups = (uint32_t)n;
    }
    model_open(&r->m, g->workers, g->layers, g->count, group_of ? d.grawa.groups : r->by_model ? 1 : 0, group_of);
    r->m.norm = r->v->norm == GRAWA_NORM_SUM         ? MODEL_SUM
                : r->v->norm == GRAWA_NORM_EUCLIDEAN ? MODEL_EUCLIDEAN
                                                     : MODEL_SQUARED;
    r->m.mu = g->ema_mu;
    r->m.pull = g->c2;
    memcpy(r->m.x, g->init, g->workers * g->elements * sizeof(double));
    memcpy(r->m.center, g->center, g->elements * sizeof(double));

    /* Where the file has the published constants, the library's defaults must be the same. */
    d.tensors = g->layers;
    d.count = g->count;
    d.grawa.weighting = r->by_model ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
    d.grawa.norm = r->v->norm;
    d.grawa.source = r->v->source;
    d.grawa.initial = GRAWA_INITIAL_KEEP;
    d.grawa.period_steps = (uint32_t)period;
    d.grawa.pull = g->c2 == 0 ? WEFT_ZERO : g->c2 == 0.5 ? 0 : g->c2;
    d.grawa.ema_rounds = g->ema_mu == 0 ? WEFT_ZERO : fabs(g->ema_mu - GRAWA_MODEL_MU) < 1e-12 ? 0 : g->ema_mu;
    d.grawa.ema_steps = g->step_beta == 0 ? WEFT_ZERO : g->step_beta == 0.85 ? 0 : g->step_beta;
    if (g->prox && g->tau > 0) d.grawa.proximal = g->p2 * period / g->g_comm;
    if (cJSON_IsArray(bn) && g->workers) { /* [worker][buffer][element] */
        cJSON_ArrayForEach(e, cJSON_GetArrayItem(bn, 0)) {
            if (r->bn_tensors == 64) return bad(g, "too many buffers");
            r->bn_count[r->bn_tensors++] = (size_t)cJSON_GetArraySize(e);
            r->bn_elements += (size_t)cJSON_GetArraySize(e);
        }
    }
    d.user = r;
    d.prepare = replay_prepare;
    i = (size_t)cluster_open(&r->c, &d);
    free(group_of);
    if (!i) return bad(g, "%s", r->c.why);
    if (!cluster_start(&r->c)) return bad(g, "%s", r->c.why);
    for (w = 0; w < g->workers; w++) fill(g, &r->c.worker[w].params, g->init + w * g->elements);
    return 1;
}

static void replay_close(replay *r) {
    uint32_t w;
    if (r->c.worker && !cluster_close(&r->c)) bad(r->g, "%s", r->c.why);
    for (w = 0; w < r->g->workers; w++) {
        if (r->host) free(r->host[w].velocity);
        if (r->center) cluster_tensors_free(&r->center[w]);
        if (r->bn && r->bn[w].tensor) cluster_tensors_free(&r->bn[w]);
    }
    model_close(&r->m);
    free(r->host);
    free(r->velocity);
    free(r->step_ema);
    free(r->step_seen);
    free(r->grad);
    free(r->a);
    free(r->b);
    free(r->center);
    free(r->bn);
}

static void layer_pointers(const golden *g, const double *grad, const double **p) {
    size_t l;
    for (l = 0; l < g->layers; l++) p[l] = grad + g->start[l];
}

/* One local step of one worker, on both sides. `last`: what grawa_step is to see instead of this step's gradient, or
 * NULL. */
static int replay_step(replay *r, uint32_t w, const cJSON *grads, const double *instead) {
    golden *g = r->g;
    cluster_worker *x = &r->c.worker[w];
    double *grad = r->grad + w * g->elements, *mx = r->m.x + w * g->elements;
    size_t l, i;
    if (!layers(g, grads, "local_grads", grad)) return 0;
    model_host_step(g, r->velocity + w * g->elements, r->host[w].moving, mx, grad);
    host_step(g, &r->host[w], &x->params, grad);
    if (g->prox)
        for (i = 0; i < g->elements; i++) {
            double p = g->p2 / g->g_comm;
            mx[i] = (1 - p) * mx[i] + p * r->m.center[i];
        }
    if (r->wrapper) {
        r->step_seen[w]++;
        for (l = 0; l < g->layers; l++) {
            double s = 0, *e = &r->step_ema[w * g->layers + l];
            for (i = 0; i < g->count[l]; i++) s += grad[g->start[l] + i] * grad[g->start[l] + i];
            *e = g->step_beta * *e + (1 - g->step_beta) * sqrt(s);
        }
    }
    fill(g, &x->grads, instead ? instead : grad);
    x->status = grawa_step(x->g, &x->grads);
    return 1;
}

/* The weights that the published rule gives, into the model. */
static int replay_weights(replay *r, const cJSON *in) {
    golden *g = r->g;
    const double **p = (const double **)calloc(g->layers + 1, sizeof *p);
    double *n = doubles(r->m.groups);
    uint32_t w;
    size_t l, i;
    (void)in;
    for (w = 0; w < g->workers; w++) {
        if (r->wrapper) {
            double correct = 1 - pow(g->step_beta, (double)r->step_seen[w]);
            for (i = 0; i < r->m.groups; i++) n[i] = 0;
            for (l = 0; l < g->layers; l++) n[r->m.group[l]] += r->step_ema[w * g->layers + l] / correct;
            memcpy(r->m.hat + w * r->m.groups, n, r->m.groups * sizeof *n);
        } else {
            layer_pointers(g, r->a + w * g->elements, p);
            model_norms(&r->m, p, n);
            for (i = 0; i < r->m.groups; i++) r->deviates |= !isfinite(n[i]);
            model_smooth(&r->m, w, n);
        }
        if (r->wrapper && r->by_model) { /* starts anew after each round */
            memset(r->step_ema + w * g->layers, 0, g->layers * sizeof(double));
            r->step_seen[w] = 0;
        }
    }
    model_weigh(&r->m);
    g->may_be_nan = r->m.limit > 0 || r->deviates;
    free(n);
    free((void *)p);
    return 1;
}

/* One number for each group and worker: file, model and library. */
static int replay_groups(replay *r, const cJSON *e, const char *key, long round, const double *by_rule, double abs,
                         double rel, double (*get)(replay *, uint32_t, uint32_t)) {
    golden *g = r->g;
    const cJSON *j = item(e, key);
    size_t k, n = r->m.groups;
    uint32_t w;
    double *want = doubles(g->workers * (n > g->layers ? n : g->layers));
    int ok = 1;
    if (j && !strcmp(key, "running_norms") && r->by_model) { /* the file has them by layer, the library their sum */
        double *by_layer = doubles(g->workers * g->layers);
        ok = worker_rows(g, j, g->layers, key, by_layer);
        for (k = 0; ok && k < g->workers * g->layers; k++) want[k / g->layers] += by_layer[k];
        free(by_layer);
    } else if (j) {
        ok = worker_rows(g, j, n, key, want);
    }
    for (w = 0; ok && j && w < g->workers; w++)
        for (k = 0; ok && k < n; k++) {
            double got = get(r, w, (uint32_t)k), v = want[w * n + k], m = by_rule[w * n + k];
            if ((isnan(v) && g->may_be_nan) || r->deviates) v = m;
            ok = near(g, key, round, (long)w, got, v, abs, rel) && near(g, key, round, (long)w, got, m, abs, rel);
        }
    free(want);
    return ok;
}

static grawa_group_t group_of(replay *r, uint32_t w, uint32_t k) {
    grawa_group_t o;
    memset(&o, 0, sizeof o);
    if (grawa_group(r->c.worker[w].g, k, &o) != WEFT_OK) o.norm = o.ema = o.corrected = MODEL_INFINITY;
    return o;
}
static double get_norm(replay *r, uint32_t w, uint32_t k) {
    return group_of(r, w, k).norm;
}
static double get_ema(replay *r, uint32_t w, uint32_t k) {
    return group_of(r, w, k).ema;
}
static double get_hat(replay *r, uint32_t w, uint32_t k) {
    return group_of(r, w, k).corrected;
}

/* As every worker sees it; all must see the same bits. */
static double get_weight(replay *r, uint32_t w, uint32_t k) {
    double b = grawa_weight(r->c.worker[0].g, w, k);
    uint32_t i;
    for (i = 1; i < r->g->workers; i++)
        if (grawa_weight(r->c.worker[i].g, w, k) != b) return MODEL_INFINITY;
    return b;
}

static int replay_round(replay *r, long round, const cJSON *in, const cJSON *all_expected) {
    golden *g = r->g;
    const cJSON *e = r->v->nested ? item(all_expected, r->v->nested) : all_expected;
    const cJSON *local = item(in, "local_grads"), *steps, *bn;
    uint32_t w;
    long s;
    int ok = 1;
    if (!known(g, e, "expected", GRAWA_EXPECTED)) return 0;
    if (!r->wrapper && !all_layers(g, item(in, "probe_grads"), "probe_grads", r->a)) return 0;
    if (g->tau > 0 && !array(g, local, g->workers, "local_grads")) return 0;
    for (s = 0; s < (g->tau > 0 ? g->tau : 1); s++) {
        int closing = s == g->tau - 1 || g->tau == 0;
        for (w = 0; w < g->workers && ok; w++) {
            cluster_worker *x = &r->c.worker[w];
            const double *probe = closing && r->v->source == GRAWA_SOURCE_CLOSING ? r->a + w * g->elements : NULL;
            if (g->tau == 0) {
                if (probe) fill(g, &x->grads, probe);
                x->status = grawa_step(x->g, probe ? &x->grads : NULL);
            } else {
                steps = array(g, cJSON_GetArrayItem(local, (int)w), (size_t)g->tau, "local_grads");
                ok = steps && replay_step(r, w, cJSON_GetArrayItem(steps, (int)s), probe);
                if (!ok) return 0;
            }
            if (x->status < 0)
                return bad(g, "round %ld, worker %lu: %s", round + 1, (unsigned long)w, weft_strerror(x->status));
            if (closing == (x->status == WEFT_OK) && g->workers > 1)
                return bad(g, "round %ld, worker %lu, step %ld: %s", round + 1, (unsigned long)w, s + 1,
                           closing ? "no round was begun" : "a round was begun too soon");
            /* the parameters are the host's until the round commits; one worker alone is not moved by its own center */
            if (item(e, "params_each_step")) {
                const cJSON *each = array(g, item(e, "params_each_step"), g->workers, "params_each_step");
                each = each ? array(g, cJSON_GetArrayItem(each, (int)w), (size_t)g->tau, "params_each_step") : NULL;
                if (!each || !layers(g, cJSON_GetArrayItem(each, (int)s), "params_each_step", r->b)) return 0;
                if (!near_layers(g, "params_each_step", round, (long)w, &x->params, r->deviates ? NULL : r->b,
                                 r->m.x + w * g->elements))
                    return 0;
            }
            if (closing && item(e, "params_before_comm")) {
                if (!all_layers(g, item(e, "params_before_comm"), "params_before_comm", r->b)) return 0;
                if (!near_layers(g, "params_before_comm", round, (long)w, &x->params,
                                 r->deviates ? NULL : r->b + w * g->elements, r->m.x + w * g->elements))
                    return 0;
            }
            if (r->bn_tensors && closing) { /* what the host's forward passes have left there */
                bn = array(g, item(e, "bn_after_comm"), g->workers, "bn_after_comm");
                bn = bn ? array(g, cJSON_GetArrayItem(bn, (int)w), r->bn_tensors, "bn_after_comm") : NULL;
                if (!bn) return 0;
                for (size_t t = 0; t < r->bn_tensors; t++) {
                    double *v = doubles(r->bn_count[t]);
                    ok = numbers(g, cJSON_GetArrayItem(bn, (int)t), r->bn_count[t], "bn_after_comm", v);
                    for (size_t i = 0; ok && i < r->bn_count[t]; i++) cluster_set(&r->bn[w].tensor[t], i, v[i]);
                    free(v);
                }
            }
        }
    }
    if (!replay_weights(r, in)) return 0;
    if (!cluster_settle(&r->c)) return bad(g, "%s", r->c.why);
    if (r->v->source == GRAWA_SOURCE_PROBE) {
        for (w = 0; w < g->workers; w++) {
            cluster_worker *x = &r->c.worker[w];
            if (x->status != WEFT_WANT_GRADIENT)
                return bad(g, "round %ld, worker %lu: no probe is asked for", round + 1, (unsigned long)w);
            fill(g, &x->grads, r->a + w * g->elements);
            x->status = grawa_probe(x->g, &x->grads);
        }
        if (!cluster_settle(&r->c)) return bad(g, "%s", r->c.why);
    }
    if (!cluster_fine(&r->c, "the round")) return bad(g, "%s", r->c.why);
    model_move(&r->m);
    r->rounds++;
    for (w = 0; w < g->workers; w++) {
        grawa_stats_t st;
        grawa_stats(r->c.worker[w].g, &st);
        exactly(g, "stats.rounds", round, (long)w, (double)st.rounds, (double)r->rounds);
        exactly(g, "stats.zero_norms", round, (long)w, (double)st.zero_norms, (double)r->m.limit);
        exactly(g, "groups", round, (long)w, grawa_groups(r->c.worker[w].g), (double)r->m.groups);
    }
    ok = replay_groups(r, e, "norms", round, r->m.n, g->abs, g->rel, get_norm) &&
         replay_groups(r, e, "ema", round, r->m.ema, g->abs, g->rel, get_ema) &&
         replay_groups(r, e, "ema_corrected", round, r->m.hat, g->abs, g->rel, get_hat) &&
         replay_groups(r, e, "running_norms", round, r->m.hat, g->abs, g->rel, get_hat) &&
         replay_groups(r, e, "weights", round, r->m.beta, 1e-12, 3e-6, get_weight);
    if (!ok) return 0;
    for (w = 0; w < g->workers; w++) {
        const double *want = wanted(r, e, "params_after", all_layers, r->b);
        if (g->misses) return 0;
        if (!near_layers(g, "params_after", round, (long)w, &r->c.worker[w].params,
                         want ? want + w * g->elements : NULL, r->m.x + w * g->elements))
            return 0;
    }
    if (r->bn_tensors) /* stay as the host has left them */
        for (w = 0; w < g->workers; w++) {
            bn = cJSON_GetArrayItem(item(e, "bn_after_comm"), (int)w);
            for (size_t t = 0; t < r->bn_tensors; t++)
                for (size_t i = 0; i < r->bn_count[t]; i++) {
                    double v = 0;
                    number(g, cJSON_GetArrayItem(cJSON_GetArrayItem(bn, (int)t), (int)i), "bn_after_comm", &v);
                    exactly(g, "bn_after_comm", round, (long)w, cluster_get(&r->bn[w].tensor[t], i), (double)(float)v);
                }
        }
    /* the weighted center is what all were pulled to, and is still that of the models as they now are */
    CLUSTER_ALL(&r->c, x, grawa_average(x->g, GRAWA_CENTER, &r->center[x->rank], NULL));
    if (r->c.why[0]) return bad(g, "%s", r->c.why);
    for (w = 0; w < g->workers; w++) {
        const double *want = wanted(r, e, "center", layers, r->b);
        if (g->misses) return 0;
        if (!near_layers(g, "center", round, (long)w, &r->center[w], want, r->m.center)) return 0;
    }
    return 1;
}

static void grawa_replay_variant(golden *g, const variant *v, const char *algorithm) {
    replay r;
    const cJSON *rounds = item(g->inputs_doc, "rounds"), *rd;
    long i = 0;
    memset(&r, 0, sizeof r);
    g->may_be_nan = 0;
    r.g = g;
    r.v = v;
    r.by_model = algorithm[0] == 'M';
    r.wrapper = strstr(algorithm, "Wrapper") != NULL;
    if (replay_open(&r)) {
        cJSON_ArrayForEach(rd, rounds) {
            const cJSON *in = item(rd, "inputs"), *e = item(g->doc == g->inputs_doc ? rd : g->doc, "expected");
            if (!known(g, rd, "a round", "round inputs expected") ||
                !known(g, in, "inputs", "local_grads probe_grads local_x local_y probe_x probe_y") ||
                !replay_round(&r, i, in, e))
                break;
            i++;
        }
    }
    if (g->why[0] && v->nested) {
        size_t n = strlen(g->why);
        snprintf(g->why + n, sizeof g->why - n, " (%s)", v->nested);
    }
    replay_close(&r);
}

static void grawa_replay(golden *g, const char *algorithm) {
    static const struct {
        const char *name;
        grawa_norm norm;
        int skip;
    } nested[] = {{"sum_of_tensor_norms", GRAWA_NORM_SUM, 0},
                  {"euclidean", GRAWA_NORM_EUCLIDEAN, 0},
                  {"euclidean_exponent_2", GRAWA_NORM_SQUARED, 0},
                  {"limit", GRAWA_NORM_SUM, 0},
                  {"eps_1e-12", GRAWA_NORM_SUM, 1}};
    const cJSON *rounds = item(g->inputs_doc, "rounds"), *rd, *first, *k;
    size_t i, blocks = 0;
    if (!cJSON_IsArray(rounds) || cJSON_GetArraySize(rounds) < 1) {
        bad(g, "no rounds");
        return;
    }
    first = item(g->doc == g->inputs_doc ? cJSON_GetArrayItem(rounds, 0) : g->doc, "expected");
    for (i = 0; i < sizeof nested / sizeof *nested; i++) blocks += item(first, nested[i].name) != NULL;
    cJSON_ArrayForEach(rd, rounds) {
        if (blocks) {
            const cJSON *e = item(rd, "expected");
            cJSON_ArrayForEach(k, e) {
                for (i = 0; i < sizeof nested / sizeof *nested && strcmp(nested[i].name, k->string); i++) continue;
                if (i == sizeof nested / sizeof *nested) {
                    bad(g, "unknown key \"%.60s\" in expected", k->string);
                    return;
                }
            }
        }
    }
    for (i = 0; i < (blocks ? sizeof nested / sizeof *nested : 1) && !g->misses; i++) {
        variant v = {blocks ? nested[i].norm : GRAWA_NORM_SUM, GRAWA_SOURCE_PROBE, blocks ? nested[i].name : NULL};
        if (blocks && (nested[i].skip || !item(first, nested[i].name))) continue;
        if (strstr(algorithm, "Wrapper")) {
            v.source = GRAWA_SOURCE_STEPS;
            grawa_replay_variant(g, &v, algorithm);
        } else {
            grawa_replay_variant(g, &v, algorithm);
            v.source = GRAWA_SOURCE_CLOSING;
            if (!g->misses) grawa_replay_variant(g, &v, algorithm);
        }
    }
}

/* ---- the comparison rules, over the library's collectives ---- */

/* A worker's side: what it exchanges, and the collectives for it, on channels beside that of the cluster's own
 * objects. */
typedef struct elastic {
    weft_tensors other;  /* the mean (EASGD), the leader's model (LSGD) */
    weft_tensors center; /* EASGD: the center variable; LSGD: the last leader's model */
    float *loss;         /* LSGD: everybody's */
    weft_tensor vote_view;
    weft_collective *all, *group, *vote;
    void *all_memory, *group_memory, *vote_memory;
    host h;
    weft_status status;
} elastic;

typedef struct contest {
    golden *g;
    cluster c;
    elastic *e;
    double *weight;          /* 1 / workers */
    uint32_t *rank, per;     /* workers of a group */
    double *x, *velocity;    /* the model, in double: [worker][element] */
    double *anchor;          /* [element] */
    double *in, *want;       /* scratch, from the file */
    weft_collective **doing; /* one a worker */
} contest;

static weft_collective *collective_open(contest *k, uint32_t w, weft_tensors tensors, uint32_t channel,
                                        const weft_view *view, void **memory) {
    weft_collective_desc d;
    weft_collective *c = NULL;
    weft_detail why;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.tensors = tensors;
    d.transport = &k->c.worker[w].net;
    d.channel = channel;
    d.view = view;
    bytes = weft_collective_memory(&d, NULL);
    *memory = malloc(bytes);
    if (weft_collective_init(&c, &d, *memory, bytes, &why) != WEFT_OK) bad(k->g, "collective: %s", why.field);
    return c;
}

static int contest_step(void *user, uint32_t rank) {
    contest *k = (contest *)user;
    elastic *e = &k->e[rank];
    if (e->status == WEFT_AGAIN) e->status = weft_collective_poll(k->doing[rank]);
    return e->status != WEFT_AGAIN;
}

/* The operation that all have begun on k->doing, to its end. */
static int contest_settle(contest *k) {
    uint32_t w;
    for (w = 0; w < k->g->workers; w++) weft_sim_worker(&k->c.sim, w, contest_step, k);
    if (weft_sim_run(&k->c.sim, 1000000) != WEFT_SIM_DONE) return bad(k->g, "%s", weft_sim_text(&k->c.sim));
    for (w = 0; w < k->g->workers; w++)
        if (k->e[w].status != WEFT_OK) return bad(k->g, "collective: %s", weft_strerror(k->e[w].status));
    return 1;
}

static int contest_open(contest *k) {
    golden *g = k->g;
    cluster_desc d = cluster_default(1, g->workers);
    uint32_t w, i;
    size_t t;
    d.tensors = g->layers;
    d.count = g->count;
    d.grawa.initial = GRAWA_INITIAL_KEEP;
    k->e = (elastic *)calloc(g->workers, sizeof *k->e);
    k->weight = doubles(g->workers);
    k->rank = (uint32_t *)calloc(g->workers, sizeof *k->rank);
    k->x = doubles(g->workers * g->elements);
    k->velocity = doubles(g->workers * g->elements);
    k->anchor = doubles(g->elements);
    k->in = doubles(g->workers * (g->elements > g->workers ? g->elements : g->workers));
    k->want = doubles(g->workers * g->elements);
    k->doing = (weft_collective **)calloc(g->workers, sizeof *k->doing);
    memcpy(k->x, g->init, g->workers * g->elements * sizeof *k->x);
    memcpy(k->anchor, g->center, g->elements * sizeof *k->anchor);
    for (w = 0; w < g->workers; w++) {
        k->weight[w] = 1.0 / g->workers;
        k->rank[w] = w;
    }
    if (!cluster_open(&k->c, &d)) return bad(g, "%s", k->c.why);
    for (w = 0; w < g->workers; w++) {
        elastic *e = &k->e[w];
        weft_tensors votes;
        weft_view view;
        fill(g, &k->c.worker[w].params, g->init + w * g->elements);
        e->other = cluster_tensors(g->layers, g->count, NULL);
        e->center = cluster_tensors(g->layers, g->count, NULL);
        fill(g, &e->center, g->center);
        e->loss = (float *)calloc(g->workers, sizeof(float));
        e->h.velocity = (float *)calloc(g->elements + 1, sizeof(float));
        e->vote_view.data = e->loss;
        e->vote_view.count = g->workers;
        e->vote_view.dtype = WEFT_F32;
        votes.tensor = &e->vote_view;
        votes.count = 1;
        for (i = 0; i < k->per; i++) k->rank[i] = w / k->per * k->per + i;
        memset(&view, 0, sizeof view);
        view.struct_size = sizeof view;
        view.count = k->per;
        view.members = k->rank;
        e->all = collective_open(k, w, e->other, 1, NULL, &e->all_memory);
        e->group = collective_open(k, w, e->other, 2, &view, &e->group_memory);
        e->vote = collective_open(k, w, votes, 3, NULL, &e->vote_memory);
        if (!e->all || !e->group || !e->vote) return 0;
    }
    for (w = 0; w < g->workers; w++) k->rank[w] = w;
    for (t = 0; g->prox && g->tau && t < g->elements; t++)
        if (!isfinite(g->center[t])) return bad(g, "init.center is not finite");
    return 1;
}

static void contest_close(contest *k) {
    uint32_t w;
    for (w = 0; k->e && w < k->g->workers; w++) {
        elastic *e = &k->e[w];
        if (e->all) weft_collective_close(e->all);
        if (e->group) weft_collective_close(e->group);
        if (e->vote) weft_collective_close(e->vote);
        free(e->all_memory);
        free(e->group_memory);
        free(e->vote_memory);
        if (e->other.tensor) cluster_tensors_free(&e->other);
        if (e->center.tensor) cluster_tensors_free(&e->center);
        free(e->loss);
        free(e->h.velocity);
    }
    if (k->c.worker && !cluster_close(&k->c)) bad(k->g, "%s", k->c.why);
    free(k->e);
    free(k->weight);
    free(k->rank);
    free(k->x);
    free(k->velocity);
    free(k->anchor);
    free(k->in);
    free(k->want);
    free(k->doing);
}

static void copy_params(contest *k, uint32_t w) {
    cluster_copy(&k->c.worker[w].params, &k->e[w].other);
}

/* Every worker's own model, summed with equal weights, in everybody's `other`. */
static int contest_mean(contest *k) {
    uint32_t w;
    for (w = 0; w < k->g->workers; w++) {
        copy_params(k, w);
        k->doing[w] = k->e[w].all;
        k->e[w].status = weft_collective_begin(k->doing[w], WEFT_OP_ALL_REDUCE, k->weight, 0);
    }
    return contest_settle(k);
}

static void pull_all(contest *k, uint32_t w, const weft_tensors *to, float pull) {
    size_t l;
    for (l = 0; l < k->g->layers; l++)
        lsgd_pull(k->g->count[l], (float *)k->c.worker[w].params.tensor[l].data, (const float *)to->tensor[l].data,
                  pull);
}

static void model_pull(const golden *g, double *x, const double *z, double pull) {
    size_t i;
    for (i = 0; i < g->elements; i++) x[i] = (1 - pull) * x[i] + pull * z[i];
}

static int easgd_round(contest *k) {
    golden *g = k->g;
    double beta = g->c2, alpha = g->c2 / g->workers;
    uint32_t w;
    size_t l, i;
    if (!contest_mean(k)) return 0;
    for (w = 0; w < g->workers; w++)
        for (l = 0; l < g->layers; l++)
            easgd_move(g->count[l], (float *)k->c.worker[w].params.tensor[l].data,
                       (float *)k->e[w].center.tensor[l].data, (const float *)k->e[w].other.tensor[l].data,
                       (float)alpha, (float)beta);
    for (i = 0; i < g->elements; i++) {
        double mean = 0, old = k->anchor[i];
        for (w = 0; w < g->workers; w++) {
            double *x = &k->x[w * g->elements + i];
            mean += *x / g->workers;
            *x -= alpha * (*x - old);
        }
        k->anchor[i] = (1 - beta) * old + beta * mean;
    }
    return 1;
}

/* One vote, a pull to the leader of the group (if there are several), and a pull to the leader of all (if its time
 * has come). */
static int lsgd_round(contest *k, long round, const cJSON *in, const cJSON *e, int compare) {
    golden *g = k->g;
    int groups = k->per < g->workers,
        global = !groups || (round + 1) % (g->g_comm > g->l_comm ? g->g_comm / g->l_comm : 1) == 0;
    uint32_t w, i, leader = 0;
    uint32_t *members = (uint32_t *)calloc(g->workers, sizeof *members);
    double *losses = k->in, *seen = doubles(g->workers);
    int ok = numbers(g, item(in, "losses"), g->workers, "losses", losses);
    for (w = 0; ok && w < g->workers; w++) {
        memset(k->e[w].loss, 0, g->workers * sizeof(float));
        k->e[w].loss[w] = (float)losses[w];
        k->doing[w] = k->e[w].vote;
        k->e[w].status = weft_collective_begin(k->doing[w], WEFT_OP_ALL_REDUCE, NULL, 0);
    }
    ok = ok && contest_settle(k);
    if (ok && groups) {
        for (w = 0; w < g->workers; w++) {
            for (i = 0; i < k->per; i++) members[i] = w / k->per * k->per + i;
            seen[w] = leader = lsgd_leader(k->e[w].loss, members, k->per);
            copy_params(k, w);
            k->doing[w] = k->e[w].group;
            k->e[w].status = weft_collective_begin(k->doing[w], WEFT_OP_BROADCAST, NULL, leader);
        }
        ok = contest_settle(k);
        memcpy(k->want, k->x, g->workers * g->elements * sizeof *k->want);
        for (w = 0; ok && w < g->workers; w++) {
            const cJSON *each = item(e, "group_leader_params");
            if (each && compare) {
                ok = array(g, each, g->workers, "group_leader_params") &&
                     layers(g, cJSON_GetArrayItem(each, (int)w), "group_leader_params", k->in) &&
                     near_layers(g, "group_leader_params", round, (long)w, &k->e[w].other, k->in, NULL);
            }
            pull_all(k, w, &k->e[w].other, (float)g->c1);
            model_pull(g, k->x + w * g->elements, k->want + (size_t)seen[w] * g->elements, g->c1);
        }
    }
    if (ok && global) {
        for (w = 0; w < g->workers; w++) {
            seen[w] = leader = lsgd_leader(k->e[w].loss, k->rank, g->workers);
            copy_params(k, w);
            k->doing[w] = k->e[w].all;
            k->e[w].status = weft_collective_begin(k->doing[w], WEFT_OP_BROADCAST, NULL, leader);
        }
        ok = contest_settle(k);
        if (ok) memcpy(k->anchor, k->x + leader * g->elements, g->elements * sizeof *k->anchor);
        for (w = 0; ok && w < g->workers; w++) {
            cluster_copy(&k->e[w].other, &k->e[w].center);
            pull_all(k, w, &k->e[w].center, (float)g->c2);
            model_pull(g, k->x + w * g->elements, k->anchor, g->c2);
        }
    }
    if (ok && item(e, "leader")) { /* depends on nothing but the losses */
        ok = numbers(g, item(e, "leader"), g->workers, "leader", k->in);
        for (w = 0; ok && w < g->workers; w++) ok = exactly(g, "leader", round, (long)w, seen[w], k->in[w]);
    }
    free(members);
    free(seen);
    return ok;
}

/* The local steps of one worker, with the proximal pull to the last leader. */
static int contest_steps(contest *k, uint32_t w, long round, const cJSON *in, const cJSON *e, int compare) {
    golden *g = k->g;
    const cJSON *grads, *each = item(e, "params_each_step");
    float p = (float)(g->p2 / g->g_comm);
    long s;
    if (!g->tau) return 1;
    if (!array(g, item(in, "local_grads"), g->workers, "local_grads")) return 0;
    grads = array(g, cJSON_GetArrayItem(item(in, "local_grads"), (int)w), (size_t)g->tau, "local_grads");
    if (!grads) return 0;
    if (each) {
        each = array(g, each, g->workers, "params_each_step");
        each = each ? array(g, cJSON_GetArrayItem(each, (int)w), (size_t)g->tau, "params_each_step") : NULL;
        if (!each) return 0;
    }
    for (s = 0; s < g->tau; s++) {
        double *x = k->x + w * g->elements;
        if (!layers(g, cJSON_GetArrayItem(grads, (int)s), "local_grads", k->in)) return 0;
        model_host_step(g, k->velocity + w * g->elements, k->e[w].h.moving, x, k->in);
        host_step(g, &k->e[w].h, &k->c.worker[w].params, k->in);
        if (g->prox) {
            pull_all(k, w, &k->e[w].center, p);
            model_pull(g, x, k->anchor, g->p2 / g->g_comm);
        }
        if (each &&
            (!layers(g, cJSON_GetArrayItem(each, (int)s), "params_each_step", k->in) ||
             !near_layers(g, "params_each_step", round, (long)w, &k->c.worker[w].params, compare ? k->in : NULL, x)))
            return 0;
    }
    return 1;
}

/* All workers' models, against the file and the model. */
static int contest_compare(contest *k, long round, const cJSON *e, const char *key, int compare) {
    golden *g = k->g;
    uint32_t w;
    if (item(e, key) && !all_layers(g, item(e, key), key, k->want)) return 0;
    for (w = 0; w < g->workers; w++)
        if (!near_layers(g, key, round, (long)w, &k->c.worker[w].params,
                         item(e, key) && compare ? k->want + w * g->elements : NULL, k->x + w * g->elements))
            return 0;
    return 1;
}

static void compare_replay(golden *g, const char *algorithm) {
    int easgd = algorithm[0] == 'E', compare = 1;
    const cJSON *rounds = item(g->doc, "rounds"), *rd;
    long groups = 1, round = 0;
    contest k;
    memset(&k, 0, sizeof k);
    k.g = g;
    if (!integer(g, g->doc, "groups", 1, g->workers, 1, &groups)) return;
    if (g->workers % (uint32_t)groups) {
        bad(g, "groups of unequal size");
        return;
    }
    k.per = g->workers / (uint32_t)groups;
    if (!cJSON_IsArray(rounds) || !contest_open(&k)) {
        bad(g, "no rounds");
        contest_close(&k);
        return;
    }
    cJSON_ArrayForEach(rd, rounds) {
        const cJSON *in = item(rd, "inputs"), *e = item(rd, "expected");
        uint32_t w;
        int ok =
            known(g, rd, "a round", "round inputs expected") && known(g, in, "inputs", "local_grads losses") &&
            known(g, e, "expected",
                  easgd ? "params_each_step params_before_comm center params_after"
                        : "params_each_step params_before_comm leader leader_params group_leader_params params_after "
                          "evaluated_center prox_anchor_after_test");
        for (w = 0; ok && w < g->workers; w++) ok = contest_steps(&k, w, round, in, e, compare);
        ok = ok && contest_compare(&k, round, e, "params_before_comm", compare);
        ok = ok && (easgd ? easgd_round(&k) : lsgd_round(&k, round, in, e, compare));
        ok = ok && contest_compare(&k, round, e, "params_after", compare);
        if (ok && item(e, easgd ? "center" : "leader_params")) {
            ok = layers(g, item(e, easgd ? "center" : "leader_params"), "center", k.in);
            for (w = 0; ok && w < g->workers; w++)
                ok = near_layers(g, easgd ? "center" : "leader_params", round, (long)w, &k.e[w].center,
                                 compare ? k.in : NULL, k.anchor);
        }
        if (ok && item(e, "evaluated_center")) { /* the plain mean */
            ok = layers(g, item(e, "evaluated_center"), "evaluated_center", k.in) && contest_mean(&k);
            for (w = 0; ok && w < g->workers; w++)
                ok = near_layers(g, "evaluated_center", round, (long)w, &k.e[w].other, compare ? k.in : NULL, NULL);
        }
        if (ok && item(e, "prox_anchor_after_test")) {
            /* The published code zeroes the anchor here, and its workers are dragged to zero from then on. That is a
             * fault which is not to be had: from here on the model alone says what is right (and what the file says
             * must be something else). */
            size_t i;
            ok = layers(g, item(e, "prox_anchor_after_test"), "prox_anchor_after_test", k.in);
            for (i = 0; ok && i < g->elements; i++)
                if (k.in[i] != 0) ok = bad(g, "prox_anchor_after_test is known as all zeros only");
            for (w = 0; ok && w < g->workers; w++)
                ok = near_layers(g, "anchor", round, (long)w, &k.e[w].center, NULL, k.anchor);
            compare = 0;
        } else if (ok && !compare && item(e, "params_after")) {
            size_t i, apart = 0;
            for (i = 0; i < g->workers * g->elements; i++)
                apart += fabs(k.x[i] - k.want[i]) > g->abs + g->rel * fabs(k.want[i]);
            if (g->prox && !apart) ok = bad(g, "the fault that this file pins is there");
        }
        if (!ok) break;
        round++;
    }
    contest_close(&k);
}

/* ---- the total-step trigger ---- */

static cluster_desc trigger_desc(uint32_t workers, long tau) {
    static const size_t count[] = {3, 4};
    cluster_desc d = cluster_default(1, workers);
    d.sim.latency_ns = 0;
    d.tensors = 2;
    d.count = count;
    d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    d.grawa.period_steps = (uint32_t)tau;
    return d;
}

/* Request k is made by worker k mod M at its time: 0, it begins a local step; 1, it joins the round. 2: the host
 * stops, which it only considers when a worker asks right after a round. */
static void server_replay(golden *g) {
    const cJSON *doc = g->doc;
    cluster c;
    cluster_desc d;
    long workers = 0, tau = 0;
    double budget = 0, *time = NULL, *answer = NULL;
    unsigned char *fresh = NULL;
    size_t n, k;
    int stopped = 0;
    uint64_t rounds = 0, asked_after = 0; /* rounds when somebody last asked */
    if (!known(g, doc, "the file", HEAD_KEYS "workers tau period_seconds answer_codes request_times expected_answers"))
        return;
    if (!integer(g, doc, "workers", 1, MOST_WORKERS, -1, &workers) || !integer(g, doc, "tau", 1, 1e6, -1, &tau) ||
        !optional(g, doc, "period_seconds", MODEL_NAN, &budget))
        return;
    n = cJSON_IsArray(item(doc, "request_times")) ? (size_t)cJSON_GetArraySize(item(doc, "request_times")) : 0;
    time = doubles(n);
    answer = doubles(n);
    fresh = (unsigned char *)malloc((size_t)workers);
    if (!numbers(g, item(doc, "request_times"), n, "request_times", time) ||
        !numbers(g, item(doc, "expected_answers"), n, "expected_answers", answer)) {
        free(time);
        free(answer);
        free(fresh);
        return;
    }
    memset(fresh, 1, (size_t)workers); /* has no local step under way */
    d = trigger_desc((uint32_t)workers, tau);
    if (!cluster_open(&c, &d) || !cluster_start(&c)) bad(g, "%s", c.why);
    for (k = 0; k < n && !g->misses; k++) {
        cluster_worker *w = &c.worker[k % (size_t)workers];
        uint64_t at = (uint64_t)(time[k] * 1e9 + 0.5);
        grawa_stats_t st;
        double got;
        if (!(time[k] >= 0) || time[k] > 1e6 || at < weft_sim_now(&c.sim)) {
            bad(g, "request_times must not go back");
            break;
        }
        cluster_advance(&c, at - weft_sim_now(&c.sim));
        grawa_stats(w->g, &st);
        rounds = st.rounds;
        if (stopped) {
            got = 2;
        } else if (fresh[w->rank]) {
            if (!(grawa_state(w->g) & GRAWA_MAY_STEP)) bad(g, "request %zu: the worker is still in the round", k);
            /* the first to ask after a round looks at the clock */
            stopped = rounds > asked_after && time[k] > budget;
            got = stopped ? 2 : 0;
            fresh[w->rank] = 0;
        } else if (w->status == WEFT_AGAIN) {
            bad(g, "request %zu: worker %lu is waiting for the others", k, (unsigned long)w->rank);
            break;
        } else {
            w->status = grawa_step(w->g, c.desc.train(w));
            if (w->status < 0) {
                bad(g, "request %zu: %s", k, weft_strerror(w->status));
                break;
            }
            got = w->status == WEFT_OK ? 0 : 1;
            if (workers == 1) { /* a round of one is over at once */
                grawa_stats(w->g, &st);
                got = st.rounds > rounds;
            }
            if (got == 1) fresh[w->rank] = 1;
        }
        asked_after = rounds;
        cluster_advance(&c, 0);
        exactly(g, "answer to a request", (long)k, (long)w->rank, got, answer[k]);
    }
    if (c.worker && !cluster_close(&c)) bad(g, "%s", c.why);
    free(time);
    free(answer);
    free(fresh);
}

typedef struct async_log {
    golden *g;
    const cJSON *rounds;
    uint64_t collective_ns;
    uint64_t done[MOST_WORKERS], steps[MOST_WORKERS]; /* rounds; steps when the last one began */
    uint64_t *joined, *count;                         /* [round][worker] */
    uint64_t want;
} async_log;

/* A worker comes back from a round: the collective's duration is the host's to add; those released together are
 * served in the order of rank, a nanosecond apart. */
static void async_back(cluster_worker *w) {
    async_log *log = (async_log *)w->user;
    uint64_t *done = &log->done[w->rank];
    if (!w->joined) return;
    if (*done < log->want) {
        log->joined[*done * w->c->size + w->rank] = w->joined_ns;
        log->count[*done * w->c->size + w->rank] = w->step - log->steps[w->rank];
    }
    log->steps[w->rank] = w->step;
    if (++*done == log->want) w->goal = w->step;
    w->pause_ns = log->collective_ns + w->rank;
}

static void async_replay(golden *g) {
    const cJSON *doc = g->doc, *rd;
    async_log log;
    cluster c;
    cluster_desc d;
    long workers = 0, tau = 0, round = 0;
    double seconds[MOST_WORKERS], steps[MOST_WORKERS], wait[MOST_WORKERS], collective = 0, starts = 0;
    uint32_t w;
    memset(&log, 0, sizeof log);
    memset(&c, 0, sizeof c);
    if (!known(g, doc, "the file", HEAD_KEYS "workers tau step_seconds collective_seconds rounds")) return;
    if (!integer(g, doc, "workers", 2, MOST_WORKERS, -1, &workers) || !integer(g, doc, "tau", 1, 1e6, -1, &tau) ||
        !optional(g, doc, "collective_seconds", MODEL_NAN, &collective))
        return;
    if (!(collective >= 0) || collective > 1e4) {
        bad(g, "collective_seconds: 0 to 10000 is expected");
        return;
    }
    g->workers = (uint32_t)workers;
    if (!numbers(g, item(doc, "step_seconds"), (size_t)workers, "step_seconds", seconds)) return;
    log.g = g;
    log.rounds = item(doc, "rounds");
    if (!cJSON_IsArray(log.rounds) || !cJSON_GetArraySize(log.rounds)) {
        bad(g, "no rounds");
        return;
    }
    log.want = (uint64_t)cJSON_GetArraySize(log.rounds);
    log.collective_ns = (uint64_t)(collective * 1e9 + 0.5);
    log.joined = (uint64_t *)calloc(log.want * (size_t)workers, sizeof *log.joined);
    log.count = (uint64_t *)calloc(log.want * (size_t)workers, sizeof *log.count);
    d = trigger_desc((uint32_t)workers, tau);
    d.user = &log;
    d.back = async_back;
    if (!cluster_open(&c, &d) || !cluster_start(&c)) bad(g, "%s", c.why);
    for (w = 0; w < c.size && !g->misses; w++) {
        if (!(seconds[w] >= 1e-6) || seconds[w] > 1e4)
            bad(g, "step_seconds: 0.000001 to 10000 is expected");
        else
            c.worker[w].step_ns = (uint64_t)(seconds[w] * 1e9 + 0.5);
        c.worker[w].pause_ns = w;
    }
    if (!g->misses && !cluster_run(&c, UINT64_MAX / 2)) bad(g, "%s", c.why);
    cJSON_ArrayForEach(rd, log.rounds) {
        uint64_t start = 0, *joined = log.joined + (size_t)round * (size_t)workers;
        if (g->misses || !known(g, rd, "a round", "local_steps wait collective_starts") ||
            !numbers(g, item(rd, "local_steps"), (size_t)workers, "local_steps", steps) ||
            !numbers(g, item(rd, "wait"), (size_t)workers, "wait", wait) ||
            !optional(g, rd, "collective_starts", MODEL_NAN, &starts))
            break;
        for (w = 0; w < c.size; w++)
            if (joined[w] > start) start = joined[w];
        near(g, "collective_starts", round, -1, (double)start * 1e-9, starts, 1e-6, 0);
        for (w = 0; w < c.size; w++) {
            exactly(g, "local_steps", round, (long)w, (double)log.count[(size_t)round * (size_t)workers + w], steps[w]);
            near(g, "wait", round, (long)w, (double)(start - joined[w]) * 1e-9, wait[w], 1e-6, 0);
        }
        round++;
    }
    if (c.worker && !cluster_close(&c)) bad(g, "%s", c.why);
    free(log.joined);
    free(log.count);
}

/* ---- files ---- */

/* A file without inputs says in its note whose inputs it uses: that file is expected beside it. */
static int find_inputs(golden *g) {
    static const char say[] = "inputs are those of ";
    const cJSON *note = item(g->doc, "note");
    const char *name = cJSON_IsString(note) ? strstr(note->valuestring, say) : NULL, *slash = strrchr(g->path, '/');
    char path[4096];
    size_t n = 0;
    if (!name) return bad(g, "neither inputs nor a note that says whose they are");
    name += strlen(say);
    while (name[n] && strchr("abcdefghijklmnopqrstuvwxyz0123456789_", name[n])) n++;
    if (snprintf(path, sizeof path, "%.*s%.*s.json", slash ? (int)(slash - g->path + 1) : 0, g->path, (int)n, name) >=
        (int)sizeof path)
        return bad(g, "a path is too long");
    g->inputs_doc = parse(g, path);
    return g->inputs_doc != NULL;
}

static void replay_file(golden *g) {
    const cJSON *algorithm;
    const char *a;
    if (!cJSON_IsObject(g->doc)) {
        bad(g, "not an object");
        return;
    }
    if (item(g->doc, "request_times")) {
        server_replay(g);
        return;
    }
    if (item(g->doc, "step_seconds")) {
        async_replay(g);
        return;
    }
    algorithm = item(g->doc, "algorithm");
    a = cJSON_IsString(algorithm) ? algorithm->valuestring : "";
    g->inputs_doc = g->doc;
    if (item(g->doc, "groups_of_layers")) {
        if (!known(g, g->doc, "the file", HEAD_KEYS "algorithm workers groups_of_layers hyper expected")) return;
        if (!find_inputs(g) || !known(g, g->inputs_doc, "the file with the inputs", REPLAY_KEYS)) return;
    } else if (!known(g, g->doc, "the file", REPLAY_KEYS)) {
        return;
    }
    if (!read_head(g, g->inputs_doc)) return;
    if (g->inputs_doc != g->doc) {
        const cJSON *h = item(g->doc, "hyper");
        long workers = 0;
        if (!integer(g, g->doc, "workers", 1, MOST_WORKERS, -1, &workers) || !known(g, h, "hyper", "c2 ema_mu") ||
            !optional(g, h, "c2", MODEL_NAN, &g->c2) || !optional(g, h, "ema_mu", GRAWA_MODEL_MU, &g->ema_mu))
            return;
        if ((uint32_t)workers != g->workers || cJSON_GetArraySize(item(g->inputs_doc, "rounds")) != 1) {
            bad(g, "the inputs do not fit");
            return;
        }
    }
    if (!strcmp(a, "MGRAWA") || !strcmp(a, "LGRAWA") || !strcmp(a, "MGRAWAWrapper") || !strcmp(a, "LGRAWAWrapper"))
        grawa_replay(g, a);
    else if (!strcmp(a, "EASGD") || !strcmp(a, "LSGD"))
        compare_replay(g, a);
    else
        bad(g, "unknown algorithm \"%.40s\"", a);
}

static void forget_file(golden *g) {
    if (g->inputs_doc != g->doc) cJSON_Delete(g->inputs_doc);
    free(g->count);
    free(g->start);
    free(g->init);
    free(g->center);
}

int main(int argc, char **argv) {
    return golden_main(argc, argv, replay_file, forget_file, NULL);
}
