/* SPDX-License-Identifier: MIT
 * test_pieces.c: saved state that goes in pieces through callbacks, of all five headers: the bytes are those of the form
 * with a buffer, pieces are small, whatever fails on the way is told and changes nothing, and what is read is not believed
 * to be the same twice. */
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
#include "weft_threads.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 700, ROOM = 65536 };

/* One worker of each header, alone: its verbs, as functions of one type. */
typedef struct subject {
    weft_threads_team team;
    weft_transport net;
    weft_graph graph;
    unsigned char graph_memory[64];
    float x[ELEMENTS], g[ELEMENTS];
    weft_tensor params, grads;
    void *memory, *object;
    const struct rule *rule;
} subject;

typedef struct rule {
    const char *name;
    size_t least; /* bytes of a blob; more than two pieces where it is as large as the model */
    void (*begin)(subject *s);
    void (*step)(subject *s);
    weft_status (*save)(void *o, void *buf, size_t capacity, size_t *bytes);
    weft_status (*load)(void *o, const void *buf, size_t bytes);
    weft_status (*save_to)(void *o, weft_write_fn write, void *ctx, size_t *bytes);
    weft_status (*load_from)(void *o, weft_read_fn read, void *ctx, size_t bytes);
    const weft_detail *(*detail)(const void *o);
    void (*close)(void *o);
} rule;

static void ready(subject *s) {
    size_t i;
    for (i = 0; i < ELEMENTS; i++) {
        s->x[i] = 0.001f * (float)i - 0.3f;
        s->g[i] = 0.01f * (float)(i % 17) - 0.08f;
    }
    s->params.data = s->x;
    s->grads.data = s->g;
    s->params.count = s->grads.count = ELEMENTS;
    s->params.dtype = s->grads.dtype = WEFT_F32;
}

#define OPEN(P, d)                                                                                                     \
    do {                                                                                                               \
        const size_t need = P##_memory(&(d), NULL);                                                                    \
        P *made;                                                                                                       \
        ck_assert_uint_gt(need, 0);                                                                                    \
        s->memory = malloc(need);                                                                                      \
        ck_assert_int_eq(P##_init(&made, &(d), s->memory, need), WEFT_OK);                                             \
        s->object = made;                                                                                              \
    } while (0)

#define VERBS(P)                                                                                                       \
    static weft_status P##_save_any(void *o, void *buf, size_t capacity, size_t *bytes) {                              \
        return P##_save((P *)o, buf, capacity, bytes);                                                                 \
    }                                                                                                                  \
    static weft_status P##_load_any(void *o, const void *buf, size_t bytes) {                                          \
        return P##_load((P *)o, buf, bytes);                                                                           \
    }                                                                                                                  \
    static weft_status P##_save_to_any(void *o, weft_write_fn write, void *ctx, size_t *bytes) {                       \
        return P##_save_to((P *)o, write, ctx, bytes);                                                                 \
    }                                                                                                                  \
    static weft_status P##_load_from_any(void *o, weft_read_fn read, void *ctx, size_t bytes) {                        \
        return P##_load_from((P *)o, read, ctx, bytes);                                                                \
    }                                                                                                                  \
    static const weft_detail *P##_detail_any(const void *o) {                                                          \
        return P##_detail((const P *)o);                                                                               \
    }                                                                                                                  \
    static void P##_close_any(void *o) {                                                                               \
        P##_close((P *)o);                                                                                             \
    }
VERBS(grawa)
VERBS(subspace)
VERBS(dsgd_aau)
VERBS(hpsgd)
VERBS(saddle)

static void grawa_begin_any(subject *s) {
    grawa_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &s->params;
    d.params.count = 1;
    d.transport = &s->net;
    d.period_steps = 3;
    d.proximal = 0.25; /* keeps an anchor, as large as the model */
    OPEN(grawa, d);
}
static void grawa_step_any(subject *s) {
    weft_tensors g;
    g.tensor = &s->grads;
    g.count = 1;
    ck_assert_int_ge(grawa_step((grawa *)s->object, &g), 0);
    ck_assert_int_eq(grawa_wait((grawa *)s->object), WEFT_OK);
}

static void subspace_begin_any(subject *s) {
    subspace_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.gradients.tensor = &s->grads;
    d.gradients.count = 1;
    d.transport = &s->net;
    d.momentum = 0.9;
    OPEN(subspace, d);
}
static void subspace_step_any(subject *s) {
    ck_assert_int_eq(subspace_aggregate((subspace *)s->object), WEFT_OK);
}

