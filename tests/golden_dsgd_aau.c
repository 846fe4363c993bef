/* SPDX-License-Identifier: MIT
 * golden_dsgd_aau.c: replays golden vectors of DSGD-AAU. trace_*: the paper's form, one global eye: dsgd_aau_pathsearch
 * says when an iteration takes place and which edges are new, dsgd_aau_weights mixes. proto_*: every event that a
 * worker of the message protocol has seen, with all its actions and its state after it, through the machine inside the
 * header, which tells its whole state at a time here (fan 8). All numbers in f64. */
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"

#define GOLDEN_NAME "dsgd_aau"
#define GOLDEN_USAGE                                                                                                   \
    "Replays golden vectors (JSON) of DSGD-AAU: trace_* through dsgd_aau_pathsearch and dsgd_aau_weights, proto_*\n"   \
    "through the protocol machine of dsgd_aau.h, every action to the letter. Tolerance: 1e-12.\n"
#define GOLDEN_FIELDS                                                                                                  \
    size_t workers, dim;                                                                                               \
    weft_graph graph;                                                                                                  \
    void *graph_memory;                                                                                                \
    double eta, *h, *b, *x;                                                                                            \
    uint64_t iterations, actions;
#include "golden.h"

#define MOST_WORKERS 1024u
#define MOST_DIM 4096u
#define NEAR 1e-12

static int yes(golden *g, const cJSON *j, const char *what, int want) {
    g->checks++;
    if (cJSON_IsBool(j) && cJSON_IsTrue(j) == (want != 0)) return 1;
    return bad(g, "%s: %d was computed", what, want);
}

/* |got - want| <= 1e-12, relative where numbers are large. */
static int near_all(golden *g, const char *what, size_t index, const double *got, const double *want, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        double error = fabs(got[i] - want[i]) / (NEAR * fmax(1, fabs(want[i])));
        g->checks++;
        if (!(error <= g->worst)) g->worst = error;
        if (!(error <= 1))
            return bad(g, "%s, event %zu, number %zu: %.17g instead of %.17g", what, index, i, got[i], want[i]);
    }
    return 1;
}

/* A list of whole numbers must be this one. */
static int same_list(golden *g, const cJSON *j, const char *what, size_t index, const uint32_t *want, size_t n) {
    const cJSON *e;
    size_t i = 0;
    g->checks++;
    if (!cJSON_IsArray(j) || (size_t)cJSON_GetArraySize(j) != n)
        return bad(g, "%s, event %zu: %zu entries were computed", what, index, n);
    cJSON_ArrayForEach(e, j) {
        if (!cJSON_IsNumber(e) || e->valuedouble != (double)want[i])
            return bad(g, "%s, event %zu, entry %zu: %u was computed", what, index, i, (unsigned)want[i]);
        i++;
    }
    return 1;
}

/* A list of edges must be these, by number. */
static int same_edges(golden *g, const cJSON *j, const char *what, size_t index, const uint32_t *edge, size_t n) {
    const cJSON *e;
    size_t i = 0;
    g->checks++;
    if (!cJSON_IsArray(j) || (size_t)cJSON_GetArraySize(j) != n)
        return bad(g, "%s, event %zu: %zu edges were computed", what, index, n);
    cJSON_ArrayForEach(e, j) {
        weft_edge w = weft_graph_edge(&g->graph, edge[i]);
        double ends[2];
        if (!numbers(g, e, 2, what, ends)) return 0;
        if (ends[0] != (double)w.a || ends[1] != (double)w.b)
            return bad(g, "%s, event %zu: (%u, %u) was computed", what, index, (unsigned)w.a, (unsigned)w.b);
        i++;
    }
    return 1;
}

static int make_graph(golden *g, const weft_edge *edge, size_t count) {
    weft_status s = weft_graph_from_edges(&g->graph, (uint32_t)g->workers, edge, count, NULL, 0);
    size_t bytes = g->graph.bytes;
    g->graph_memory = room(bytes, 1);
    if (s == WEFT_OK) s = weft_graph_from_edges(&g->graph, (uint32_t)g->workers, edge, count, g->graph_memory, bytes);
    return s == WEFT_OK ? 1 : bad(g, "the graph is refused: %s", g->graph.detail.field);
}

