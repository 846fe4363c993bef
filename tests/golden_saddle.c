/* SPDX-License-Identifier: MIT
 * golden_saddle.c: replays golden vectors of SADDLe (tests/golden/saddle/README.md says what is in them). A step case
 * runs all agents as objects over a simulated network, in f64 and once more in f32: parameters, buffers, the points at
 * which gradients are wanted and what is on the wire. sam.json: where the second gradient of SAM is wanted.
 * topologies.json: graphs and their gaps. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

#include "saddle_lock.h"

#define GOLDEN_NAME "saddle"
#define GOLDEN_USAGE                                                                                                   \
    "Replays golden vectors (JSON) of SADDLe through saddle.h. Tolerance: 1e-12, relative where numbers are large,\n" \
    "in f64; 5e-6 in f32 (parameters only).\n"
#define GOLDEN_FIELDS                                                                                                  \
    size_t agents, dim, tensors, count[8];                                                                             \
    double *w;                                                                                                         \
    const cJSON *problem, *hyper, *steps;                                                                              \
    size_t t;                                                                                                          \
    double *features, *labels;                                                                                         \
    size_t samples, classes;                                                                                           \
    uint64_t wants, messages;                                                                                          \
    uint32_t bulk[LOCK_MOST][LOCK_MOST];                                                                               \
    double *u, *before[LOCK_MOST];                                                                                     \
    int wide;
#include "golden.h"

#define MOST_DIM 4096u

static int near_one(golden *g, const char *what, uint32_t agent, size_t i, double got, double want) {
    const double tolerance = g->wide ? 1e-12 * fmax(1, fabs(want)) : 5e-6;
    const double error = fabs(got - want) / tolerance;
    g->checks++;
    if (!(error <= g->worst)) g->worst = error;
    if (error <= 1) return 1;
    return bad(g, "%s of agent %u, step %zu, element %zu: %.17g instead of %.17g", what, agent, g->t, i, got, want);
}

static const cJSON *agent_of(const golden *g, size_t step, uint32_t rank) {
    return cJSON_GetArrayItem(item(cJSON_GetArrayItem(g->steps, (int)step), "agents"), (int)rank);
}

/* These elements of a tensor, `first` of the flat vector on, against a list of all elements. */
static int near_tensor(golden *g, const cJSON *list, const char *what, uint32_t agent, size_t first,
                       const weft_tensor *t) {
    size_t i;
    if (!array(g, list, g->dim, what)) return 0;
    for (i = 0; i < t->count; i++) {
        double want;
        if (!number(g, cJSON_GetArrayItem(list, (int)(first + i)), what, &want) ||
            !near_one(g, what, agent, first + i, cluster_get(t, i), want))
            return 0;
    }
    return 1;
}

static int near_tensors(golden *g, const cJSON *list, const char *what, uint32_t agent, const weft_tensors *t) {
    size_t i, first = 0;
    if (!list) return 1;
    for (i = 0; i < t->count; first += t->tensor[i++].count)
        if (!near_tensor(g, list, what, agent, first, &t->tensor[i])) return 0;
    return 1;
}

static int near_buffer(golden *g, const cJSON *list, const char *what, const lock_worker *w, saddle_buffer_kind kind,
                       uint32_t peer) {
    size_t i, first = 0;
    if (!list) return 1;
    for (i = 0; i < g->tensors; first += g->count[i++]) {
        weft_tensor t = w->params.tensor[i];
        t.data = (void *)(uintptr_t)saddle_buffer(w->x, kind, peer, i);
        if (!t.data) return bad(g, "%s: there is no such buffer", what);
        if (!near_tensor(g, list, what, w->rank, first, &t)) return 0;
    }
    return 1;
}

/* ---- the problems ---- */

static void flat(const weft_tensors *t, double *x) {
    size_t i, k;
    for (i = 0; i < t->count; i++)
        for (k = 0; k < t->tensor[i].count; k++) *x++ = cluster_get(&t->tensor[i], k);
}

