/* SPDX-License-Identifier: MIT
 * Contract violations of AdaCons: each returns its code, names what is wrong, and changes nothing. And the memory that
 * an object is given is all that it uses. */
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

#define GRAWA_IMPLEMENTATION
#include "../grawa.h"

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
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
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
#include "subspace_team.h"

static const size_t count[3] = {5, 0, 8};

static team_desc plain(uint32_t workers) {
    team_desc d = team_default(1, workers);
    d.tensors = 3;
    d.count = count;
    return d;
}

/* ---- descriptors ---- */

typedef struct fixture {
    team t;
    subspace_desc d; /* a good one */
    weft_transport net;
    unsigned char *memory;
    size_t bytes;
} fixture;

static void open_fixture(fixture *f) {
    team_desc d = plain(2);
    ck_assert_msg(team_open(&f->t, &d), "%s", f->t.why);
    f->d = f->t.worker[0].desc;
    f->net = f->t.worker[0].net;
    f->d.transport = &f->net;
    f->bytes = subspace_memory(&f->d, NULL);
    f->memory = (unsigned char *)malloc(f->bytes);
    ck_assert_uint_gt(f->bytes, 0);
}

static void close_fixture(fixture *f) {
    free(f->memory);
    ck_assert_msg(team_close(&f->t), "%s", f->t.why);
}

/* Refused by both, with the same code and the same name. */
static void refuse(fixture *f, const subspace_desc *bad, weft_status code, const char *name, const char *what) {
    weft_memory_report report;
    weft_detail why;
    subspace *a = (subspace *)f;
    memset(&report, 0xEE, sizeof report);
    ck_assert_msg(subspace_memory(bad, &report) == 0, "%s: a size for a bad descriptor", what);
    ck_assert_uint_eq(report.total_bytes, 0);
    ck_assert_msg(report.detail.status == code, "%s: subspace_memory says %s", what,
                  weft_strerror(report.detail.status));
    ck_assert_msg(report.detail.field && strstr(report.detail.field, name), "%s: field %s", what, report.detail.field);
    ck_assert_uint_eq(subspace_memory(bad, NULL), 0);
    ck_assert_msg(subspace_init_detail(&a, bad, f->memory, f->bytes, &why) == code, "%s: subspace_init says %s", what,
                  weft_strerror(why.status));
    ck_assert_ptr_null(a);
    ck_assert_int_eq(why.status, code);
    ck_assert_str_eq(why.field, report.detail.field);
    ck_assert_uint_eq(why.peer, WEFT_NO_RANK);
    ck_assert_int_eq(subspace_init(&a, bad, f->memory, f->bytes), code);
}