/* What both kinds of files have: h, b, x0, eta. */
static int read_problem(golden *g) {
    const cJSON *x0 = item(g->doc, "x0"), *eta = item(g->doc, "eta");
    if (!cJSON_IsArray(x0) || !cJSON_IsNumber(eta)) return bad(g, "x0 or eta is missing");
    g->dim = (size_t)cJSON_GetArraySize(cJSON_GetArrayItem(x0, 0));
    if (g->dim == 0 || g->dim > MOST_DIM) return bad(g, "x0: 1 to %u numbers a worker are expected", MOST_DIM);
    g->eta = eta->valuedouble;
    g->h = (double *)room(g->workers * g->dim, sizeof(double));
    g->b = (double *)room(g->workers * g->dim, sizeof(double));
    g->x = (double *)room(g->workers * g->dim, sizeof(double));
    return rows(g, item(g->doc, "h"), g->workers, g->dim, "h", g->h) &&
           rows(g, item(g->doc, "b"), g->workers, g->dim, "b", g->b) && rows(g, x0, g->workers, g->dim, "x0", g->x);
}

/* x <- x - eta h (x - b) */
static void local_step(golden *g, size_t i) {
    double *x = g->x + i * g->dim;
    size_t k;
    for (k = 0; k < g->dim; k++) x[k] -= g->eta * (g->h[i * g->dim + k] * (x[k] - g->b[i * g->dim + k]));
}

/* ---- trace_*: one global eye ---- */

typedef struct ideal {
    unsigned char *available;
    uint32_t *labels, *fresh, *path, *who, *averaged;
    size_t n_path, k, first, t_index, *used;
    double *next, *w, *mixed;
    size_t epoch;
} ideal;

static int duration(golden *g, size_t worker, size_t n, double *out) {
    const cJSON *d = cJSON_GetArrayItem(item(g->doc, "durations"), (int)worker);
    const cJSON *v = cJSON_GetArraySize(d) > 0 ? cJSON_GetArrayItem(d, (int)(n % (size_t)cJSON_GetArraySize(d))) : NULL;
    if (!cJSON_IsNumber(v)) return bad(g, "durations: numbers for each worker are expected");
    *out = v->valuedouble;
    return 1;
}