static void quad(golden *g, uint32_t rank, const double *x, double *grad) {
    const cJSON *a = cJSON_GetArrayItem(item(g->problem, "A"), (int)rank);
    double b[64];
    const cJSON *row;
    size_t j, i = 0;
    if (g->dim > 64 || !numbers(g, cJSON_GetArrayItem(item(g->problem, "b"), (int)rank), g->dim, "b", b)) return;
    cJSON_ArrayForEach(row, a) {
        double line[64];
        if (i >= g->dim || !numbers(g, row, g->dim, "A", line)) return;
        for (grad[i] = 0, j = 0; j < g->dim; j++) grad[i] += line[j] * (x[j] - b[j]);
        i++;
    }
}

static void softmax(golden *g, uint32_t rank, const double *x, double *grad) {
    const cJSON *batch = cJSON_GetArrayItem(item(cJSON_GetArrayItem(g->steps, (int)g->t), "batch"), (int)rank);
    const cJSON *all = cJSON_GetArrayItem(item(g->problem, "X"), (int)rank);
    const cJSON *labels = cJSON_GetArrayItem(item(g->problem, "y"), (int)rank), *e;
    const size_t c = g->classes, f = g->dim / c - 1;
    const double many = (double)cJSON_GetArraySize(batch);
    memset(grad, 0, g->dim * sizeof *grad);
    cJSON_ArrayForEach(e, batch) {
        double z[16], sample[64], sum = 0, top = -INFINITY, label;
        size_t i, j;
        if (!numbers(g, cJSON_GetArrayItem(all, (int)e->valuedouble), f, "X", sample) ||
            !number(g, cJSON_GetArrayItem(labels, (int)e->valuedouble), "y", &label))
            return;
        for (i = 0; i < c; i++) {
            for (z[i] = x[c * f + i], j = 0; j < f; j++) z[i] += x[i * f + j] * sample[j];
            top = fmax(top, z[i]);
        }
        for (i = 0; i < c; i++) sum += z[i] = exp(z[i] - top);
        for (i = 0; i < c; i++) {
            const double p = (z[i] / sum - ((double)i == label)) / many;
            for (j = 0; j < f; j++) grad[i * f + j] += p * sample[j];
            grad[c * f + i] += p;
        }
    }
}

/* What the object wants, compared with what the reference had there. */
static void give(lock_worker *w, const saddle_want *want) {
    golden *g = (golden *)w->k->desc.user;
    const cJSON *a = agent_of(g, g->t, w->rank), *cross = NULL, *eps, *point = NULL, *value;
    double x[MOST_DIM], grad[MOST_DIM], was;
    char key[16];
    size_t i, k, n = 0;
    memset(grad, 0, sizeof grad);
    flat(&want->at, x);
    g->wants++;
    if (want->peer != w->rank) {
        snprintf(key, sizeof key, "%u", (unsigned)want->peer);
        cross = item(item(a, "cross"), key);
        if (!cross) bad(g, "a gradient is wanted at agent %s's model that the reference did not take", key);
    }
    if (g->wide && !want->climbed && !cross) point = item(a, "mixed") ? item(a, "mixed") : item(a, "state");
    near_tensors(g, point, "the point of the gradient", w->rank, &want->at);
    eps = item(cross ? cross : a, cross ? "eps" : "g_eps");
    if (g->wide && want->climbed)
        for (i = 0; i < g->dim; i++)
            if (number(g, cJSON_GetArrayItem(eps, (int)i), "eps", &was))
                near_one(g, "eps", w->rank, i, x[i] - g->before[w->rank][i], was);
    memcpy(g->before[w->rank], x, g->dim * sizeof *x);
    if (!strcmp(item(g->problem, "kind")->valuestring, "quad"))
        quad(g, w->rank, x, grad);
    else
        softmax(g, w->rank, x, grad);
    for (i = 0; i < want->into.count; i++)
        for (k = 0; k < want->into.tensor[i].count; k++) cluster_set(&want->into.tensor[i], k, grad[n++]);
    value = cross ? item(cross, "raw") : item(a, "g");
    if (!want->climbed && eps) value = cross ? NULL : item(a, "g_plain");
    if (g->wide) near_tensors(g, value, "gradient", w->rank, &want->into);
}

/* ---- the wire ---- */

