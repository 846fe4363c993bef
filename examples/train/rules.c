/* SPDX-License-Identifier: MIT
 * rules.c: this file shows both ways of using grawa.h, subspace.h, hpsgd.h and dsgd_aau.h (saddles.c: saddle.h): the
 * algorithms themselves, and the collectives underneath (weft_collective, by way of sums.h), of which rules for
 * comparison are made; and, with WEFT_CUDA, what is to be done where tensors are in the memory of a GPU. */
#define _POSIX_C_SOURCE 200809L
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"
#include "pool/weft_pthread_pool.h"
#include "weft_recorder.h"

#include "adasum.h"
#include "elastic.h"
#ifdef WEFT_CUDA
#include "gpu.h"
#endif
#include "rules.h"
#include "saddles.h"
#include "sums.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No worker is silent for so long, however slow: something is broken then, and the program should say so. */
static const uint64_t PATIENCE_NS = UINT64_C(120000000000);

/* How long to sleep where nothing may happen that would wake one up. */
static const uint64_t MOMENT_NS = UINT64_C(1000000);

/* EASGD and LSGD were published with much shorter periods than GRAWA (4 steps against 32). */
enum { PERIODS_SHORTER = 8 };

static bool is_grawa(algorithm a) {
    return a == ALGORITHM_MGRAWA || a == ALGORITHM_LGRAWA || a == ALGORITHM_UNIFORM;
}

size_t rule_period(algorithm a, const options *o) {
    if (a == ALGORITHM_EASGD || a == ALGORITHM_LSGD) return (o->period + PERIODS_SHORTER - 1) / PERIODS_SHORTER;
    return is_grawa(a) ? o->period : 1;
}

bool rule_has_meetings(algorithm a) {
    return a != ALGORITHM_DSGD_AAU && a != ALGORITHM_HPSGD && !is_saddle(a);
}

bool rule_has_views(algorithm a) {
    return a != ALGORITHM_DSGD_AAU && !is_saddle(a);
}

bool rule_is_optimiser(algorithm a) {
    return is_saddle(a);
}

bool rule_is_free(algorithm a, const options *o) {
    if (a == ALGORITHM_DSGD_AAU || a == ALGORITHM_HPSGD) return true;
    return o->trigger == TRIGGER_TOTAL && is_grawa(a);
}

/* ---- What a worker's rule is made of ---- */

enum { SUM, VOTE, COLLECTIVES };
enum { RECORDS = 4096 };

struct rule {
    team *team;
    algorithm algorithm;
    size_t rank;
    const options *o;
    const model *model;
    device *device;
#ifdef WEFT_CUDA
    weft_cuda gpu; /* struct_size is 0: the device is none */
#endif
    weft_transport net;
    weft_tensor param[MAX_TENSORS], grad[MAX_TENSORS];
    weft_tensors params, grads; /* views of the trainer's own memory */
    weft_recorder box;          /* the last that happened, for when something is wrong, and for --trace */
    weft_record ring[RECORDS];
    uint64_t steps;
    rule_entry entry;
    uint32_t view_epoch; /* of the last view gone through */
    bool regrouping, leaving;
    unsigned looks;
    rule_serve serve;
    void *serve_ctx;

    grawa *grawa;             /* MGRAWA, LGRAWA, uniform; otherwise NULL */
    subspace *subspace;       /* AdaCons; otherwise NULL */
    hpsgd *hpsgd;             /* HPSGD; otherwise NULL */
    weft_pthread_pool beside; /* its rounds run there */
    dsgd_aau *aau;            /* DSGD-AAU; otherwise NULL */
    saddles *saddles;         /* SADDLe and what it is built on; otherwise NULL */
    void *memory;             /* of one of them */

    /* The others. SUM: of gradients (mean), or of `other` (EASGD, LSGD, Adasum). VOTE: everybody's loss (LSGD). */
    weft_collective *collective[COLLECTIVES];
    void *collective_memory[COLLECTIVES];
    uint32_t epoch[COLLECTIVES]; /* of the view that each works in */
    size_t members;
    double weight[MAX_WORKERS]; /* 1 / members */
    tensor_list other;          /* what goes over the network, so that the model itself stays */
    weft_tensor other_view[MAX_TENSORS];
    tensor_list center;       /* EASGD: the center variable, the same on all workers */
    double *row[MAX_WORKERS]; /* Adasum: everybody's gradient */
    float loss[MAX_WORKERS];  /* LSGD: since the last round; 0: no such worker */
    weft_tensor loss_view;
    double loss_sum;
    uint64_t loss_count;
};

