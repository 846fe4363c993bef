/* SPDX-License-Identifier: MIT
 * rules.c: this file is the one that implements grawa.h, subspace.h, hpsgd.h and dsgd_aau.h (saddles.c: saddle.h), and
 * it shows both ways of using them: the algorithms themselves, and the collectives underneath (weft_collective), of
 * which rules for comparison are made. */
#define _POSIX_C_SOURCE 200809L
#define GRAWA_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"
#include "pool/weft_pthread_pool.h"
#include "weft_threads.h"
#include "weft_topology.h"

#include "adasum.h"
#include "elastic.h"
#include "rules.h"
#include "saddles.h"
#include "util.h"

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

bool rule_is_optimiser(algorithm a) {
    return is_saddle(a);
}

bool rule_is_free(algorithm a, const options *o) {
    if (a == ALGORITHM_DSGD_AAU || a == ALGORITHM_HPSGD) return true;
    return o->trigger == TRIGGER_TOTAL && is_grawa(a);
}

/* ---- The network, and who is in it ---- */

/* Over a real network somebody has to decide who is left (the launcher of the job, a coordinator), and to tell all
 * survivors the same. Between threads a lock does: every death makes a new view, of those who neither died nor left
 * before. */
struct team {
    weft_threads_team threads;
    pthread_mutex_t lock;
    size_t workers;
    bool dead[MAX_WORKERS];
    bool left[MAX_WORKERS];        /* needs nobody any more, and nobody needs it */
    bool done[MAX_WORKERS];        /* has taken its last step */
    uint32_t settled[MAX_WORKERS]; /* the last view that this worker has gone through with */
    uint32_t epoch;                /* of the last view: as many as died */
    uint32_t member[MAX_WORKERS];
    uint32_t members;
    weft_graph graph;
    void *graph_memory;
    const weft_transport *net; /* between processes: then nobody dies, and each has a team of its own */
};

/* With the lock held. */
static void team_new_view(team *t) {
    t->members = 0;
    for (uint32_t i = 0; i < t->workers; i++)
        if (!t->dead[i] && !t->left[i]) t->member[t->members++] = i;
}

team *team_new(size_t workers, const options *o, const weft_transport *net) {
    team *t = new_array(1, sizeof *t);
    char why[240];
    t->workers = workers;
    t->net = net;
    t->graph_memory =
        weft_topology_make(workers > 1 ? o->topology : "ring", (uint32_t)workers, o->seed, &t->graph, why, sizeof why);
    if (!t->graph_memory) broken("--topology: %s", why);
    team_new_view(t);
    if (weft_threads_init(&t->threads, (uint32_t)workers) != WEFT_OK || pthread_mutex_init(&t->lock, NULL))
        broken("cannot set up %zu workers", workers);
    return t;
}

void team_free(team *t) {
    weft_threads_free(&t->threads);
    pthread_mutex_destroy(&t->lock);
    free(t->graph_memory);
    free(t);
}

void team_die(team *t, size_t rank) {
    pthread_mutex_lock(&t->lock);
    t->dead[rank] = true;
    t->epoch++;
    team_new_view(t);
    pthread_mutex_unlock(&t->lock);
    weft_threads_lose(&t->threads, (uint32_t)rank);
}

static weft_view team_view(team *t, uint32_t member[MAX_WORKERS]) {
    weft_view v = {sizeof v, 0, 0, member};
    pthread_mutex_lock(&t->lock);
    memcpy(member, t->member, sizeof t->member);
    v.count = t->members;
    v.epoch = t->epoch;
    pthread_mutex_unlock(&t->lock);
    return v;
}

static void team_settle(team *t, size_t rank, uint32_t epoch) {
    pthread_mutex_lock(&t->lock);
    t->settled[rank] = epoch;
    pthread_mutex_unlock(&t->lock);
}

static bool team_is_settled(team *t, size_t rank) {
    pthread_mutex_lock(&t->lock);
    bool yes = t->settled[rank] == t->epoch;
    pthread_mutex_unlock(&t->lock);
    return yes;
}

/* A worker may go if it has been through every view that counts on it; later ones will not. */
static bool team_may_leave(team *t, size_t rank) {
    pthread_mutex_lock(&t->lock);
    if (t->settled[rank] == t->epoch) t->left[rank] = true;
    bool yes = t->left[rank];
    pthread_mutex_unlock(&t->lock);
    return yes;
}