static int trace_iteration(golden *g, ideal *s, const cJSON *e, size_t index, double t) {
    uint32_t n_new, i, k, count = 0, averaged = 0, v = 0;
    size_t at, n = g->workers;
    double *w, want_k[2];
    uint32_t *ends = (uint32_t *)room(n, sizeof *ends);
    weft_edge edge;
    const cJSON *epochs = item(g->doc, "epochs"), *done;
    int complete = 1, ok = 1;
    n_new = dsgd_aau_pathsearch(&g->graph, s->available, s->labels, s->fresh, g->graph.edges);
    for (i = 0; i < n; i++)
        if (s->available[i]) s->who[count++] = i;
    for (i = 0; i < g->graph.edges; i++) {
        edge = weft_graph_edge(&g->graph, i);
        if (s->available[edge.a] && s->available[edge.b]) s->averaged[averaged++] = i;
    }
    for (i = 0; i < n_new; i++) { /* P is kept sorted */
        for (at = s->n_path++; at > 0 && s->path[at - 1] > s->fresh[i]; at--) s->path[at] = s->path[at - 1];
        s->path[at] = s->fresh[i];
    }
    for (i = 0; i < n; i++) {
        for (k = 0; k < s->n_path; k++) {
            edge = weft_graph_edge(&g->graph, s->path[k]);
            if (edge.a == i || edge.b == i) break;
        }
        if (k < s->n_path) ends[v++] = i;
        complete = complete && s->labels[i] == s->labels[0];
    }
    s->k++;
    want_k[0] = (double)s->k;
    want_k[1] = (double)s->epoch;
    ok = same_edges(g, item(e, "new_edges"), "new_edges", index, s->fresh, n_new) &&
         same_list(g, item(e, "participants"), "participants", index, s->who, count) &&
         same_edges(g, item(e, "averaged_edges"), "averaged_edges", index, s->averaged, averaged) &&
         same_list(g, item(e, "labels"), "labels", index, s->labels, n) &&
         same_list(g, item(e, "V"), "V", index, ends, v) && same_edges(g, item(e, "P"), "P", index, s->path, s->n_path);
    free(ends);
    if (!ok) return 0;
    if (!cJSON_IsNumber(item(e, "k")) || item(e, "k")->valuedouble != want_k[0] || !cJSON_IsNumber(item(e, "epoch")) ||
        item(e, "epoch")->valuedouble != want_k[1])
        return bad(g, "event %zu: iteration %g of epoch %g was computed", index, want_k[0], want_k[1]);
    w = (double *)room((size_t)count * count, sizeof *w);
    if (dsgd_aau_weights(&g->graph, s->who, count, s->w) != WEFT_OK) ok = bad(g, "weights are refused");
    ok = ok && rows(g, item(e, "W"), count, count, "W", w) && near_all(g, "W", index, s->w, w, (size_t)count * count);
    free(w);
    if (!ok) return 0;
    memcpy(s->mixed, g->x, n * g->dim * sizeof(double));
    for (i = 0; i < count; i++)
        for (at = 0; at < g->dim; at++) {
            double sum = 0;
            for (k = 0; k < count; k++) sum += s->w[i * count + k] * g->x[s->who[k] * g->dim + at];
            s->mixed[s->who[i] * g->dim + at] = sum;
        }
    memcpy(g->x, s->mixed, n * g->dim * sizeof(double));
    ok = rows(g, item(e, "x"), n, g->dim, "x", s->mixed) && near_all(g, "x", index, g->x, s->mixed, n * g->dim) &&
         yes(g, item(e, "epoch_done"), "epoch_done", complete);
    for (i = 0; i < count; i++) { /* communication takes no time */
        double d;
        if (!duration(g, s->who[i], s->used[s->who[i]]++, &d)) return 0;
        s->next[s->who[i]] = t + d;
        s->available[s->who[i]] = 0;
    }
    g->iterations++;
    if (!ok || !complete) return ok;
    done = cJSON_GetArrayItem(epochs, (int)s->epoch);
    if (done) {
        double want[5], got[5];
        if (!known(g, done, "an epoch", "epoch k_first k_last iterations t_end P") ||
            !same_edges(g, item(done, "P"), "P of the epoch", index, s->path, s->n_path))
            return 0;
        got[0] = (double)s->epoch;
        got[1] = (double)s->first;
        got[2] = (double)s->k;
        got[3] = (double)(s->k - s->first + 1);
        got[4] = t;
        want[0] = cJSON_GetNumberValue(item(done, "epoch"));
        want[1] = cJSON_GetNumberValue(item(done, "k_first"));
        want[2] = cJSON_GetNumberValue(item(done, "k_last"));
        want[3] = cJSON_GetNumberValue(item(done, "iterations"));
        want[4] = cJSON_GetNumberValue(item(done, "t_end"));
        if (!near_all(g, "epoch", index, got, want, 5)) return 0;
    }
    s->epoch++;
    s->first = s->k + 1;
    s->n_path = 0;
    for (i = 0; i < n; i++) s->labels[i] = i;
    return 1;
}

/* Would the rule let an iteration take place now? */
static int due(golden *g, ideal *s) {
    uint32_t *copy = (uint32_t *)room(g->workers, sizeof *copy), n;
    memcpy(copy, s->labels, g->workers * sizeof *copy);
    n = dsgd_aau_pathsearch(&g->graph, s->available, copy, NULL, 0);
    free(copy);
    return n != 0;
}