static weft_tensors view_of(const model *m, const tensor_list *t, weft_tensor *view) {
    for (size_t i = 0; i < m->tensors; i++) view[i] = (weft_tensor){t->tensor[i], m->tensor[i].count, WEFT_F32};
    return (weft_tensors){view, m->tensors};
}

static _Noreturn void give_up(const rule *r, weft_status s, const weft_detail *d) {
    if (s == WEFT_ERR_TIMEOUT || s == WEFT_ERR_PEER_LOST) weft_recorder_report(&r->box, stderr);
    if (s == WEFT_ERR_NONFINITE)
        broken("%s: the training has diverged (worker %zu); try a smaller --lr", ALGORITHM_NAME[r->algorithm], r->rank);
    broken("%s, worker %zu: %s (%s; %s: expected %llu, got %llu)", ALGORITHM_NAME[r->algorithm], r->rank,
           weft_strerror(s), d->phase ? d->phase : "", d->field ? d->field : "value", (unsigned long long)d->expected,
           (unsigned long long)d->got);
}

/* ---- On a GPU ---- */

/* A descriptor learns where its tensors are, before it is asked for the memory that it wants; and is given that on the
 * GPU. What is between the workers takes the host's memory, and so has to be staged. */
#ifdef WEFT_CUDA
#define PLACE(r, d) (void)((d).cuda = (r)->gpu.struct_size ? &(r)->gpu : NULL)

static void go_to_gpu(rule *r) {
    if (r->o->device != DEVICE_CUDA) return;
    gpu_describe(r->device, &r->gpu);
    gpu_stage(r->device, &r->net);
}

static void lend(rule *r, const weft_memory_report *report) {
    if (r->gpu.struct_size) gpu_lend(r->device, &r->gpu, report->device_bytes);
}

static void leave_gpu(rule *r) {
    if (r->gpu.struct_size) gpu_return(r->device);
}
#else
#define PLACE(r, d) (void)0
#define go_to_gpu(r) (void)0
#define lend(r, report) (void)0
#define leave_gpu(r) (void)0
#endif

/* ---- The verbs that the headers with rounds have ---- */

static weft_status rule_poll(rule *r) {
    if (r->hpsgd) return hpsgd_poll(r->hpsgd);
    return r->grawa ? grawa_poll(r->grawa) : subspace_poll(r->subspace);
}

/* Between two looks at the network that the others are on. PEER_LOST: there is a new view. */
static weft_status look_around(rule *r) {
    if (team_look(r->team, r->view_epoch)) return WEFT_ERR_PEER_LOST;
    if (r->leaving && (r->collective[SUM] ? team_is_done(r->team, r->rank) : team_is_gone(r->team)))
        return WEFT_OK; /* nobody will answer, and nothing is left to be done */
    if (!r->regrouping && r->serve) r->serve(r->serve_ctx);
    /* a poll may have left something that only another poll goes on with */
    r->net.wait(r->net.ctx, r->net.now(r->net.ctx) + (++r->looks % 4 ? 0 : MOMENT_NS));
    return WEFT_AGAIN;
}

/* PEER_LOST: somebody is lost, or there is a new view. */
static weft_status rule_wait(rule *r) {
    if (!team_looks(r->team)) {
        if (r->hpsgd) return hpsgd_wait(r->hpsgd);
        return r->grawa ? grawa_wait(r->grawa) : subspace_wait(r->subspace);
    }
    for (weft_status s;;) {
        if ((s = rule_poll(r)) != WEFT_AGAIN && s != WEFT_STALL) return s;
        if ((s = look_around(r)) != WEFT_AGAIN) return s;
    }
}

static weft_status rule_regroup(rule *r, const weft_view *v) {
    if (r->hpsgd) return hpsgd_regroup(r->hpsgd, v);
    return r->grawa ? grawa_regroup(r->grawa, v) : subspace_regroup(r->subspace, v);
}

static const weft_detail *rule_detail(const rule *r) {
    if (r->hpsgd) return hpsgd_detail(r->hpsgd);
    return r->grawa ? grawa_detail(r->grawa) : subspace_detail(r->subspace);
}