/* Has everybody alive taken the last step, and been through the last view? */
static bool team_is_done(team *t, size_t rank) {
    bool all = true;
    if (t->net) return true; /* processes meet before they hang up */
    pthread_mutex_lock(&t->lock);
    t->done[rank] = true;
    for (size_t i = 0; i < t->workers; i++)
        if (!t->dead[i] && (!t->done[i] || t->settled[i] != t->epoch)) all = false;
    pthread_mutex_unlock(&t->lock);
    return all;
}

/* ---- What a worker's rule is made of ---- */

enum { SUM, VOTE, COLLECTIVES };

struct rule {
    team *team;
    algorithm algorithm;
    size_t rank;
    const options *o;
    const model *model;
    weft_transport net;
    weft_tensor param[MAX_TENSORS], grad[MAX_TENSORS];
    weft_tensors params, grads; /* views of the trainer's own memory */
    uint64_t steps;

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
    if (s == WEFT_ERR_NONFINITE)
        broken("%s: the training has diverged (worker %zu); try a smaller --lr", ALGORITHM_NAME[r->algorithm], r->rank);
    broken("%s, worker %zu: %s (%s; %s: expected %llu, got %llu)", ALGORITHM_NAME[r->algorithm], r->rank,
           weft_strerror(s), d->phase ? d->phase : "", d->field ? d->field : "value", (unsigned long long)d->expected,
           (unsigned long long)d->got);
}

/* ---- The verbs that the headers with rounds have ---- */

static weft_status rule_wait(rule *r) {
    if (r->hpsgd) return hpsgd_wait(r->hpsgd);
    return r->grawa ? grawa_wait(r->grawa) : subspace_wait(r->subspace);
}

