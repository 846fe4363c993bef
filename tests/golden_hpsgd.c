/* SPDX-License-Identifier: MIT
 * golden_hpsgd.c: replays golden traces of HPSGD (events in causal order, and what each worker holds after each launch,
 * merge and void round) through the public API: one object a worker over a simulated network; in f32 and f64, with and
 * without keep_delta, in one tensor and in several. The events decide when messages move and how long a phase is;
 * the library decides everything else. Numbers are compared by value, without a tolerance. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#include "cluster.h"

#include <cJSON.h>
#include <stdio.h>

#define MOST_BYTES (256u << 20) /* of a file */
#define MOST_WORKERS 64u
#define MOST_ELEMENTS 1000000u

typedef struct golden {
    const char *path;
    cJSON *doc;
    uint32_t workers;
    size_t dim;
    double lr;
    int from_start; /* startup: continue */
    const cJSON *grads, *events, *sync, *ssgd;
    double *w0;
    uint64_t checks, misses;
    char why[600];
} golden;

/* Remembers the first thing that is wrong; always 0. */
static int bad(golden *g, const char *format, ...) {
    va_list ap;
    g->misses++;
    if (g->why[0]) return 0;
    va_start(ap, format);
    vsnprintf(g->why, sizeof g->why, format, ap);
    va_end(ap);
    return 0;
}

/* ---- reading what may be anything ---- */

static const cJSON *item(const cJSON *o, const char *key) {
    return o ? cJSON_GetObjectItemCaseSensitive(o, key) : NULL;
}

/* Every key of an object is one of `keys` (each between blanks). */
static int known(golden *g, const cJSON *o, const char *where, const char *keys) {
    const cJSON *k;
    if (!cJSON_IsObject(o)) return bad(g, "%s is not an object", where);
    cJSON_ArrayForEach(k, o) {
        char word[80];
        if (snprintf(word, sizeof word, " %s ", k->string ? k->string : "") >= (int)sizeof word || !strstr(keys, word))
            return bad(g, "unknown key \"%.60s\" in %s", k->string ? k->string : "", where);
    }
    return 1;
}

static int numbers(golden *g, const cJSON *j, size_t n, const char *what, double *out) {
    const cJSON *k;
    size_t i = 0;
    if (!cJSON_IsArray(j) || (size_t)cJSON_GetArraySize(j) != n) return bad(g, "%s: %zu numbers expected", what, n);
    cJSON_ArrayForEach(k, j) {
        if (!cJSON_IsNumber(k) || !isfinite(k->valuedouble)) return bad(g, "%s: a finite number is expected", what);
        out[i++] = k->valuedouble;
    }
    return 1;
}

/* A whole number, 0 .. most - 1. */
static int index_at(golden *g, const cJSON *a, int i, double most, const char *what, uint32_t *out) {
    const cJSON *j = cJSON_GetArrayItem(a, i);
    if (!cJSON_IsNumber(j) || j->valuedouble != floor(j->valuedouble) || j->valuedouble < 0 || j->valuedouble >= most)
        return bad(g, "%s: number %d of an event", what, i);
    *out = (uint32_t)j->valuedouble;
    return 1;
}

static cJSON *parse(golden *g, const char *path) {
    FILE *f = fopen(path, "rb");
    char *text;
    cJSON *doc;
    long n = -1;
    if (!f) {
        bad(g, "cannot be opened");
        return NULL;
    }
    if (fseek(f, 0, SEEK_END) == 0) n = ftell(f);
    if (n < 0 || n > (long)MOST_BYTES) {
        bad(g, "not a file of at most %u bytes", MOST_BYTES);
        fclose(f);
        return NULL;
    }
    rewind(f);
    text = (char *)malloc((size_t)n + 1);
    if (!text || fread(text, 1, (size_t)n, f) != (size_t)n) {
        bad(g, "cannot be read");
        free(text);
        fclose(f);
        return NULL;
    }
    text[n] = 0;
    fclose(f);
    doc = cJSON_Parse(text);
    free(text);
    if (!doc) bad(g, "is not JSON");
    return doc;
}

/* ---- one way to play a trace ---- */

typedef struct way {
    const char *name;
    weft_dtype dtype;
    int keep, split;
} way;

static const way WAYS[] = {{"f32", WEFT_F32, 0, 0},
                           {"f64 in pieces", WEFT_F64, 0, 1},
                           {"f32 in pieces, in place", WEFT_F32, WEFT_ZERO, 1},
                           {"f64, in place", WEFT_F64, WEFT_ZERO, 0}};