static weft_status rule_say_goodbye(rule *r) {
    if (r->hpsgd) return hpsgd_leave(r->hpsgd);
    return r->grawa ? grawa_leave(r->grawa) : subspace_leave(r->subspace);
}

/* Sees a verb through: waits while it is in progress, and goes on in the new view when somebody has died, or comes. */
static weft_status finish(rule *r, weft_status s) {
    for (;;) {
        uint32_t member[MAX_WORKERS];
        if (s == WEFT_AGAIN || s == WEFT_STALL) {
            s = rule_wait(r);
        } else if (s == WEFT_ERR_PEER_LOST) {
            weft_view v = team_next_view(r->team, r->view_epoch, member);
            r->view_epoch = v.epoch;
            r->regrouping = true;
            s = rule_regroup(r, &v);
        } else {
            break;
        }
    }
    if (s < 0) give_up(r, s, rule_detail(r));
    if (r->regrouping) team_settle(r->team, r->rank, r->view_epoch);
    r->regrouping = false;
    return s;
}

/* First contact; whoever comes late begins with the view that it came with. */
static void meet(rule *r, weft_status s) {
    finish(r, r->entry != RULE_FOUNDS ? WEFT_ERR_PEER_LOST : s);
}

/* Says good-bye. If somebody dies meanwhile, those who are left form a view without this worker, and good-bye is
 * said. */
static void go(rule *r) {
    r->leaving = true;
    while (!team_may_leave(r->team, r->rank))
        if (!team_is_settled(r->team, r->rank))
            finish(r, WEFT_ERR_PEER_LOST);
        else
            (void)look_around(r);
    if (team_is_gone(r->team)) return;
    weft_status s = rule_say_goodbye(r);
    while (s == WEFT_AGAIN && team_is_settled(r->team, r->rank)) { /* (a later view does without it) */
        r->net.wait(r->net.ctx, r->net.now(r->net.ctx) + MOMENT_NS);
        s = rule_poll(r);
    }
    if (s != WEFT_OK && s != WEFT_AGAIN && s != WEFT_ERR_PEER_LOST) give_up(r, s, rule_detail(r));
}

/* ---- GRAWA ---- */