static int trace_events(golden *g, ideal *s) {
    const cJSON *e, *events = item(g->doc, "events");
    size_t index = 0;
    double last = 0, *final = NULL;
    int ok = 1;
    if (!cJSON_IsArray(events)) return bad(g, "events: an array is expected");
    cJSON_ArrayForEach(e, events) {
        const cJSON *type = item(e, "type"), *time = item(e, "t");
        double t;
        if (!cJSON_IsString(type) || !cJSON_IsNumber(time)) return bad(g, "event %zu: no type or time", index);
        t = time->valuedouble;
        if (!strcmp(type->valuestring, "finish")) {
            double *want = (double *)room(g->dim, sizeof *want);
            size_t who;
            if (t > last && due(g, s)) ok = bad(g, "event %zu: an iteration was due before it", index);
            ok = ok && known(g, e, "a finish", "type t worker x") &&
                 whole(g, item(e, "worker"), "worker", 0, (double)(g->workers - 1), &who);
            if (ok && (s->available[who] || fabs(s->next[who] - t) > 1e-9))
                ok = bad(g, "event %zu: worker %zu does not finish now, but at %.17g", index, who, s->next[who]);
            if (ok) {
                local_step(g, who);
                s->available[who] = 1;
                ok = numbers(g, item(e, "x"), g->dim, "x", want) &&
                     near_all(g, "x after the local step", index, g->x + who * g->dim, want, g->dim);
            }
            free(want);
        } else if (!strcmp(type->valuestring, "iteration")) {
            ok = known(g, e, "an iteration",
                       "type k t epoch participants new_edges P V labels averaged_edges W x epoch_done");
            if (ok && !due(g, s)) ok = bad(g, "event %zu: no edge is new, there is no iteration", index);
            ok = ok && trace_iteration(g, s, e, index, t);
        } else {
            ok = bad(g, "event %zu: unknown type", index);
        }
        if (!ok) return 0;
        last = t;
        index++;
    }
    final = (double *)room(g->workers * g->dim, sizeof *final);
    ok = rows(g, item(g->doc, "x_final"), g->workers, g->dim, "x_final", final) &&
         near_all(g, "x_final", index, g->x, final, g->workers * g->dim);
    free(final);
    if (ok && (size_t)cJSON_GetArraySize(item(g->doc, "epochs")) != s->epoch)
        return bad(g, "epochs: %zu were completed", s->epoch);
    return ok;
}

/* Equal speeds: synchronous DSGD with Metropolis weights on the whole graph, from the same start, in so many steps. */
static int trace_dsgd(golden *g, const ideal *s) {
    const cJSON *o = item(g->doc, "dsgd_final");
    size_t n = g->workers, step, i, k, d;
    double *x, *mixed, *w, *want;
    uint32_t *all;
    int ok;
    if (!o) return 1;
    x = (double *)room(n * g->dim, sizeof *x);
    mixed = (double *)room(n * g->dim, sizeof *x);
    want = (double *)room(n * g->dim, sizeof *x);
    w = (double *)room(n * n, sizeof *w);
    all = (uint32_t *)room(n, sizeof *all);
    for (i = 0; i < n; i++) all[i] = (uint32_t)i;
    ok = dsgd_aau_weights(&g->graph, all, (uint32_t)n, w) == WEFT_OK &&
         rows(g, item(g->doc, "x0"), n, g->dim, "x0", x) && rows(g, o, n, g->dim, "dsgd_final", want);
    for (step = 0; ok && step < s->k; step++) {
        for (i = 0; i < n * g->dim; i++) x[i] -= g->eta * (g->h[i] * (x[i] - g->b[i]));
        for (i = 0; i < n; i++)
            for (d = 0; d < g->dim; d++) {
                double sum = 0;
                for (k = 0; k < n; k++) sum += w[i * n + k] * x[k * g->dim + d];
                mixed[i * g->dim + d] = sum;
            }
        memcpy(x, mixed, n * g->dim * sizeof *x);
    }
    ok = ok && near_all(g, "dsgd_final", s->k, x, want, n * g->dim) &&
         yes(g, item(g->doc, "dsgd_equal"), "dsgd_equal", near_all(g, "x", s->k, g->x, x, n * g->dim));
    free(x);
    free(mixed);
    free(want);
    free(w);
    free(all);
    return ok;
}