typedef struct player {
    weft_transport net;
    weft_tensors params, global;
    hpsgd *h;
    unsigned char *memory;
    int gone;
} player;

typedef struct play {
    golden *g;
    const way *how;
    const char *beta;
    weft_sim sim;
    player *p;
    uint32_t epoch;
    size_t record; /* next expected one */
    double *row;
} play;

static double value(const weft_tensors *t, size_t i) {
    size_t k = 0;
    while (i >= t->tensor[k].count) i -= t->tensor[k++].count;
    return cluster_get(&t->tensor[k], i);
}

static void put(const weft_tensors *t, size_t i, double v) {
    size_t k = 0;
    while (i >= t->tensor[k].count) i -= t->tensor[k++].count;
    cluster_set(&t->tensor[k], i, v);
}

static weft_tensors make(const play *y) {
    size_t count[3];
    weft_dtype type[3];
    size_t n = y->g->dim;
    type[0] = type[1] = type[2] = y->how->dtype;
    if (!y->how->split) return cluster_tensors(1, &n, type);
    count[0] = n / 3;
    count[1] = 0;
    count[2] = n - n / 3;
    return cluster_tensors(3, count, type);
}

static int play_open(play *y, golden *g, const way *how, const char *beta, double carry) {
    weft_sim_desc d;
    uint32_t r;
    size_t i;
    memset(y, 0, sizeof *y);
    memset(&d, 0, sizeof d);
    y->g = g;
    y->how = how;
    y->beta = beta;
    d.seed = 1;
    d.size = g->workers;
    d.watch = d.scribble = 1;
    d.latency_ns = 1000;
    y->p = (player *)calloc(g->workers, sizeof *y->p);
    y->row = (double *)calloc(g->dim, sizeof *y->row);
    if (!y->p || !y->row || weft_sim_init(&y->sim, &d) != WEFT_OK) return bad(g, "no simulated network");
    for (r = 0; r < g->workers; r++) {
        player *p = &y->p[r];
        hpsgd_desc h;
        weft_detail why;
        size_t bytes;
        memset(&h, 0, sizeof h);
        p->params = make(y);
        p->global = make(y);
        for (i = 0; i < g->dim; i++) put(&p->params, i, g->w0[i]);
        weft_sim_transport(&y->sim, r, &p->net);
        h.struct_size = sizeof h;
        h.params = p->params;
        h.transport = &p->net;
        h.max_steps = 1000;
        h.carry = carry;
        h.keep_delta = how->keep;
        h.startup = g->from_start ? HPSGD_CONTINUE : HPSGD_ROLL_BACK;
        bytes = hpsgd_memory(&h, NULL);
        p->memory = (unsigned char *)malloc(bytes + 1);
        if (!bytes || !p->memory || hpsgd_init_detail(&p->h, &h, p->memory, bytes, &why) != WEFT_OK)
            return bad(g, "%s: init is refused", how->name);
    }
    return 1;
}

static void play_close(play *y) {
    uint32_t r;
    for (r = 0; y->p && r < y->g->workers; r++) {
        player *p = &y->p[r];
        if (p->h) hpsgd_close(p->h);
        free(p->memory);
        if (!cluster_tensors_whole(&p->params)) bad(y->g, "somebody wrote behind a tensor");
        cluster_tensors_free(&p->params);
        cluster_tensors_free(&p->global);
    }
    if (y->sim.worker && weft_sim_violation(&y->sim)) bad(y->g, "%s", weft_sim_violation(&y->sim));
    if (y->sim.worker) weft_sim_free(&y->sim);
    free(y->p);
    free(y->row);
}

/* Everything that is on its way arrives; no replica is touched. */
static void pump(play *y) {
    int i;
    uint32_t r;
    for (i = 0; i < 40; i++) {
        for (r = 0; r < y->g->workers; r++)
            if (!y->p[r].gone) hpsgd_progress(y->p[r].h);
        weft_sim_advance(&y->sim, 2000);
    }
}

/* Does the round under way come to nothing? Then none of it may arrive. */
static int is_void(const cJSON *e) {
    for (; e; e = e->next) {
        const char *kind = cJSON_GetArrayItem(e, 0)->valuestring;
        if (!strcmp(kind, "void")) return 1;
        if (strstr(kind, "merge")) return 0;
    }
    return 0;
}

/* First contact, so that the first step's phase is like any other. */
static int contact(play *y) {
    int i;
    uint32_t r, waiting = 1;
    for (r = 0; r < y->g->workers; r++)
        if (hpsgd_start(y->p[r].h) < 0) return bad(y->g, "start is refused");
    for (i = 0; i < 40 && waiting; i++) {
        pump(y);
        for (r = waiting = 0; r < y->g->workers; r++) waiting += hpsgd_poll(y->p[r].h) != WEFT_OK;
    }
    return waiting ? bad(y->g, "no first contact") : 1;
}

