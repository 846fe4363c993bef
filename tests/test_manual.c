/* SPDX-License-Identifier: MIT
 * test_manual.c: the tables "Which verb when" in the manuals of the headers against the code: an object is brought into
 * each state, and each verb called there. y: legal; -: WEFT_ERR_ORDER, and nothing has changed. A verb without a row, a
 * row without a verb, or a cell that is wrong fails. `test_manual print` prints the tables as they should be. And what
 * the manuals say of memory. */
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#define SADDLE_IMPLEMENTATION
#include "saddle.h"
#include "silent.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 40, STATES = 6, VERBS = 24 };

/* ---- A worker whose only peer never says a word, or that has none ---- */

typedef struct stage {
    weft_transport net;
    weft_graph graph;
    unsigned char graph_memory[64];
    uint64_t now;
    float x[D], g[D];
    weft_tensor params, grads;
    weft_tensors px, pg;
    uint32_t all[2];
    weft_view view;
    void *memory, *object;
} stage;

static uint64_t silent_now(void *ctx) {
    return ((stage *)ctx)->now += 1000000;
}

/* Also where no test runs: the tables may be printed. */
static void must(int holds) {
    if (holds) return;
    fprintf(stderr, "a state cannot be reached\n");
    abort();
}

static stage *stage_make(uint32_t workers) {
    stage *s = (stage *)calloc(1, sizeof *s);
    int k;
    if (!s) abort();
    s->net = silent_transport(s, workers, silent_now);
    must(weft_graph_complete(&s->graph, workers, s->graph_memory, sizeof s->graph_memory) == WEFT_OK);
    for (k = 0; k < D; k++) s->x[k] = s->g[k] = 0.5f + (float)k;
    s->params.data = s->x;
    s->grads.data = s->g;
    s->params.count = s->grads.count = D;
    s->params.dtype = s->grads.dtype = WEFT_F32;
    s->px.tensor = &s->params;
    s->pg.tensor = &s->grads;
    s->px.count = s->pg.count = 1;
    s->all[1] = 1;
    s->view.struct_size = sizeof s->view;
    s->view.epoch = 1;
    s->view.count = workers;
    s->view.members = s->all;
    return s;
}

#define TIMEOUT_NS 50000000u
#define BEGIN(P, params_field)                                                                                         \
    P##_desc d;                                                                                                        \
    P *o = NULL;                                                                                                       \
    size_t bytes;                                                                                                      \
    memset(&d, 0, sizeof d);                                                                                           \
    d.struct_size = sizeof d;                                                                                          \
    d.transport = &s->net;                                                                                             \
    d.timeout_ns = TIMEOUT_NS;                                                                                         \
    d.params_field