/* The rule that must not be used, on the file that shows why: what it takes, and that it is then stuck. */
static int trace_naive(golden *g) {
    const cJSON *o = item(g->doc, "naive_rule"), *e, *first = item(o, "first");
    uint32_t i, parts = 0, *labels;
    unsigned char *end;
    size_t components;
    int ok = 1;
    if (!o) return 1;
    if (!known(g, o, "naive_rule", "first V components edges_it_would_still_add_with_everybody_waiting verdict"))
        return 0;
    labels = (uint32_t *)room(g->workers, sizeof *labels);
    end = (unsigned char *)room(g->workers, 1);
    for (i = 0; i < g->workers; i++) labels[i] = i;
    cJSON_ArrayForEach(e, first) {
        double ends[2];
        unsigned char *pair = (unsigned char *)room(g->workers, 1);
        ok = ok && numbers(g, e, 2, "naive_rule.first", ends) && ends[0] < (double)g->workers &&
             ends[1] < (double)g->workers;
        if (ok) {
            pair[(size_t)ends[0]] = pair[(size_t)ends[1]] = end[(size_t)ends[0]] = end[(size_t)ends[1]] = 1;
            dsgd_aau_pathsearch(&g->graph, pair, labels, NULL, 0);
        }
        free(pair);
    }
    for (i = 0; i < g->workers; i++) {
        parts += labels[i] == i;
        ok = ok && end[i]; /* so no edge has an end that is new, */
    }
    ok = ok && whole(g, item(o, "components"), "components", 0, 1e6, &components) && components == parts && parts > 1;
    memset(end, 1, g->workers); /* while ours finds what joins them */
    ok = ok && dsgd_aau_pathsearch(&g->graph, end, labels, NULL, 0) == parts - 1;
    free(labels);
    free(end);
    g->checks++;
    return ok ? 1 : bad(g, "naive_rule: it is not stuck");
}

static void trace(golden *g) {
    const cJSON *list = item(g->doc, "edges"), *e;
    weft_edge *edge;
    size_t i, n = 0, dim;
    ideal s;
    memset(&s, 0, sizeof s);
    if (!known(g, g->doc, "the file",
               "name about rule release ties N dim edges eta h b x0 durations durations_note events epochs x_final "
               "naive_rule dsgd_final dsgd_equal") ||
        !whole(g, item(g->doc, "N"), "N", 0, MOST_WORKERS, &g->workers) || !g->workers || !cJSON_IsArray(list))
        return;
    edge = (weft_edge *)room((size_t)cJSON_GetArraySize(list), sizeof *edge);
    cJSON_ArrayForEach(e, list) {
        double ends[2];
        if (!numbers(g, e, 2, "edges", ends)) break;
        edge[n].a = (uint32_t)ends[0];
        edge[n++].b = (uint32_t)ends[1];
    }
    if (!g->misses) make_graph(g, edge, n);
    free(edge);
    if (g->misses || !read_problem(g) || !whole(g, item(g->doc, "dim"), "dim", 0, MOST_DIM, &dim)) return;
    if (dim != g->dim) {
        bad(g, "dim: x0 has %zu", g->dim);
        return;
    }
    n = g->workers;
    s.available = (unsigned char *)room(n, 1);
    s.labels = (uint32_t *)room(n, sizeof(uint32_t));
    s.fresh = (uint32_t *)room(g->graph.edges, sizeof(uint32_t));
    s.path = (uint32_t *)room(n + g->graph.edges, sizeof(uint32_t));
    s.who = (uint32_t *)room(n, sizeof(uint32_t));
    s.averaged = (uint32_t *)room(g->graph.edges, sizeof(uint32_t));
    s.used = (size_t *)room(n, sizeof(size_t));
    s.next = (double *)room(n, sizeof(double));
    s.w = (double *)room(n * n, sizeof(double));
    s.mixed = (double *)room(n * g->dim, sizeof(double));
    s.first = 1;
    for (i = 0; i < n; i++) {
        s.labels[i] = (uint32_t)i;
        if (!duration(g, i, s.used[i]++, &s.next[i])) break;
    }
    if (!g->misses && trace_events(g, &s) && trace_dsgd(g, &s)) trace_naive(g);
    free(s.available);
    free(s.labels);
    free(s.fresh);
    free(s.path);
    free(s.who);
    free(s.averaged);
    free(s.used);
    free(s.next);
    free(s.w);
    free(s.mixed);
}

/* ---- proto_*: the machine, verbatim ---- */

typedef struct actor {
    golden *g;
    uint32_t rank;
    dsgd_aau_core core;
    unsigned char *memory;
    double *sum;
    const double *payload;
    const cJSON *expected; /* the next action of the record */
    size_t index;
} actor;

static const char *const message_name[] = {"",       "STATE",  "READY",  "BUSY", "PROPOSE",
                                           "ACCEPT", "REJECT", "COMMIT", "ABORT"};