/* Pieces of models, then of gradients, tensor by tensor, each neighbour's in order. */
static void look(void *user, const weft_sim_message *m) {
    lock *k = (lock *)user;
    golden *g = (golden *)k->desc.user;
    const lock_worker *w = &k->worker[m->src];
    const cJSON *a = agent_of(g, g->t, m->src), *list;
    const weft_codec_kernels *kernels = weft_codec_kernels_select(WEFT_ISA_AUTO, 0);
    weft_detail d = weft_detail_none();
    double out[MOST_DIM];
    saddle_desc e;
    char key[16];
    size_t i, tensor, first = 0;
    weft_tensor t;
    if (m->tag % WEFT_TAGS_PER_CHANNEL == 0 || !g->wide) return;
    tensor = g->bulk[m->src][m->dst]++;
    saddle_effective(w->x, &e);
    list = item(a, "msg_model");
    if (tensor >= g->tensors) {
        snprintf(key, sizeof key, "%u", (unsigned)m->dst);
        list = item(item(a, "cross"), key);
        list = item(list, "sent") ? item(list, "sent") : item(list, "raw");
        if (e.gradient_codec) e.codec = *e.gradient_codec;
        tensor -= g->tensors;
    }
    if (tensor >= g->tensors) {
        bad(g, "agent %u sends more than the reference", m->src);
        return;
    }
    for (i = 0; i < tensor; i++) first += g->count[i];
    t = w->params.tensor[tensor];
    t.data = out;
    if (weft_codec_decode(kernels, &e.codec, WEFT_F64, t.count, 0, t.count, m->data, m->bytes, out, &d) != WEFT_OK)
        bad(g, "a message that does not decode: %s", d.field ? d.field : "-");
    else if (list)
        near_tensor(g, list, tensor == g->bulk[m->src][m->dst] - 1u ? "model on the wire" : "gradient on the wire",
                    m->src, first, &t);
    g->messages++;
}

/* The uniforms of the file. It has none for a worker's own gradient: there they follow from what was sent. */
static const double *uniforms(void *ctx, uint64_t step, uint32_t peer, size_t tensor) {
    const lock_worker *w = (const lock_worker *)ctx;
    golden *g = (golden *)w->k->desc.user;
    const cJSON *a = agent_of(g, (size_t)step - 1, w->rank), *meta = item(a, "msg_meta");
    char key[16];
    if (peer == w->rank) {
        const cJSON *before = step > 1 ? item(agent_of(g, (size_t)step - 2, w->rank), "e_self_next") : NULL;
        double bits, norm = 0, s, t[MOST_DIM];
        size_t i, first = 0;
        for (i = 0; i < tensor; i++) first += g->count[i];
        if (!field(g, item(g->hyper, "gcomp"), "bits", 1, 16, &bits)) return NULL;
        s = ldexp(1, (int)bits) - 1;
        for (i = 0; i < g->count[tensor]; i++) {
            double e = 0;
            number(g, cJSON_GetArrayItem(item(a, "g"), (int)(first + i)), "g", &t[i]);
            if (before) number(g, cJSON_GetArrayItem(before, (int)(first + i)), "e_self_next", &e);
            t[i] += e;
            norm += t[i] * t[i];
        }
        norm = sqrt(norm);
        for (i = 0; i < g->count[tensor]; i++) {
            double q;
            number(g, cJSON_GetArrayItem(item(a, "self_sent"), (int)(first + i)), "self_sent", &q);
            g->u[i] = fabs(q) * s / norm > floor(fabs(t[i]) * s / norm) + 0.5 ? 0 : 1 - 0x1p-53;
        }
        return g->u;
    }
    if (peer != WEFT_NO_RANK) {
        snprintf(key, sizeof key, "%u", (unsigned)peer);
        meta = item(item(item(a, "cross"), key), "meta");
    }
    if (!numbers(g, item(cJSON_GetArrayItem(meta, (int)tensor), "u"), g->count[tensor], "u", g->u)) return NULL;
    return g->u;
}

/* ---- a case ---- */

static golden *now; /* graphs are made without a pointer to anything */

static double weigh(void *ctx, uint32_t i, uint32_t j) {
    const golden *g = (const golden *)ctx;
    return g->w[i * g->agents + j];
}

static weft_status graph_of(weft_graph *graph, uint32_t workers, void *memory, size_t bytes) {
    weft_edge edge[LOCK_MOST * LOCK_MOST];
    size_t n = 0;
    uint32_t i, j;
    for (i = 0; i < workers; i++)
        for (j = i + 1; j < workers; j++)
            if (now->w[i * workers + j] != 0 || now->w[j * workers + i] != 0) {
                edge[n].a = i;
                edge[n++].b = j;
            }
    return weft_graph_from_edges(graph, workers, edge, n, memory, bytes);
}