#define END(P)                                                                                                         \
    bytes = P##_memory(&d, NULL);                                                                                      \
    s->memory = malloc(bytes);                                                                                         \
    must(P##_init(&o, &d, s->memory, bytes) == WEFT_OK);                                                               \
    s->object = o

/* What a state is made by must come out as said. */
static void made(weft_status got, weft_status want) {
    if (got != want) fprintf(stderr, "%d, not %d: ", (int)got, (int)want);
    must(got == want);
}

static weft_status save_nowhere(void *ctx, const void *data, size_t bytes) {
    (void)ctx, (void)data, (void)bytes;
    return WEFT_OK;
}
static weft_status read_nothing(void *ctx, size_t at, void *data, size_t bytes) {
    (void)ctx, (void)at;
    memset(data, 0, bytes);
    return WEFT_OK;
}
static unsigned char blob[64];

/* ---- grawa.h ---- */

static stage *at_grawa(int state) {
    static const uint32_t workers[] = {2, 1, 1, 2, 2, 1};
    stage *s = stage_make(workers[state]);
    BEGIN(grawa, params = s->px);
    d.period_steps = state == 2 ? 1 : 4;
    if (state == 2) d.source = GRAWA_SOURCE_PROBE;
    END(grawa);
    if (state == 1) made(grawa_step(o, &s->pg), WEFT_OK);
    if (state == 2) made(grawa_step(o, &s->pg), WEFT_WANT_GRADIENT);
    if (state == 3 || state == 4) made(grawa_average(o, GRAWA_MEAN, &s->px, NULL), WEFT_AGAIN);
    if (state == 4) made(grawa_peer_lost(o, 1), WEFT_OK);
    if (state == 5) made(grawa_leave(o), WEFT_OK);
    return s;
}

static weft_status grawa_call(stage *s, int verb) {
    grawa *o = (grawa *)s->object;
    size_t n;
    switch (verb) {
    case 0: return grawa_start(o);
    case 1: return grawa_step(o, &s->pg);
    case 2: return grawa_probe(o, &s->pg);
    case 3: return grawa_poll(o);
    case 4: return grawa_wait(o);
    case 5: return grawa_average(o, GRAWA_MEAN, &s->px, NULL);
    case 6: return grawa_leave(o);
    case 7: return grawa_regroup(o, &s->view);
    case 8: return grawa_peer_lost(o, s->net.size - 1);
    case 9: return grawa_peer_up(o, s->net.size - 1);
    case 10: return grawa_save(o, NULL, 0, &n);
    case 11: return grawa_save_to(o, save_nowhere, NULL, &n);
    case 12: return grawa_load(o, blob, sizeof blob);
    case 13: return grawa_load_from(o, read_nothing, NULL, sizeof blob);
    case 14: return grawa_set_period(o, 8);
    case 15: return grawa_set_pull(o, 0.5);
    case 16: return grawa_set_proximal(o, 0);
    default: return grawa_set_grad_scale(o, 2);
    }
}

/* ---- subspace.h ---- */

static stage *at_subspace(int state) {
    stage *s = stage_make(state == 1 || state == 4 ? 1 : 2);
    BEGIN(subspace, gradients = s->pg);
    END(subspace);
    if (state == 1) made(subspace_aggregate(o), WEFT_OK);
    if (state == 2 || state == 3) made(subspace_submit(o, 0, 1), WEFT_AGAIN);
    if (state == 3) made(subspace_peer_lost(o, 1), WEFT_OK);
    if (state == 4) made(subspace_leave(o), WEFT_OK);
    return s;
}

static weft_status subspace_call(stage *s, int verb) {
    subspace *o = (subspace *)s->object;
    size_t n;
    switch (verb) {
    case 0: return subspace_submit(o, 0, 1);
    case 1: return subspace_aggregate(o);
    case 2: return subspace_poll(o);
    case 3: return subspace_wait(o);
    case 4: return subspace_combine(o, &s->pg, 1, NULL, &s->pg);
    case 5: return subspace_set_batch(o, 32);
    case 6: return subspace_leave(o);
    case 7: return subspace_regroup(o, &s->view);
    case 8: return subspace_peer_lost(o, s->net.size - 1);
    case 9: return subspace_peer_up(o, s->net.size - 1);
    case 10: return subspace_save(o, NULL, 0, &n);
    case 11: return subspace_save_to(o, save_nowhere, NULL, &n);
    case 12: return subspace_load(o, blob, sizeof blob);
    default: return subspace_load_from(o, read_nothing, NULL, sizeof blob);
    }
}

/* ---- dsgd_aau.h ---- */

static stage *at_dsgd_aau(int state) {
    stage *s = stage_make(state == 0 || state == 2 ? 2 : 1);
    BEGIN(dsgd_aau, params = s->px);
    d.graph = &s->graph;
    END(dsgd_aau);
    if (state == 1) made(dsgd_aau_step(o), WEFT_OK);
    if (state == 2) made(dsgd_aau_step(o), WEFT_AGAIN);
    if (state == 3) made(dsgd_aau_leave(o), WEFT_OK);
    return s;
}

static weft_status dsgd_aau_call(stage *s, int verb) {
    dsgd_aau *o = (dsgd_aau *)s->object;
    size_t n;
    switch (verb) {
    case 0: return dsgd_aau_start(o);
    case 1: return dsgd_aau_step(o);
    case 2: return dsgd_aau_poll(o);
    case 3: return dsgd_aau_wait(o);
    case 4: return dsgd_aau_leave(o);
    case 5: return dsgd_aau_peer_lost(o, s->net.size - 1);
    case 6: return dsgd_aau_peer_up(o, s->net.size - 1);
    case 7: return dsgd_aau_save(o, NULL, 0, &n);
    case 8: return dsgd_aau_save_to(o, save_nowhere, NULL, &n);
    case 9: return dsgd_aau_load(o, blob, sizeof blob);
    default: return dsgd_aau_load_from(o, read_nothing, NULL, sizeof blob);
    }
}

/* ---- hpsgd.h ---- */

static stage *at_hpsgd(int state) {
    stage *s = stage_make(state == 1 || state == 5 ? 1 : 2);
    BEGIN(hpsgd, params = s->px);
    d.max_steps = 1;
    END(hpsgd);
    if (state == 1) made(hpsgd_step(o), WEFT_OK);
    if (state == 2) made(hpsgd_step(o), WEFT_STALL);
    if (state == 3 || state == 4) made(hpsgd_drain(o), WEFT_AGAIN);
    if (state == 4) made(hpsgd_peer_lost(o, 1), WEFT_OK);
    if (state == 5) made(hpsgd_leave(o), WEFT_OK);
    return s;
}

static weft_status hpsgd_call(stage *s, int verb) {
    hpsgd *o = (hpsgd *)s->object;
    size_t n;
    switch (verb) {
    case 0: return hpsgd_start(o);
    case 1: return hpsgd_step(o);
    case 2: return hpsgd_poll(o);
    case 3: return hpsgd_progress(o);
    case 4: return hpsgd_wait(o);
    case 5: return hpsgd_drain(o);
    case 6: return hpsgd_leave(o);
    case 7: return hpsgd_model(o, &s->pg);
    case 8: return hpsgd_regroup(o, &s->view);
    case 9: return hpsgd_peer_lost(o, s->net.size - 1);
    case 10: return hpsgd_peer_up(o, s->net.size - 1);
    case 11: return hpsgd_save(o, NULL, 0, &n);
    case 12: return hpsgd_save_to(o, save_nowhere, NULL, &n);
    case 13: return hpsgd_load(o, blob, sizeof blob);
    case 14: return hpsgd_load_from(o, read_nothing, NULL, sizeof blob);
    case 15: return hpsgd_set_steps(o, 0, 4);
    default: return hpsgd_set_void(o, HPSGD_DROP);
    }
}

/* ---- saddle.h ---- */

static void all_wants(saddle *o, saddle_want *w, stage *s, weft_status last) {
    weft_status r;
    while ((r = saddle_next(o, w)) == WEFT_WANT_GRADIENT) memcpy(w->into.tensor[0].data, s->g, sizeof s->g);
    made(r, last);
}

static stage *at_saddle(int state) {
    stage *s = stage_make(state == 0 || state == 3 ? 2 : 1);
    saddle_want w;
    BEGIN(saddle, params = s->px);
    d.graph = &s->graph;
    d.learning_rate = 0.1;
    END(saddle);
    if (state == 1) all_wants(o, &w, s, WEFT_OK);
    if (state == 2) made(saddle_next(o, &w), WEFT_WANT_GRADIENT);
    if (state == 3) made(saddle_next(o, &w), WEFT_AGAIN);
    if (state == 4) made(saddle_leave(o), WEFT_OK);
    return s;
}

static weft_status give(void *ctx, const saddle_want *w) {
    memcpy(w->into.tensor[0].data, ((stage *)ctx)->g, sizeof((stage *)ctx)->g);
    return WEFT_OK;
}

static weft_status saddle_call(stage *s, int verb) {
    saddle *o = (saddle *)s->object;
    saddle_want w;
    size_t n;
    switch (verb) {
    case 0: return saddle_next(o, &w);
    case 1: return saddle_wait(o, &w);
    case 2: return saddle_step(o, give, s);
    case 3: return saddle_poll(o);
    case 4: return saddle_set_learning_rate(o, 0.2);
    case 5: return saddle_leave(o);
    case 6: return saddle_peer_lost(o, s->net.size - 1);
    case 7: return saddle_peer_up(o, s->net.size - 1);
    case 8: return saddle_save(o, NULL, 0, &n);
    case 9: return saddle_save_to(o, save_nowhere, NULL, &n);
    case 10: return saddle_load(o, blob, sizeof blob);
    default: return saddle_load_from(o, read_nothing, NULL, sizeof blob);
    }
}

/* ---- The tables ---- */

static void grawa_end(void *o) {
    grawa_close((grawa *)o);
}
static void subspace_end(void *o) {
    subspace_close((subspace *)o);
}
static void dsgd_aau_end(void *o) {
    dsgd_aau_close((dsgd_aau *)o);
}
static void hpsgd_end(void *o) {
    hpsgd_close((hpsgd *)o);
}
static void saddle_end(void *o) {
    saddle_close((saddle *)o);
}

static const struct header {
    const char *name;
    const char *state[STATES + 1], *verb[VERBS];
    stage *(*at)(int state);
    weft_status (*call)(stage *s, int verb);
    void (*close)(void *o);
} headers[] = {
    {"grawa",
     {"fresh", "idle", "probe", "busy", "lost", "left"},
     {"start", "step", "probe", "poll", "wait", "average", "leave", "regroup", "peer_lost", "peer_up", "save",
      "save_to", "load", "load_from", "set_period", "set_pull", "set_proximal", "set_grad_scale"},
     at_grawa,
     grawa_call,
     grawa_end},
    {"subspace",
     {"fresh", "idle", "busy", "lost", "left"},
     {"submit", "aggregate", "poll", "wait", "combine", "set_batch", "leave", "regroup", "peer_lost", "peer_up", "save",
      "save_to", "load", "load_from"},
     at_subspace,
     subspace_call,
     subspace_end},
    {"dsgd_aau",
     {"fresh", "idle", "busy", "left"},
     {"start", "step", "poll", "wait", "leave", "peer_lost", "peer_up", "save", "save_to", "load", "load_from"},
     at_dsgd_aau,
     dsgd_aau_call,
     dsgd_aau_end},
    {"hpsgd",
     {"fresh", "idle", "stalled", "busy", "lost", "left"},
     {"start", "step", "poll", "progress", "wait", "drain", "leave", "model", "regroup", "peer_lost", "peer_up", "save",
      "save_to", "load", "load_from", "set_steps", "set_void"},
     at_hpsgd,
     hpsgd_call,
     hpsgd_end},
    {"saddle",
     {"fresh", "idle", "wanted", "busy", "left"},
     {"next", "wait", "step", "poll", "set_learning_rate", "leave", "peer_lost", "peer_up", "save", "save_to", "load",
      "load_from"},
     at_saddle,
     saddle_call,
     saddle_end},
};
enum { HEADERS = sizeof headers / sizeof *headers };

static int legal(const struct header *h, int state, int verb) {
    stage *s = h->at(state);
    const int is = h->call(s, verb) != WEFT_ERR_ORDER;
    h->close(s->object);
    free(s->memory);
    free(s);
    return is;
}

static int count_of(const char *const *names) {
    int n = 0;
    while (names[n]) n++;
    return n;
}

/* A line of the table, of words with blanks between: what stands behind " * ". */
static void line_of(const struct header *h, int verb, char *line, size_t room) {
    const int states = count_of(h->state);
    size_t n;
    int k;
    n = (size_t)snprintf(line, room, "%s%s", verb < 0 ? "" : h->name, verb < 0 ? "" : "_");
    n += (size_t)snprintf(line + n, room - n, "%s", verb < 0 ? "" : h->verb[verb]);
    while (n < 26) line[n++] = ' ';
    for (k = 0; k < states; k++)
        n += (size_t)snprintf(line + n, room - n, "%-9s", verb < 0 ? h->state[k] : legal(h, k, verb) ? "y" : "-");
    while (n && line[n - 1] == ' ') n--;
    line[n] = 0;
}

START_TEST(table) {
    const struct header *h = &headers[_i];
    const int verbs = count_of(h->verb);
    char path[64], got[256], want[256];
    FILE *f;
    int row = -2; /* before the table, then its head, then its rows */
    snprintf(path, sizeof path, "%s.h", h->name);
    f = fopen(path, "r");
    ck_assert_msg(f != NULL, "no file %s here", path);
    while (row < verbs && fgets(got, sizeof got, f)) {
        got[strcspn(got, "\r\n")] = 0;
        if (row == -2) {
            if (strcmp(got, " * ---- Which verb when ----") == 0 && fgets(got, sizeof got, f)) row = -1;
            continue;
        }
        strcpy(want, " *   ");
        line_of(h, row, want + 5, sizeof want - 5);
        ck_assert_msg(strcmp(got, want) == 0, "%s: the table should say\n%s\nand says\n%s", path, want, got);
        row++;
    }
    ck_assert_msg(row == verbs, "%s: no table, or it breaks off", path);
    ck_assert(fgets(got, sizeof got, f) != NULL);
    ck_assert_msg(strncmp(got, " *\n", 3) == 0, "%s: a row too many: %s", path, got);
    fclose(f);
}
END_TEST

/* Every verb that the header declares, that takes an object and returns a status, is in the table. */
START_TEST(complete) {
    const struct header *h = &headers[_i];
    char path[64], line[512], name[128], object[64], upper[32];
    size_t k, found = 0;
    FILE *f;
    snprintf(path, sizeof path, "%s.h", h->name);
    for (k = 0; h->name[k]; k++)
        upper[k] = (char)(h->name[k] >= 'a' && h->name[k] <= 'z' ? h->name[k] - 32 : h->name[k]);
    upper[k] = 0;
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    snprintf(name, sizeof name, "%s_API weft_status %s_", upper, h->name);
    snprintf(object, sizeof object, "(%s *", h->name);
    while (fgets(line, sizeof line, f)) {
        char *verb, *end;
        int v = 0;
        if (strncmp(line, name, strlen(name)) != 0) continue;
        verb = line + strlen(name);
        end = strchr(verb, '(');
        if (!end || strncmp(end, object, strlen(object)) != 0 || end[strlen(object)] == '*') continue;
        *end = 0;
        while (h->verb[v] && strcmp(h->verb[v], verb) != 0) v++;
        ck_assert_msg(h->verb[v] != NULL, "%s_%s is in no table", h->name, verb);
        found++;
    }
    fclose(f);
    ck_assert_uint_ge(found, (size_t)count_of(h->verb)); /* declared, and defined */
}
END_TEST

/* "Extra memory" of the manuals, stated again: at most a tenth off in what is not the model's own size. */
static void expect_bytes(const char *name, size_t bytes, double models, double rest) {
    const double off = (double)bytes - models * 4e6 - rest;
    ck_assert_msg(fabs(off) <= 0.1 * rest, "%s: %zu bytes; the manual says %.0f and a tenth", name, bytes,
                  models * 4e6 + rest);
}

START_TEST(memory_formulas) {
    static const uint32_t workers[] = {4, 8, 16, 32};
    static unsigned char graph_memory[WEFT_GRAPH_BYTES(32, 64)];
    static float big[2000000];
    const uint32_t n = workers[_i];
    const double p = 262144;
    weft_tensor t = {NULL, 1000000, WEFT_F32};
    weft_tensors view = {NULL, 1};
    weft_graph graph;
    uint32_t k;
    stage *s = stage_make(1);
    t.data = big;
    view.tensor = &t;
    s->net.size = n;
    if (sizeof(void *) == 8) {
        {
            grawa_desc d = {0};
            d.struct_size = sizeof d;
            d.params = view;
            d.transport = &s->net;
            expect_bytes("grawa", grawa_memory(&d, NULL), 1, 2.3 * 1024 * n + 3 * 1024);
        }
        {
            subspace_desc d = {0};
            d.struct_size = sizeof d;
            d.gradients = view;
            d.transport = &s->net;
            expect_bytes("subspace", subspace_memory(&d, NULL), 1, 2.5 * 1024 * n + 16.0 * n * n + 2 * 1024);
        }
        {
            hpsgd_desc d = {0};
            d.struct_size = sizeof d;
            d.params = view;
            d.transport = &s->net;
            expect_bytes("hpsgd", hpsgd_memory(&d, NULL), 3, 2.3 * 1024 * n + 2.5 * 1024);
            d.keep_delta = WEFT_ZERO;
            expect_bytes("hpsgd, keep_delta off", hpsgd_memory(&d, NULL), 2 + 1.0 / 32, 2.3 * 1024 * n + 2.5 * 1024);
        }
        for (k = 2; k <= 4; k += 2) {
            if (k == 4 && n < 12) continue;
            ck_assert_int_eq(k == 2 ? weft_graph_ring(&graph, n, graph_memory, sizeof graph_memory)
                                    : weft_graph_torus(&graph, 4, n / 4, graph_memory, sizeof graph_memory),
                             WEFT_OK);
            {
                dsgd_aau_desc d = {0};
                d.struct_size = sizeof d;
                d.params = view;
                d.transport = &s->net;
                d.graph = &graph;
                expect_bytes("dsgd_aau", dsgd_aau_memory(&d, NULL), 1,
                             p + 1.5 * 1024 * k + 20 * n + 8 * graph.edges + 2 * 1024);
            }
            {
                saddle_desc d = {0};
                d.struct_size = sizeof d;
                d.params = view;
                d.transport = &s->net;
                d.graph = &graph;
                d.learning_rate = 0.1;
                expect_bytes("saddle, Q", saddle_memory(&d, NULL), 3, (k + 1) * p + 1.5 * 1024 * k + 2 * 1024);
                d.variant = SADDLE_N;
                expect_bytes("saddle, N", saddle_memory(&d, NULL), k + 5, (k + 1) * p + 1.5 * 1024 * k + 2 * 1024);
                d.variant = SADDLE_Q;
                d.codec = weft_codec_q8();
                expect_bytes("saddle, Q, q8", saddle_memory(&d, NULL), k + 4, (k + 2) * p + 1.5 * 1024 * k + 2 * 1024);
            }
        }
    }
    free(s);
}
END_TEST

/* The view of a descriptor is copied: what can be read of it later is not the host's pointer. */
START_TEST(views_are_copied) {
    static float x[4];
    weft_tensor t = {x, 4, WEFT_F32};
    uint32_t both[2] = {0, 1};
    weft_view view = {sizeof view, 3, 2, both};
    weft_transport net = silent_transport(NULL, 2, NULL);
#define COPIED(X, list)                                                                                                \
    do {                                                                                                               \
        X##_desc d, e;                                                                                                 \
        X *o;                                                                                                          \
        void *memory;                                                                                                  \
        size_t bytes;                                                                                                  \
        memset(&d, 0, sizeof d);                                                                                       \
        d.struct_size = sizeof d;                                                                                      \
        d.list.tensor = &t;                                                                                            \
        d.list.count = 1;                                                                                              \
        d.transport = &net;                                                                                            \
        d.view = &view;                                                                                                \
        bytes = X##_memory(&d, NULL);                                                                                  \
        memory = malloc(bytes);                                                                                        \
        ck_assert_int_eq(X##_init(&o, &d, memory, bytes), WEFT_OK);                                                    \
        X##_effective(o, &e);                                                                                          \
        ck_assert_ptr_null(e.view);                                                                                    \
        X##_close(o);                                                                                                  \
        free(memory);                                                                                                  \
    } while (0)
    COPIED(grawa, params);
    COPIED(subspace, gradients);
    COPIED(hpsgd, params);
#undef COPIED
}
END_TEST

int main(int argc, char **argv) {
    Suite *s = suite_create("manual");
    TCase *t = tcase_create("manual");
    SRunner *r = srunner_create(s);
    int failed, k, v;
    if (argc == 2 && strcmp(argv[1], "print") == 0) {
        for (k = 0; k < HEADERS; k++) {
            printf("%s.h\n * ---- Which verb when ----\n *\n", headers[k].name);
            for (v = -1; v < count_of(headers[k].verb); v++) {
                char line[256];
                line_of(&headers[k], v, line, sizeof line);
                printf(" *   %s\n", line);
            }
            printf(" *\n");
        }
        srunner_free(r);
        return EXIT_SUCCESS;
    }
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, table, 0, HEADERS);
    tcase_add_loop_test(t, complete, 0, HEADERS);
    tcase_add_loop_test(t, memory_formulas, 0, 4);
    tcase_add_test(t, views_are_copied);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