/* A new view of those who are there; nobody launches before it is settled. */
static int regroup(play *y, hpsgd_void policy) {
    uint32_t member[MOST_WORKERS], r, n = 0, waiting = 1;
    weft_view v;
    int i;
    for (r = 0; r < y->g->workers; r++)
        if (!y->p[r].gone) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = ++y->epoch;
    v.count = n;
    v.members = member;
    for (r = 0; r < n; r++) {
        hpsgd *h = y->p[member[r]].h;
        if (hpsgd_set_void(h, policy) != WEFT_OK || hpsgd_set_steps(h, 1000, 1000) != WEFT_OK ||
            hpsgd_regroup(h, &v) < 0)
            return bad(y->g, "regroup is refused: %s", hpsgd_detail(h)->field);
    }
    for (i = 0; i < 40 && waiting; i++) {
        pump(y);
        for (r = waiting = 0; r < n; r++) waiting += hpsgd_poll(y->p[member[r]].h) != WEFT_OK;
    }
    return waiting ? bad(y->g, "the new view is not agreed") : 1;
}

/* Local steps from event `at` to this worker's next launch. */
static uint32_t phase_from(const cJSON *e, uint32_t w) {
    uint32_t n = 0;
    for (; e; e = e->next) {
        const char *kind = cJSON_GetArrayItem(e, 0)->valuestring;
        if ((uint32_t)cJSON_GetArrayItem(e, 1)->valuedouble != w) continue;
        if (!strcmp(kind, "step")) n++;
        if (!strcmp(kind, "launch") || !strcmp(kind, "merge_launch")) return n;
    }
    return 1000;
}

static int same_row(play *y, const char *what, const cJSON *e, const weft_tensors *got, const double *want) {
    size_t i;
    for (i = 0; i < y->g->dim; i++) {
        y->g->checks++;
        if (value(got, i) != want[i])
            return bad(y->g, "%s, beta %s, %s %d of worker %d: %s[%zu] is %.17g instead of %.17g", y->how->name,
                       y->beta, cJSON_GetArrayItem(e, 0)->valuestring, (int)cJSON_GetArrayItem(e, 2)->valuedouble,
                       (int)cJSON_GetArrayItem(e, 1)->valuedouble, what, i, value(got, i), want[i]);
    }
    return 1;
}

/* The record of event e against what the worker holds. */
static int compare(play *y, const cJSON *e, const cJSON *record, int requeued) {
    golden *g = y->g;
    uint32_t w = (uint32_t)cJSON_GetArrayItem(e, 1)->valuedouble, i;
    player *p = &y->p[w];
    const cJSON *at = item(record, "event"), *n = item(record, "n"), *s = item(record, "S");
    if (!known(g, record, "a record", " event W x S n ")) return 0;
    for (i = 0; i < 3; i++)
        if (!cJSON_Compare(cJSON_GetArrayItem(at, (int)i), cJSON_GetArrayItem(e, (int)i), 1))
            return bad(g, "a record is of another event");
    if (hpsgd_model(p->h, &p->global) != WEFT_OK) return bad(g, "no global model");
    if (!numbers(g, item(record, "W"), g->dim, "W", y->row) || !same_row(y, "W", e, &p->global, y->row)) return 0;
    if (!numbers(g, item(record, "x"), g->dim, "x", y->row) || !same_row(y, "x", e, &p->params, y->row)) return 0;
    if (cJSON_IsArray(s)) {
        weft_tensors sent;
        if (!numbers(g, s, g->dim, "S", y->row)) return 0;
        sent.tensor = p->h->payload;
        sent.count = p->params.count;
        if (!same_row(y, "S", e, &sent, y->row)) return 0;
    } else if (!cJSON_IsNull(s)) {
        return bad(g, "S is neither numbers nor null");
    }
    g->checks++;
    if (!cJSON_IsNumber(n)) return bad(g, "n is missing");
    /* the trace counts one for a change put back, the library its steps */
    if (requeued ? p->h->n <= n->valuedouble - 1 : (double)p->h->n != n->valuedouble)
        return bad(g, "%s, worker %u: n is %llu", y->how->name, w, (unsigned long long)p->h->n);
    return 1;
}

