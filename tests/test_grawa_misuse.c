/* SPDX-License-Identifier: MIT
 * Contract violations: each returns its code, names what is wrong, and changes nothing. And the memory that an object
 * is given is all that it uses. */
#if !defined _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

/* The library neither allocates nor prints nor ends the process, nor does it ask the system for anything: none of these
 * names may stand in it. */
static int forbidden;
#define malloc(n) (forbidden++, (void)(n), (void *)0)
#define calloc(n, m) (forbidden++, (void)(n), (void)(m), (void *)0)
#define realloc(p, n) (forbidden++, (void)(p), (void)(n), (void *)0)
#define free(p) (forbidden++, (void)(p))
#define aligned_alloc(a, n) (forbidden++, (void)(a), (void)(n), (void *)0)
#define abort() (void)forbidden++
#define exit(n) (void)(forbidden++, (n))
#define printf(...) (forbidden++)
#define fprintf(...) (forbidden++)
#define getenv(n) (forbidden++, (void)(n), (char *)0)
#define time(t) (forbidden++, (void)(t), (time_t)0)
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef aligned_alloc
#undef abort
#undef exit
#undef printf
#undef fprintf
#undef getenv
#undef time
#include "cluster.h"

static const size_t count[3] = {5, 0, 8};

static cluster_desc plain(uint32_t workers) {
    cluster_desc d = cluster_default(1, workers);
    d.tensors = 3;
    d.count = count;
    d.grawa.period_steps = 2;
    return d;
}

/* ---- descriptors ---- */

typedef struct fixture {
    cluster c;
    grawa_desc d; /* a good one */
    weft_transport net;
    unsigned char *memory;
    size_t bytes;
} fixture;

static void open_fixture(fixture *f) {
    cluster_desc d = plain(2);
    ck_assert_msg(cluster_open(&f->c, &d), "%s", f->c.why);
    f->d = f->c.worker[0].desc;
    f->net = f->c.worker[0].net;
    f->d.transport = &f->net;
    f->bytes = grawa_memory(&f->d, NULL);
    f->memory = (unsigned char *)malloc(f->bytes);
    ck_assert_uint_gt(f->bytes, 0);
}

static void close_fixture(fixture *f) {
    free(f->memory);
    ck_assert_msg(cluster_close(&f->c), "%s", f->c.why);
}

/* Refused by both, with the same code and the same name. */
static void refuse(fixture *f, const grawa_desc *bad, weft_status code, const char *name, const char *what) {
    weft_memory_report report;
    weft_detail why;
    grawa *g = (grawa *)f;
    memset(&report, 0xEE, sizeof report);
    ck_assert_msg(grawa_memory(bad, &report) == 0, "%s: a size for a bad descriptor", what);
    ck_assert_uint_eq(report.total_bytes, 0);
    ck_assert_msg(report.detail.status == code, "%s: grawa_memory says %s", what, weft_strerror(report.detail.status));
    ck_assert_msg(report.detail.field && strstr(report.detail.field, name), "%s: field %s", what, report.detail.field);
    ck_assert_uint_eq(grawa_memory(bad, NULL), 0);
    ck_assert_msg(grawa_init_detail(&g, bad, f->memory, f->bytes, &why) == code, "%s: grawa_init says %s", what,
                  weft_strerror(why.status));
    ck_assert_ptr_null(g);
    ck_assert_int_eq(why.status, code);
    ck_assert_str_eq(why.field, report.detail.field);
    ck_assert_uint_eq(why.peer, WEFT_NO_RANK);
    ck_assert_int_eq(grawa_init(&g, bad, f->memory, f->bytes), code);
}