static int codec_of(golden *g, const cJSON *o, weft_codec *c) {
    const cJSON *kind = item(o, "kind");
    double v;
    *c = weft_codec_identity();
    if (!o) return 1;
    if (!known(g, o, "comp", "kind ratio bits biased") || !cJSON_IsString(kind)) return bad(g, "a codec without kind");
    if (!strcmp(kind->valuestring, "none")) return 1;
    if (!strcmp(kind->valuestring, "sign")) {
        *c = weft_codec_sign();
        return 1;
    }
    if (!strcmp(kind->valuestring, "topk")) {
        if (!field(g, o, "ratio", 0, 1, &v)) return 0;
        *c = weft_codec_topk(v);
        return 1;
    }
    if (strcmp(kind->valuestring, "qsgd")) return bad(g, "unknown codec %.20s", kind->valuestring);
    if (!field(g, o, "bits", 1, 16, &v)) return 0;
    *c = weft_codec_qsgd((uint32_t)v, cJSON_IsTrue(item(o, "biased")));
    return 1;
}

static int choice(golden *g, const cJSON *o, const char *key, const char *const *words, int otherwise, int *out) {
    const cJSON *j = item(o, key);
    int i;
    *out = otherwise;
    if (!j) return 1;
    for (i = 0; words[i]; i++)
        if (cJSON_IsString(j) && !strcmp(j->valuestring, words[i])) {
            *out = i;
            return 1;
        }
    return bad(g, "%s: not one that is known", key);
}

static int optional(golden *g, const cJSON *o, const char *key, double most, double otherwise, double *out) {
    *out = otherwise;
    return !item(o, key) || field(g, o, key, 0, most, out);
}

/* Zero is the default of a descriptor's field; here it means zero. */
static double or_zero(double v) { return v > 0 ? v : WEFT_ZERO; }

static int rule(golden *g, saddle_desc *d, weft_codec *gradient) {
    static const char *const orders[] = {"", "atc", "cta", "cwa", NULL};
    static const char *const momenta[] = {"", "none", "local", "qgm", NULL};
    static const char *const forms[] = {"", "none", "choco", "ds", NULL};
    const cJSON *h = g->hyper;
    double rho, beta, mu, wd, gamma, alpha;
    int order, momentum, form;
    if (!known(g, h, "hyper",
               "order momentum beta mu nesterov wd rho gamma alpha comp ef gcomp g_ef comp_self_grad") ||
        !choice(g, h, "order", orders, 0, &order) || !choice(g, h, "momentum", momenta, 1, &momentum) ||
        !choice(g, h, "ef", forms, 1, &form) || !optional(g, h, "rho", 1e3, 0, &rho) ||
        !optional(g, h, "beta", 0.9999, 0, &beta) || !optional(g, h, "mu", 0.9999, beta, &mu) ||
        !optional(g, h, "wd", 1, 0, &wd) || !optional(g, h, "gamma", 1, 1, &gamma) ||
        !optional(g, h, "alpha", 1, 0, &alpha) || !codec_of(g, item(h, "comp"), &d->codec) ||
        !codec_of(g, item(h, "gcomp"), gradient))
        return 0;
    d->variant = item(h, "alpha") ? rho > 0 ? SADDLE_N : SADDLE_NGC : rho > 0 ? SADDLE_Q : SADDLE_DPSGD;
    d->order = (saddle_order)order;
    d->momentum = (saddle_momentum)momentum;
    d->feedback = (saddle_feedback)form;
    d->rho = rho;
    d->beta = or_zero(beta);
    d->mu = or_zero(mu);
    d->nesterov = cJSON_IsTrue(item(h, "nesterov")) ? 1 : WEFT_ZERO;
    d->weight_decay = wd;
    d->gamma = gamma;
    d->share = or_zero(alpha);
    d->gradient_codec = gradient;
    d->gradient_feedback = item(h, "g_ef") && !cJSON_IsTrue(item(h, "g_ef")) ? WEFT_ZERO : 1;
    d->compress_self = cJSON_IsTrue(item(h, "comp_self_grad")) != 0;
    return 1;
}