static void grawa_new(rule *r) {
    grawa_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = r->params;
    d.transport = &r->net;
    d.weighting = r->algorithm == ALGORITHM_MGRAWA   ? GRAWA_BY_MODEL
                  : r->algorithm == ALGORITHM_LGRAWA ? GRAWA_BY_LAYER
                                                     : GRAWA_UNIFORM;
    d.trigger = r->o->trigger == TRIGGER_TOTAL ? GRAWA_TRIGGER_TOTAL : GRAWA_TRIGGER_PERIOD;
    d.period_steps = (uint32_t)r->o->period;
    d.pull = r->o->pull > 0.0 ? r->o->pull : WEFT_ZERO;
    d.timeout_ns = PATIENCE_NS;
    d.trace = weft_recorder_event;
    d.trace_ctx = &r->box;
    PLACE(r, d);
    weft_memory_report report;
    size_t bytes = grawa_memory(&d, &report);
    lend(r, &report);
    r->memory = new_array(bytes, 1);
    weft_status s = grawa_init_detail(&r->grawa, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    meet(r, r->entry != RULE_FOUNDS ? WEFT_OK
                                    : grawa_start(r->grawa)); /* here, so that first contact costs no training time */
}

static uint64_t grawa_after_step(rule *r) {
    grawa_stats_t before = {0}, after = {0};
    grawa_stats(r->grawa, &before);
    weft_status s = grawa_step(r->grawa, &r->grads);
    finish(r, s);
    grawa_stats(r->grawa, &after);
    return s != WEFT_OK || after.rounds != before.rounds ? after.rounds : 0;
}

/* ---- AdaCons: in place of the mean of the gradients, every step ---- */

static void subspace_new(rule *r) {
    subspace_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.gradients = r->grads;
    d.transport = &r->net;
    d.momentum = r->o->subspace_momentum;
    d.timeout_ns = PATIENCE_NS;
    d.trace = weft_recorder_event;
    d.trace_ctx = &r->box;
    PLACE(r, d);
    weft_memory_report report;
    size_t bytes = subspace_memory(&d, &report);
    lend(r, &report);
    r->memory = new_array(bytes, 1);
    weft_status s = subspace_init_detail(&r->subspace, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    if (r->entry != RULE_FOUNDS) meet(r, WEFT_OK);
}

/* If somebody dies meanwhile, the survivors either find it done or are asked for their gradients again: until it is
 * done these are as they were. */
static uint64_t subspace_gradient(rule *r) {
    subspace_stats_t stats = {0};
    while (finish(r, subspace_submit(r->subspace, 0, r->grads.count)) == WEFT_WANT_GRADIENT) continue;
    subspace_stats(r->subspace, &stats);
    return stats.rounds;
}

/* ---- HPSGD: rounds run on a thread of their own, beside training; where the network is looked at by this one, at step
 * boundaries ---- */

static void hpsgd_new(rule *r) {
    hpsgd_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = r->params;
    d.transport = &r->net;
    if (!team_looks(r->team)) {
        if (weft_pthread_pool_create(&r->beside, 2) != WEFT_OK) broken("cannot start a thread");
        d.pool = &r->beside.pool;
    }
    d.carry = r->o->beta;
    d.max_steps = (uint32_t)r->o->most_steps;
    d.timeout_ns = PATIENCE_NS;
    d.trace = weft_recorder_event;
    d.trace_ctx = &r->box;
    PLACE(r, d);
    weft_memory_report report;
    size_t bytes = hpsgd_memory(&d, &report);
    lend(r, &report);
    r->memory = new_array(bytes, 1);
    weft_status s = hpsgd_init_detail(&r->hpsgd, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    meet(r, r->entry != RULE_FOUNDS ? WEFT_OK : hpsgd_start(r->hpsgd));
}

/* Returns a number only if the worker has had to wait for the network. */
static uint64_t hpsgd_after_step(rule *r) {
    weft_status s = hpsgd_step(r->hpsgd);
    r->steps++;
    if (s == WEFT_OK) return 0;
    finish(r, s);
    return r->steps;
}

/* ---- DSGD-AAU: after every step, with whichever neighbours are ready ---- */

/* Nobody has to be told who is left: a neighbour that dies is no error. */
static void aau_finish(rule *r, weft_status s) {
    while (s == WEFT_AGAIN && team_looks(r->team)) {
        (void)look_around(r);
        s = dsgd_aau_poll(r->aau);
    }
    if (s == WEFT_AGAIN) s = dsgd_aau_wait(r->aau);
    if (s < 0) give_up(r, s, dsgd_aau_detail(r->aau));
}

static void aau_new(rule *r, const void *saved, size_t saved_bytes) {
    dsgd_aau_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = r->params;
    d.transport = &r->net;
    d.graph = team_graph(r->team);
    d.join = r->entry == RULE_FOUNDS ? DSGD_AAU_FOUND : r->entry == RULE_LATE ? DSGD_AAU_JOIN : DSGD_AAU_REJOIN;
    d.patience_ns = (uint64_t)(r->o->patience * 1e9);
    d.timeout_ns = PATIENCE_NS;
    d.trace = weft_recorder_event;
    d.trace_ctx = &r->box;
    PLACE(r, d);
    weft_memory_report report;
    size_t bytes = dsgd_aau_memory(&d, &report);
    lend(r, &report);
    r->memory = new_array(bytes, 1);
    weft_status s = dsgd_aau_init_detail(&r->aau, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    if (saved_bytes && (s = dsgd_aau_load(r->aau, saved, saved_bytes)) != WEFT_OK)
        give_up(r, s, dsgd_aau_detail(r->aau));
    aau_finish(r, dsgd_aau_start(r->aau));
}

static uint64_t aau_after_step(rule *r) {
    aau_finish(r, dsgd_aau_step(r->aau));
    return ++r->steps;
}

/* Who computes for long is asked meanwhile whether it is ready, and should not leave others without an answer. */
static void aau_idle(rule *r, uint64_t ns) {
    for (uint64_t until = r->net.now(r->net.ctx) + ns; r->net.now(r->net.ctx) < until;) {
        uint64_t wake = dsgd_aau_wake_ns(r->aau);
        r->net.wait(r->net.ctx, wake < until ? wake : until);
        weft_status s = dsgd_aau_poll(r->aau);
        if (s < 0) give_up(r, s, dsgd_aau_detail(r->aau));
    }
}

/* ---- Collectives, for the others ---- */

static void collective_new(rule *r, int which, weft_tensors tensors) {
    weft_collective_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.tensors = tensors;
    d.transport = &r->net;
    d.channel = (uint32_t)which;
    d.timeout_ns = PATIENCE_NS;
    d.trace = weft_recorder_event;
    d.trace_ctx = &r->box;
    PLACE(r, d);
    weft_memory_report report;
    size_t bytes = sums_memory(&d, &report);
    lend(r, &report);
    r->collective_memory[which] = new_array(bytes, 1);
    weft_status s = sums_init(&r->collective[which], &d, r->collective_memory[which], bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
}

static void count_members(rule *r, const weft_view *v) {
    r->members = v->count;
    for (size_t i = 0; i < r->net.size; i++) r->weight[i] = 1.0 / (double)v->count;
}

static weft_status collective_wait(rule *r, weft_collective *c, weft_status s) {
    while (s == WEFT_AGAIN) {
        if (!team_looks(r->team))
            r->net.wait(r->net.ctx, r->net.now(r->net.ctx) + PATIENCE_NS / 8);
        else if ((s = look_around(r)) != WEFT_AGAIN)
            return s;
        s = sums_poll(c);
    }
    return s;
}

/* Somebody has died: all survivors bring all their collectives to the new view, in the same order, whichever of them
 * noticed. */
static void regroup(rule *r) {
    uint32_t member[MAX_WORKERS];
    weft_view v = team_next_view(r->team, r->view_epoch, member);
    r->regrouping = true;
    r->view_epoch = v.epoch;
    for (int i = 0; i < COLLECTIVES; i++) {
        weft_collective *c = r->collective[i];
        if (!c || r->epoch[i] >= v.epoch) continue;
        weft_status s = collective_wait(r, c, sums_regroup(c, &v));
        r->epoch[i] = v.epoch;
        if (s == WEFT_ERR_PEER_LOST) { /* another one, meanwhile: over again, from the first */
            v = team_next_view(r->team, r->view_epoch, member);
            r->view_epoch = v.epoch;
            i = -1;
        } else if (s != WEFT_OK) {
            give_up(r, s, sums_detail(c));
        }
    }
    count_members(r, &v);
    team_settle(r->team, r->rank, v.epoch);
    r->regrouping = false;
}

typedef enum operation { ADD_UP, BROADCAST } operation;

/* Does an operation to its end. If somebody dies in it, the survivors either find it done or begin it again without
 * them. Only a broadcast cannot be done without its root: false then, on all survivors alike. */
static bool collective_do(rule *r, int which, operation op, uint32_t root) {
    weft_collective *c = r->collective[which];
    uint64_t before = sums_committed(c);
    while (sums_committed(c) == before) {
        const double *weight = which == SUM ? r->weight : NULL; /* NULL: 1 */
        weft_status s = collective_wait(r, c, op == ADD_UP ? sums_begin(c, weight) : sums_begin_broadcast(c, root));
        if (s == WEFT_ERR_PEER_LOST)
            regroup(r);
        else if (s == WEFT_ERR_ARGUMENT && op == BROADCAST)
            return false;
        else if (s != WEFT_OK)
            give_up(r, s, sums_detail(c));
    }
    return true;
}

/* ---- The mean of the gradients, every step ---- */

static uint64_t mean_gradient(rule *r) {
    collective_do(r, SUM, ADD_UP, 0);
    return sums_committed(r->collective[SUM]);
}

/* ---- Adasum of the gradients, every step ---- */

/* From `view` into `other`. */
static void copy_other(rule *r, const weft_tensor *view) {
    for (size_t i = 0; i < r->params.count; i++)
        memcpy(r->other.tensor[i], view[i].data, view[i].count * sizeof(float));
}

/* Everybody tells everybody the whole gradient, and all do the same sums. That is simple, and takes N - 1 times the
 * gradient's bytes a worker where halving it level by level takes 2 (N - 1) / N times. */
static uint64_t adasum_gradient(rule *r) {
    size_t workers = 0;
    for (uint32_t i = 0; i < r->net.size; i++) {
        double *row = r->row[workers];
        if (i == r->rank) copy_other(r, r->grad);
        if (!collective_do(r, SUM, BROADCAST, i)) continue; /* it is dead */
        for (size_t t = 0; t < r->grads.count; t++)
            for (size_t j = 0; j < r->grad[t].count; j++) *row++ = (double)r->other.tensor[t][j];
        workers++;
    }
    for (size_t t = 0, at = 0; t < r->grads.count; at += r->grad[t++].count) { /* layer by layer, as in Horovod */
        double *layer[MAX_WORKERS];
        for (size_t i = 0; i < workers; i++) layer[i] = r->row[i] + at;
        adasum(workers, layer, r->grad[t].count);
        for (size_t j = 0; j < r->grad[t].count; j++) ((float *)r->grad[t].data)[j] = (float)layer[0][j];
    }
    return ++r->steps;
}

/* ---- EASGD and LSGD ---- */

static bool round_is_due(rule *r) {
    return ++r->steps % rule_period(r->algorithm, r->o) == 0;
}

static uint64_t easgd_after_step(rule *r) {
    const float beta = 0.9f; /* as published */
    if (!round_is_due(r)) return 0;
    copy_other(r, r->param);
    collective_do(r, SUM, ADD_UP, 0);
    const float alpha = beta / (float)r->members;
    for (size_t i = 0; i < r->params.count; i++)
        easgd_move(r->param[i].count, r->param[i].data, r->center.tensor[i], r->other.tensor[i], alpha, beta);
    return sums_committed(r->collective[SUM]);
}

/* Everybody tells its loss since the last round; all pull towards the model of the worker with the lowest. */
static uint64_t lsgd_after_step(rule *r, double loss) {
    const float pull = 0.1f; /* as published */
    uint32_t voter[MAX_WORKERS] = {0};
    size_t voters = 0;
    r->loss_sum += loss;
    r->loss_count++;
    if (!round_is_due(r)) return 0;
    double mine = r->loss_sum / (double)r->loss_count;
    r->loss_sum = 0.0;
    r->loss_count = 0;
    for (size_t i = 0; i < r->net.size; i++) r->loss[i] = 0.0f;    /* the sum of one entry each: everybody's loss */
    r->loss[r->rank] = mine < 1e30 ? (float)mine + 1e-30f : 1e30f; /* NaN leads nobody */
    collective_do(r, VOTE, ADD_UP, 0);
    for (uint32_t i = 0; i < r->net.size; i++)
        if (r->loss[i] > 0.0f) voter[voters++] = i; /* the others are dead */

    copy_other(r, r->param);
    if (!collective_do(r, SUM, BROADCAST, lsgd_leader(r->loss, voter, voters)))
        return sums_committed(r->collective[VOTE]);
    for (size_t i = 0; i < r->params.count; i++)
        lsgd_pull(r->param[i].count, r->param[i].data, r->other.tensor[i], pull);
    return sums_committed(r->collective[VOTE]);
}

/* ---- The rule, as the trainer sees it ---- */

/* A link is gone, or there again. */
static void link_changed(void *ctx, uint32_t rank, bool up) {
    rule *r = ctx;
    if (r->grawa) (void)(up ? grawa_peer_up : grawa_peer_lost)(r->grawa, rank);
    if (r->subspace) (void)(up ? subspace_peer_up : subspace_peer_lost)(r->subspace, rank);
    if (r->hpsgd) (void)(up ? hpsgd_peer_up : hpsgd_peer_lost)(r->hpsgd, rank);
    if (r->aau) (void)(up ? dsgd_aau_peer_up : dsgd_aau_peer_lost)(r->aau, rank);
    if (r->saddles) saddles_link(r->saddles, rank, up);
    for (int i = 0; i < COLLECTIVES; i++)
        if (r->collective[i]) (void)sums_link(r->collective[i], rank, up);
}

static void saddles_look(void *ctx) {
    (void)look_around(ctx);
}

void rule_listen(rule *r, crew *c) {
    crew_listen(c, link_changed, r);
}

void rule_serve_with(rule *r, rule_serve serve, void *ctx) {
    r->serve = serve;
    r->serve_ctx = ctx;
}

void rule_attend(rule *r) {
    if (!team_looks(r->team)) return;
    const bool changed = team_look(r->team, r->view_epoch);
    if (r->serve) r->serve(r->serve_ctx);
    if (!changed) return;
    if (rule_has_views(r->algorithm)) {
        if (r->grawa || r->subspace || r->hpsgd)
            finish(r, WEFT_ERR_PEER_LOST);
        else
            regroup(r);
    } else {
        uint32_t member[MAX_WORKERS];
        r->view_epoch = team_view(r->team, member).epoch;
    }
}

/* What the recorder has, as a file for trace2json. */
static void write_trace(const rule *r) {
    char name[4096];
    const int n =
        snprintf(name, sizeof name, "%s/%s-worker-%zu.trace", r->o->trace, ALGORITHM_NAME[r->algorithm], r->rank);
    if (n < 0 || (size_t)n >= sizeof name) bad_input("--trace: the name is too long");
    FILE *out = fopen(name, "w");
    const bool written = out && weft_recorder_write(&r->box, out);
    if (!out || fclose(out) != 0 || !written) bad_input("%s: %s", name, strerror(errno));
}

rule *rule_new(team *t, algorithm a, size_t rank, const options *o, device *on, tensor_list *params, tensor_list *grads,
               rule_entry entry, const void *saved, size_t saved_bytes) {
    rule *r = new_array(1, sizeof *r);
    const model *m = on->model;
    uint32_t members[MAX_WORKERS];
    weft_view all = team_view(t, members);
    r->team = t;
    r->algorithm = a;
    r->rank = rank;
    r->o = o;
    r->model = m;
    r->device = on;
    r->params = view_of(m, params, r->param);
    r->grads = view_of(m, grads, r->grad);
    team_transport(t, rank, &r->net);
    go_to_gpu(r);
    weft_recorder_init(&r->box, r->ring, RECORDS, &r->net);
    count_members(r, &all);
    r->entry = entry;
    if (is_grawa(a)) grawa_new(r);
    if (a == ALGORITHM_SUBSPACE) subspace_new(r);
    if (a == ALGORITHM_HPSGD) hpsgd_new(r);
    if (a == ALGORITHM_DSGD_AAU) aau_new(r, saved, saved_bytes);
    if (is_saddle(a)) {
        weft_status s;
        weft_detail why;
        r->saddles = saddles_new(a, o, o->device == DEVICE_CUDA ? on : NULL, r->params, &r->net, team_graph(t),
                                 entry != RULE_FOUNDS, &r->box, PATIENCE_NS, &s, &why);
        if (!r->saddles) give_up(r, s, &why);
        if (saved_bytes && (s = saddles_load(r->saddles, saved, saved_bytes)) != WEFT_OK)
            give_up(r, s, saddles_detail(r->saddles));
        if (team_looks(t)) saddles_look_with(r->saddles, saddles_look, r);
    }
    if (a == ALGORITHM_MEAN) collective_new(r, SUM, r->grads);
    if (a == ALGORITHM_EASGD || a == ALGORITHM_LSGD || a == ALGORITHM_ADASUM) {
        r->other = tensors_new(m);
        collective_new(r, SUM, view_of(m, &r->other, r->other_view));
    }
    for (size_t i = 0; a == ALGORITHM_ADASUM && i < team_size(t); i++)
        r->row[i] = new_array(m->parameters, sizeof(double));
    if (a == ALGORITHM_EASGD) {
        r->center = tensors_new(m);
        tensors_copy(m, &r->center, params);
    }
    if (a == ALGORITHM_LSGD) {
        r->loss_view = (weft_tensor){r->loss, team_size(t), WEFT_F32};
        collective_new(r, VOTE, (weft_tensors){&r->loss_view, 1});
    }
    if (entry != RULE_FOUNDS && r->collective[SUM]) regroup(r);
    return r;
}

static void saddles_see(const rule *r, weft_status s) {
    if (s < 0) give_up(r, s, saddles_detail(r->saddles));
}

uint64_t rule_gradient(rule *r) {
    if (r->subspace) return subspace_gradient(r);
    if (r->algorithm == ALGORITHM_ADASUM) return adasum_gradient(r);
    return r->algorithm == ALGORITHM_MEAN ? mean_gradient(r) : 0;
}

uint64_t rule_step(rule *r, double loss) {
    if (r->grawa) return grawa_after_step(r);
    if (r->hpsgd) return hpsgd_after_step(r);
    if (r->aau) return aau_after_step(r);
    if (r->algorithm == ALGORITHM_EASGD) return easgd_after_step(r);
    if (r->algorithm == ALGORITHM_LSGD) return lsgd_after_step(r, loss);
    return 0;
}

uint64_t rule_learn(rule *r, double rate, rule_differentiate differentiate, void *ctx) {
    saddles_see(r, saddles_step(r->saddles, rate, differentiate, ctx));
    return ++r->steps;
}

void *rule_save(rule *r, size_t *bytes) {
    void *out = NULL;
    *bytes = 0;
    if (r->saddles) return saddles_save(r->saddles, bytes);
    if (!r->aau || dsgd_aau_save(r->aau, NULL, 0, bytes) != WEFT_OK) return NULL;
    out = new_array(*bytes, 1);
    const weft_status s = dsgd_aau_save(r->aau, out, *bytes, bytes);
    if (s != WEFT_OK) give_up(r, s, dsgd_aau_detail(r->aau));
    return out;
}

void rule_model(rule *r, tensor_list *into) {
    const device_verbs *can = r->device->can;
    weft_tensor view[MAX_TENSORS];
    tensor_list now = {{NULL}};
    if (r->hpsgd) {
        now = can->tensors_new(r->device);
        const weft_tensors all = view_of(r->model, &now, view);
        if (hpsgd_model(r->hpsgd, &all) != WEFT_OK) give_up(r, WEFT_ERR_ORDER, hpsgd_detail(r->hpsgd));
        can->get(r->device, into, &now);
        can->tensors_free(r->device, &now);
        return;
    }
    for (size_t i = 0; i < r->params.count; i++) now.tensor[i] = r->param[i].data;
    can->get(r->device, into, &now);
}

void rule_idle(rule *r, uint64_t ns) {
    if (r->aau)
        aau_idle(r, ns);
    else if (r->saddles)
        saddles_see(r, saddles_idle(r->saddles, ns));
    else
        sleep_ns(ns);
}

void rule_leave(rule *r) {
    if (r->aau) {
        aau_finish(r, dsgd_aau_leave(r->aau));
        return;
    }
    if (r->saddles) {
        saddles_see(r, saddles_leave(r->saddles));
        return;
    }
    if (r->hpsgd) finish(r, hpsgd_drain(r->hpsgd));
    if (r->grawa || r->subspace || r->hpsgd) {
        go(r);
        return;
    }
    /* Not before everybody is done: what this worker has sent last is still being fetched. */
    r->leaving = true;
    while (!team_is_done(r->team, r->rank)) {
        if (!team_is_settled(r->team, r->rank))
            regroup(r);
        else if (team_looks(r->team))
            (void)look_around(r);
        else
            sleep_ns(MOMENT_NS / 10);
    }
}

void rule_read_stats(const rule *r, rule_stats *out) {
    *out = (rule_stats){0, 0};
    if (r->grawa) {
        grawa_stats_t s;
        grawa_stats(r->grawa, &s);
        *out = (rule_stats){s.rounds, s.traffic.payload_sent};
    }
    if (r->subspace) {
        subspace_stats_t s;
        subspace_stats(r->subspace, &s);
        *out = (rule_stats){s.rounds, s.traffic.payload_sent};
    }
    if (r->hpsgd) {
        hpsgd_stats_t s;
        hpsgd_stats(r->hpsgd, &s);
        *out = (rule_stats){s.rounds, s.traffic.payload_sent};
    }
    if (r->aau) {
        dsgd_aau_stats_t s;
        dsgd_aau_stats(r->aau, &s);
        *out = (rule_stats){s.epochs, s.traffic.payload_sent};
    }
    if (r->saddles) saddles_read(r->saddles, out);
    for (int i = 0; i < COLLECTIVES; i++)
        if (r->collective[i]) out->payload += sums_traffic(r->collective[i])->payload_sent;
    if (r->collective[SUM])
        out->rounds = r->algorithm == ALGORITHM_ADASUM ? r->steps : sums_committed(r->collective[SUM]);
}

void rule_free(rule *r) {
    if (r->o->trace) write_trace(r);
    if (r->grawa) grawa_close(r->grawa);
    if (r->subspace) subspace_close(r->subspace);
    if (r->hpsgd) {
        hpsgd_close(r->hpsgd);
        if (!team_looks(r->team)) weft_pthread_pool_destroy(&r->beside);
    }
    if (r->aau) dsgd_aau_close(r->aau);
    if (r->saddles) saddles_free(r->saddles);
    free(r->memory);
    for (int i = 0; i < COLLECTIVES; i++) {
        if (r->collective[i]) sums_close(r->collective[i]);
        free(r->collective_memory[i]);
    }
    leave_gpu(r);
    tensors_free(r->model, &r->other);
    tensors_free(r->model, &r->center);
    for (size_t i = 0; i < MAX_WORKERS; i++) free(r->row[i]);
    free(r);
}