static weft_status rule_poll(rule *r) {
    if (r->hpsgd) return hpsgd_poll(r->hpsgd);
    return r->grawa ? grawa_poll(r->grawa) : subspace_poll(r->subspace);
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

/* Sees a verb through: waits while it is in progress, and goes on with the survivors when somebody has died. */
static weft_status finish(rule *r, weft_status s) {
    uint32_t epoch = 0;
    for (;;) {
        uint32_t member[MAX_WORKERS];
        if (s == WEFT_AGAIN || s == WEFT_STALL) {
            s = rule_wait(r);
        } else if (s == WEFT_ERR_PEER_LOST) {
            weft_view v = team_view(r->team, member);
            epoch = v.epoch;
            s = rule_regroup(r, &v);
        } else {
            break;
        }
    }
    if (s < 0) give_up(r, s, rule_detail(r));
    if (epoch > 0) team_settle(r->team, r->rank, epoch);
    return s;
}

/* Says good-bye. If somebody dies meanwhile, those who are left form a view without this worker, and good-bye is
 * said. */
static void go(rule *r) {
    while (!team_may_leave(r->team, r->rank)) finish(r, WEFT_ERR_PEER_LOST);
    weft_status s = rule_say_goodbye(r);
    while (s == WEFT_AGAIN && team_is_settled(r->team, r->rank)) {
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
    size_t bytes = grawa_memory(&d, NULL);
    r->memory = new_array(bytes, 1);
    weft_status s = grawa_init_detail(&r->grawa, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    finish(r, grawa_start(r->grawa)); /* here, so that first contact costs no training time */
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
    size_t bytes = subspace_memory(&d, NULL);
    r->memory = new_array(bytes, 1);
    weft_status s = subspace_init_detail(&r->subspace, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
}

/* If somebody dies meanwhile, the survivors either find it done or are asked for their gradients again: until it is
 * done these are as they were. */
static uint64_t subspace_gradient(rule *r) {
    subspace_stats_t stats = {0};
    while (finish(r, subspace_aggregate(r->subspace)) == WEFT_WANT_GRADIENT) continue;
    subspace_stats(r->subspace, &stats);
    return stats.rounds;
}

/* ---- HPSGD: rounds run on a thread of their own, beside training ---- */

static void hpsgd_new(rule *r) {
    hpsgd_desc d = {.struct_size = sizeof d};
    weft_detail why;
    if (weft_pthread_pool_create(&r->beside, 2) != WEFT_OK) broken("cannot start a thread");
    d.params = r->params;
    d.transport = &r->net;
    d.pool = &r->beside.pool;
    d.carry = r->o->beta;
    d.max_steps = (uint32_t)r->o->most_steps;
    d.timeout_ns = PATIENCE_NS;
    size_t bytes = hpsgd_memory(&d, NULL);
    r->memory = new_array(bytes, 1);
    weft_status s = hpsgd_init_detail(&r->hpsgd, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
    finish(r, hpsgd_start(r->hpsgd));
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
    if (s == WEFT_AGAIN) s = dsgd_aau_wait(r->aau);
    if (s < 0) give_up(r, s, dsgd_aau_detail(r->aau));
}

static void aau_new(rule *r) {
    dsgd_aau_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = r->params;
    d.transport = &r->net;
    d.graph = &r->team->graph;
    d.patience_ns = (uint64_t)(r->o->patience * 1e9);
    d.timeout_ns = PATIENCE_NS;
    size_t bytes = dsgd_aau_memory(&d, NULL);
    r->memory = new_array(bytes, 1);
    weft_status s = dsgd_aau_init_detail(&r->aau, &d, r->memory, bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
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
    size_t bytes = weft_collective_memory(&d, NULL);
    r->collective_memory[which] = new_array(bytes, 1);
    weft_status s = weft_collective_init(&r->collective[which], &d, r->collective_memory[which], bytes, &why);
    if (s != WEFT_OK) give_up(r, s, &why);
}

static void count_members(rule *r, const weft_view *v) {
    r->members = v->count;
    for (size_t i = 0; i < r->team->workers; i++) r->weight[i] = 1.0 / (double)v->count;
}

static weft_status collective_wait(rule *r, weft_collective *c, weft_status s) {
    while (s == WEFT_AGAIN) {
        r->net.wait(r->net.ctx, r->net.now(r->net.ctx) + PATIENCE_NS / 8);
        s = weft_collective_poll(c);
    }
    return s;
}

/* Somebody has died: all survivors bring all their collectives to the new view, in the same order, whichever of them
 * noticed. */
static void regroup(rule *r) {
    uint32_t member[MAX_WORKERS];
    weft_view v = team_view(r->team, member);
    for (int i = 0; i < COLLECTIVES; i++) {
        weft_collective *c = r->collective[i];
        if (!c || r->epoch[i] >= v.epoch) continue;
        weft_status s = collective_wait(r, c, weft_collective_regroup(c, &v));
        r->epoch[i] = v.epoch;
        if (s == WEFT_ERR_PEER_LOST) { /* another one, meanwhile: over again, from the first */
            v = team_view(r->team, member);
            i = -1;
        } else if (s != WEFT_OK) {
            give_up(r, s, weft_collective_detail(c));
        }
    }
    count_members(r, &v);
    team_settle(r->team, r->rank, v.epoch);
}

/* Does an operation to its end. If somebody dies in it, the survivors either find it done or begin it again without
 * them. Only a broadcast cannot be done without its root: false then, on all survivors alike. */
static bool collective_do(rule *r, int which, weft_operation op, uint32_t root) {
    weft_collective *c = r->collective[which];
    uint64_t before = c->committed;
    while (c->committed == before) {
        const double *weight = which == SUM && op == WEFT_OP_ALL_REDUCE ? r->weight : NULL; /* NULL: 1 */
        weft_status s = collective_wait(r, c, weft_collective_begin(c, op, weight, root));
        if (s == WEFT_ERR_PEER_LOST)
            regroup(r);
        else if (s == WEFT_ERR_ARGUMENT && op == WEFT_OP_BROADCAST)
            return false;
        else if (s != WEFT_OK)
            give_up(r, s, weft_collective_detail(c));
    }
    return true;
}

/* ---- The mean of the gradients, every step ---- */

static uint64_t mean_gradient(rule *r) {
    collective_do(r, SUM, WEFT_OP_ALL_REDUCE, 0);
    return r->collective[SUM]->committed;
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
    for (uint32_t i = 0; i < r->team->workers; i++) {
        double *row = r->row[workers];
        if (i == r->rank) copy_other(r, r->grad);
        if (!collective_do(r, SUM, WEFT_OP_BROADCAST, i)) continue; /* it is dead */
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
    collective_do(r, SUM, WEFT_OP_ALL_REDUCE, 0);
    const float alpha = beta / (float)r->members;
    for (size_t i = 0; i < r->params.count; i++)
        easgd_move(r->param[i].count, r->param[i].data, r->center.tensor[i], r->other.tensor[i], alpha, beta);
    return r->collective[SUM]->committed;
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
    for (size_t i = 0; i < r->team->workers; i++) r->loss[i] = 0.0f; /* the sum of one entry each: everybody's loss */
    r->loss[r->rank] = mine < 1e30 ? (float)mine + 1e-30f : 1e30f;   /* NaN leads nobody */
    collective_do(r, VOTE, WEFT_OP_ALL_REDUCE, 0);
    for (uint32_t i = 0; i < r->team->workers; i++)
        if (r->loss[i] > 0.0f) voter[voters++] = i; /* the others are dead */

    copy_other(r, r->param);
    if (!collective_do(r, SUM, WEFT_OP_BROADCAST, lsgd_leader(r->loss, voter, voters)))
        return r->collective[VOTE]->committed;
    for (size_t i = 0; i < r->params.count; i++)
        lsgd_pull(r->param[i].count, r->param[i].data, r->other.tensor[i], pull);
    return r->collective[VOTE]->committed;
}

/* ---- The rule, as the trainer sees it ---- */

rule *rule_new(team *t, algorithm a, size_t rank, const options *o, const model *m, tensor_list *params,
               tensor_list *grads) {
    rule *r = new_array(1, sizeof *r);
    uint32_t members[MAX_WORKERS];
    weft_view all = team_view(t, members);
    r->team = t;
    r->algorithm = a;
    r->rank = rank;
    r->o = o;
    r->model = m;
    r->params = view_of(m, params, r->param);
    r->grads = view_of(m, grads, r->grad);
    count_members(r, &all);
    if (t->net)
        r->net = *t->net;
    else
        weft_threads_transport(&t->threads, (uint32_t)rank, &r->net);
    if (is_grawa(a)) grawa_new(r);
    if (a == ALGORITHM_SUBSPACE) subspace_new(r);
    if (a == ALGORITHM_HPSGD) hpsgd_new(r);
    if (a == ALGORITHM_DSGD_AAU) aau_new(r);
    if (is_saddle(a)) {
        weft_status s;
        weft_detail why;
        r->saddles = saddles_new(a, o, r->params, &r->net, &t->graph, PATIENCE_NS, &s, &why);
        if (!r->saddles) give_up(r, s, &why);
    }
    if (a == ALGORITHM_MEAN) collective_new(r, SUM, r->grads);
    if (a == ALGORITHM_EASGD || a == ALGORITHM_LSGD || a == ALGORITHM_ADASUM) {
        r->other = tensors_new(m);
        collective_new(r, SUM, view_of(m, &r->other, r->other_view));
    }
    for (size_t i = 0; a == ALGORITHM_ADASUM && i < t->workers; i++)
        r->row[i] = new_array(m->parameters, sizeof(double));
    if (a == ALGORITHM_EASGD) {
        r->center = tensors_new(m);
        tensors_copy(m, &r->center, params);
    }
    if (a == ALGORITHM_LSGD) {
        r->loss_view = (weft_tensor){r->loss, t->workers, WEFT_F32};
        collective_new(r, VOTE, (weft_tensors){&r->loss_view, 1});
    }
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

void rule_model(rule *r, tensor_list *into) {
    weft_tensor view[MAX_TENSORS];
    const weft_tensors all = view_of(r->model, into, view);
    if (!r->hpsgd)
        for (size_t i = 0; i < r->params.count; i++)
            memcpy(into->tensor[i], r->param[i].data, r->param[i].count * sizeof(float));
    else if (hpsgd_model(r->hpsgd, &all) != WEFT_OK)
        give_up(r, WEFT_ERR_ORDER, hpsgd_detail(r->hpsgd));
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
    while (!team_is_done(r->team, r->rank)) {
        if (!team_is_settled(r->team, r->rank)) regroup(r);
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
        if (r->collective[i]) out->payload += weft_collective_traffic(r->collective[i])->payload_sent;
    if (r->collective[SUM]) out->rounds = r->algorithm == ALGORITHM_ADASUM ? r->steps : r->collective[SUM]->committed;
}

void rule_free(rule *r) {
    if (r->grawa) grawa_close(r->grawa);
    if (r->subspace) subspace_close(r->subspace);
    if (r->hpsgd) {
        hpsgd_close(r->hpsgd);
        weft_pthread_pool_destroy(&r->beside);
    }
    if (r->aau) dsgd_aau_close(r->aau);
    if (r->saddles) saddles_free(r->saddles);
    free(r->memory);
    for (int i = 0; i < COLLECTIVES; i++) {
        if (r->collective[i]) weft_collective_close(r->collective[i]);
        free(r->collective_memory[i]);
    }
    tensors_free(r->model, &r->other);
    tensors_free(r->model, &r->center);
    for (size_t i = 0; i < MAX_WORKERS; i++) free(r->row[i]);
    free(r);
}