/* The action that the machine takes must be the next one of the file, to the letter. */
static void on_action(void *owner, int act, uint32_t slot, uint32_t id, uint32_t count) {
    actor *a = (actor *)owner;
    golden *g = a->g;
    char text[8192];
    char *printed;
    size_t n = 0;
    uint32_t i, peer = slot == WEFT_NO_RANK ? 0 : a->core.neighbour[slot];
    double *x = g->x + a->rank * g->dim;
    g->actions++;
    g->checks++;
    switch (act) {
    case DSGD_AAU_STATE:
        n = (size_t)snprintf(text, sizeof text, "[\"send\",%u,[\"STATE\",[", (unsigned)peer);
        for (i = 0; i < a->core.edges && n < sizeof text; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", i ? "," : "", (unsigned)a->core.view[i]);
        if (n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "],%llu,[", (unsigned long long)a->core.epoch);
        for (i = 0; i < a->core.workers && n < sizeof text; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", i ? "," : "",
                                  (unsigned)dsgd_aau_label(&a->core, i));
        if (n < sizeof text) snprintf(text + n, sizeof text - n, "]],false]");
        break;
    case DSGD_AAU_BUSY: snprintf(text, sizeof text, "[\"send\",%u,[\"BUSY\"],false]", (unsigned)peer); break;
    case DSGD_AAU_COMMIT:
        snprintf(text, sizeof text, "[\"send\",%u,[\"COMMIT\",%u,%u],true]", (unsigned)peer, (unsigned)id,
                 (unsigned)count);
        break;
    case DSGD_AAU_ADD:
        for (i = 0; a->payload && i < g->dim; i++) a->sum[i] += a->payload[i];
        snprintf(text, sizeof text, "[\"acc\",%u]", (unsigned)peer);
        break;
    case DSGD_AAU_CENTER:
        for (i = 0; i < g->dim; i++) x[i] = (x[i] + a->sum[i]) / (1.0 + count);
        n = (size_t)snprintf(text, sizeof text, "[\"center\",[");
        for (i = 0; i < count; i++)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%u", i ? "," : "",
                                  (unsigned)a->core.neighbour[a->core.order[i]]);
        snprintf(text + n, sizeof text - n, "]]");
        break;
    case DSGD_AAU_LEAF:
        for (i = 0; a->payload && i < g->dim; i++) x[i] += (a->payload[i] - x[i]) / (1.0 + count);
        snprintf(text, sizeof text, "[\"leaf\",%u,%u]", (unsigned)peer, (unsigned)count);
        break;
    case DSGD_AAU_CONTINUE: snprintf(text, sizeof text, "[\"continue\"]"); break;
    case DSGD_AAU_LINGER: snprintf(text, sizeof text, "[\"timer\",[\"grace\",%u],\"grace\"]", (unsigned)id); break;
    default:
        snprintf(text, sizeof text, "[\"send\",%u,[\"%s\",%u],%s]", (unsigned)peer,
                 act >= 1 && act <= DSGD_AAU_ABORT ? message_name[act] : "?", (unsigned)id,
                 act == DSGD_AAU_ACCEPT ? "true" : "false");
        break;
    }
    if (act == DSGD_AAU_PROPOSE) memset(a->sum, 0, g->dim * sizeof *a->sum);
    if (!a->expected) {
        bad(g, "record %zu: one action too many: %s", a->index, text);
        return;
    }
    printed = cJSON_PrintUnformatted(a->expected);
    if (!printed || strcmp(printed, text))
        bad(g, "record %zu: action %.300s instead of %.200s", a->index, text, printed ? printed : "?");
    cJSON_free(printed);
    a->expected = a->expected->next;
}

static int u32_list(golden *g, const cJSON *j, size_t n, const char *what, uint32_t *out) {
    const cJSON *e;
    if (!cJSON_IsArray(j) || (size_t)cJSON_GetArraySize(j) != n)
        return bad(g, "%s: an array of %zu is expected", what, n);
    cJSON_ArrayForEach(e, j) {
        size_t v;
        if (!whole(g, e, what, 0, 4294967295.0, &v)) return 0;
        *out++ = (uint32_t)v;
    }
    return 1;
}

