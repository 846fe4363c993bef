/* SPDX-License-Identifier: MIT
 * test_leave.c: all workers leave at once, and each ends, link and all, as soon as its good-bye is complete, while
 * others are still waiting for theirs to be delivered: nobody takes the end of another for a loss. grawa.h, subspace.h
 * and hpsgd.h, over links whose delays are drawn anew for every seed. */
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#include "weft_sim.h"
#include <check.h>
#include <stdlib.h>

enum { MOST = 5, ELEMENTS = 4, SEEDS = 400 };

typedef struct worker {
    struct job *job;
    uint32_t rank;
    enum { BEGINS, MEETS, LEAVES, HAS_LEFT, ENDED } doing;
    weft_transport net;
    float x[ELEMENTS];
    weft_tensor tensor;
    void *memory, *object;
} worker;

typedef struct rule {
    const char *name;
    void (*open)(worker *w);
    weft_status (*begin)(void *o); /* what brings it into contact with the others */
    weft_status (*poll)(void *o);
    weft_status (*leave)(void *o);
    const weft_detail *(*detail)(const void *o);
    void (*close)(void *o);
} rule;

typedef struct job {
    weft_sim sim;
    const rule *rule;
    uint32_t size;
    uint64_t early; /* ends while others were still leaving */
    worker worker[MOST];
    char why[200];
} job;

#define OPEN(X, w, list)                                                                                               \
    do {                                                                                                               \
        X##_desc d = {0};                                                                                              \
        X *o;                                                                                                          \
        size_t bytes;                                                                                                  \
        d.struct_size = sizeof d;                                                                                      \
        d.list.tensor = &(w)->tensor;                                                                                  \
        d.list.count = 1;                                                                                              \
        d.transport = &(w)->net;                                                                                       \
        bytes = X##_memory(&d, NULL);                                                                                  \
        (w)->memory = malloc(bytes);                                                                                   \
        ck_assert_int_eq(X##_init(&o, &d, (w)->memory, bytes), WEFT_OK);                                               \
        (w)->object = o;                                                                                               \
    } while (0)

#define VERBS(X)                                                                                                       \
    static weft_status X##_polls(void *o) {                                                                            \
        return X##_poll((X *)o);                                                                                       \
    }                                                                                                                  \
    static weft_status X##_leaves(void *o) {                                                                           \
        return X##_leave((X *)o);                                                                                      \
    }                                                                                                                  \
    static const weft_detail *X##_tells(const void *o) {                                                               \
        return X##_detail((const X *)o);                                                                               \
    }                                                                                                                  \
    static void X##_closes(void *o) {                                                                                  \
        X##_close((X *)o);                                                                                             \
    }
VERBS(grawa)
VERBS(subspace)
VERBS(hpsgd)

static void grawa_opens(worker *w) {
    OPEN(grawa, w, params);
}
static void subspace_opens(worker *w) {
    OPEN(subspace, w, gradients);
}
static void hpsgd_opens(worker *w) {
    OPEN(hpsgd, w, params);
}
static weft_status grawa_begins(void *o) {
    return grawa_start((grawa *)o);
}
static weft_status subspace_begins(void *o) {
    return subspace_submit((subspace *)o, 0, 1);
}
static weft_status hpsgd_begins(void *o) {
    return hpsgd_start((hpsgd *)o);
}

static const rule RULES[3] = {
    {"grawa", grawa_opens, grawa_begins, grawa_polls, grawa_leaves, grawa_tells, grawa_closes},
    {"subspace", subspace_opens, subspace_begins, subspace_polls, subspace_leaves, subspace_tells, subspace_closes},
    {"hpsgd", hpsgd_opens, hpsgd_begins, hpsgd_polls, hpsgd_leaves, hpsgd_tells, hpsgd_closes},
};

/* Is something on its way from this worker to one that has not left? */
static int owes(const job *j, uint32_t rank) {
    uint32_t i;
    for (i = 0; i < j->sim.msg_count; i++) {
        const weft_sim_msg *m = &j->sim.msg[i];
        if (m->flow != WEFT_SIM_NONE && m->src == rank && j->worker[j->sim.flow[m->flow].dst].doing < HAS_LEFT)
            return 1;
    }
    return 0;
}