static int read_case(golden *g) {
    const cJSON *doc = g->doc, *shape, *e;
    if (!known(g, doc, "the file", "name origin note n shapes W hyper problem x0 check steps") ||
        !whole(g, item(doc, "n"), "n", 2, LOCK_MOST, &g->agents))
        return 0;
    g->hyper = item(doc, "hyper");
    g->problem = item(doc, "problem");
    g->steps = item(doc, "steps");
    if (!known(g, g->problem, "problem", "kind A b classes X y") || !cJSON_IsString(item(g->problem, "kind")) ||
        !cJSON_IsArray(g->steps))
        return bad(g, "problem or steps are missing");
    cJSON_ArrayForEach(shape, item(doc, "shapes")) {
        if (g->tensors == 8) return bad(g, "too many tensors");
        g->count[g->tensors] = 1;
        cJSON_ArrayForEach(e, shape) {
            size_t n;
            if (!whole(g, e, "shapes", 0, 512, &n)) return 0;
            g->count[g->tensors] *= n;
        }
        g->dim += g->count[g->tensors++];
    }
    if (g->dim == 0 || g->dim > MOST_DIM) return bad(g, "shapes: %zu elements", g->dim);
    if (!strcmp(item(g->problem, "kind")->valuestring, "softmax") &&
        (!whole(g, item(g->problem, "classes"), "classes", 1, 16, &g->classes) || g->dim % g->classes ||
         g->dim / g->classes > 64))
        return bad(g, "classes do not fit");
    g->w = (double *)room(g->agents * g->agents, sizeof *g->w);
    g->u = (double *)room(g->dim, sizeof *g->u);
    for (size_t i = 0; i < g->agents; i++) g->before[i] = (double *)room(g->dim, sizeof **g->before);
    return rows(g, item(doc, "W"), g->agents, g->agents, "W", g->w);
}

static int prepare(lock_worker *w) {
    golden *g = (golden *)w->k->desc.user;
    const cJSON *x0 = cJSON_GetArrayItem(item(g->doc, "x0"), (int)w->rank);
    double x[MOST_DIM];
    size_t i, k, n = 0;
    if (!numbers(g, x0, g->dim, "x0", x)) return 0;
    for (i = 0; i < g->tensors; i++)
        for (k = 0; k < g->count[i]; k++) cluster_set(&w->params.tensor[i], k, x[n++]);
    w->desc.uniform_ctx = w;
    return 1;
}

static int replay_steps(golden *g, lock *k) {
    size_t steps = (size_t)cJSON_GetArraySize(g->steps);
    uint32_t r;
    for (g->t = 0; g->t < steps; g->t++) {
        const cJSON *s = cJSON_GetArrayItem(g->steps, (int)g->t);
        double lr;
        if (!known(g, s, "a step", "t lr batch agents") || !field(g, s, "lr", 0, 1e3, &lr) ||
            !array(g, item(s, "agents"), g->agents, "agents"))
            return 0;
        memset(g->bulk, 0, sizeof g->bulk);
        for (r = 0; r < k->size; r++) {
            if (!known(g, agent_of(g, g->t, r), "an agent",
                       "state msg_model msg_meta mixed g_plain g_eps g cross self_sent e_self_next g_mix u half buf "
                       "e_next xhat_next next"))
                return 0;
            if (saddle_set_learning_rate(k->worker[r].x, lr) != WEFT_OK) return bad(g, "learning rate %g", lr);
        }
        if (!lock_step(k)) return bad(g, "%s", k->why);
        for (r = 0; r < k->size; r++) {
            const lock_worker *w = &k->worker[r];
            const cJSON *a = agent_of(g, g->t, r), *c;
            if (!item(a, "next")) return bad(g, "next is missing");
            near_tensors(g, item(a, "next"), "next", r, &w->params);
            if (!g->wide) continue;
            near_buffer(g, item(a, "buf"), "buf", w, SADDLE_OF_MOMENTUM, 0);
            near_buffer(g, item(a, "e_next"), "e_next", w, SADDLE_OF_MODEL, 0);
            near_buffer(g, item(a, "xhat_next"), "xhat_next", w, SADDLE_OF_MODEL, 0);
            near_buffer(g, item(a, "e_self_next"), "e_self_next", w, SADDLE_OF_GRADIENT, r);
            cJSON_ArrayForEach(c, item(a, "cross")) {
                const uint32_t peer = (uint32_t)strtoul(c->string, NULL, 10);
                if (!known(g, c, "cross", "raw eps sent e_next meta")) return 0;
                near_buffer(g, item(c, "e_next"), "e_next of a gradient", w, SADDLE_OF_GRADIENT, peer);
                if (g->bulk[r][peer] != 2 * g->tensors) bad(g, "agent %u sent %u pieces", r, g->bulk[r][peer]);
            }
        }
    }
    return 1;
}