static void dsgd_aau_begin_any(subject *s) {
    dsgd_aau_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &s->params;
    d.params.count = 1;
    d.transport = &s->net;
    d.graph = &s->graph;
    OPEN(dsgd_aau, d);
}
static void dsgd_aau_step_any(subject *s) {
    ck_assert_int_ge(dsgd_aau_step((dsgd_aau *)s->object), 0);
    ck_assert_int_eq(dsgd_aau_wait((dsgd_aau *)s->object), WEFT_OK);
}

static void hpsgd_begin_any(subject *s) {
    hpsgd_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &s->params;
    d.params.count = 1;
    d.transport = &s->net;
    d.max_steps = 2;
    OPEN(hpsgd, d);
}
static void hpsgd_step_any(subject *s) {
    size_t i;
    for (i = 0; i < ELEMENTS; i++) s->x[i] -= 0.1f * s->g[i];
    while (hpsgd_step((hpsgd *)s->object) == WEFT_STALL) continue;
    ck_assert_int_ge(hpsgd_drain((hpsgd *)s->object), 0);
    ck_assert_int_eq(hpsgd_wait((hpsgd *)s->object), WEFT_OK);
}

static void saddle_begin_any(subject *s) {
    saddle_desc d;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = &s->params;
    d.params.count = 1;
    d.transport = &s->net;
    d.graph = &s->graph;
    d.learning_rate = 0.05;
    d.rho = 0.05;
    OPEN(saddle, d);
}
static void saddle_step_any(subject *s) {
    saddle_want w;
    weft_status r;
    while ((r = saddle_wait((saddle *)s->object, &w)) == WEFT_WANT_GRADIENT) {
        size_t i;
        for (i = 0; i < ELEMENTS; i++) ((float *)w.into.tensor[0].data)[i] = ((const float *)w.at.tensor[0].data)[i];
    }
    ck_assert_int_eq(r, WEFT_OK);
}

#define RULE(P, least)                                                                                                 \
    {                                                                                                                  \
#P, least, P##_begin_any, P##_step_any, P##_save_any, P##_load_any, P##_save_to_any, P##_load_from_any,        \
            P##_detail_any, P##_close_any                                                                              \
    }
static const rule rules[] = {RULE(grawa, 4 * ELEMENTS), RULE(subspace, 100), RULE(dsgd_aau, 100),
                             RULE(hpsgd, 4 * ELEMENTS), RULE(saddle, 4 * ELEMENTS)};
enum { RULES = sizeof rules / sizeof *rules };

static subject *subject_make(const rule *r, int steps) {
    subject *s = (subject *)calloc(1, sizeof *s);
    if (!s) abort();
    s->rule = r;
    ck_assert_int_eq(weft_threads_init(&s->team, 1), WEFT_OK);
    weft_threads_transport(&s->team, 0, &s->net);
    ck_assert_int_eq(weft_graph_complete(&s->graph, 1, s->graph_memory, sizeof s->graph_memory), WEFT_OK);
    ready(s);
    r->begin(s);
    while (steps--) r->step(s);
    return s;
}

static void subject_free(subject *s) {
    s->rule->close(s->object);
    weft_threads_free(&s->team);
    free(s->memory);
    free(s);
}

/* A store that counts, and fails, lies or calls back where it is told to. */
typedef struct store {
    unsigned char bytes[ROOM];
    size_t at, calls, largest;
    size_t fail_at; /* the call that fails; from 1; 0: none */
    size_t lie_at;  /* the call that gives another byte */
    subject *again; /* whose verbs are called from within */
    size_t refused;
} store;

static void call_back(store *k) {
    unsigned char b[4];
    size_t n;
    if (!k->again) return;
    k->refused += k->again->rule->save(k->again->object, NULL, 0, &n) == WEFT_ERR_REENTRY;
    k->refused += k->again->rule->load(k->again->object, b, sizeof b) == WEFT_ERR_REENTRY;
}

static weft_status take(void *ctx, const void *data, size_t bytes) {
    store *k = (store *)ctx;
    call_back(k);
    if (++k->calls == k->fail_at) return WEFT_ERR_TRANSPORT;
    if (bytes > k->largest) k->largest = bytes;
    ck_assert_uint_le(bytes, ROOM - k->at);
    memcpy(k->bytes + k->at, data, bytes);
    k->at += bytes;
    return WEFT_OK;
}