/* Local steps taken at the start and end of round k are those of `sync`. */
static int compare_sync(play *y, uint32_t w, uint32_t k, const char *key) {
    golden *g = y->g;
    const cJSON *row = cJSON_GetArrayItem(g->sync, (int)k), *steps = item(row, key);
    hpsgd_stats_t s;
    if (!g->sync || !row) return 1;
    hpsgd_stats(y->p[w].h, &s);
    g->checks++;
    if (!cJSON_IsArray(steps) || cJSON_GetArrayItem(steps, (int)w) == NULL ||
        cJSON_GetArrayItem(steps, (int)w)->valuedouble != (double)s.steps)
        return bad(g, "round %u, worker %u: %s is not %llu", k, w, key, (unsigned long long)s.steps);
    return 1;
}

static int one_event(play *y, const cJSON *e, const cJSON **record, int *voided) {
    golden *g = y->g;
    const char *kind = cJSON_GetArrayItem(e, 0)->valuestring;
    uint32_t w, k = 0, count = 0, flag = 0;
    player *p;
    hpsgd_stats_t s;
    size_t i;
    if (!index_at(g, e, 1, g->workers, kind, &w)) return 0;
    p = &y->p[w];
    if (strcmp(kind, "leave") && !index_at(g, e, 2, 1e6, kind, &k)) return 0;
    if (!strcmp(kind, "step")) {
        uint32_t phase = phase_from(e, w);
        *voided = 0;
        if (!numbers(g, cJSON_GetArrayItem(cJSON_GetArrayItem(g->grads, (int)w), (int)k), g->dim, "grads", y->row))
            return 0;
        for (i = 0; i < g->dim; i++) {
            double v = value(&p->params, i);
            put(&p->params, i,
                y->how->dtype == WEFT_F32 ? (double)((float)v - (float)g->lr * (float)y->row[i])
                                          : v - g->lr * y->row[i]);
        }
        if (!is_void(e)) pump(y);
        /* what is in the replica, and what is still to come */
        phase += (uint32_t)p->h->n;
        if (hpsgd_set_steps(p->h, phase, 100000) != WEFT_OK || hpsgd_step(p->h) != WEFT_OK)
            return bad(g, "step: %s", hpsgd_detail(p->h)->field);
        return 1;
    }
    if (!strcmp(kind, "leave")) {
        p->gone = 1;
        weft_sim_lose(&y->sim, w);
        return 1;
    }
    if (!strcmp(kind, "void")) {
        if (!index_at(g, e, 3, 2, kind, &flag)) return 0;
        if (flag && y->how->keep == WEFT_ZERO) return -1; /* this way cannot */
        if (!*voided && !regroup(y, flag ? HPSGD_REQUEUE : HPSGD_DROP)) return 0;
        *voided = 1 + (int)flag;
        hpsgd_stats(p->h, &s);
        g->checks++;
        if (!s.rounds_void) return bad(g, "no round is void");
    } else if (!strcmp(kind, "launch") || !strcmp(kind, "merge_launch")) {
        if (*voided) { /* what is left over goes on its way now */
            if (hpsgd_set_steps(p->h, 1, 1000) != WEFT_OK || hpsgd_poll(p->h) != WEFT_OK)
                return bad(g, "launch after a void round");
        }
        if (!(hpsgd_state(p->h) & HPSGD_IN_FLIGHT)) return bad(g, "worker %u has not launched", w);
        if (!compare_sync(y, w, k + !strcmp(kind, "merge_launch"), "start_step")) return 0;
    } else if (!strcmp(kind, "merge")) {
        *voided = 0;
        pump(y);
        if (hpsgd_poll(p->h) != WEFT_OK) return bad(g, "merge: %s", hpsgd_detail(p->h)->field);
        if (hpsgd_state(p->h) & HPSGD_IN_FLIGHT) return bad(g, "worker %u has not merged", w);
    } else {
        return bad(g, "unknown event \"%.20s\"", kind);
    }
    if (strstr(kind, "merge")) {
        if (!index_at(g, e, 3, 1e6, kind, &count)) return 0;
        hpsgd_stats(p->h, &s);
        g->checks++;
        if (s.participants != count) return bad(g, "count is %llu", (unsigned long long)s.participants);
        if (!compare_sync(y, w, k, "finish_step")) return 0;
    }
    if (!*record) return bad(g, "more events than records");
    if (!compare(y, e, *record, *voided == 2 && !strcmp(kind, "void"))) return 0;
    *record = (*record)->next;
    if (!strcmp(kind, "merge") && g->ssgd) {
        if (!numbers(g, cJSON_GetArrayItem(g->ssgd, (int)k), g->dim, "ssgd", y->row)) return 0;
        return same_row(y, "W as in ssgd", e, &p->global, y->row);
    }
    return 1;
}