/* A message: ["KIND", numbers...]. */
static int feed_message(golden *g, actor *a, size_t from, const cJSON *m) {
    const cJSON *name = cJSON_GetArrayItem(m, 0);
    uint32_t slot = weft_graph_slot(&g->graph, a->rank, (uint32_t)from);
    size_t id = 0, count = 0, epoch;
    int kind;
    if (!cJSON_IsString(name) || slot == WEFT_NO_EDGE) return bad(g, "record %zu: no message of a neighbour", a->index);
    for (kind = DSGD_AAU_STATE; kind <= DSGD_AAU_ABORT && strcmp(name->valuestring, message_name[kind]); kind++)
        continue;
    if (kind > DSGD_AAU_ABORT) return bad(g, "record %zu: unknown message", a->index);
    if (kind == DSGD_AAU_STATE) {
        uint32_t *view = (uint32_t *)room(g->graph.edges, sizeof *view),
                 *labels = (uint32_t *)room(g->workers, sizeof *labels);
        size_t i;
        int ok = u32_list(g, cJSON_GetArrayItem(m, 1), g->graph.edges, "view", view) &&
                 whole(g, cJSON_GetArrayItem(m, 2), "epoch", 0, 1e15, &epoch) &&
                 u32_list(g, cJSON_GetArrayItem(m, 3), g->workers, "labels", labels);
        for (i = 0; ok && i < g->workers; i++)
            if (labels[i] >= g->workers) ok = bad(g, "record %zu: a label that is no worker", a->index);
        if (ok) dsgd_aau_adopt(&a->core, slot, view, epoch, labels);
        free(view);
        free(labels);
        return ok;
    }
    if (kind != DSGD_AAU_BUSY && !whole(g, cJSON_GetArrayItem(m, 1), "transaction or session", 0, 4e9, &id)) return 0;
    if (kind == DSGD_AAU_COMMIT && !whole(g, cJSON_GetArrayItem(m, 2), "leaves", 0, (double)g->workers, &count))
        return 0;
    if ((kind == DSGD_AAU_ACCEPT || kind == DSGD_AAU_COMMIT) && !a->payload)
        return bad(g, "record %zu: a message without its payload", a->index);
    dsgd_aau_hear(&a->core, slot, kind, (uint32_t)id, (uint32_t)count);
    return 1;
}

static int feed(golden *g, actor *a, const cJSON *event) {
    const cJSON *what = cJSON_GetArrayItem(event, 0), *tag;
    size_t n;
    if (!cJSON_IsString(what)) return bad(g, "record %zu: no event", a->index);
    if (!strcmp(what->valuestring, "grad_done")) {
        local_step(g, a->rank);
        dsgd_aau_done(&a->core);
        return 1;
    }
    if (!strcmp(what->valuestring, "recv"))
        return whole(g, cJSON_GetArrayItem(event, 1), "sender", 0, (double)(g->workers - 1), &n) &&
               feed_message(g, a, n, cJSON_GetArrayItem(event, 2));
    if (!strcmp(what->valuestring, "timer")) {
        tag = cJSON_GetArrayItem(event, 1);
        if (!whole(g, cJSON_GetArrayItem(tag, 1), "session of the timer", 0, 4e9, &n)) return 0;
        dsgd_aau_linger(&a->core, (uint32_t)n);
        return 1;
    }
    return bad(g, "record %zu: unknown event", a->index);
}

static int proto_record(golden *g, actor *all, const cJSON *r, size_t index) {
    const cJSON *after = item(r, "after"), *payload = item(r, "payload"), *st = item(after, "st");
    double *p = NULL, *want;
    uint32_t *labels, i;
    size_t who, session, epoch;
    actor *a;
    int ok;
    if (!known(g, r, "a record", "t worker event payload actions after") ||
        !known(g, after, "after", "st session released view epoch labels x") ||
        !whole(g, item(r, "worker"), "worker", 0, (double)(g->workers - 1), &who) ||
        !whole(g, item(after, "session"), "session", 0, 4e9, &session) ||
        !whole(g, item(after, "epoch"), "epoch", 0, 1e15, &epoch))
        return 0;
    a = &all[who];
    a->index = index;
    if (!cJSON_IsNull(payload)) {
        p = (double *)room(g->dim, sizeof *p);
        if (!numbers(g, payload, g->dim, "payload", p)) {
            free(p);
            return 0;
        }
    }
    a->payload = p;
    a->expected = item(r, "actions") ? item(r, "actions")->child : NULL;
    ok = feed(g, a, item(r, "event"));
    free(p);
    if (!ok || g->misses) return 0;
    if (a->expected) return bad(g, "record %zu: an action is missing", index);
    labels = (uint32_t *)room(g->workers, sizeof *labels);
    want = (double *)room(g->dim, sizeof *want);
    for (i = 0; i < g->workers; i++) labels[i] = dsgd_aau_label(&a->core, i);
    if (!cJSON_IsString(st) || strlen(st->valuestring) != 1 || st->valuestring[0] != "CWPL"[a->core.st])
        ok = bad(g, "record %zu: the state is %c", index, "CWPL"[a->core.st]);
    if (a->core.session != session || a->core.epoch != epoch)
        ok = bad(g, "record %zu: session %u, epoch %llu were computed", index, (unsigned)a->core.session,
                 (unsigned long long)a->core.epoch);
    ok = ok && yes(g, item(after, "released"), "released", a->core.released) &&
         same_list(g, item(after, "view"), "view", index, a->core.view, g->graph.edges) &&
         same_list(g, item(after, "labels"), "labels", index, labels, g->workers) &&
         numbers(g, item(after, "x"), g->dim, "x", want) && near_all(g, "x", index, g->x + who * g->dim, want, g->dim);
    free(labels);
    free(want);
    return ok;
}