static weft_status give(void *ctx, size_t at, void *data, size_t bytes) {
    store *k = (store *)ctx;
    call_back(k);
    if (++k->calls == k->fail_at) return WEFT_ERR_TRANSPORT;
    if (bytes > k->largest) k->largest = bytes;
    ck_assert_msg(at == k->at || at == WEFT_BLOB_HEAD, "not in order: %zu after %zu", at, k->at);
    ck_assert_uint_le(at + bytes, ROOM);
    memcpy(data, k->bytes + at, bytes);
    if (k->calls == k->lie_at) ((unsigned char *)data)[bytes / 2] ^= 4;
    k->at = at + bytes;
    return WEFT_OK;
}

static void rewind_store(store *k) {
    k->at = k->calls = k->largest = k->fail_at = k->lie_at = k->refused = 0;
}

/* Saves, and compares. */
static void expect_blob(subject *s, const unsigned char *blob, size_t bytes, const char *when) {
    unsigned char *now = (unsigned char *)malloc(ROOM);
    size_t n = 0;
    ck_assert_int_eq(s->rule->save(s->object, now, ROOM, &n), WEFT_OK);
    ck_assert_msg(n == bytes && memcmp(now, blob, n) == 0, "%s: %s", s->rule->name, when);
    free(now);
}