static void replay(golden *g, const way *how, const cJSON *records) {
    play y;
    const cJSON *e, *record = records->child;
    int voided = 0, ok = 1;
    char *end;
    double carry = strtod(records->string, &end);
    if (*end || !(carry >= 0 && carry <= 1)) {
        bad(g, "expect: \"%.20s\" is no carry", records->string);
        return;
    }
    if (play_open(&y, g, how, records->string, carry) && contact(&y)) {
        cJSON_ArrayForEach(e, g->events) {
            if (!cJSON_IsArray(e) || !cJSON_IsString(cJSON_GetArrayItem(e, 0)) ||
                !cJSON_IsNumber(cJSON_GetArrayItem(e, 1))) {
                ok = bad(g, "an event is no list");
                break;
            }
            if ((ok = one_event(&y, e, &record, &voided)) != 1) break;
        }
        if (ok == 1 && record) bad(g, "more records than events");
    }
    play_close(&y);
}

static void replay_file(golden *g) {
    const cJSON *n, *d, *lr, *startup, *expect, *k;
    size_t i;
    if (!(g->doc = parse(g, g->path))) return;
    if (!known(g, g->doc, "the file", " name about N dim lr startup w0 grads events sync plan ssgd expect ")) return;
    n = item(g->doc, "N");
    d = item(g->doc, "dim");
    lr = item(g->doc, "lr");
    startup = item(g->doc, "startup");
    expect = item(g->doc, "expect");
    g->grads = item(g->doc, "grads");
    g->events = item(g->doc, "events");
    g->sync = item(g->doc, "sync");
    g->ssgd = item(g->doc, "ssgd");
    if (!cJSON_IsNumber(n) || n->valuedouble < 1 || n->valuedouble > MOST_WORKERS || !cJSON_IsNumber(d) ||
        d->valuedouble < 1 || d->valuedouble > MOST_ELEMENTS || !cJSON_IsNumber(lr) || !cJSON_IsString(startup) ||
        !cJSON_IsArray(g->grads) || !cJSON_IsArray(g->events) || !cJSON_IsObject(expect)) {
        bad(g, "N, dim, lr, startup, grads, events or expect is not what it should be");
        return;
    }
    g->workers = (uint32_t)n->valuedouble;
    g->dim = (size_t)d->valuedouble;
    g->lr = lr->valuedouble;
    g->from_start = !strcmp(startup->valuestring, "continue");
    if (!g->from_start && strcmp(startup->valuestring, "rollback")) {
        bad(g, "startup is neither rollback nor continue");
        return;
    }
    g->w0 = (double *)calloc(g->dim, sizeof *g->w0);
    if (!g->w0 || !numbers(g, item(g->doc, "w0"), g->dim, "w0", g->w0)) return;
    cJSON_ArrayForEach(k, expect) {
        if (!cJSON_IsArray(k)) {
            bad(g, "expect is no list of records");
            return;
        }
        for (i = 0; i < sizeof WAYS / sizeof *WAYS; i++) replay(g, &WAYS[i], k);
    }
}

static int usage(FILE *to, int status) {
    fputs("usage: golden-hpsgd FILE...\n"
          "Replays golden traces (JSON) of HPSGD through hpsgd.h and prints a line for each file: how many numbers\n"
          "were compared, all by value and without a tolerance.\n"
          "Exit status: 0 all agree, 1 a miss, an unknown key or a file that compares nothing, 2 bad usage.\n",
          to);
    return status;
}

int main(int argc, char **argv) {
    int i, failed = 0;
    if (argc < 2) return usage(stderr, 2);
    for (i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return usage(stdout, 0);
        if (argv[i][0] == '-' && argv[i][1]) {
            fprintf(stderr, "golden-hpsgd: unknown option %s\n", argv[i]);
            return usage(stderr, 2);
        }
    }
    printf("%-45s %9s  %s\n", "file", "compared", "worst error (must be 0)");
    for (i = 1; i < argc; i++) {
        golden g;
        const char *slash = strrchr(argv[i], '/');
        memset(&g, 0, sizeof g);
        g.path = argv[i];
        replay_file(&g);
        if (!g.misses && !g.checks) bad(&g, "compares nothing");
        printf("%-45s %9llu  %s%s\n", slash ? slash + 1 : argv[i], (unsigned long long)g.checks,
               g.misses ? "FAILED: " : "0 ok", g.why);
        failed += g.misses != 0;
        cJSON_Delete(g.doc);
        free(g.w0);
    }
    printf("%d of %d files agree\n", argc - 1 - failed, argc - 1);
    return failed != 0;
}