static int turn(void *user, uint32_t rank) {
    worker *w = (worker *)user;
    job *j = w->job;
    weft_status s = WEFT_OK;
    uint32_t i;
    switch (w->doing) {
    case BEGINS:
        s = j->rule->begin(w->object);
        w->doing = MEETS;
        break;
    case MEETS: s = j->rule->poll(w->object); break;
    case LEAVES: s = j->rule->poll(w->object); break;
    case HAS_LEFT: /* its process lives until what it has sent has arrived */
        if (owes(j, rank)) {
            weft_sim_sleep(&j->sim, rank, 50);
            return 0;
        }
        for (i = 0; i < j->size && j->worker[i].doing != LEAVES; i++) continue;
        j->early += i < j->size;
        w->doing = ENDED;
        weft_sim_lose(&j->sim, rank);
        return 1;
    case ENDED: return 1;
    }
    if (s == WEFT_OK && w->doing == MEETS) {
        w->doing = LEAVES;
        s = j->rule->leave(w->object);
    }
    if (s == WEFT_OK && w->doing == LEAVES) {
        w->doing = HAS_LEFT;
        weft_sim_sleep(&j->sim, rank, 1);
    }
    if (s < 0) {
        const weft_detail *d = j->rule->detail(w->object);
        snprintf(j->why, sizeof j->why, "%s, worker %lu, while %s: %s of %lu", j->rule->name, (unsigned long)rank,
                 d->phase ? d->phase : "?", weft_strerror(s), (unsigned long)d->peer);
        return 1;
    }
    return 0;
}

START_TEST(ends_are_no_losses) {
    static job j;
    uint64_t seed, early = 0;
    for (seed = 1; seed <= SEEDS; seed++) {
        weft_sim_desc d = {0};
        weft_sim_end end;
        uint32_t r, peer;
        memset(&j, 0, sizeof j);
        j.rule = &RULES[_i];
        j.size = 2 + (uint32_t)seed % (MOST - 1);
        d.seed = seed;
        d.size = j.size;
        d.latency_ns = 100;
        d.mode = seed / 4 % 2 ? WEFT_SIM_RENDEZVOUS : WEFT_SIM_EAGER;
        d.shuffle = 1;
        d.detect_ns = seed / 16 % 2 * 300;
        ck_assert_int_eq(weft_sim_init(&j.sim, &d), WEFT_OK);
        for (r = 0; r < j.size; r++)
            for (peer = 0; peer < j.size; peer++)
                if (r != peer) weft_sim_set_link(&j.sim, r, peer, 100 + weft_sim_random(&j.sim) % 5000, 0, 0);
        for (r = 0; r < j.size; r++) {
            worker *w = &j.worker[r];
            w->job = &j;
            w->rank = r;
            w->tensor.data = w->x;
            w->tensor.count = ELEMENTS;
            w->x[0] = 1;
            weft_sim_transport(&j.sim, r, &w->net);
            j.rule->open(w);
            weft_sim_worker(&j.sim, r, turn, w);
        }
        end = weft_sim_run(&j.sim, 1000000);
        ck_assert_msg(!j.why[0] && end == WEFT_SIM_DONE, "seed %llu: %s; %s", (unsigned long long)seed, j.why,
                      weft_sim_text(&j.sim));
        for (r = 0; r < j.size; r++) {
            ck_assert_int_eq(j.worker[r].doing, ENDED);
            j.rule->close(j.worker[r].object);
            free(j.worker[r].memory);
        }
        ck_assert_uint_eq(weft_sim_outstanding(&j.sim), 0);
        early += j.early;
        weft_sim_free(&j.sim);
    }
    ck_assert_uint_gt(early, SEEDS / 4);
}
END_TEST

int main(void) {
    Suite *s = suite_create("leave");
    TCase *t = tcase_create("leave");
    SRunner *runner = srunner_create(s);
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, ends_are_no_losses, 0, 3);
    suite_add_tcase(s, t);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