static void replay_case(golden *g) {
    static const weft_dtype f64[8] = {WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64};
    int pass, in_place;
    if (!read_case(g)) return;
    now = g;
    for (pass = 0; pass < 4; pass++) {
        lock_desc d = lock_default((uint32_t)g->agents);
        weft_codec gradient;
        lock k;
        in_place = pass / 2;
        g->wide = pass % 2 == 0;
        if (!rule(g, &d.s, &gradient)) return;
        d.graph = graph_of;
        d.s.mixing = WEFT_OWN_WEIGHTS;
        d.s.weight = weigh;
        d.s.weight_ctx = g;
        d.s.initial = SADDLE_INITIAL_KEEP;
        d.s.in_place = in_place;
        d.s.uniform = uniforms;
        d.tensors = g->tensors;
        d.count = g->count;
        d.dtype = g->wide ? f64 : NULL;
        d.prepare = prepare;
        d.gradient = give;
        d.user = g;
        d.sim.on_message = look;
        d.sim.user = &k;
        if (!lock_open(&k, &d) || !replay_steps(g, &k)) bad(g, "%s", k.why);
        if (!lock_close(&k)) bad(g, "%s", k.why);
        if (g->misses) return;
    }
}

/* ---- the other files ---- */

static void replay_sam(golden *g) {
    const cJSON *c, *shape, *e;
    g->wide = 1;
    cJSON_ArrayForEach(c, item(g->doc, "cases")) {
        weft_tensor t[8];
        saddle_desc d;
        saddle *x;
        saddle_want want;
        weft_graph graph;
        weft_transport net;
        unsigned char graph_memory[64];
        double w[64], grad[64], rho;
        size_t n = 0, i, bytes;
        void *memory;
        memset(&d, 0, sizeof d);
        if (!known(g, c, "a case", "rho shapes w g eps climbed reference_max_abs_diff") ||
            !field(g, c, "rho", 1e-9, 1e3, &rho))
            return;
        d.params.tensor = t;
        cJSON_ArrayForEach(shape, item(c, "shapes")) {
            weft_tensor *one = &t[d.params.count++];
            if (d.params.count > 8) {
                bad(g, "too many tensors");
                return;
            }
            one->data = w + n;
            one->dtype = WEFT_F64;
            one->count = 1;
            cJSON_ArrayForEach(e, shape) one->count *= (size_t)(int)e->valuedouble;
            n += one->count;
            if (n > 64) {
                bad(g, "too many elements");
                return;
            }
        }
        g->dim = n;
        if (!numbers(g, item(c, "w"), n, "w", w) || !numbers(g, item(c, "g"), n, "g", grad)) return;
        weft_graph_ring(&graph, 1, graph_memory, sizeof graph_memory);
        net = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
        d.struct_size = sizeof d;
        d.transport = &net;
        d.graph = &graph;
        d.rho = rho;
        d.learning_rate = 1;
        bytes = saddle_memory(&d, NULL);
        memory = room(bytes, 1);
        if (saddle_init(&x, &d, memory, bytes) != WEFT_OK || saddle_next(x, &want) != WEFT_WANT_GRADIENT)
            bad(g, "no gradient is wanted");
        for (n = i = 0; i < d.params.count && !g->misses; n += t[i++].count)
            memcpy(want.into.tensor[i].data, grad + n, t[i].count * sizeof *grad);
        if (!g->misses && (saddle_next(x, &want) != WEFT_WANT_GRADIENT || !want.climbed)) bad(g, "no climb");
        if (!g->misses) near_tensors(g, item(c, "climbed"), "climbed", 0, &want.at);
        saddle_close(x);
        free(memory);
    }
}