#define BAD(change, code, name)                                                                                        \
    do {                                                                                                               \
        grawa_desc bad = f.d;                                                                                          \
        change;                                                                                                        \
        refuse(&f, &bad, code, name, #change);                                                                         \
    } while (0)

START_TEST(every_field) {
    fixture f;
    double nan = (double)NAN;
    uint32_t group[3] = {0, 1, 2};
    open_fixture(&f);
    BAD(bad.struct_size = 0, WEFT_ERR_ABI, "struct_size");
    BAD(bad.struct_size = sizeof bad + 8, WEFT_ERR_ABI, "struct_size");
    BAD(bad.transport = NULL, WEFT_ERR_ARGUMENT, "transport");
    BAD(bad.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "desc.channel");
    BAD(bad.isa = (weft_isa)77, WEFT_ERR_UNSUPPORTED, "desc.isa");
    BAD(bad.weighting = (grawa_weighting)3, WEFT_ERR_ARGUMENT, "desc.weighting");
    BAD(bad.weighting = (grawa_weighting)-1, WEFT_ERR_ARGUMENT, "desc.weighting");
    BAD(bad.norm = (grawa_norm)3, WEFT_ERR_ARGUMENT, "desc.norm");
    BAD(bad.source = (grawa_source)3, WEFT_ERR_ARGUMENT, "desc.source");
    BAD(bad.trigger = (grawa_trigger)2, WEFT_ERR_ARGUMENT, "desc.trigger");
    BAD(bad.initial = (grawa_initial)4, WEFT_ERR_ARGUMENT, "desc.initial");
    BAD(bad.initial_rank = 2, WEFT_ERR_ARGUMENT, "desc.initial_rank");
    BAD(bad.guard = (grawa_guard)2, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(bad.algorithm = (weft_algorithm)5, WEFT_ERR_ARGUMENT, "desc.algorithm");
    BAD(bad.pull = -0.5, WEFT_ERR_ARGUMENT, "desc.pull");
    BAD(bad.pull = 1.0000001, WEFT_ERR_ARGUMENT, "desc.pull");
    BAD(bad.pull = nan, WEFT_ERR_ARGUMENT, "desc.pull");
    BAD(bad.proximal = -0.5, WEFT_ERR_ARGUMENT, "desc.proximal");
    BAD(bad.proximal = 2, WEFT_ERR_ARGUMENT, "desc.proximal");
    BAD(bad.proximal = nan, WEFT_ERR_ARGUMENT, "desc.proximal");
    BAD(bad.ema_rounds = 1, WEFT_ERR_ARGUMENT, "desc.ema_rounds");
    BAD(bad.ema_rounds = -2, WEFT_ERR_ARGUMENT, "desc.ema_rounds");
    BAD(bad.ema_rounds = (double)INFINITY, WEFT_ERR_ARGUMENT, "desc.ema_rounds");
    BAD(bad.ema_steps = 1, WEFT_ERR_ARGUMENT, "desc.ema_steps");
    BAD(bad.ema_steps = -0.1, WEFT_ERR_ARGUMENT, "desc.ema_steps");
    BAD(bad.groups = 1, WEFT_ERR_ARGUMENT, "desc.groups");
    BAD(bad.group_of_tensor = group, WEFT_ERR_ARGUMENT, "desc.groups");
    BAD(bad.weighting = GRAWA_UNIFORM; bad.groups = 1, WEFT_ERR_ARGUMENT, "desc.groups");
    BAD(bad.weighting = GRAWA_BY_LAYER; bad.groups = 3, WEFT_ERR_ARGUMENT, "desc.groups");
    BAD(bad.weighting = GRAWA_BY_LAYER; bad.group_of_tensor = group;
        bad.groups = 2, WEFT_ERR_ARGUMENT, "desc.group_of_tensor");
    BAD(bad.weighting = GRAWA_BY_LAYER; bad.group_of_tensor = group, WEFT_ERR_ARGUMENT, "desc.group");
    BAD(bad.host_collectives = 1, WEFT_ERR_ARGUMENT, "all_reduce");
    BAD(f.net.now = NULL; bad.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now");
    BAD(bad.partial_deadline_ns = 1, WEFT_ERR_ARGUMENT, "transport.now");
    f.net = f.c.worker[0].net;
    /* the transport itself */
    BAD(f.net.struct_size = 8, WEFT_ERR_ABI, "transport.struct_size");
    f.net = f.c.worker[0].net;
    BAD(f.net.size = 0, WEFT_ERR_ARGUMENT, "transport.size");
    f.net = f.c.worker[0].net;
    BAD(f.net.rank = 2, WEFT_ERR_ARGUMENT, "transport.rank");
    f.net = f.c.worker[0].net;
    BAD(f.net.send = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    f.net = f.c.worker[0].net;
    BAD(f.net.recv = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    f.net = f.c.worker[0].net;
    BAD(f.net.test = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    f.net = f.c.worker[0].net;
    BAD(f.net.cancel = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    f.net = f.c.worker[0].net;
    BAD(f.net.max_message_bytes = WEFT_SMALLEST_MESSAGE - 1, WEFT_ERR_ARGUMENT, "max_message_bytes");
    f.net = f.c.worker[0].net;
    BAD(f.net.size = WEFT_INLINE_BYTES * 8 + 1; bad.partial_deadline_ns = 5, WEFT_ERR_UNSUPPORTED, "partial rounds");
    f.net = f.c.worker[0].net;
    /* and after all this the good one is still good */
    {
        grawa *g = NULL;
        weft_detail why;
        ck_assert_int_eq(grawa_init_detail(&g, &f.d, f.memory, f.bytes, &why), WEFT_OK);
        ck_assert_int_eq(why.status, WEFT_OK);
        grawa_close(g);
    }
    close_fixture(&f);
}
END_TEST

/* Zero is the default, WEFT_ZERO is zero; what is in force can be read back. */
START_TEST(defaults_and_zeros) {
    fixture f;
    grawa *g;
    grawa_desc d, e;
    open_fixture(&f);
    d = f.d;
    d.period_steps = 0;
    ck_assert_int_eq(grawa_init(&g, &d, f.memory, f.bytes), WEFT_OK);
    grawa_effective(g, &e);
    ck_assert_uint_eq(e.period_steps, 32);
    ck_assert(e.pull == 0.5 && e.proximal == 0 && e.ema_rounds == 0.43046721 && e.ema_steps == 0.85);
    grawa_close(g);
    d.pull = d.proximal = d.ema_rounds = d.ema_steps = WEFT_ZERO;
    ck_assert_int_eq(grawa_init(&g, &d, f.memory, f.bytes), WEFT_OK);
    grawa_effective(g, &e);
    ck_assert(e.pull == 0 && e.proximal == 0 && e.ema_rounds == 0 && e.ema_steps == 0);
    grawa_close(g);
    close_fixture(&f);
}
END_TEST

START_TEST(tensors_are_checked) {
    fixture f;
    float block[40];
    double wide[4];
    weft_tensor t[3];
    weft_tensors list = {t, 3};
    unsigned char *at = (unsigned char *)block;
    int buffers;
    memset(block, 0, sizeof block);
    memset(wide, 0, sizeof wide);
    open_fixture(&f);
    for (buffers = 0; buffers < 2; buffers++) {
#define GOOD()                                                                                                         \
    do {                                                                                                               \
        t[0].data = block, t[0].count = 10, t[0].dtype = WEFT_F32;                                                     \
        t[1].data = block + 10, t[1].count = 20, t[1].dtype = WEFT_F32;                                                \
        t[2].data = wide, t[2].count = 4, t[2].dtype = WEFT_F64;                                                       \
        list.tensor = t, list.count = 3;                                                                               \
    } while (0)
#define LIST(change, code, name)                                                                                       \
    do {                                                                                                               \
        GOOD();                                                                                                        \
        change;                                                                                                        \
        if (buffers)                                                                                                   \
            BAD(bad.buffers = list, code, name);                                                                       \
        else                                                                                                           \
            BAD(bad.params = list, code, name);                                                                        \
    } while (0)
        GOOD();
        {
            grawa_desc good = f.d;
            if (buffers)
                good.buffers = list;
            else
                good.params = list;
            ck_assert_uint_gt(grawa_memory(&good, NULL), 0);
        }
        LIST(list.tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor");
        LIST(t[1].dtype = (weft_dtype)4, WEFT_ERR_ARGUMENT, "tensor.dtype");
        LIST(t[1].data = NULL, WEFT_ERR_ARGUMENT, "tensor.data");
        LIST(t[1].data = at + 41, WEFT_ERR_ARGUMENT, "alignment");
        LIST(t[1].data = at + 42, WEFT_ERR_ARGUMENT, "alignment");
        LIST(t[1].data = at + 41; t[1].dtype = WEFT_BF16, WEFT_ERR_ARGUMENT, "alignment");
        LIST(t[1].data = at + 36, WEFT_ERR_ARGUMENT, "overlap");
        LIST(t[1] = t[0], WEFT_ERR_ARGUMENT, "overlap");
        LIST(t[2].data = block + 2; t[2].dtype = WEFT_F16; t[2].count = 1, WEFT_ERR_ARGUMENT, "overlap");
        LIST(t[0].count = SIZE_MAX / 4, WEFT_ERR_OVERFLOW, "tensor.count");
        LIST(t[0].count = SIZE_MAX, WEFT_ERR_OVERFLOW, "tensor.count");
        LIST(t[0].count = SIZE_MAX / 8 + 1, WEFT_ERR_OVERFLOW, "");
        /* legal: neighbours, empty tensors wherever they are, no tensors at all */
        GOOD();
        t[1].data = at + 36;
        t[1].count = 0;
        {
            grawa_desc good = f.d;
            if (buffers)
                good.buffers = list;
            else
                good.params = list;
            ck_assert_uint_gt(grawa_memory(&good, NULL), 0);
            list.count = 0;
            list.tensor = NULL;
            if (buffers)
                good.buffers = list;
            else
                good.params = list;
            ck_assert_uint_gt(grawa_memory(&good, NULL), 0);
        }
    }
    close_fixture(&f);
}
END_TEST

START_TEST(views_are_checked) {
    fixture f;
    uint32_t m[3] = {0, 1, 2};
    weft_view v = {sizeof v, 1, 2, m};
    grawa *g;
    int verb;
    open_fixture(&f);
    ck_assert_int_eq(grawa_init(&g, &f.d, f.memory, f.bytes), WEFT_OK);
    for (verb = 0; verb < 2; verb++) { /* in the descriptor; given to grawa_regroup */
#define VIEW(change, code, name)                                                                                       \
    do {                                                                                                               \
        uint32_t state = grawa_state(g);                                                                               \
        m[0] = 0, m[1] = 1;                                                                                            \
        v.struct_size = sizeof v, v.epoch = 1, v.count = 2, v.members = m;                                             \
        change;                                                                                                        \
        if (!verb) {                                                                                                   \
            unsigned char *keep = f.memory;                                                                            \
            f.memory = (unsigned char *)malloc(f.bytes);                                                               \
            BAD(bad.view = &v, code, name);                                                                            \
            free(f.memory);                                                                                            \
            f.memory = keep;                                                                                           \
        } else {                                                                                                       \
            ck_assert_int_eq(grawa_regroup(g, &v), code);                                                              \
            ck_assert_ptr_nonnull(strstr(grawa_detail(g)->field, name));                                               \
            ck_assert_int_eq(grawa_detail(g)->status, code);                                                           \
            ck_assert_uint_eq(grawa_state(g), state);                                                                  \
        }                                                                                                              \
    } while (0)
        VIEW(v.struct_size = 4, WEFT_ERR_ABI, "view.struct_size");
        VIEW(v.count = 0, WEFT_ERR_ARGUMENT, "view.count");
        VIEW(v.count = 3, WEFT_ERR_ARGUMENT, "view.count");
        VIEW(v.members = NULL, WEFT_ERR_ARGUMENT, "view.count");
        VIEW(m[0] = 1; m[1] = 0, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
        VIEW(m[1] = 0, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
        VIEW(m[1] = 2, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
        VIEW(m[0] = 1; v.count = 1, WEFT_ERR_ARGUMENT, "without this rank");
        if (verb) VIEW(v.epoch = 0, WEFT_ERR_ARGUMENT, "view.epoch");
    }
    ck_assert_int_eq(grawa_regroup(g, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(grawa_detail(g)->field, "view");
    grawa_close(g);
    close_fixture(&f);
}
END_TEST

START_TEST(abi_and_nulls) {
    fixture f;
    grawa *g = NULL;
    weft_memory_report report;
    weft_detail why;
    grawa_group_t group;
    uint32_t one = 0;
    weft_view v = {sizeof v, 1, 1, &one};
    size_t n;
    open_fixture(&f);
    ck_assert_uint_eq(grawa_memory(NULL, &report), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_init_detail(&g, NULL, f.memory, f.bytes, &why), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_init(NULL, &f.d, f.memory, f.bytes), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(grawa_memory_abi(&f.d, &report, sizeof f.d, WEFT_ABI + 1), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ABI);
    ck_assert_uint_eq(report.detail.expected, WEFT_ABI);
    ck_assert_uint_eq(report.detail.got, WEFT_ABI + 1);
    ck_assert_uint_eq(grawa_memory_abi(&f.d, &report, sizeof f.d - 8, WEFT_ABI), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ABI);
    ck_assert_int_eq(grawa_init_abi(&g, &f.d, f.memory, f.bytes, &why, sizeof f.d, WEFT_ABI - 1), WEFT_ERR_ABI);
    ck_assert_int_eq(grawa_init_abi(&g, &f.d, f.memory, f.bytes, NULL, sizeof f.d + 8, WEFT_ABI), WEFT_ERR_ABI);
    ck_assert_ptr_null(g);
    ck_assert_int_eq(grawa_init_detail(&g, &f.d, f.memory, f.bytes - 1, &why), WEFT_ERR_MEMORY);
    ck_assert_uint_eq(why.expected, f.bytes);
    ck_assert_uint_eq(why.got, f.bytes - 1);
    ck_assert_int_eq(grawa_init_detail(&g, &f.d, NULL, f.bytes, &why), WEFT_ERR_MEMORY);
    ck_assert_int_eq(grawa_init_detail(&g, &f.d, f.memory, 0, &why), WEFT_ERR_MEMORY);
    ck_assert_ptr_null(g);
    /* no object */
    ck_assert_int_eq(grawa_start(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_step(NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_probe(NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_poll(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_wait(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_average(NULL, GRAWA_MEAN, NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_leave(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_peer_lost(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_peer_up(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_regroup(NULL, &v), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_save(NULL, f.memory, 1, &n), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_load(NULL, f.memory, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_period(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_pull(NULL, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_proximal(NULL, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_grad_scale(NULL, 1), WEFT_ERR_ARGUMENT);
    grawa_close(NULL);
    /* ranks and groups */
    ck_assert_int_eq(grawa_init(&g, &f.d, f.memory, f.bytes), WEFT_OK);
    ck_assert_int_eq(grawa_peer_lost(g, 2), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(grawa_detail(g)->field, "rank");
    ck_assert_int_eq(grawa_peer_lost(g, 0), WEFT_ERR_ARGUMENT); /* itself */
    ck_assert_int_eq(grawa_peer_up(g, UINT32_MAX), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(grawa_groups(g), 1);
    ck_assert(isnan(grawa_weight(g, 2, 0)) && isnan(grawa_weight(g, 0, 1)));
    ck_assert_int_eq(grawa_group(g, 1, &group), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_group(g, 0, &group), WEFT_OK);
    ck_assert_int_eq(grawa_average(g, (grawa_model)2, NULL, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(grawa_state(g),
                      GRAWA_MAY_STEP | GRAWA_MAY_LOAD | GRAWA_MAY_REGROUP | (grawa_state(g) & GRAWA_MAY_POLL));
    grawa_close(g);
    ck_assert_uint_eq(grawa_state(g), 0);
    ck_assert_int_lt(grawa_step(g, NULL), 0);
    ck_assert_int_lt(grawa_poll(g), 0);
    grawa_close(g); /* twice is as good */
    close_fixture(&f);
}
END_TEST

START_TEST(float_environment) {
    static const int modes[3] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    fixture f;
    int i;
    open_fixture(&f);
    for (i = 0; i < 3; i++) {
        grawa *g;
        weft_status s;
        if (fesetround(modes[i]) != 0) continue;
        s = grawa_init(&g, &f.d, f.memory, f.bytes);
        fesetround(FE_TONEAREST);
        ck_assert_int_eq(s, WEFT_ERR_FLOAT_ENV);
        ck_assert_ptr_null(g);
    }
    close_fixture(&f);
}
END_TEST

/* ---- gradients and other arguments of verbs ---- */

START_TEST(gradients_are_checked) {
    cluster_desc d = plain(2);
    cluster c;
    weft_tensor t[4];
    weft_tensors bad;
    float space[16];
    grawa_stats_t before, after;
    cluster_worker *w;
    uint32_t r;
    int probe;
    for (probe = 0; probe < 2; probe++) {
        d.grawa.source = probe ? GRAWA_SOURCE_PROBE : GRAWA_SOURCE_CLOSING;
        d.grawa.period_steps = 1;
        ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
        w = &c.worker[0];
        if (probe) {
            for (r = 0; r < 2; r++) c.worker[r].status = grawa_step(c.worker[r].g, cluster_noise(&c.worker[r]));
            ck_assert_msg(cluster_settle(&c), "%s", c.why);
            ck_assert_int_eq(w->status, WEFT_WANT_GRADIENT);
        }
        grawa_stats(w->g, &before);
#define GRADS(change, code, name)                                                                                      \
    do {                                                                                                               \
        uint32_t state = grawa_state(w->g);                                                                            \
        memcpy(t, w->grads.tensor, 3 * sizeof *t);                                                                     \
        t[3] = t[2];                                                                                                   \
        bad.tensor = t;                                                                                                \
        bad.count = 3;                                                                                                 \
        change;                                                                                                        \
        ck_assert_int_eq(probe ? grawa_probe(w->g, &bad) : grawa_step(w->g, &bad), code);                              \
        ck_assert_msg(strstr(grawa_detail(w->g)->field, name) != NULL, "%s: %s", #change, grawa_detail(w->g)->field);  \
        ck_assert_int_eq(grawa_detail(w->g)->status, code);                                                            \
        ck_assert_uint_eq(grawa_detail(w->g)->peer, WEFT_NO_RANK);                                                     \
        ck_assert_uint_eq(grawa_state(w->g), state);                                                                   \
    } while (0)
        GRADS(bad.count = 2, WEFT_ERR_ARGUMENT, "tensors.count");
        GRADS(bad.count = 4, WEFT_ERR_ARGUMENT, "tensors.count");
        GRADS(bad.tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor");
        GRADS(t[0].count = 4, WEFT_ERR_ARGUMENT, "tensor.count");
        GRADS(t[1].count = 1; t[1].data = space, WEFT_ERR_ARGUMENT, "tensor.count");
        GRADS(t[2].data = NULL; t[2].count = 0, WEFT_ERR_ARGUMENT, "tensor.count"); /* absent, but of another shape */
        GRADS(t[2].dtype = (weft_dtype)9, WEFT_ERR_ARGUMENT, "tensor.dtype");
        GRADS(t[2].data = (char *)space + 2, WEFT_ERR_ARGUMENT, "alignment");
        GRADS(t[2].count = SIZE_MAX / 2, WEFT_ERR_OVERFLOW, "tensor.count");
        grawa_stats(w->g, &after);
        ck_assert_msg(memcmp(&before, &after, sizeof after) == 0, "a refused gradient counts");
        /* legal: two tensors of gradients in the same memory, and other types */
        memcpy(t, w->grads.tensor, 3 * sizeof *t);
        t[0].data = t[2].data;
        t[0].dtype = WEFT_BF16;
        bad.tensor = t;
        bad.count = 3;
        if (probe) {
            w->status = grawa_probe(w->g, &bad);
            c.worker[1].status = grawa_probe(c.worker[1].g, NULL);
        } else {
            cluster_noise(w);
            w->status = grawa_step(w->g, &bad);
            c.worker[1].status = grawa_step(c.worker[1].g, cluster_noise(&c.worker[1]));
        }
        ck_assert_msg(cluster_settle(&c) && cluster_fine(&c, "step"), "%s", c.why);
        ck_assert_msg(cluster_close(&c), "%s", c.why);
    }
}
END_TEST

START_TEST(averages_are_checked) {
    cluster_desc d = plain(1);
    cluster c;
    weft_tensors into, other, flat;
    size_t wrong[3] = {5, 1, 8}, one[1] = {3};
    weft_dtype half[3] = {WEFT_F16, WEFT_F16, WEFT_F16};
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, 2), "%s", c.why);
    into = cluster_tensors(3, count, NULL);
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, &into, NULL), WEFT_OK);
    ck_assert(cluster_same_bits(&into, &c.worker[0].params));
    other = cluster_tensors(3, wrong, NULL);
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, &other, NULL), WEFT_ERR_ARGUMENT);
    cluster_tensors_free(&other);
    other = cluster_tensors(3, count, half);
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, &other, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(grawa_detail(c.worker[0].g)->field, "into.dtype");
    cluster_tensors_free(&other);
    other = cluster_tensors(2, count, NULL);
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_CENTER, &other, NULL), WEFT_ERR_ARGUMENT);
    cluster_tensors_free(&other);
    flat = cluster_tensors(1, one, NULL); /* there are no buffers */
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, NULL, &flat), WEFT_ERR_ARGUMENT);
    cluster_tensors_free(&flat);
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, NULL, NULL), WEFT_OK);
    cluster_tensors_free(&into);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* Two workers that do not mean the same model; and averages that there cannot be. */
START_TEST(averages_that_differ) {
    cluster_desc d = plain(2);
    cluster c;
    weft_tensors into[2];
    grawa *g;
    uint32_t r;
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, 2), "%s", c.why);
    for (r = 0; r < 2; r++)
        c.worker[r].status = grawa_average(c.worker[r].g, r ? GRAWA_CENTER : GRAWA_MEAN, NULL, NULL);
    ck_assert_msg(cluster_settle(&c), "%s", c.why);
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(c.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(grawa_detail(c.worker[r].g)->field, "model, or round of the weights");
        ck_assert_uint_eq(grawa_detail(c.worker[r].g)->peer, !r);
    }
    for (r = 0; r < 2; r++) into[r] = cluster_tensors(3, count, NULL);
    CLUSTER_ALL(&c, w,
                grawa_average(w->g, GRAWA_MEAN, &into[w->rank], NULL)); /* the next one is as if nothing had been */
    ck_assert_msg(!c.why[0] && cluster_same_bits(&into[0], &into[1]), "%s", c.why);
    for (r = 0; r < 2; r++) cluster_tensors_free(&into[r]);

    g = c.worker[0].g;
    g->averages = UINT64_C(1) << 30;
    ck_assert_int_eq(grawa_average(g, GRAWA_MEAN, NULL, NULL), WEFT_ERR_OVERFLOW);
    ck_assert_str_eq(grawa_detail(g)->field, "averages since the last round");
    ck_assert_uint_eq(grawa_detail(g)->got, UINT64_C(1) << 30);
    g->averages = 0;
    g->desc.partial_deadline_ns = 1; /* with partial rounds workers may have seen different ones */
    g->round = g->sync.committed + 3;
    ck_assert_int_eq(grawa_average(g, GRAWA_MEAN, NULL, NULL), WEFT_ERR_UNSUPPORTED);
    ck_assert_str_eq(grawa_detail(g)->field, "rounds since the last regroup");
    ck_assert_uint_eq(grawa_detail(g)->got, 3);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

START_TEST(first_parameters_that_are_not_finite) {
    cluster_desc d = plain(2);
    cluster c;
    uint32_t r;
    d.grawa.initial = GRAWA_INITIAL_AVERAGE;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    cluster_set(&c.worker[1].params.tensor[0], 1, (double)NAN);
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_start(c.worker[r].g);
    ck_assert_msg(cluster_settle(&c), "%s", c.why);
    for (r = 0; r < 2; r++) {
        ck_assert_int_eq(c.worker[r].status, WEFT_ERR_NONFINITE);
        ck_assert_str_eq(grawa_detail(c.worker[r].g)->field, "initial parameters");
        ck_assert_uint_eq(grawa_detail(c.worker[r].g)->got, 1);
    }
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* A worker owns up to a value that is not finite, though it adds nothing to this round's models: as this one knows. */
START_TEST(blame_of_one_without_a_part) {
    cluster_desc d = plain(2);
    cluster c;
    cluster_worker *w;
    uint32_t r, times;
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, 1), "%s", c.why);
    cluster_set(&c.worker[1].params.tensor[0], 1, (double)NAN);
    for (r = 0; r < 2; r++) {
        w = &c.worker[r];
        w->status = grawa_step(w->g, cluster_noise(w));
        ck_assert_int_eq(w->status, WEFT_AGAIN);
    }
    for (times = 0; times < 1000 && c.worker[0].status >= 0; times++) {
        for (r = 0; r < 2; r++) {
            w = &c.worker[r];
            if (w->status == WEFT_AGAIN) w->status = grawa_poll(w->g);
            if (!r && w->g->state == GRAWA_REDUCE) w->g->fresh[1] = 1;
        }
        weft_sim_advance(&c.sim, 100);
    }
    ck_assert_int_eq(c.worker[0].status, WEFT_ERR_PROTOCOL);
    ck_assert_str_eq(grawa_detail(c.worker[0].g)->field, "blame for a value");
    ck_assert_uint_eq(grawa_detail(c.worker[0].g)->peer, 1);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

START_TEST(polls_after_good_bye) {
    cluster_desc d = plain(1);
    cluster c;
    ck_assert_msg(cluster_open(&c, &d) && cluster_steps(&c, 1), "%s", c.why);
    ck_assert_int_eq(grawa_leave(c.worker[0].g), WEFT_OK);
    ck_assert_int_eq(c.worker[0].g->state, GRAWA_LEFT);
    ck_assert_int_eq(grawa_poll(c.worker[0].g), WEFT_OK);
    ck_assert_int_eq(grawa_wait(c.worker[0].g), WEFT_OK);
    ck_assert_int_eq(grawa_step(c.worker[0].g, NULL), WEFT_ERR_ORDER);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

START_TEST(setters_are_checked) {
    cluster_desc d = plain(1);
    cluster c;
    grawa *g;
    grawa_desc e;
    int i;
    static const double bad[5] = {-0.25, 1.5, (double)NAN, (double)INFINITY, WEFT_ZERO};
    d.grawa.proximal = 0.5;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    g = c.worker[0].g;
    ck_assert_int_eq(grawa_set_period(g, 0), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(grawa_detail(g)->field, "period_steps");
    for (i = 0; i < 5; i++) {
        ck_assert_int_eq(grawa_set_pull(g, bad[i]), WEFT_ERR_ARGUMENT);
        ck_assert_str_eq(grawa_detail(g)->field, "pull");
        ck_assert_int_eq(grawa_set_proximal(g, bad[i]), WEFT_ERR_ARGUMENT);
        ck_assert_str_eq(grawa_detail(g)->field, "proximal");
    }
    ck_assert_int_eq(grawa_set_grad_scale(g, 0), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_grad_scale(g, (double)NAN), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(grawa_set_grad_scale(g, (double)INFINITY), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(grawa_detail(g)->field, "scale");
    grawa_effective(g, &e);
    ck_assert(e.pull == 0.5 && e.proximal == 0.5 && e.period_steps == 2);
    ck_assert_int_eq(grawa_set_pull(g, 0), WEFT_OK);
    ck_assert_int_eq(grawa_set_pull(g, 1), WEFT_OK);
    ck_assert_int_eq(grawa_set_proximal(g, 0), WEFT_OK);
    ck_assert_int_eq(grawa_set_proximal(g, 1), WEFT_OK);
    ck_assert_int_eq(grawa_set_period(g, UINT32_MAX), WEFT_OK);
    ck_assert_int_eq(grawa_set_grad_scale(g, -1e-30), WEFT_OK);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
    /* off at init: no memory for it */
    d.grawa.proximal = 0;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    ck_assert_int_eq(grawa_set_proximal(c.worker[0].g, 0.5), WEFT_ERR_UNSUPPORTED);
    ck_assert_int_eq(grawa_set_proximal(c.worker[0].g, 0), WEFT_OK);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* What an error says does not outlast it: ranks and texts that do not apply to the next one are gone. */
START_TEST(details_are_of_one_error) {
    cluster_desc d = plain(2);
    cluster c;
    grawa *g;
    d.grawa.timeout_ns = 1000;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    g = c.worker[0].g;
    ck_assert_int_eq(grawa_start(g), WEFT_AGAIN);
    ck_assert_int_eq(grawa_wait(g), WEFT_ERR_TIMEOUT);
    ck_assert_uint_eq(grawa_detail(g)->peer, 1);
    c.worker[0].status = WEFT_AGAIN;
    c.worker[1].status = grawa_start(c.worker[1].g);
    ck_assert_msg(cluster_settle(&c) && cluster_fine(&c, "start"), "%s", c.why);
    ck_assert_int_eq(grawa_set_pull(g, 7), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(grawa_detail(g)->peer, WEFT_NO_RANK);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- verbs in states ---- */

enum { FRESH, IDLE, SYNCING, PROBING, IN_ROUND, AVERAGING, LEAVING, LEFT, WAITING_TO_HEAR, STATES };
enum {
    V_START,
    V_STEP,
    V_PROBE,
    V_AVERAGE,
    V_LEAVE,
    V_SAVE,
    V_LOAD,
    V_SET_PERIOD,
    V_SET_PULL,
    V_SET_PROXIMAL,
    V_REGROUP,
    V_POLL,
    VERBS
};

static weft_status verb_of(cluster_worker *w, int verb) {
    static unsigned char blob[16384];
    size_t n;
    uint32_t members[2] = {0, 1};
    weft_view v = {sizeof v, 5, 2, members};
    switch (verb) {
    case V_START: return grawa_start(w->g);
    case V_STEP: return grawa_step(w->g, &w->grads);
    case V_PROBE: return grawa_probe(w->g, &w->grads);
    case V_AVERAGE: return grawa_average(w->g, GRAWA_MEAN, NULL, NULL);
    case V_LEAVE: return grawa_leave(w->g);
    case V_SAVE: return grawa_save(w->g, blob, sizeof blob, &n);
    case V_LOAD: return grawa_load(w->g, blob, 10);
    case V_SET_PERIOD: return grawa_set_period(w->g, 2);
    case V_SET_PULL: return grawa_set_pull(w->g, 0.5);
    case V_SET_PROXIMAL: return grawa_set_proximal(w->g, 0);
    case V_REGROUP: return grawa_regroup(w->g, &v);
    default: return grawa_poll(w->g);
    }
}

static uint32_t bit_of(int verb) {
    if (verb == V_PROBE) return GRAWA_MAY_PROBE;
    if (verb == V_LOAD) return GRAWA_MAY_LOAD;
    if (verb == V_REGROUP) return GRAWA_MAY_REGROUP;
    if (verb == V_POLL) return GRAWA_MAY_POLL;
    return GRAWA_MAY_STEP;
}

/* Worker 0 in the state; worker 1 is one step behind. */
static void reach(cluster *c, int state) {
    cluster_desc d = plain(2);
    cluster_worker *a, *b;
    d.grawa.source = state == PROBING ? GRAWA_SOURCE_PROBE : GRAWA_SOURCE_CLOSING;
    if (state == WAITING_TO_HEAR) d.grawa.partial_deadline_ns = 1000000000;
    ck_assert_msg(cluster_open(c, &d), "%s", c->why);
    a = &c->worker[0];
    b = &c->worker[1];
    if (state == FRESH) return;
    if (state == SYNCING) {
        a->status = grawa_start(a->g);
        return;
    }
    ck_assert_msg(cluster_steps(c, 1), "%s", c->why);
    if (state == PROBING || state == IN_ROUND || state == WAITING_TO_HEAR)
        a->status = grawa_step(a->g, cluster_noise(a));
    if (state == AVERAGING) a->status = grawa_average(a->g, GRAWA_MEAN, NULL, NULL);
    if (state == LEAVING || state == LEFT) a->status = grawa_leave(a->g);
    if (state == LEFT) {
        b->status = WEFT_OK;
        ck_assert_msg(cluster_settle(c), "%s", c->why);
        ck_assert_int_eq(a->status, WEFT_OK);
    }
}

/* And out of it again: whatever was in progress comes to its end as if nobody had misbehaved. */
static void leave_it(cluster *c, int state) {
    cluster_worker *a = &c->worker[0], *b = &c->worker[1];
    if (state == SYNCING) b->status = grawa_start(b->g);
    if (state == PROBING) {
        a->status = grawa_probe(a->g, &a->grads);
        b->status = grawa_step(b->g, cluster_noise(b));
        ck_assert_int_eq(b->status, WEFT_WANT_GRADIENT);
        b->status = grawa_probe(b->g, &b->grads);
    }
    if (state == IN_ROUND || state == WAITING_TO_HEAR) b->status = grawa_step(b->g, cluster_noise(b));
    if (state == AVERAGING) b->status = grawa_average(b->g, GRAWA_MEAN, NULL, NULL);
    if (state == LEAVING || state == LEFT) {
        ck_assert_msg(cluster_settle(c), "%s", c->why);
        ck_assert_int_eq(a->status, WEFT_OK);
        ck_assert_uint_eq(grawa_state(a->g), 0);
        b->status = grawa_step(b->g, cluster_noise(b));
    }
    ck_assert_msg(cluster_settle(c) && cluster_fine(c, "afterwards"), "state %d: %s", state, c->why);
    if (state != LEAVING && state != LEFT) ck_assert_msg(cluster_steps(c, 2), "state %d: %s", state, c->why);
}

START_TEST(verbs_in_states) {
    int state = _i, verb;
    for (verb = 0; verb < VERBS; verb++) {
        cluster c;
        cluster_worker *w;
        uint32_t may, twice;
        grawa_stats_t before, after;
        weft_tensors kept;
        reach(&c, state);
        w = &c.worker[0];
        may = grawa_state(w->g);
        switch (state) {
        case FRESH: ck_assert((may & GRAWA_MAY_STEP) && (may & GRAWA_MAY_LOAD) && !(may & GRAWA_MAY_PROBE)); break;
        case IDLE: ck_assert((may & GRAWA_MAY_STEP) && !(may & GRAWA_MAY_LOAD) && !(may & GRAWA_MAY_PROBE)); break;
        case PROBING: ck_assert((may & GRAWA_MAY_PROBE) && !(may & GRAWA_MAY_STEP)); break;
        case LEFT: ck_assert_uint_eq(may, 0); break;
        default: ck_assert((may & GRAWA_MAY_POLL) && !(may & (GRAWA_MAY_STEP | GRAWA_MAY_LOAD | GRAWA_MAY_PROBE)));
        }
        ck_assert(state == LEFT || (may & GRAWA_MAY_REGROUP));
        if (!(may & bit_of(verb)) && !(verb == V_POLL)) { /* polling in vain is harmless */
            kept = cluster_tensors(3, count, NULL);
            cluster_copy(&w->params, &kept);
            grawa_stats(w->g, &before);
            for (twice = 0; twice < 2; twice++) {
                ck_assert_msg(verb_of(w, verb) == WEFT_ERR_ORDER, "verb %d in state %d is not refused", verb, state);
                ck_assert_int_eq(grawa_detail(w->g)->status, WEFT_ERR_ORDER);
            }
            grawa_stats(w->g, &after);
            ck_assert_msg(memcmp(&before, &after, sizeof after) == 0, "verb %d in state %d is refused but counts", verb,
                          state);
            ck_assert(cluster_same_bits(&w->params, &kept));
            ck_assert_uint_eq(grawa_state(w->g), may);
            cluster_tensors_free(&kept);
            leave_it(&c, state);
        } else if (may & bit_of(verb)) {
            weft_status s = verb_of(w, verb);
            ck_assert_msg(s != WEFT_ERR_ORDER && (s >= 0 || verb == V_LOAD), "verb %d in state %d: %s", verb, state,
                          weft_strerror(s));
        }
        ck_assert_msg(cluster_close(&c), "%s", c.why);
    }
}
END_TEST

/* ---- re-entry ---- */

static cluster_worker *inside;
static uint64_t inside_count, inside_mask;

static void call_back(int which) {
    cluster_worker *w = inside;
    unsigned char blob[8];
    size_t n;
    uint32_t members[2] = {0, 1};
    weft_view v = {sizeof v, 9, 2, members};
    if (!w) return;
    inside = NULL;
    inside_count++;
    inside_mask |= UINT64_C(1) << which;
    ck_assert_int_eq(grawa_start(w->g), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_step(w->g, &w->grads), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_probe(w->g, &w->grads), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_poll(w->g), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_wait(w->g), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_average(w->g, GRAWA_MEAN, NULL, NULL), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_leave(w->g), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_peer_lost(w->g, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_peer_up(w->g, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_regroup(w->g, &v), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_save(w->g, blob, sizeof blob, &n), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_load(w->g, blob, sizeof blob), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_set_period(w->g, 3), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_set_pull(w->g, 0), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_set_proximal(w->g, 0), WEFT_ERR_REENTRY);
    ck_assert_int_eq(grawa_set_grad_scale(w->g, 2), WEFT_ERR_REENTRY);
    grawa_close(w->g); /* not even that */
    inside = w;
}

static weft_status re_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *r) {
    call_back(0);
    return weft_sim_send(ctx, peer, tag, data, bytes, r);
}
static weft_status re_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t bytes, weft_request *r) {
    call_back(1);
    return weft_sim_recv(ctx, peer, tag, data, bytes, r);
}
static weft_status re_test(void *ctx, weft_request *r) {
    call_back(2);
    return weft_sim_test(ctx, r);
}
static void re_cancel(void *ctx, weft_request *r) {
    call_back(3);
    weft_sim_cancel(ctx, r);
}
static uint64_t re_now(void *ctx) {
    call_back(4);
    return weft_sim_now_of(ctx);
}
static void re_trace(void *ctx, const weft_event *e) {
    (void)ctx;
    (void)e;
    call_back(5);
}
static void re_pool(void *ctx, size_t n, weft_pool_body body, void *arg) {
    (void)ctx;
    call_back(6);
    while (n--) body(arg, n);
}

/* From every callback; and the run is none the worse for it. */
START_TEST(callbacks_may_not_call_back) {
    cluster_desc d = plain(2);
    cluster c, twin;
    weft_pool pool = {NULL, re_pool, NULL};
    size_t large[1] = {300000};
    uint32_t r;
    weft_tensors into;
    int i;
    d.tensors = 1;
    d.count = large;
    d.grawa.timeout_ns = 1000000000;
    ck_assert_msg(cluster_open(&twin, &d), "%s", twin.why);
    ck_assert_msg(cluster_steps(&twin, 4), "%s", twin.why);
    d.grawa.pool = &pool;
    d.grawa.trace = re_trace;
    inside = NULL;
    inside_count = inside_mask = 0;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    c.worker[0].net.send = re_send;
    c.worker[0].net.recv = re_recv;
    c.worker[0].net.test = re_test;
    c.worker[0].net.cancel = re_cancel;
    c.worker[0].net.now = re_now;
    for (i = 0; i < 4; i++) {
        for (r = 2; r-- > 0;) {
            inside = r == 0 ? &c.worker[0] : NULL;
            c.worker[r].status = grawa_step(c.worker[r].g, cluster_noise(&c.worker[r]));
        }
        while (c.worker[0].status == WEFT_AGAIN || c.worker[1].status == WEFT_AGAIN)
            for (r = 0; r < 2; r++) {
                inside = r == 0 ? &c.worker[0] : NULL;
                if (c.worker[r].status == WEFT_AGAIN) c.worker[r].status = grawa_poll(c.worker[r].g);
                inside = NULL;
                weft_sim_advance(&c.sim, 1000);
            }
        ck_assert(c.worker[0].status == WEFT_OK && c.worker[1].status == WEFT_OK);
    }
    for (r = 0; r < 2; r++) ck_assert(cluster_same_bits(&c.worker[r].params, &twin.worker[r].params));
    /* cancel is called when a view ends what is under way */
    into = cluster_tensors(1, large, NULL);
    inside = &c.worker[0];
    ck_assert_int_eq(grawa_average(c.worker[0].g, GRAWA_MEAN, &into, NULL), WEFT_AGAIN);
    ck_assert_int_eq(grawa_peer_lost(c.worker[0].g, 1), WEFT_OK);
    inside = NULL;
    ck_assert_msg(inside_mask == 0x7F, "callbacks that were tried: %#llx", (unsigned long long)inside_mask);
    ck_assert_uint_gt(inside_count, 50);
    cluster_tensors_free(&into);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
    ck_assert_msg(cluster_close(&twin), "%s", twin.why);
}
END_TEST

/* The transport's wait is called by grawa_wait between polls: there, the object may be looked at and even polled. */
static void lazy_wait(void *ctx, uint64_t until) {
    grawa_stats_t st;
    if (inside) {
        grawa_stats(inside->g, &st);
        ck_assert(grawa_state(inside->g) & GRAWA_MAY_POLL);
        inside_count++;
    }
    weft_sim_wait(ctx, until);
}

START_TEST(wait_is_between_polls) {
    cluster_desc d = plain(2);
    cluster c;
    d.grawa.timeout_ns = 1000;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    c.worker[0].net.wait = lazy_wait;
    inside = &c.worker[0];
    inside_count = 0;
    ck_assert_int_eq(grawa_start(c.worker[0].g), WEFT_AGAIN);
    ck_assert_int_eq(grawa_wait(c.worker[0].g), WEFT_ERR_TIMEOUT);
    ck_assert_uint_gt(inside_count, 0);
    inside = NULL;
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* Whoever waits to hear who takes part is woken when that time is over, and not later. */
static uint64_t asked_until;

static void noted_wait(void *ctx, uint64_t until) {
    asked_until = until;
    weft_sim_wait(ctx, until);
}

START_TEST(wait_ends_with_the_deadline) {
    cluster c;
    cluster_worker *a;
    uint64_t since;
    reach(&c, WAITING_TO_HEAR);
    a = &c.worker[0];
    ck_assert_int_eq(a->status, WEFT_AGAIN);
    ck_assert_int_eq(a->g->state, GRAWA_READY);
    since = a->g->ready_since_ns;
    asked_until = 0;
    a->net.wait = noted_wait;
    a->status = grawa_wait(a->g); /* the other one never comes */
    ck_assert_int_eq(a->status, WEFT_OK);
    ck_assert_uint_eq(asked_until, since + 1000000000);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- fingerprints ---- */

static weft_status no_all_reduce(void *ctx, double w, const void *x, void *y, size_t n, weft_dtype t, weft_request *r) {
    (void)ctx, (void)w, (void)x, (void)y, (void)n, (void)t, (void)r;
    return WEFT_ERR_UNSUPPORTED;
}

typedef struct difference {
    const char *name;
    uint64_t expected, got; /* at worker 0; both 0: only that they differ */
} difference;

static const difference differences[] = {
    {"params.count", 3, 2},
    {"params (elements)", 13, 14},
    {"params (shapes and types)", 0, 0}, /* the same elements, divided otherwise */
    {"params (shapes and types)", 0, 0}, /* another type */
    {"buffers (shapes and types)", 0, 0},
    {"weighting", GRAWA_BY_MODEL, GRAWA_UNIFORM},
    {"norm", GRAWA_NORM_SUM, GRAWA_NORM_SQUARED},
    {"source", GRAWA_SOURCE_CLOSING, GRAWA_SOURCE_STEPS},
    {"trigger", GRAWA_TRIGGER_PERIOD, GRAWA_TRIGGER_TOTAL},
    {"initial", 0, 0},
    {"initial", 0, 0}, /* initial_rank */
    {"guard", GRAWA_GUARD_LIMIT, GRAWA_GUARD_REJECT},
    {"groups", 2, 3},
    {"group_of_tensor", 0, 0},
    {"ema_rounds", 0, 0},
    {"ema_steps", 0, 0},
    {"algorithm of the sum", WEFT_ALGORITHM_GATHER, WEFT_ALGORITHM_RING},
    {"host_collectives", 0, 1},
    {"check_replicas", 0, 1},
    {"partial_deadline_ns (on or off)", 0, 1},
};
enum { DIFFERENCES = (int)(sizeof differences / sizeof differences[0]) };

START_TEST(fingerprints_differ) {
    int i = _i;
    cluster_desc d = plain(2);
    cluster c;
    cluster_worker *w;
    weft_tensor *t;
    uint32_t two[3] = {0, 1, 1}, other[3] = {0, 0, 1}, three[3] = {0, 1, 2}, r;
    weft_tensor buffer;
    float statistics[4];
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    w = &c.worker[1];
    t = (weft_tensor *)(uintptr_t)w->params.tensor;
    buffer.data = statistics;
    buffer.count = 4;
    buffer.dtype = WEFT_F32;
    memset(statistics, 0, sizeof statistics);
    if (i == 12 || i == 13) {
        for (r = 0; r < 2; r++) {
            c.worker[r].desc.weighting = GRAWA_BY_LAYER;
            c.worker[r].desc.group_of_tensor = two;
            c.worker[r].desc.groups = 2;
        }
    }
    switch (i) {
    case 0: w->desc.params.count = 2; break;
    case 1:
        t[2].data = realloc(t[2].data, 9 * sizeof(float) + CLUSTER_CANARY);
        t[2].count = 9;
        memset(t[2].data, 0, 36);
        memset((char *)t[2].data + 36, 0xA5, CLUSTER_CANARY);
        break;
    case 2: {
        void *p = t[0].data;
        t[0] = t[2];
        t[2].data = p;
        t[2].count = 5;
        break;
    }
    case 3: t[0].dtype = WEFT_BF16; break;
    case 4:
        w->desc.buffers.tensor = &buffer;
        w->desc.buffers.count = 1;
        break;
    case 5: w->desc.weighting = GRAWA_UNIFORM; break;
    case 6: w->desc.norm = GRAWA_NORM_SQUARED; break;
    case 7: w->desc.source = GRAWA_SOURCE_STEPS; break;
    case 8: w->desc.trigger = GRAWA_TRIGGER_TOTAL; break;
    case 9: w->desc.initial = GRAWA_INITIAL_KEEP; break;
    case 10:
        c.worker[0].desc.initial = w->desc.initial = GRAWA_INITIAL_COPY;
        w->desc.initial_rank = 1;
        break;
    case 11: w->desc.guard = GRAWA_GUARD_REJECT; break;
    case 12:
        w->desc.group_of_tensor = three;
        w->desc.groups = 3;
        break;
    case 13: w->desc.group_of_tensor = other; break;
    case 14: w->desc.ema_rounds = 0.5; break;
    case 15: w->desc.ema_steps = WEFT_ZERO; break;
    case 16: w->desc.algorithm = WEFT_ALGORITHM_RING; break;
    case 17:
        w->net.all_reduce = no_all_reduce;
        w->desc.host_collectives = 1;
        break;
    case 18: w->desc.check_replicas = 1; break;
    default: w->desc.partial_deadline_ns = 77; break;
    }
    for (r = 0; r < 2; r++) {
        cluster_worker_free(&c.worker[r]);
        ck_assert_msg(cluster_worker_init(&c.worker[r]), "%s", c.why);
        c.worker[r].status = grawa_start(c.worker[r].g);
    }
    ck_assert_msg(cluster_settle(&c), "%s", c.why);
    for (r = 0; r < 2; r++) {
        const weft_detail *e = grawa_detail(c.worker[r].g), *o = grawa_detail(c.worker[1 - r].g);
        ck_assert_msg(c.worker[r].status == WEFT_ERR_MISMATCH, "%s: worker %u: %s", differences[i].name, r,
                      weft_strerror(c.worker[r].status));
        ck_assert_str_eq(e->field, differences[i].name);
        ck_assert_uint_eq(e->peer, 1 - r);
        ck_assert_uint_ne(e->expected, e->got);
        ck_assert_uint_eq(e->expected, o->got);
        if (differences[i].expected || differences[i].got) {
            ck_assert_uint_eq(e->expected, r ? differences[i].got : differences[i].expected);
            ck_assert_uint_eq(e->got, r ? differences[i].expected : differences[i].got);
        }
        if (i == 14) ck_assert(e->expected == weft_double_bits(r ? 0.5 : 0.43046721));
        /* it stays so until there is a new view, and nothing has been mixed */
        ck_assert_int_eq(grawa_poll(c.worker[r].g), WEFT_ERR_MISMATCH);
    }
    if (i == 3) t[0].dtype = WEFT_F32;
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* ---- memory ---- */

/* At every alignment, between pages that nobody may touch, filled with rubbish before. */
START_TEST(exact_memory) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), offset, span;
    cluster_desc d = plain(2);
    cluster c;
    grawa_desc desc;
    uint32_t r;
    unsigned char *pages, *first;
    int variant = _i, end;
    if (variant & 1) d.grawa.proximal = 0.5;
    if (variant & 2) d.grawa.weighting = GRAWA_BY_LAYER;
    if (variant & 4) d.grawa.algorithm = WEFT_ALGORITHM_DOUBLING;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    desc = c.worker[0].desc;
    span = (c.worker[0].bytes + 64 + 2 * page - 1) / page * page;
    pages = (unsigned char *)mmap(NULL, span + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(pages != MAP_FAILED);
    first = pages + page;
    ck_assert_int_eq(mprotect(first, span, PROT_READ | PROT_WRITE), 0);
    for (end = 0; end < 2; end++)
        for (offset = 0; offset < 64; offset++) {
            unsigned char *at;
            weft_memory_report report;
            size_t bytes, i;
            grawa *g;
            int k, asked;
            memset(first, 0xDB, span);
            bytes = grawa_memory(&desc, &report);
            ck_assert_uint_eq(bytes, report.total_bytes);
            ck_assert_uint_eq(bytes, c.worker[0].bytes);
            at = end ? first + span - bytes - offset : first + offset;
            cluster_worker_free(&c.worker[0]);
            ck_assert_int_eq(grawa_init(&g, &desc, at, bytes), WEFT_OK);
            c.worker[0].g = g;
            cluster_worker_free(&c.worker[1]);
            c.worker[1].desc.params = c.worker[1].params;
            cluster_copy(&c.worker[0].params, &c.worker[1].params);
            ck_assert(cluster_worker_init(&c.worker[1]));
            for (k = 0; k < 4; k++) {
                for (r = 0; r < 2; r++) c.worker[r].status = grawa_step(c.worker[r].g, cluster_noise(&c.worker[r]));
                for (asked = 0; (c.worker[0].status == WEFT_AGAIN || c.worker[1].status == WEFT_AGAIN) && asked < 1000;
                     asked++) {
                    for (r = 0; r < 2; r++)
                        if (c.worker[r].status == WEFT_AGAIN) c.worker[r].status = grawa_poll(c.worker[r].g);
                    weft_sim_advance(&c.sim, 1000);
                }
                ck_assert(c.worker[0].status == WEFT_OK && c.worker[1].status == WEFT_OK);
            }
            grawa_close(g);
            c.worker[0].g = NULL;
            for (i = 0; i < (size_t)(at - first) && first[i] == 0xDB; i++) continue;
            ck_assert_msg(i == (size_t)(at - first), "somebody wrote before the memory");
            for (i += bytes; i < span && first[i] == 0xDB; i++) continue;
            ck_assert_msg(i == span, "somebody wrote behind the memory");
        }
    munmap(pages, span + 2 * page);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* The report names every buffer: they follow each other, do not overlap, and make the total. */
START_TEST(report_adds_up) {
    fixture f;
    weft_memory_report report;
    grawa_desc d;
    int variant;
    open_fixture(&f);
    for (variant = 0; variant < 12; variant++) {
        size_t i, end = 0, total;
        int anchor = 0, copies = 0;
        d = f.d;
        if (variant & 1) d.proximal = 0.1;
        if (variant & 2) d.weighting = GRAWA_BY_LAYER;
        d.algorithm = variant / 4 == 0   ? WEFT_ALGORITHM_AUTO
                      : variant / 4 == 1 ? WEFT_ALGORITHM_DIRECT
                                         : WEFT_ALGORITHM_DOUBLING;
        total = grawa_memory(&d, &report);
        ck_assert_int_eq(report.detail.status, WEFT_OK);
        ck_assert_uint_gt(report.count, 3);
        ck_assert_uint_lt(report.count, WEFT_MEMORY_ENTRIES); /* none had to be left out */
        for (i = 0; i < report.count; i++) {
            const weft_memory_entry *e = &report.entry[i];
            ck_assert(e->name && e->name[0]);
            ck_assert_uint_eq(e->offset % WEFT_ALIGNMENT, 0);
            ck_assert_uint_ge(e->offset, end);
            ck_assert_uint_lt(e->offset - end, WEFT_ALIGNMENT);
            end = e->offset + e->bytes;
            if (strstr(e->name, "anchor")) anchor += e->bytes > 0;
            if (strstr(e->name, "doubling")) copies += e->bytes > 0;
        }
        ck_assert_int_eq(anchor, variant & 1);
        ck_assert_int_eq(copies, variant / 4 == 2);
        ck_assert_uint_ge(total, end + WEFT_ALIGNMENT - 1);
        ck_assert_uint_lt(total, end + 2 * WEFT_ALIGNMENT);
        ck_assert_uint_gt(report.requests_per_peer, 0);
    }
    close_fixture(&f);
}
END_TEST

/* Sizes that do not fit are refused, not wrapped around. */
START_TEST(sizes_that_overflow) {
    fixture f;
    weft_tensor t[2];
    weft_tensors list = {t, 2};
    static const size_t counts[] = {SIZE_MAX / 8, SIZE_MAX / 16, SIZE_MAX / 8 - 64, SIZE_MAX / 8 / 3};
    size_t i;
    open_fixture(&f);
    t[0].data = (void *)64;
    t[0].dtype = WEFT_F32;
    t[1].data = (void *)64;
    t[1].count = 0;
    t[1].dtype = WEFT_F32;
    for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint64_t size;
        t[0].count = counts[i];
        for (size = 2; size < UINT32_MAX / 2; size *= 16) {
            grawa_desc bad = f.d;
            weft_memory_report report;
            size_t bytes;
            f.net.size = (uint32_t)size;
            bad.params = list;
            bad.proximal = 0.5;
            bad.algorithm = size % 32 == 2 ? WEFT_ALGORITHM_GATHER : WEFT_ALGORITHM_DOUBLING;
            bytes = grawa_memory(&bad, &report);
            if (bytes)
                ck_assert_uint_ge(bytes, counts[i] * 4 * 2); /* it has to hold the model and the anchor */
            else
                ck_assert_msg(report.detail.status == WEFT_ERR_OVERFLOW, "%s: %s", weft_strerror(report.detail.status),
                              report.detail.field);
        }
    }
    /* groups by workers */
    {
        grawa_desc bad = f.d;
        weft_memory_report report;
        static uint32_t group[3];
        f.net.size = UINT32_MAX - 1;
        bad.weighting = GRAWA_BY_LAYER;
        bad.group_of_tensor = group;
        bad.groups = UINT32_MAX;
        ck_assert_uint_eq(grawa_memory(&bad, &report), 0);
        ck_assert_int_eq(report.detail.status, WEFT_ERR_OVERFLOW);
    }
    f.net = f.c.worker[0].net;
    close_fixture(&f);
}
END_TEST

START_TEST(nothing_forbidden) {
    cluster_desc d = plain(3);
    cluster c;
    size_t n;
    unsigned char blob[4096];
    d.grawa.proximal = 0.5;
    ck_assert_msg(cluster_open(&c, &d) && cluster_start(&c) && cluster_steps(&c, 5), "%s", c.why);
    CLUSTER_ALL(&c, w, grawa_average(w->g, GRAWA_CENTER, NULL, NULL));
    ck_assert_int_eq(grawa_save(c.worker[0].g, blob, sizeof blob, &n), WEFT_OK);
    CLUSTER_ALL(&c, w, grawa_leave(w->g));
    ck_assert_msg(cluster_close(&c), "%s", c.why);
    ck_assert_int_eq(forbidden, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("misuse");
    TCase *t = tcase_create("descriptors");
    SRunner *runner;
    int failed;
    tcase_add_test(t, every_field);
    tcase_add_test(t, defaults_and_zeros);
    tcase_add_test(t, tensors_are_checked);
    tcase_add_test(t, views_are_checked);
    tcase_add_test(t, abi_and_nulls);
    tcase_add_test(t, float_environment);
    suite_add_tcase(s, t);
    t = tcase_create("verbs");
    tcase_add_test(t, gradients_are_checked);
    tcase_add_test(t, averages_are_checked);
    tcase_add_test(t, averages_that_differ);
    tcase_add_test(t, blame_of_one_without_a_part);
    tcase_add_test(t, polls_after_good_bye);
    tcase_add_test(t, first_parameters_that_are_not_finite);
    tcase_add_test(t, setters_are_checked);
    tcase_add_test(t, details_are_of_one_error);
    tcase_add_loop_test(t, verbs_in_states, 0, STATES);
    tcase_add_test(t, callbacks_may_not_call_back);
    tcase_add_test(t, wait_is_between_polls);
    tcase_add_test(t, wait_ends_with_the_deadline);
    tcase_add_loop_test(t, fingerprints_differ, 0, DIFFERENCES);
    suite_add_tcase(s, t);
    t = tcase_create("memory");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, exact_memory, 0, 8);
    tcase_add_test(t, report_adds_up);
    tcase_add_test(t, sizes_that_overflow);
    tcase_add_test(t, nothing_forbidden);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