static void proto(golden *g) {
    const cJSON *adj = item(g->doc, "adj"), *row, *e, *records = item(g->doc, "records"),
                *grace = item(g->doc, "grace");
    weft_edge *edge;
    size_t n = 0, index = 0, most = 0;
    uint32_t i = 0;
    actor *all;
    if (!known(g, g->doc, "the file",
               "name about adj durations latency params_extra_delay grace eta h b x0 note records") ||
        !cJSON_IsArray(adj) || !cJSON_IsArray(records) || !cJSON_IsNumber(grace))
        return;
    g->workers = (size_t)cJSON_GetArraySize(adj);
    if (!g->workers || g->workers > MOST_WORKERS) {
        bad(g, "adj: 1 to %u workers are expected", MOST_WORKERS);
        return;
    }
    cJSON_ArrayForEach(row, adj) most += (size_t)cJSON_GetArraySize(row);
    edge = (weft_edge *)room(most, sizeof *edge);
    cJSON_ArrayForEach(row, adj) {
        cJSON_ArrayForEach(e, row) {
            if (cJSON_IsNumber(e) && e->valuedouble > (double)i) {
                edge[n].a = i;
                edge[n++].b = (uint32_t)e->valuedouble;
            }
        }
        i++;
    }
    make_graph(g, edge, n);
    free(edge);
    if (g->misses || !read_problem(g)) return;
    all = (actor *)room(g->workers, sizeof *all);
    for (i = 0; i < g->workers; i++) {
        weft_layout l;
        memset(&l, 0, sizeof l);
        dsgd_aau_core_layout(&l, &all[i].core, &g->graph, i, 8);
        all[i].memory = (unsigned char *)room(weft_layout_total(&l), 1);
        memset(&l, 0, sizeof l);
        l.base = weft_align_memory(all[i].memory);
        dsgd_aau_core_layout(&l, &all[i].core, &g->graph, i, 8);
        dsgd_aau_core_start(&all[i].core, &g->graph, i, 8, grace->valuedouble > 0, 0, on_action, &all[i]);
        all[i].g = g;
        all[i].rank = i;
        all[i].sum = (double *)room(g->dim, sizeof(double));
    }
    cJSON_ArrayForEach(e, records) {
        if (!proto_record(g, all, e, index)) break;
        index++;
    }
    for (i = 0; i < g->workers; i++) {
        free(all[i].memory);
        free(all[i].sum);
    }
    free(all);
}

/* ---- all files ---- */

static void replay_file(golden *g) {
    if (item(g->doc, "events"))
        trace(g);
    else if (item(g->doc, "records"))
        proto(g);
    else
        bad(g, "neither events nor records");
    if (!g->misses && !g->iterations && !g->actions) bad(g, "compares nothing");
}

static void forget_file(golden *g) {
    free(g->graph_memory);
    free(g->h);
    free(g->b);
    free(g->x);
}

static void tell_file(const golden *g) {
    printf("; %llu iterations, %llu actions", (unsigned long long)g->iterations, (unsigned long long)g->actions);
}

int main(int argc, char **argv) {
    return golden_main(argc, argv, replay_file, forget_file, tell_file);
}