#define BAD(change, code, name)                                                                                        \
    do {                                                                                                               \
        subspace_desc bad = f.d;                                                                                       \
        change;                                                                                                        \
        refuse(&f, &bad, code, name, #change);                                                                         \
        f.net = f.t.worker[0].net;                                                                                     \
    } while (0)

START_TEST(every_field) {
    fixture f;
    const double nan = (double)NAN, infinity = (double)INFINITY;
    uint32_t group[3] = {0, 1, 2};
    weft_view view = {sizeof view, 0, 1, group};
    open_fixture(&f);
    BAD(bad.struct_size = 0, WEFT_ERR_ABI, "struct_size");
    BAD(bad.struct_size = sizeof bad + 8, WEFT_ERR_ABI, "struct_size");
    BAD(bad.transport = NULL, WEFT_ERR_ARGUMENT, "transport");
    BAD(bad.transport = NULL; bad.here = 2; bad.view = &view, WEFT_ERR_ARGUMENT, "transport");
    BAD(bad.channel = WEFT_CHANNELS, WEFT_ERR_ARGUMENT, "desc.channel");
    BAD(bad.isa = (weft_isa)77, WEFT_ERR_UNSUPPORTED, "desc.isa");
    BAD(bad.rule = (subspace_rule)3, WEFT_ERR_ARGUMENT, "desc.rule");
    BAD(bad.rule = (subspace_rule)-1, WEFT_ERR_ARGUMENT, "desc.rule");
    BAD(bad.assignment = (subspace_assignment)2, WEFT_ERR_ARGUMENT, "desc.assignment");
    BAD(bad.assignment = (subspace_assignment)-1, WEFT_ERR_ARGUMENT, "desc.assignment");
    BAD(bad.scale = (subspace_scale)4, WEFT_ERR_ARGUMENT, "desc.scale");
    BAD(bad.scale = (subspace_scale)-1, WEFT_ERR_ARGUMENT, "desc.scale");
    BAD(bad.negative = (subspace_negative)3, WEFT_ERR_ARGUMENT, "desc.negative");
    BAD(bad.negative = (subspace_negative)-1, WEFT_ERR_ARGUMENT, "desc.negative");
    BAD(bad.guard = (subspace_guard)2, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(bad.guard = (subspace_guard)-1, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(bad.plan = (subspace_plan)3, WEFT_ERR_ARGUMENT, "desc.plan");
    BAD(bad.plan = (subspace_plan)-1, WEFT_ERR_ARGUMENT, "desc.plan");
    BAD(bad.plan = SUBSPACE_PLAN_SHARED, WEFT_ERR_UNSUPPORTED, "transport.shared");
    BAD(bad.in_place = 2, WEFT_ERR_ARGUMENT, "desc.in_place");
    BAD(bad.in_place = -1, WEFT_ERR_ARGUMENT, "desc.in_place");
    BAD(bad.in_place = 1; bad.guard = SUBSPACE_GUARD_REJECT, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(f.net.shared = 1; bad.in_place = 1; bad.guard = SUBSPACE_GUARD_REJECT;
        bad.plan = SUBSPACE_PLAN_EXCHANGE, WEFT_ERR_ARGUMENT, "desc.guard");
    BAD(bad.rule = SUBSPACE_MEAN; bad.scale = SUBSPACE_SCALE_PROJECTION, WEFT_ERR_ARGUMENT, "desc.scale");
    BAD(bad.rule = SUBSPACE_MEAN; bad.scale = SUBSPACE_SCALE_MEAN_NORM, WEFT_ERR_ARGUMENT, "desc.scale");
    BAD(bad.momentum = 1, WEFT_ERR_ARGUMENT, "desc.momentum");
    BAD(bad.momentum = -0.5, WEFT_ERR_ARGUMENT, "desc.momentum");
    BAD(bad.momentum = WEFT_ZERO, WEFT_ERR_ARGUMENT, "desc.momentum");
    BAD(bad.momentum = nan, WEFT_ERR_ARGUMENT, "desc.momentum");
    BAD(bad.momentum = infinity, WEFT_ERR_ARGUMENT, "desc.momentum");
    BAD(bad.epsilon = -2, WEFT_ERR_ARGUMENT, "desc.epsilon");
    BAD(bad.epsilon = nan, WEFT_ERR_ARGUMENT, "desc.epsilon");
    BAD(bad.epsilon = infinity, WEFT_ERR_ARGUMENT, "desc.epsilon");
    BAD(bad.groups = 1, WEFT_ERR_ARGUMENT, "desc.groups");
    BAD(bad.groups = 2; bad.group_of_tensor = group, WEFT_ERR_ARGUMENT, "desc.group_of_tensor");
    BAD(bad.group_of_tensor = group, WEFT_ERR_ARGUMENT, "desc.group_of_tensor");
    BAD(f.net.now = NULL; bad.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now");
    BAD(bad.transport = NULL; bad.here = 2; bad.timeout_ns = 1, WEFT_ERR_ARGUMENT, "transport.now");
    BAD(view.struct_size = 1; bad.view = &view, WEFT_ERR_ABI, "view.struct_size");
    view.struct_size = sizeof view;
    BAD(group[0] = 1; bad.view = &view, WEFT_ERR_ARGUMENT, "view.members");
    group[0] = 0;
    /* the transport itself */
    BAD(f.net.struct_size = 8, WEFT_ERR_ABI, "transport.struct_size");
    BAD(f.net.size = 0, WEFT_ERR_ARGUMENT, "transport.size");
    BAD(f.net.rank = 2, WEFT_ERR_ARGUMENT, "transport.rank");
    BAD(f.net.send = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    BAD(f.net.recv = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    BAD(f.net.test = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    BAD(f.net.cancel = NULL, WEFT_ERR_ARGUMENT, "transport callbacks");
    BAD(f.net.shared = 2, WEFT_ERR_ARGUMENT, "transport.shared");
    BAD(f.net.max_message_bytes = WEFT_SMALLEST_MESSAGE - 1, WEFT_ERR_ARGUMENT, "max_message_bytes");
    /* and after all this the good one is still good */
    {
        subspace *a = NULL;
        weft_detail why;
        ck_assert_int_eq(subspace_init_detail(&a, &f.d, f.memory, f.bytes, &why), WEFT_OK);
        ck_assert_int_eq(why.status, WEFT_OK);
        subspace_close(a);
    }
    close_fixture(&f);
}
END_TEST

/* Zero is the default, WEFT_ZERO is zero; what is in force can be read back. */
START_TEST(defaults_and_zeros) {
    static const struct {
        subspace_rule rule;
        subspace_assignment assignment;
        subspace_scale asked, effective;
    } scale[] = {{SUBSPACE_NORMALISED, SUBSPACE_INVERSE, SUBSPACE_SCALE_DEFAULT, SUBSPACE_SCALE_PROJECTION},
                 {SUBSPACE_NORMALISED, SUBSPACE_FORWARD, SUBSPACE_SCALE_DEFAULT, SUBSPACE_SCALE_OFF},
                 {SUBSPACE_NORMALISED, SUBSPACE_FORWARD, SUBSPACE_SCALE_PROJECTION, SUBSPACE_SCALE_PROJECTION},
                 {SUBSPACE_BASIC, SUBSPACE_INVERSE, SUBSPACE_SCALE_DEFAULT, SUBSPACE_SCALE_PROJECTION},
                 {SUBSPACE_MEAN, SUBSPACE_INVERSE, SUBSPACE_SCALE_DEFAULT, SUBSPACE_SCALE_OFF},
                 {SUBSPACE_MEAN, SUBSPACE_INVERSE, SUBSPACE_SCALE_OFF, SUBSPACE_SCALE_OFF},
                 {SUBSPACE_NORMALISED, SUBSPACE_INVERSE, SUBSPACE_SCALE_MEAN_NORM, SUBSPACE_SCALE_MEAN_NORM}};
    uint32_t group[3] = {1, 0, 1};
    fixture f;
    subspace *a;
    subspace_desc d, e;
    size_t k;
    open_fixture(&f);
    for (k = 0; k < sizeof scale / sizeof *scale; k++) {
        d = f.d;
        d.rule = scale[k].rule;
        d.assignment = scale[k].assignment;
        d.scale = scale[k].asked;
        ck_assert_int_eq(subspace_init(&a, &d, f.memory, f.bytes), WEFT_OK);
        subspace_effective(a, &e);
        ck_assert_int_eq(e.scale, scale[k].effective);
        ck_assert(e.epsilon == 1e-8 && e.momentum == 0 && e.groups == 1);
        subspace_close(a);
    }
    d = f.d;
    d.epsilon = WEFT_ZERO;
    d.momentum = 0.999;
    ck_assert_int_eq(subspace_init(&a, &d, f.memory, f.bytes), WEFT_OK);
    subspace_effective(a, &e);
    ck_assert(e.epsilon == 0 && e.momentum == 0.999);
    subspace_effective(a, NULL);
    subspace_effective(NULL, &e);
    subspace_close(a);
    /* the view and the groups are copied */
    d = f.d;
    d.groups = 2;
    d.group_of_tensor = group;
    free(f.memory);
    f.bytes = subspace_memory(&d, NULL);
    f.memory = (unsigned char *)malloc(f.bytes);
    ck_assert_int_eq(subspace_init(&a, &d, f.memory, f.bytes), WEFT_OK);
    memset(group, 0xEE, sizeof group);
    subspace_effective(a, &e);
    ck_assert(e.group_of_tensor != group && e.group_of_tensor[0] == 1 && e.group_of_tensor[1] == 0);
    ck_assert_uint_eq(subspace_groups(a), 2);
    subspace_close(a);
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
    memset(block, 0, sizeof block);
    memset(wide, 0, sizeof wide);
    open_fixture(&f);
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
        BAD(bad.gradients = list, code, name);                                                                         \
    } while (0)
    LIST(list.tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor");
    LIST(t[1].dtype = (weft_dtype)4, WEFT_ERR_ARGUMENT, "tensor.dtype");
    LIST(t[1].data = NULL, WEFT_ERR_ARGUMENT, "tensor.data"); /* every tensor has a gradient: zeros, if need be */
    LIST(t[1].data = at + 41, WEFT_ERR_ARGUMENT, "alignment");
    LIST(t[1].data = at + 42, WEFT_ERR_ARGUMENT, "alignment");
    LIST(t[1].data = at + 36, WEFT_ERR_ARGUMENT, "overlap");
    LIST(t[1] = t[0], WEFT_ERR_ARGUMENT, "overlap");
    LIST(t[0].count = SIZE_MAX / 4, WEFT_ERR_OVERFLOW, "tensor.count");
    LIST(t[0].count = SIZE_MAX, WEFT_ERR_OVERFLOW, "tensor.count");
    LIST(t[0].count = SIZE_MAX / 8 + 1, WEFT_ERR_OVERFLOW, "");
    /* legal: neighbours, empty tensors wherever they are, no tensors at all */
    GOOD();
    t[1].data = at + 36;
    t[1].count = 0;
    {
        subspace_desc good = f.d;
        good.gradients = list;
        ck_assert_uint_gt(subspace_memory(&good, NULL), 0);
        list.count = 0;
        list.tensor = NULL;
        good.gradients = list;
        ck_assert_uint_gt(subspace_memory(&good, NULL), 0);
    }
    close_fixture(&f);
}
END_TEST

START_TEST(views_are_checked) {
    fixture f;
    uint32_t m[3] = {0, 1, 2};
    weft_view v = {sizeof v, 1, 2, m};
    subspace *a;
    open_fixture(&f);
    ck_assert_int_eq(subspace_init(&a, &f.d, f.memory, f.bytes), WEFT_OK);
#define VIEW(change, code, name)                                                                                       \
    do {                                                                                                               \
        uint32_t state = subspace_state(a);                                                                            \
        m[0] = 0, m[1] = 1;                                                                                            \
        v.struct_size = sizeof v, v.epoch = 1, v.count = 2, v.members = m;                                             \
        change;                                                                                                        \
        ck_assert_int_eq(subspace_regroup(a, &v), code);                                                               \
        ck_assert_ptr_nonnull(strstr(subspace_detail(a)->field, name));                                                \
        ck_assert_int_eq(subspace_detail(a)->status, code);                                                            \
        ck_assert_uint_eq(subspace_state(a), state);                                                                   \
    } while (0)
    VIEW(v.struct_size = 4, WEFT_ERR_ABI, "view.struct_size");
    VIEW(v.count = 0, WEFT_ERR_ARGUMENT, "view.count");
    VIEW(v.count = 3, WEFT_ERR_ARGUMENT, "view.count");
    VIEW(v.members = NULL, WEFT_ERR_ARGUMENT, "view.count");
    VIEW(m[0] = 1; m[1] = 0, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
    VIEW(m[1] = 0, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
    VIEW(m[1] = 2, WEFT_ERR_ARGUMENT, "view.members (ascending ranks)");
    VIEW(m[0] = 1; v.count = 1, WEFT_ERR_ARGUMENT, "without this rank");
    VIEW(v.epoch = 0, WEFT_ERR_ARGUMENT, "view.epoch");
    ck_assert_int_eq(subspace_regroup(a, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(subspace_detail(a)->field, "view");
    subspace_close(a);
    close_fixture(&f);
}
END_TEST

START_TEST(abi_and_nulls) {
    fixture f;
    subspace *a = NULL;
    weft_memory_report report;
    weft_detail why;
    subspace_stats_t stats;
    subspace_worker_t worker;
    uint32_t one = 0;
    weft_view v = {sizeof v, 1, 1, &one};
    size_t n;
    open_fixture(&f);
    ck_assert_uint_eq(subspace_memory(NULL, &report), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_init_detail(&a, NULL, f.memory, f.bytes, &why), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_init(NULL, &f.d, f.memory, f.bytes), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(subspace_memory_abi(&f.d, &report, sizeof f.d, WEFT_ABI + 1), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ABI);
    ck_assert_uint_eq(report.detail.expected, WEFT_ABI);
    ck_assert_uint_eq(report.detail.got, WEFT_ABI + 1);
    ck_assert_uint_eq(subspace_memory_abi(&f.d, &report, sizeof f.d - 8, WEFT_ABI), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_ABI);
    ck_assert_int_eq(subspace_init_abi(&a, &f.d, f.memory, f.bytes, &why, sizeof f.d, WEFT_ABI - 1), WEFT_ERR_ABI);
    ck_assert_int_eq(subspace_init_abi(&a, &f.d, f.memory, f.bytes, NULL, sizeof f.d + 8, WEFT_ABI), WEFT_ERR_ABI);
    ck_assert_ptr_null(a);
    ck_assert_int_eq(subspace_init_detail(&a, &f.d, f.memory, f.bytes - 1, &why), WEFT_ERR_MEMORY);
    ck_assert_uint_eq(why.expected, f.bytes);
    ck_assert_uint_eq(why.got, f.bytes - 1);
    ck_assert_int_eq(subspace_init_detail(&a, &f.d, NULL, f.bytes, &why), WEFT_ERR_MEMORY);
    ck_assert_int_eq(subspace_init_detail(&a, &f.d, f.memory, 0, &why), WEFT_ERR_MEMORY);
    ck_assert_ptr_null(a);
    /* no object */
    ck_assert_int_eq(subspace_submit(NULL, 0, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_aggregate(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_poll(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_wait(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_combine(NULL, &f.d.gradients, 1, NULL, &f.d.gradients), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_set_batch(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_leave(NULL), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_peer_lost(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_peer_up(NULL, 1), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_regroup(NULL, &v), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_save(NULL, f.memory, 1, &n), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_load(NULL, f.memory, 1), WEFT_ERR_ARGUMENT);
    subspace_stats(NULL, &stats);
    ck_assert_ptr_null(subspace_detail(NULL));
    ck_assert_uint_eq(subspace_state(NULL), 0);
    ck_assert_uint_eq(subspace_members(NULL, &one, 1), 0);
    ck_assert_uint_eq(subspace_groups(NULL), 0);
    ck_assert_int_eq(subspace_worker(NULL, 0, 0, &worker), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(subspace_slots(NULL, 0, NULL, 0), 0);
    subspace_close(NULL);
    /* ranks and groups */
    ck_assert_int_eq(subspace_init(&a, &f.d, f.memory, f.bytes), WEFT_OK);
    subspace_stats(a, NULL);
    ck_assert_int_eq(subspace_peer_lost(a, 2), WEFT_ERR_ARGUMENT);
    ck_assert_str_eq(subspace_detail(a)->field, "rank");
    ck_assert_int_eq(subspace_peer_lost(a, 0), WEFT_ERR_ARGUMENT); /* itself */
    ck_assert_int_eq(subspace_peer_up(a, UINT32_MAX), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_worker(a, 0, 1, &worker), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_worker(a, 2, 0, &worker), WEFT_ERR_ARGUMENT);
    ck_assert_int_eq(subspace_worker(a, 0, 0, NULL), WEFT_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(subspace_detail(a));
    subspace_close(a);
    ck_assert_uint_eq(subspace_state(a), 0);
    ck_assert_int_lt(subspace_submit(a, 0, 1), 0);
    ck_assert_int_lt(subspace_aggregate(a), 0);
    ck_assert_int_lt(subspace_poll(a), 0);
    ck_assert_int_lt(subspace_wait(a), 0);
    subspace_close(a); /* twice is as good */
    close_fixture(&f);
}
END_TEST

START_TEST(float_environment) {
    static const int modes[3] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    fixture f;
    int i;
    open_fixture(&f);
    for (i = 0; i < 3; i++) {
        subspace *a;
        weft_status s;
        if (fesetround(modes[i]) != 0) continue;
        s = subspace_init(&a, &f.d, f.memory, f.bytes);
        fesetround(FE_TONEAREST);
        ck_assert_int_eq(s, WEFT_ERR_FLOAT_ENV);
        ck_assert_ptr_null(a);
    }
    close_fixture(&f);
}
END_TEST

/* ---- arguments of verbs ---- */

/* Refused, by name, and nothing is changed: not what may be done, nor a count. */
#define REFUSED(a, verb, code, name)                                                                                   \
    do {                                                                                                               \
        const uint32_t state = subspace_state(a);                                                                      \
        subspace_stats_t before, after;                                                                                \
        subspace_stats(a, &before);                                                                                    \
        ck_assert_int_eq(verb, code);                                                                                  \
        ck_assert_msg(subspace_detail(a)->field &&strstr(subspace_detail(a)->field, name), "%s: %s", #verb,            \
                      subspace_detail(a)->field);                                                                      \
        ck_assert_int_eq(subspace_detail(a)->status, code);                                                            \
        ck_assert_uint_eq(subspace_detail(a)->peer, WEFT_NO_RANK);                                                     \
        ck_assert_uint_eq(subspace_state(a), state);                                                                   \
        subspace_stats(a, &after);                                                                                     \
        ck_assert_msg(memcmp(&before, &after, sizeof after) == 0, "%s counts", #verb);                                 \
    } while (0)

START_TEST(ranges_are_checked) {
    team_desc d = plain(2);
    subspace *a;
    team t;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    a = t.worker[0].a;
    team_fill(&t, 1);
    REFUSED(a, subspace_submit(a, 4, 0), WEFT_ERR_ARGUMENT, "range");
    ck_assert_uint_eq(subspace_detail(a)->expected, 3);
    ck_assert_uint_eq(subspace_detail(a)->got, 4);
    REFUSED(a, subspace_submit(a, 0, 4), WEFT_ERR_ARGUMENT, "range");
    REFUSED(a, subspace_submit(a, 2, 2), WEFT_ERR_ARGUMENT, "range");
    REFUSED(a, subspace_submit(a, SIZE_MAX, 1), WEFT_ERR_ARGUMENT, "range");
    REFUSED(a, subspace_submit(a, 1, SIZE_MAX), WEFT_ERR_ARGUMENT, "range");
    ck_assert_int_eq(subspace_submit(a, 3, 0), WEFT_OK); /* nothing, and nothing is begun */
    ck_assert_int_eq(subspace_submit(a, 0, 0), WEFT_OK);
    t.worker[0].status = subspace_submit(a, 1, 1);
    ck_assert_int_ge(t.worker[0].status, 0);
    REFUSED(a, subspace_submit(a, 1, 1), WEFT_ERR_ORDER, "tensor (submitted)");
    ck_assert_uint_eq(subspace_detail(a)->got, 1);
    REFUSED(a, subspace_submit(a, 0, 3), WEFT_ERR_ORDER, "tensor (submitted)");
    t.worker[0].status = subspace_submit(a, 2, 1);
    t.worker[0].status = subspace_submit(a, 0, 1);
    REFUSED(a, subspace_submit(a, 0, 1), WEFT_ERR_ORDER, "tensor (submitted)");
    t.worker[1].status = subspace_submit(t.worker[1].a, 1, 1);
    t.worker[1].status = subspace_submit(t.worker[1].a, 2, 1);
    t.worker[1].status = subspace_submit(t.worker[1].a, 0, 1);
    ck_assert_msg(team_settle(&t) && team_fine(&t, "round") && team_alike(&t), "%s", t.why);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

START_TEST(setters_are_checked) {
    static const double bad[] = {0.0, -1.0, -0.0, (double)INFINITY, -(double)INFINITY, (double)NAN};
    team_desc d = plain(1);
    subspace *a;
    team t;
    size_t k;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    a = t.worker[0].a;
    for (k = 0; k < sizeof bad / sizeof *bad; k++)
        REFUSED(a, subspace_set_batch(a, bad[k]), WEFT_ERR_ARGUMENT, "samples");
    REFUSED(a, subspace_set_batch(a, 1e-101), WEFT_ERR_ARGUMENT, "samples"); /* their sums would leave the range */
    REFUSED(a, subspace_set_batch(a, 1e101), WEFT_ERR_ARGUMENT, "samples");
    ck_assert_int_eq(subspace_set_batch(a, 1e-100), WEFT_OK);
    ck_assert_int_eq(subspace_set_batch(a, 1e100), WEFT_OK);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

START_TEST(combine_is_checked) {
    subspace_desc d;
    weft_tensor t[3];
    weft_tensors list[2], out;
    double samples[2] = {1, 1};
    float space[16];
    pile p;
    memset(&d, 0, sizeof d);
    ck_assert_int_eq(pile_open(&p, &d, 2, 3, count, NULL), WEFT_OK);
    team_fill_one(&p.grads[0], 1, 0, 1);
    team_fill_one(&p.grads[1], 1, 1, 1);
#define COMBINE(change, code, name)                                                                                    \
    do {                                                                                                               \
        uint32_t n = 2;                                                                                                \
        const weft_tensors *g = list, *o = &out;                                                                       \
        memcpy(t, p.grads[1].tensor, sizeof t);                                                                        \
        list[0] = p.grads[0], list[1].tensor = t, list[1].count = 3;                                                   \
        out = p.out;                                                                                                   \
        samples[0] = samples[1] = 1;                                                                                   \
        change;                                                                                                        \
        REFUSED(p.a, subspace_combine(p.a, g, n, samples, o), code, name);                                             \
    } while (0)
    COMBINE(n = 0, WEFT_ERR_ARGUMENT, "n");
    COMBINE(n = 3, WEFT_ERR_ARGUMENT, "n");
    COMBINE(g = NULL, WEFT_ERR_ARGUMENT, "gradients");
    COMBINE(o = NULL, WEFT_ERR_ARGUMENT, "out");
    COMBINE(samples[1] = 0, WEFT_ERR_ARGUMENT, "samples");
    COMBINE(samples[0] = (double)NAN, WEFT_ERR_ARGUMENT, "samples");
    COMBINE(list[1].count = 2, WEFT_ERR_ARGUMENT, "tensors.count");
    COMBINE(list[1].tensor = NULL, WEFT_ERR_ARGUMENT, "tensors.tensor");
    COMBINE(t[0].count = 4, WEFT_ERR_ARGUMENT, "tensor.count");
    COMBINE(t[0].dtype = WEFT_BF16, WEFT_ERR_ARGUMENT, "tensor.dtype");
    COMBINE(t[0].dtype = (weft_dtype)9, WEFT_ERR_ARGUMENT, "tensor.dtype");
    COMBINE(t[0].data = NULL, WEFT_ERR_ARGUMENT, "tensor.data");
    COMBINE(t[0].data = (char *)space + 2, WEFT_ERR_ARGUMENT, "alignment");
    COMBINE(out.count = 1, WEFT_ERR_ARGUMENT, "tensors.count");
    COMBINE(out = list[1]; t[2].dtype = WEFT_F16, WEFT_ERR_ARGUMENT, "tensor.dtype");
    /* what has no transport has no rounds over one */
    REFUSED(p.a, subspace_submit(p.a, 0, 3), WEFT_ERR_UNSUPPORTED, "transport");
    REFUSED(p.a, subspace_aggregate(p.a), WEFT_ERR_UNSUPPORTED, "transport");
    ck_assert_int_eq(subspace_poll(p.a), WEFT_OK);
    ck_assert_int_eq(pile_combine(&p, NULL), WEFT_OK);
    ck_assert(pile_close(&p));
    /* and what has no room for gradients combines none */
    {
        team_desc e = plain(1);
        team u;
        ck_assert_msg(team_open(&u, &e), "%s", u.why);
        REFUSED(u.worker[0].a, subspace_combine(u.worker[0].a, &u.worker[0].grads, 1, NULL, &u.worker[0].grads),
                WEFT_ERR_ARGUMENT, "n");
        ck_assert_msg(team_close(&u), "%s", u.why);
    }
}
END_TEST

/* What an error says does not outlast it: ranks and texts that do not apply to the next one are gone. */
START_TEST(details_are_of_one_error) {
    team_desc d = plain(2);
    subspace *a;
    team t;
    d.s.timeout_ns = 1000;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    a = t.worker[0].a;
    team_fill(&t, 1);
    ck_assert_int_eq(subspace_aggregate(a), WEFT_ERR_TIMEOUT);
    ck_assert_uint_eq(subspace_detail(a)->peer, 1);
    t.worker[0].status = WEFT_AGAIN;
    t.worker[1].status = subspace_submit(t.worker[1].a, 0, 3);
    ck_assert_msg(team_settle(&t), "%s", t.why);
    ck_assert_int_eq(subspace_set_batch(a, -7), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(subspace_detail(a)->peer, WEFT_NO_RANK);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- verbs in states ---- */

enum { FRESH, IDLE, SYNCING, MEETING, PART_SUBMITTED, ALL_SUBMITTED, LEAVING_AT_ONCE, LEAVING, LEFT, STATES };
enum { V_SUBMIT, V_AGGREGATE, V_COMBINE, V_BATCH, V_LEAVE, V_SAVE, V_LOAD, V_REGROUP, V_POLL, VERBS };

static weft_status verb_of(team_worker *w, int verb) {
    static unsigned char blob[16384];
    size_t n;
    uint32_t members[2] = {0, 1};
    weft_view v = {sizeof v, 5, 2, members};
    switch (verb) {
    case V_SUBMIT: return subspace_submit(w->a, 2, 1);
    case V_AGGREGATE: return subspace_submit(w->a, 0, 3);
    case V_COMBINE: return subspace_combine(w->a, &w->grads, 1, NULL, &w->grads);
    case V_BATCH: return subspace_set_batch(w->a, 1);
    case V_LEAVE: return subspace_leave(w->a);
    case V_SAVE: return subspace_save(w->a, blob, sizeof blob, &n);
    case V_LOAD: return subspace_load(w->a, blob, 10);
    case V_REGROUP: return subspace_regroup(w->a, &v);
    default: return subspace_poll(w->a);
    }
}

static uint32_t bit_of(int verb) {
    if (verb == V_SUBMIT || verb == V_AGGREGATE) return SUBSPACE_MAY_SUBMIT;
    if (verb == V_LOAD) return SUBSPACE_MAY_LOAD;
    if (verb == V_REGROUP) return SUBSPACE_MAY_REGROUP;
    if (verb == V_POLL) return SUBSPACE_MAY_POLL;
    return SUBSPACE_MAY_SAVE;
}

/* Worker 0 in the state; worker 1 is one round behind. */
static void reach(team *t, int state) {
    team_desc d = plain(2);
    team_worker *a, *b;
    d.s.here = 1;
    ck_assert_msg(team_open(t, &d), "%s", t->why);
    a = &t->worker[0];
    b = &t->worker[1];
    team_fill(t, 1);
    if (state == FRESH) return;
    if (state == SYNCING) a->status = subspace_submit(a->a, 0, 1);
    if (state == LEAVING_AT_ONCE) a->status = subspace_leave(a->a);
    if (state == SYNCING || state == LEAVING_AT_ONCE) return;
    ck_assert_msg(team_aggregate(t), "%s", t->why);
    if (state == MEETING) a->status = subspace_submit(a->a, 0, 1);
    if (state == PART_SUBMITTED) {
        TEAM_ALL(t, w, subspace_submit(w->a, 0, 1));
        ck_assert_int_eq(a->status, WEFT_WANT_GRADIENT);
    }
    if (state == ALL_SUBMITTED) a->status = subspace_submit(a->a, 0, 3);
    if (state == LEAVING || state == LEFT) a->status = subspace_leave(a->a);
    if (state == LEFT) {
        b->status = WEFT_OK;
        ck_assert_msg(team_settle(t), "%s", t->why);
        ck_assert_int_eq(a->status, WEFT_OK);
    }
}

/* And out of it again: whatever was in progress comes to its end as if nobody had misbehaved. */
static void leave_it(team *t, int state) {
    team_worker *a = &t->worker[0], *b = &t->worker[1];
    if (state == SYNCING || state == MEETING) {
        a->status = subspace_submit(a->a, 1, 2);
        b->status = subspace_submit(b->a, 0, 1);
        ck_assert_int_ge(b->status, 0);
        b->status = subspace_submit(b->a, 1, 2);
    }
    if (state == PART_SUBMITTED)
        for (; a <= b; a++) a->status = subspace_submit(a->a, 1, 2);
    a = &t->worker[0];
    if (state == ALL_SUBMITTED) b->status = subspace_submit(b->a, 0, 3);
    if (state >= LEAVING_AT_ONCE) {
        if (state == LEAVING_AT_ONCE) b->status = subspace_submit(b->a, 0, 3);
        ck_assert_msg(team_settle(t), "%s", t->why);
        ck_assert_int_eq(a->status, WEFT_OK);
        ck_assert_uint_eq(subspace_state(a->a), 0);
        b->status = subspace_submit(b->a, 0, 3);
    }
    ck_assert_msg(team_settle(t) && team_fine(t, "afterwards"), "state %d: %s", state, t->why);
    if (state < LEAVING_AT_ONCE) ck_assert_msg(team_aggregate(t) && team_aggregate(t), "state %d: %s", state, t->why);
}

START_TEST(verbs_in_states) {
    int state = _i, verb;
    for (verb = 0; verb < VERBS; verb++) {
        subspace_stats_t before, after;
        weft_tensors kept;
        team_worker *w;
        uint32_t may, twice;
        team t;
        reach(&t, state);
        w = &t.worker[0];
        may = subspace_state(w->a);
        switch (state) {
        case FRESH: ck_assert((may & SUBSPACE_MAY_SUBMIT) && (may & SUBSPACE_MAY_LOAD)); break;
        case IDLE: ck_assert((may & SUBSPACE_MAY_SUBMIT) && !(may & SUBSPACE_MAY_LOAD)); break;
        case SYNCING:
        case MEETING:
        case PART_SUBMITTED:
            ck_assert((may & SUBSPACE_MAY_POLL) && (may & SUBSPACE_MAY_SUBMIT) && !(may & SUBSPACE_MAY_SAVE));
            break;
        case LEFT: ck_assert_uint_eq(may, 0); break;
        default: ck_assert((may & SUBSPACE_MAY_POLL) && !(may & (SUBSPACE_MAY_SUBMIT | SUBSPACE_MAY_SAVE)));
        }
        ck_assert(state == LEFT || (may & SUBSPACE_MAY_REGROUP));
        /* polling in vain is harmless; tensor 0 is submitted already */
        if ((!(may & bit_of(verb)) && verb != V_POLL) ||
            (verb == V_AGGREGATE && (state == SYNCING || state == MEETING || state == PART_SUBMITTED))) {
            kept = cluster_tensors(3, count, NULL);
            cluster_copy(&w->grads, &kept);
            subspace_stats(w->a, &before);
            for (twice = 0; twice < 2; twice++) {
                ck_assert_msg(verb_of(w, verb) == WEFT_ERR_ORDER, "verb %d in state %d is not refused", verb, state);
                ck_assert_int_eq(subspace_detail(w->a)->status, WEFT_ERR_ORDER);
            }
            subspace_stats(w->a, &after);
            ck_assert_msg(memcmp(&before, &after, sizeof after) == 0, "verb %d in state %d is refused but counts", verb,
                          state);
            ck_assert(cluster_same_bits(&w->grads, &kept));
            ck_assert_uint_eq(subspace_state(w->a), may);
            cluster_tensors_free(&kept);
            leave_it(&t, state);
        } else if (may & bit_of(verb)) {
            weft_status s = verb_of(w, verb);
            ck_assert_msg(s != WEFT_ERR_ORDER && (s >= 0 || verb == V_LOAD), "verb %d in state %d: %s", verb, state,
                          weft_strerror(s));
        }
        ck_assert_msg(team_close(&t), "%s", t.why);
    }
}
END_TEST

/* ---- re-entry ---- */

static team_worker *inside;
static uint64_t inside_count, inside_mask;

static void call_back(int which) {
    team_worker *w = inside;
    unsigned char blob[8];
    size_t n;
    uint32_t members[2] = {0, 1};
    weft_view v = {sizeof v, 9, 2, members};
    if (!w) return;
    inside = NULL;
    inside_count++;
    inside_mask |= UINT64_C(1) << which;
    ck_assert_int_eq(subspace_submit(w->a, 0, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_poll(w->a), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_wait(w->a), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_aggregate(w->a), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_combine(w->a, &w->grads, 1, NULL, &w->grads), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_set_batch(w->a, 2), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_leave(w->a), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_peer_lost(w->a, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_peer_up(w->a, 1), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_regroup(w->a, &v), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_save(w->a, blob, sizeof blob, &n), WEFT_ERR_REENTRY);
    ck_assert_int_eq(subspace_load(w->a, blob, sizeof blob), WEFT_ERR_REENTRY);
    subspace_close(w->a); /* not even that */
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
    team_desc d = plain(2);
    weft_pool pool = {NULL, re_pool, NULL};
    size_t large[1] = {100000};
    team t, twin;
    uint32_t r;
    int i;
    d.tensors = 1;
    d.count = large;
    d.s.timeout_ns = 1000000000;
    ck_assert_msg(team_open(&twin, &d), "%s", twin.why);
    d.s.pool = &pool;
    d.s.trace = re_trace;
    inside = NULL;
    inside_count = inside_mask = 0;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    t.worker[0].net.send = re_send;
    t.worker[0].net.recv = re_recv;
    t.worker[0].net.test = re_test;
    t.worker[0].net.cancel = re_cancel;
    t.worker[0].net.now = re_now;
    for (i = 0; i < 3; i++) {
        team_fill(&twin, (uint64_t)i);
        ck_assert_msg(team_aggregate(&twin), "%s", twin.why);
        team_fill(&t, (uint64_t)i);
        for (r = 2; r-- > 0;) {
            inside = r == 0 ? &t.worker[0] : NULL;
            t.worker[r].status = subspace_submit(t.worker[r].a, 0, 1);
        }
        while (t.worker[0].status == WEFT_AGAIN || t.worker[1].status == WEFT_AGAIN)
            for (r = 0; r < 2; r++) {
                inside = r == 0 ? &t.worker[0] : NULL;
                if (t.worker[r].status == WEFT_AGAIN) t.worker[r].status = subspace_poll(t.worker[r].a);
                inside = NULL;
                weft_sim_advance(&t.sim, 1000);
            }
        ck_assert(t.worker[0].status == WEFT_OK && t.worker[1].status == WEFT_OK);
        for (r = 0; r < 2; r++) ck_assert(cluster_same_bits(&t.worker[r].grads, &twin.worker[r].grads));
    }
    /* cancel is called when a peer is lost while something is under way */
    inside = &t.worker[0];
    ck_assert_int_eq(subspace_submit(t.worker[0].a, 0, 1), WEFT_AGAIN);
    ck_assert_int_eq(subspace_peer_lost(t.worker[0].a, 1), WEFT_OK);
    inside = NULL;
    ck_assert_msg(inside_mask == 0x7F, "callbacks that were tried: %#llx", (unsigned long long)inside_mask);
    ck_assert_uint_gt(inside_count, 50);
    ck_assert_msg(team_close(&t), "%s", t.why);
    ck_assert_msg(team_close(&twin), "%s", twin.why);
}
END_TEST

/* ---- fingerprints ---- */

typedef struct difference {
    const char *name;
    uint64_t expected, got; /* at worker 0; both 0: only that they differ */
} difference;

static const difference differences[] = {
    {"gradients.count", 3, 2},
    {"gradients (elements)", 13, 9},
    {"gradients (shapes and types)", 0, 0}, /* the same elements, divided otherwise */
    {"gradients (shapes and types)", 0, 0}, /* another type */
    {"rule", SUBSPACE_NORMALISED, SUBSPACE_BASIC},
    {"assignment", SUBSPACE_INVERSE, SUBSPACE_FORWARD},
    {"scale", SUBSPACE_SCALE_PROJECTION, SUBSPACE_SCALE_OFF},
    {"negative", SUBSPACE_NEGATIVE_KEEP, SUBSPACE_NEGATIVE_CLAMP},
    {"guard", SUBSPACE_GUARD_EXCLUDE, SUBSPACE_GUARD_REJECT},
    {"groups", 2, 3},
    {"group_of_tensor", 0, 0},
    {"momentum", 0, 0},
    {"epsilon", 0, 0},
    {"plan", SUBSPACE_PLAN_SHARED, SUBSPACE_PLAN_EXCHANGE},
    {"in_place", 0, 1},
};
enum { DIFFERENCES = (int)(sizeof differences / sizeof differences[0]) };

START_TEST(fingerprints_differ) {
    const int i = _i;
    team_desc d = plain(2);
    uint32_t two[3] = {0, 1, 1}, other[3] = {0, 0, 1}, three[3] = {0, 1, 2}, r;
    team_worker *w;
    weft_tensor *g;
    team t;
    if (i == 9 || i == 10) {
        d.s.group_of_tensor = two;
        d.s.groups = 2;
    }
    d.sim.shared = i == 13;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    w = &t.worker[1];
    team_worker_free(w);
    g = (weft_tensor *)(uintptr_t)w->grads.tensor;
    switch (i) {
    case 0: w->desc.gradients.count = 2; break;
    case 1: g[2].count = 4; break;
    case 2:
        g[0].count = 4; /* 4 and 1 and 8 */
        g[1].count = 1;
        break;
    case 3: g[0].dtype = WEFT_BF16; break;
    case 4: w->desc.rule = SUBSPACE_BASIC; break;
    case 5:
        w->desc.assignment = SUBSPACE_FORWARD;
        w->desc.scale = SUBSPACE_SCALE_PROJECTION;
        break;
    case 6: w->desc.scale = SUBSPACE_SCALE_OFF; break;
    case 7: w->desc.negative = SUBSPACE_NEGATIVE_CLAMP; break;
    case 8: w->desc.guard = SUBSPACE_GUARD_REJECT; break;
    case 9:
        w->desc.groups = 3;
        w->desc.group_of_tensor = three;
        break;
    case 10: w->desc.group_of_tensor = other; break;
    case 11: w->desc.momentum = 0.5; break;
    case 12: w->desc.epsilon = WEFT_ZERO; break;
    case 13: w->desc.plan = SUBSPACE_PLAN_EXCHANGE; break;
    case 14: w->desc.in_place = 1; break;
    }
    ck_assert_msg(team_worker_init(w), "%s", t.why);
    for (r = 0; r < 2; r++) t.worker[r].status = subspace_submit(t.worker[r].a, 0, t.worker[r].desc.gradients.count);
    ck_assert_msg(team_settle(&t), "%s", t.why);
    for (r = 0; r < 2; r++) {
        const weft_detail *e = subspace_detail(t.worker[r].a);
        ck_assert_int_eq(t.worker[r].status, WEFT_ERR_MISMATCH);
        ck_assert_str_eq(e->field, differences[i].name);
        ck_assert_uint_eq(e->peer, 1 - r);
        ck_assert_uint_ne(e->expected, e->got);
        if (differences[i].expected || differences[i].got) {
            ck_assert_uint_eq(r ? e->got : e->expected, differences[i].expected);
            ck_assert_uint_eq(r ? e->expected : e->got, differences[i].got);
        }
    }
    g[0].dtype = WEFT_F32; /* as they were made */
    g[0].count = count[0];
    g[1].count = count[1];
    g[2].count = count[2];
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* ---- memory ---- */

/* At every alignment, between pages that nobody may touch, filled with rubbish before. */
START_TEST(exact_memory) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static const uint32_t group[3] = {1, 0, 1};
    team_desc d = plain(2);
    const weft_pool pool = {NULL, re_pool, NULL};
    size_t offset, span, large[3] = {70000, 3, 9};
    unsigned char *pages, *first;
    subspace_desc desc;
    team t;
    int end;
    inside = NULL;
    if (_i & 1) {
        d.s.groups = 2;
        d.s.group_of_tensor = group;
    }
    if (_i & 2) d.s.pool = &pool;
    if (_i & 4) d.count = large;
    d.s.in_place = (_i & 8) != 0;
    d.sim.shared = (_i & 16) != 0;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    desc = t.worker[0].desc;
    span = (t.worker[0].bytes + 64 + 2 * page - 1) / page * page;
    pages = (unsigned char *)mmap(NULL, span + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(pages != MAP_FAILED);
    first = pages + page;
    ck_assert_int_eq(mprotect(first, span, PROT_READ | PROT_WRITE), 0);
    for (end = 0; end < 2; end++)
        for (offset = 0; offset < 64; offset += _i & 4 ? 21 : 1) {
            unsigned char *at;
            weft_memory_report report;
            size_t bytes, i;
            subspace *a;
            uint64_t k;
            memset(first, 0xDB, span);
            bytes = subspace_memory(&desc, &report);
            ck_assert_uint_eq(bytes, report.total_bytes);
            at = end ? first + span - bytes - offset : first + offset;
            team_worker_free(&t.worker[0]);
            ck_assert_int_eq(subspace_init(&a, &desc, at, bytes), WEFT_OK);
            t.worker[0].a = a;
            team_worker_free(&t.worker[1]);
            ck_assert(team_worker_init(&t.worker[1]));
            for (k = 0; k < 2; k++) {
                team_fill(&t, k);
                if (k) cluster_set(&t.worker[1].grads.tensor[0], 1, (double)NAN);
                ck_assert_msg(team_aggregate(&t), "%s", t.why);
            }
            subspace_close(a);
            t.worker[0].a = NULL;
            for (i = 0; i < (size_t)(at - first) && first[i] == 0xDB; i++) continue;
            ck_assert_msg(i == (size_t)(at - first), "somebody wrote before the memory");
            for (i += bytes; i < span && first[i] == 0xDB; i++) continue;
            ck_assert_msg(i == span, "somebody wrote behind the memory");
        }
    munmap(pages, span + 2 * page);
    ck_assert_msg(team_close(&t), "%s", t.why);
}
END_TEST

/* The report names every buffer: they follow each other, do not overlap, and make the total; and the total is what the
 * manual says. */
START_TEST(report_adds_up) {
    static const uint32_t group[3] = {0, 1, 2};
    fixture f;
    int variant;
    open_fixture(&f);
    for (variant = 0; variant < 8; variant++) {
        weft_memory_report report;
        subspace_desc d = f.d;
        size_t i, end = 0, total;
        static const weft_pool pool = {NULL, re_pool, NULL};
        if (variant & 1) {
            d.groups = 3;
            d.group_of_tensor = group;
        }
        if (variant & 2) d.here = 7;
        if (variant & 4) d.pool = &pool;
        total = subspace_memory(&d, &report);
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
        }
        ck_assert_uint_ge(total, end + WEFT_ALIGNMENT - 1);
        ck_assert_uint_lt(total, end + 2 * WEFT_ALIGNMENT);
        ck_assert_uint_gt(report.requests_per_peer, 0);
    }
    close_fixture(&f);
}
END_TEST

/* "One copy of the gradients, and 64 bytes a worker and chunk of 4 MiB; 2 N^2 + 12 N doubles a group; about 2 KB a
 * worker." */
START_TEST(memory_is_what_the_manual_says) {
    static const uint32_t sizes[4] = {2, 8, 64, 512};
    fixture f;
    weft_tensor t;
    weft_tensors one = {&t, 1};
    size_t k, g;
    open_fixture(&f);
    t.data = (void *)64;
    t.dtype = WEFT_F32;
    for (k = 0; k < 4; k++)
        for (g = 0; g < 3; g++) {
            const double n = sizes[k];
            double bytes, want;
            size_t total;
            subspace_desc d = f.d;
            if (g == 2 && sizeof(size_t) < 8) continue; /* it is not there */
            t.count = g == 0 ? 1000 : g == 1 ? 25000000 : (size_t)((UINT64_C(1) << 31) + 3);
            bytes = 4.0 * (double)t.count;
            f.net.size = sizes[k];
            d.gradients = one;
            total = subspace_memory(&d, NULL);
            want = bytes + 64 * n * (bytes / (4 << 20) + 2) + 8 * (2 * n * n + 12 * n) + 2100 * n;
            ck_assert_msg((double)total <= want * 1.1 + 5000, "%g bytes, %g workers: %zu instead of %g", bytes, n,
                          total, want);
            ck_assert_double_ge((double)total, bytes);
            /* without a transport: no copy at all */
            d.transport = NULL;
            d.here = sizes[k];
            total = subspace_memory(&d, NULL);
            ck_assert_uint_gt(total, 0);
            ck_assert_double_le((double)total, want - bytes + bytes / (4 << 20) * 64 + 20000);
        }
    f.net = f.t.worker[0].net;
    close_fixture(&f);
}
END_TEST

/* More elements than 31 or 32 bits count: sizes, positions and shards are those of wide integers. Nothing is
 * allocated. */
START_TEST(sizes_are_wide) {
    static const uint64_t counts[] = {(UINT64_C(1) << 31) + 3, (UINT64_C(1) << 32) + 5, (UINT64_C(1) << 40) + 1};
    fixture f;
    weft_tensor t[3];
    weft_tensors list = {t, 3};
    size_t k;
    open_fixture(&f);
    for (k = 0; k < sizeof counts / sizeof counts[0] && sizeof(size_t) > 4; k++) {
        subspace_desc d = f.d;
        weft_memory_report report;
        size_t bytes;
        t[0].data = (void *)64;
        t[0].count = (size_t)counts[k];
        t[0].dtype = WEFT_F64;
        t[1].data = (void *)(uintptr_t)(64 + counts[k] * 8);
        t[1].count = (size_t)counts[k];
        t[1].dtype = WEFT_BF16;
        t[2].data = (void *)(uintptr_t)(128 + counts[k] * 10 / 64 * 64);
        t[2].count = 7;
        t[2].dtype = WEFT_F32;
        d.gradients = list;
        bytes = subspace_memory(&d, &report);
        ck_assert_msg(report.detail.status == WEFT_OK, "%s (%s)", weft_strerror(report.detail.status),
                      report.detail.field);
        ck_assert_uint_gt(bytes, counts[k] * 10);
        ck_assert_uint_lt(bytes, counts[k] * 10 + counts[k] / 1000 + 100000);
        /* where things stand: the map, chunks and shards of such a model */
        {
            size_t position[4], total = 0;
            weft_map map;
            int ok = 1;
            weft_map_init(&map, &list, position);
            ck_assert_uint_eq(weft_map_measure(&list, &ok), weft_map_bytes(&map));
            ck_assert_int_eq(ok, 1);
            ck_assert_uint_ge(position[1], counts[k] * 8);
            ck_assert_uint_ge(position[2], position[1] + counts[k] * 2);
            {
                subspace *a = (subspace *)calloc(1, sizeof *a);
                const size_t chunks = weft_map_bytes(&map) / SUBSPACE_CHUNK + 4;
                uint32_t i, r;
                if (k < 2) {
                    a->chunk = (subspace_chunk *)calloc(chunks, sizeof *a->chunk);
                    a->map = map;
                    a->rows = a->count = 2; /* as the transport */
                    subspace_append_tensors(a, 0, 3);
                    ck_assert_uint_le(a->chunks, chunks);
                    for (i = 0; i < a->chunks; i++) {
                        subspace_chunk *c = &a->chunk[i];
                        ck_assert_uint_eq(c->lo, total); /* one after the other, nothing left out */
                        ck_assert_uint_gt(c->hi, c->lo);
                        total = c->hi;
                        ck_assert_uint_ge(c->slot, c->lo);
                        if (i) ck_assert_uint_ge(c->slot, a->chunk[i - 1].slot + 2 * a->chunk[i - 1].unit);
                        subspace_cut_shards(a, c);
                        for (r = 0; r < 2; r++) ck_assert_uint_le(subspace_shard(c, r), subspace_shard(c, r + 1));
                        ck_assert_uint_eq(subspace_shard(c, 0), c->lo);
                        ck_assert_uint_eq(subspace_shard(c, 2), c->hi);
                        ck_assert_uint_lt(c->slot + 2 * c->unit, bytes);
                    }
                    ck_assert_uint_eq(total, weft_map_bytes(&map));
                    free(a->chunk);
                }
                free(a);
            }
        }
    }
    close_fixture(&f);
}
END_TEST

/* Sizes that do not fit are refused, not wrapped around. */
START_TEST(sizes_that_overflow) {
    static const size_t counts[] = {SIZE_MAX / 8, SIZE_MAX / 16, SIZE_MAX / 8 - 64, SIZE_MAX / 8 / 3, SIZE_MAX / 64};
    static uint32_t group[3];
    weft_memory_report report;
    subspace_desc bad;
    fixture f;
    weft_tensor t[2];
    weft_tensors list = {t, 2};
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
            size_t bytes;
            bad = f.d;
            f.net.size = (uint32_t)size;
            bad.gradients = list;
            bytes = subspace_memory(&bad, &report);
            if (bytes)
                ck_assert_uint_ge(bytes, counts[i] * 4); /* it has to hold the gradients */
            else
                ck_assert_msg(report.detail.status == WEFT_ERR_OVERFLOW, "%s: %s", weft_strerror(report.detail.status),
                              report.detail.field);
            if (i < 2 && sizeof(size_t) > 4) ck_assert_uint_eq(bytes, 0); /* more chunks than can be numbered */
        }
    }
    /* a mirror that is a size, but not together with its gradients */
    if (sizeof(size_t) == 8) {
        const uint64_t chunks = UINT64_C(1) << 27; /* two of them for the ends of tensors, one for the rest */
        bad = f.d;
        bad.gradients = list;
        t[0].count = (size_t)((chunks - 3) * SUBSPACE_CHUNK / 4);
        f.net.size = 0x7FFFFFFE;
        ck_assert_uint_eq(subspace_memory(&bad, &report), 0);
        ck_assert_int_eq(report.detail.status, WEFT_ERR_OVERFLOW);
    }
    /* workers by workers by groups */
    bad = f.d;
    f.net.size = UINT32_MAX - 1;
    bad.group_of_tensor = group;
    bad.groups = UINT32_MAX;
    ck_assert_uint_eq(subspace_memory(&bad, &report), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_OVERFLOW);
    bad.groups = 1;
    bad.here = UINT32_MAX;
    ck_assert_uint_eq(subspace_memory(&bad, &report), 0);
    ck_assert_int_eq(report.detail.status, WEFT_ERR_OVERFLOW);
    f.net = f.t.worker[0].net;
    close_fixture(&f);
}
END_TEST

START_TEST(nothing_forbidden) {
    team_desc d = plain(3);
    unsigned char blob[4096];
    size_t n;
    team t;
    d.s.here = 1;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    for (n = 0; n < 3; n++) {
        team_fill(&t, n);
        ck_assert_msg(team_aggregate(&t), "%s", t.why);
    }
    ck_assert_int_eq(subspace_combine(t.worker[0].a, &t.worker[0].grads, 1, NULL, &t.worker[0].grads), WEFT_OK);
    ck_assert_int_eq(subspace_save(t.worker[0].a, blob, sizeof blob, &n), WEFT_OK);
    TEAM_ALL(&t, w, subspace_leave(w->a));
    ck_assert_msg(team_close(&t), "%s", t.why);
    ck_assert_int_eq(forbidden, 0);
}
END_TEST

/* Of a group nobody's gradient is finite: there is nothing to make an aggregate of. */
START_TEST(a_group_without_anybody) {
    team_desc d = plain(1);
    weft_tensors g[2];
    team t;
    uint32_t k;
    d.s.here = 2;
    ck_assert_msg(team_open(&t, &d), "%s", t.why);
    for (k = 0; k < 2; k++) {
        g[k] = cluster_tensors(3, count, NULL);
        team_fill_one(&g[k], 5, k, 1);
        cluster_set(&g[k].tensor[2], 3, (double)NAN);
    }
    ck_assert_int_eq(subspace_combine(t.worker[0].a, g, 2, NULL, &g[0]), WEFT_ERR_NONFINITE);
    ck_assert_str_eq(subspace_detail(t.worker[0].a)->field, "gradients of a group");
    ck_assert(isnan(cluster_get(&g[0].tensor[2], 3))); /* nothing has been written */
    cluster_set(&g[1].tensor[2], 3, 1);
    ck_assert_int_eq(subspace_combine(t.worker[0].a, g, 2, NULL, &g[0]), WEFT_OK);
    ck_assert(isfinite(cluster_get(&g[0].tensor[2], 3)));
    for (k = 0; k < 2; k++) cluster_tensors_free(&g[k]);
    ck_assert_msg(team_close(&t), "%s", t.why);
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
    tcase_set_timeout(t, 60);
    tcase_add_test(t, ranges_are_checked);
    tcase_add_test(t, setters_are_checked);
    tcase_add_test(t, combine_is_checked);
    tcase_add_test(t, details_are_of_one_error);
    tcase_add_loop_test(t, verbs_in_states, 0, STATES);
    tcase_add_test(t, callbacks_may_not_call_back);
    tcase_add_loop_test(t, fingerprints_differ, 0, DIFFERENCES);
    suite_add_tcase(s, t);
    t = tcase_create("memory");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, exact_memory, 0, 32);
    tcase_add_test(t, report_adds_up);
    tcase_add_test(t, memory_is_what_the_manual_says);
    tcase_add_test(t, sizes_are_wide);
    tcase_add_test(t, a_group_without_anybody);
    tcase_add_test(t, sizes_that_overflow);
    tcase_add_test(t, nothing_forbidden);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