START_TEST(same_bytes) {
    const rule *r = &rules[_i];
    subject *s = subject_make(r, 2), *t = subject_make(r, 0);
    store *k = (store *)calloc(1, sizeof *k);
    unsigned char *blob = (unsigned char *)malloc(ROOM);
    size_t n = 0, m = 0, told = 0;
    ck_assert_int_eq(r->save(s->object, blob, ROOM, &n), WEFT_OK);
    ck_assert_uint_ge(n, r->least);
    ck_assert_int_eq(r->save(s->object, blob, n - 1, &told), WEFT_ERR_CAPACITY);
    ck_assert(r->detail(s->object)->expected == n && r->detail(s->object)->got == n - 1 && told == n);
    ck_assert_int_eq(r->save_to(s->object, NULL, NULL, &told), WEFT_OK);
    ck_assert_uint_eq(told, n);
    ck_assert_int_eq(r->save_to(s->object, NULL, NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(r->save_to(s->object, take, k, &m), WEFT_OK);
    ck_assert_uint_eq(m, n);
    ck_assert_uint_eq(k->at, n);
    ck_assert_int_eq(memcmp(k->bytes, blob, n), 0);
    ck_assert_uint_le(k->largest, WEFT_BLOB_PIECE);
    if (r->least > 2 * WEFT_BLOB_PIECE) ck_assert_uint_eq(k->largest, WEFT_BLOB_PIECE);
    rewind_store(k);
    ck_assert_int_eq(r->save_to(s->object, take, k, NULL), WEFT_OK); /* the length need not be asked for */
    ck_assert_uint_eq(k->at, n);
    rewind_store(k);
    ck_assert_int_eq(r->load_from(t->object, give, k, n), WEFT_OK);
    ck_assert_uint_le(k->largest, WEFT_BLOB_PIECE);
    expect_blob(t, blob, n, "what was loaded in pieces is not what was saved");
    free(blob);
    free(k);
    subject_free(s);
    subject_free(t);
}
END_TEST

/* Every call fails in turn. */
START_TEST(failures) {
    const rule *r = &rules[_i];
    subject *s = subject_make(r, 2), *t = subject_make(r, 0);
    store *k = (store *)calloc(1, sizeof *k);
    unsigned char *blob = (unsigned char *)malloc(ROOM), *fresh = (unsigned char *)malloc(ROOM);
    size_t n = 0, n_fresh = 0, calls, i;
    ck_assert_int_eq(r->save(s->object, blob, ROOM, &n), WEFT_OK);
    ck_assert_int_eq(r->save(t->object, fresh, ROOM, &n_fresh), WEFT_OK);
    ck_assert_msg(n != n_fresh || memcmp(blob, fresh, n) != 0, "the steps have changed nothing");
    ck_assert_int_eq(r->save_to(s->object, take, k, NULL), WEFT_OK);
    calls = k->calls;
    for (i = 1; i <= calls; i++) {
        rewind_store(k);
        k->fail_at = i;
        ck_assert_int_eq(r->save_to(s->object, take, k, NULL), WEFT_ERR_TRANSPORT);
        ck_assert_uint_eq(k->calls, i); /* and no more */
        ck_assert_int_eq(r->detail(s->object)->status, WEFT_ERR_TRANSPORT);
        expect_blob(s, blob, n, "a save that failed has changed it");
    }
    memcpy(k->bytes, blob, n);
    for (calls = SIZE_MAX, i = 1; i <= calls; i++) {
        weft_status st;
        rewind_store(k);
        k->fail_at = i;
        st = r->load_from(t->object, give, k, n);
        if (st == WEFT_OK) break; /* it has not come to that call */
        ck_assert_int_eq(st, WEFT_ERR_TRANSPORT);
        ck_assert_uint_eq(k->calls, i);
        ck_assert_int_eq(r->detail(t->object)->status, WEFT_ERR_TRANSPORT);
        expect_blob(t, fresh, n_fresh, "a load that failed has left something");
    }
    ck_assert_uint_gt(i, 2 * (n / WEFT_BLOB_PIECE));
    free(blob);
    free(fresh);
    free(k);
    subject_free(s);
    subject_free(t);
}
END_TEST

/* A store that is not what it was a moment ago: bytes that passed the check are read anew. */
START_TEST(lies) {
    const rule *r = &rules[_i];
    subject *s = subject_make(r, 2), *t = subject_make(r, 0);
    store *k = (store *)calloc(1, sizeof *k);
    unsigned char *blob = (unsigned char *)malloc(ROOM), *fresh = (unsigned char *)malloc(ROOM);
    size_t n = 0, n_fresh = 0, i, late = 0;
    ck_assert_int_eq(r->save(s->object, blob, ROOM, &n), WEFT_OK);
    ck_assert_int_eq(r->save(t->object, fresh, ROOM, &n_fresh), WEFT_OK);
    memcpy(k->bytes, blob, n);
    for (i = WEFT_BLOB_HEAD; i < n; i++) { /* what is damaged, but the same twice, is told as that */
        rewind_store(k);
        k->bytes[i] ^= (unsigned char)(1 << i % 8);
        ck_assert_int_eq(r->load_from(t->object, give, k, n), WEFT_ERR_CHECKSUM);
        k->bytes[i] ^= (unsigned char)(1 << i % 8);
    }
    for (i = 1;; i++) {
        weft_status st;
        rewind_store(k);
        k->lie_at = i;
        st = r->load_from(t->object, give, k, n);
        if (k->calls < i) {
            ck_assert_int_eq(st, WEFT_OK);
            break;
        }
        ck_assert_msg(st < 0, "%s: another byte at call %zu is taken", r->name, i);
        late += st == WEFT_ERR_ARGUMENT && k->at == n;
        expect_blob(t, fresh, n_fresh, "a lie has left something");
    }
    ck_assert_uint_gt(late, 0);
    free(blob);
    free(fresh);
    free(k);
    subject_free(s);
    subject_free(t);
}
END_TEST

/* The object's own verbs, from within. */
START_TEST(reentry) {
    const rule *r = &rules[_i];
    subject *s = subject_make(r, 2), *t = subject_make(r, 0);
    store *k = (store *)calloc(1, sizeof *k);
    size_t n = 0;
    k->again = s;
    ck_assert_int_eq(r->save_to(s->object, take, k, &n), WEFT_OK);
    ck_assert_uint_eq(k->refused, 2 * k->calls);
    rewind_store(k);
    k->again = t;
    ck_assert_int_eq(r->load_from(t->object, give, k, n), WEFT_OK);
    ck_assert_uint_eq(k->refused, 2 * k->calls);
    ck_assert_int_eq(r->load_from(s->object, NULL, NULL, n) < 0, 1);
    free(k);
    subject_free(s);
    subject_free(t);
}
END_TEST

int main(void) {
    Suite *s = suite_create("pieces");
    TCase *t = tcase_create("pieces");
    SRunner *r = srunner_create(s);
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, same_bytes, 0, RULES);
    tcase_add_loop_test(t, failures, 0, RULES);
    tcase_add_loop_test(t, lies, 0, RULES);
    tcase_add_loop_test(t, reentry, 0, RULES);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