static void replay_topologies(golden *g) {
    const cJSON *c;
    g->wide = 1;
    cJSON_ArrayForEach(c, item(g->doc, "graphs")) {
        weft_doctor_report r;
        weft_mixing mixing;
        weft_graph graph;
        weft_edge *edge;
        double gap;
        size_t n, edges = 0, i, j;
        void *memory, *work;
        if (!known(g, c, "a graph", "name n neighbors origin slem gap symmetric row_sums_one W note") ||
            !whole(g, item(c, "n"), "n", 1, 256, &n) || !field(g, c, "gap", 0, 1, &gap))
            return;
        g->agents = n;
        free(g->w);
        g->w = (double *)room(n * n, sizeof *g->w);
        if (cJSON_IsNull(item(c, "W"))) { /* too large for the file: Metropolis on the neighbours */
            const cJSON *list = item(c, "neighbors"), *e;
            if (!array(g, list, n, "neighbors")) return;
            for (i = 0; i < n; i++) {
                const int own = cJSON_GetArraySize(cJSON_GetArrayItem(list, (int)i));
                g->w[i * n + i] = 1;
                cJSON_ArrayForEach(e, cJSON_GetArrayItem(list, (int)i)) {
                    int other;
                    if (!whole(g, e, "neighbors", 0, (double)n - 1, &j)) return;
                    other = cJSON_GetArraySize(cJSON_GetArrayItem(list, (int)j));
                    g->w[i * n + j] = 1.0 / (1.0 + (own > other ? own : other));
                    g->w[i * n + i] -= g->w[i * n + j];
                }
            }
        } else if (!rows(g, item(c, "W"), n, n, "W", g->w)) {
            return;
        }
        edge = (weft_edge *)room(n * n, sizeof *edge);
        for (i = 0; i < n; i++)
            for (j = i + 1; j < n; j++)
                if (g->w[i * n + j] != 0 || g->w[j * n + i] != 0) {
                    edge[edges].a = (uint32_t)i;
                    edge[edges++].b = (uint32_t)j;
                }
        weft_graph_from_edges(&graph, (uint32_t)n, edge, edges, NULL, 0);
        memory = room(graph.bytes, 1);
        memset(&mixing, 0, sizeof mixing);
        mixing.rule = WEFT_OWN_WEIGHTS;
        mixing.weight = weigh;
        mixing.ctx = g;
        if (weft_graph_from_edges(&graph, (uint32_t)n, edge, edges, memory, graph.bytes) != WEFT_OK)
            bad(g, "%s: not a graph", item(c, "name")->valuestring);
        weft_graph_doctor(&graph, &mixing, NULL, 0, &r);
        work = room(r.bytes, 1);
        if (weft_graph_doctor(&graph, &mixing, work, r.bytes, &r) != WEFT_OK) bad(g, "the doctor refuses");
        g->checks++;
        if (cJSON_IsTrue(item(c, "symmetric")) && cJSON_IsTrue(item(c, "row_sums_one"))) {
            if (fabs(r.gap - gap) > 1e-9)
                bad(g, "%s of %zu: gap %.12g instead of %.12g", item(c, "name")->valuestring, n, r.gap, gap);
        } else if (r.verdict != WEFT_GRAPH_NOT_SYMMETRIC && r.verdict != WEFT_GRAPH_ROW_SUM) {
            bad(g, "%s of %zu: nothing is found wrong", item(c, "name")->valuestring, n);
        }
        free(work);
        free(memory);
        free(edge);
    }
}

static void replay_file(golden *g) {
    if (item(g->doc, "hyper"))
        replay_case(g);
    else if (item(g->doc, "graphs"))
        replay_topologies(g);
    else if (strstr(g->path, "sam.json"))
        replay_sam(g);
    else if (item(g->doc, "topk_count") || strstr(g->path, "partition.json"))
        g->skipped = 1; /* golden-codec's; bench's */
    else
        bad(g, "no vectors that are known");
}

static void forget_file(golden *g) {
    size_t i;
    free(g->w);
    free(g->u);
    for (i = 0; i < LOCK_MOST; i++) free(g->before[i]);
}

static void tell_file(const golden *g) {
    if (g->wants)
        printf(" (%llu gradients, %llu messages)", (unsigned long long)g->wants, (unsigned long long)g->messages);
}

int main(int argc, char **argv) { return golden_main(argc, argv, replay_file, forget_file, tell_file); }
