/* SPDX-License-Identifier: MIT
 * weft_sim_check.h: what must hold in a run, found out beside the system: from the messages and parameters that are
 * there, not from what the library says of itself. For tests and for programs that simulate; include it after
 * weft_sim.h.
 *
 * Every check returns 1 if what it looks at is in order. The first that is not leaves a sentence:
 *
 *     weft_check c;
 *     weft_check_begin(&c, &sim);                    // or NULL: without a simulator
 *     weft_check_mixing(&c, n, weights, 1e-12);
 *     if (c.why[0]) puts(c.why);                     // names the seed, and the command that replays the run
 *
 * Those that watch a run have an object of their own: weft_mail (message accounting), weft_live (progress), weft_union
 * (the edges of an epoch). */
#ifndef WEFT_SIM_CHECK_H
#define WEFT_SIM_CHECK_H

#ifndef WEFT_SIM_H
#error "include weft_sim.h before weft_sim_check.h"
#endif

#include <stdarg.h>

typedef struct weft_check {
    const weft_sim *sim;
    uint64_t checks, failures;
    char why[600]; /* the first failure */
} weft_check;

WEFT_FN void weft_check_begin(weft_check *c, const weft_sim *sim) {
    memset(c, 0, sizeof *c);
    c->sim = sim;
}

/* Remembers the first failure; always 0. */
WEFT_FN int weft_check_fail(weft_check *c, const char *format, ...) {
    va_list ap;
    size_t n = 0;
    char again[300];
    if (c->failures++) return 0;
    if (c->sim) {
        snprintf(c->why, sizeof c->why, "seed %llu at %llu ns: ", (unsigned long long)c->sim->desc.seed,
                 (unsigned long long)c->sim->now);
        n = strlen(c->why);
    }
    va_start(ap, format);
    vsnprintf(c->why + n, sizeof c->why - n, format, ap);
    va_end(ap);
    n = strlen(c->why);
    if (c->sim && weft_sim_replay(c->sim, again, sizeof again))
        snprintf(c->why + n, sizeof c->why - n, "; replay: %s", again);
    return 0;
}

/* Written so that a NaN is no difference that passes. */
WEFT_FN int weft_check_near(double a, double b, double tolerance) {
    return a - b <= tolerance && b - a <= tolerance;
}

/* ---- averagings ---- */

/* w[i * n + j]: the weight of worker j in what i has after the mixing. Rows and columns sum to 1, nothing is negative,
 * everybody keeps something of its own. The same for what many averagings have come to: start worker i from the i-th
 * unit vector and take no gradient steps, then its parameters are the row (but need not keep anything: own 0). */
WEFT_FN int weft_check_mixing_own(weft_check *c, uint32_t n, const double *w, double tolerance, int own) {
    uint32_t i, k;
    c->checks++;
    for (i = 0; i < n; i++) {
        double row = 0.0, column = 0.0;
        for (k = 0; k < n; k++) {
            row += w[(size_t)i * n + k];
            column += w[(size_t)k * n + i];
            if (!(w[(size_t)i * n + k] >= -tolerance))
                return weft_check_fail(c, "mixing: the weight of worker %lu for worker %lu is %g", (unsigned long)k,
                                       (unsigned long)i, w[(size_t)i * n + k]);
        }
        if (!weft_check_near(row, 1.0, tolerance))
            return weft_check_fail(c, "mixing: the weights of worker %lu sum to %.17g", (unsigned long)i, row);
        if (!weft_check_near(column, 1.0, tolerance))
            return weft_check_fail(c, "mixing: what is given of worker %lu sums to %.17g", (unsigned long)i, column);
        if (own && !(w[(size_t)i * n + i] > 0.0))
            return weft_check_fail(c, "mixing: worker %lu keeps nothing of its own", (unsigned long)i);
    }
    return 1;
}

WEFT_FN int weft_check_mixing(weft_check *c, uint32_t n, const double *w, double tolerance) {
    return weft_check_mixing_own(c, n, w, tolerance, 1);
}

/* What `count` workers (rows) have before and after an averaging, `width` elements each: every element's sum over the
 * workers is the same. The tolerance is per worker, relative to the largest magnitude in the column (or to 1). */
WEFT_FN int weft_check_conserved(weft_check *c, size_t count, size_t width, const double *before, const double *after,
                                 double tolerance) {
    size_t i, k;
    c->checks++;
    for (k = 0; k < width; k++) {
        double sum = 0.0, most = 1.0;
        for (i = 0; i < count; i++) {
            double a = before[i * width + k], b = after[i * width + k];
            sum += b - a;
            if (a > most) most = a;
            if (-a > most) most = -a;
        }
        if (!weft_check_near(sum, 0.0, tolerance * most * (double)count))
            return weft_check_fail(c, "element %lu: the sum over the workers has moved by %g", (unsigned long)k, sum);
    }
    return 1;
}

/* The copies that two workers hold agree in every bit. */
WEFT_FN int weft_check_replicas(weft_check *c, uint32_t a, uint32_t b, const void *of_a, const void *of_b,
                                size_t bytes) {
    const unsigned char *p = (const unsigned char *)of_a, *q = (const unsigned char *)of_b;
    size_t k;
    c->checks++;
    for (k = 0; k < bytes; k++)
        if (p[k] != q[k])
            return weft_check_fail(c, "workers %lu and %lu differ in byte %lu of %lu: %02x, %02x", (unsigned long)a,
                                   (unsigned long)b, (unsigned long)k, (unsigned long)bytes, p[k], q[k]);
    return 1;
}

/* ---- the union of an epoch's edges ---- */

typedef struct weft_union {
    uint32_t *parent, workers, parts;
} weft_union;

/* 0 without memory. Begins an epoch; again for the next one. */
WEFT_FN int weft_union_begin(weft_union *u, uint32_t workers) {
    uint32_t i;
    uint32_t *p = (uint32_t *)realloc(u->parent, (workers ? workers : 1) * sizeof *p);
    if (!p) return 0;
    u->parent = p;
    u->workers = u->parts = workers;
    for (i = 0; i < workers; i++) p[i] = i;
    return 1;
}

WEFT_FN void weft_union_free(weft_union *u) {
    free(u->parent);
    memset(u, 0, sizeof *u);
}

WEFT_FN uint32_t weft_union_root(weft_union *u, uint32_t i) {
    while (u->parent[i] != i) i = u->parent[i] = u->parent[u->parent[i]];
    return i;
}

/* Two workers have averaged. */
WEFT_FN void weft_union_edge(weft_union *u, uint32_t a, uint32_t b) {
    a = weft_union_root(u, a);
    b = weft_union_root(u, b);
    if (a == b) return;
    u->parent[a < b ? b : a] = a < b ? a : b;
    u->parts--;
}

/* The epoch is said to be over: its edges join all workers. */
WEFT_FN int weft_check_union(weft_check *c, weft_union *u) {
    uint32_t i;
    c->checks++;
    for (i = 1; u->parts > 1 && i < u->workers; i++)
        if (weft_union_root(u, i) != weft_union_root(u, 0))
            return weft_check_fail(c, "an epoch has left %lu parts: nothing joins workers 0 and %lu",
                                   (unsigned long)u->parts, (unsigned long)i);
    return 1;
}

/* ---- progress ---- */

/* When each worker last got on. */
typedef struct weft_live {
    uint64_t *at, longest_ns;
    uint32_t workers;
} weft_live;

/* 0 without memory. */
WEFT_FN int weft_live_begin(weft_live *l, uint32_t workers) {
    memset(l, 0, sizeof *l);
    l->at = (uint64_t *)calloc(workers ? workers : 1, sizeof *l->at);
    l->workers = l->at ? workers : 0;
    return l->at != NULL;
}

WEFT_FN void weft_live_free(weft_live *l) {
    free(l->at);
    memset(l, 0, sizeof *l);
}

/* From the worker's step: it has got on (a step is through, a round committed). Looks at how long that took: since it
 * got on before, or since the last trouble was over. */
WEFT_FN int weft_live_progress(weft_live *l, weft_check *c, uint32_t rank, uint64_t bound_ns) {
    uint64_t now = weft_sim_now(c->sim), from = l->at[rank], trouble = weft_sim_trouble_until(c->sim);
    if (trouble > from) from = trouble;
    l->at[rank] = now;
    c->checks++;
    if (now <= from) return 1;
    if (now - from > l->longest_ns) l->longest_ns = now - from;
    return now - from <= bound_ns ? 1
                                  : weft_check_fail(c, "worker %lu got on only after %llu ns", (unsigned long)rank,
                                                    (unsigned long long)(now - from));
}

/* At any time: nobody that lives and is not done has stood still for longer than the bound since the last trouble. */
WEFT_FN int weft_check_live(weft_check *c, weft_live *l, uint64_t bound_ns) {
    uint64_t now = weft_sim_now(c->sim), trouble = weft_sim_trouble_until(c->sim);
    uint32_t r;
    c->checks++;
    for (r = 0; r < l->workers; r++) {
        const weft_sim_endpoint *w = &c->sim->worker[r];
        uint64_t from = l->at[r] > trouble ? l->at[r] : trouble;
        if (w->dead || w->done || !w->step || now <= from) continue;
        if (now - from > bound_ns)
            return weft_check_fail(c, "worker %lu has stood still for %llu ns", (unsigned long)r,
                                   (unsigned long long)(now - from));
    }
    return 1;
}

/* ---- memory ---- */

/* Requests of one worker with one peer on one channel, and bytes of the simulator a worker: neither ever above these
 * (0: not looked at). */
WEFT_FN int weft_check_memory(weft_check *c, uint32_t requests, uint64_t bytes_per_worker) {
    uint64_t bytes = weft_sim_memory(c->sim) / c->sim->desc.size;
    c->checks++;
    if (requests && weft_sim_most_outstanding(c->sim) > requests)
        return weft_check_fail(c, "%lu requests of one worker with one peer under way, at most %lu are allowed",
                               (unsigned long)weft_sim_most_outstanding(c->sim), (unsigned long)requests);
    if (bytes_per_worker && bytes > bytes_per_worker)
        return weft_check_fail(c, "the simulator holds %llu bytes a worker, at most %llu are allowed",
                               (unsigned long long)bytes, (unsigned long long)bytes_per_worker);
    return 1;
}

/* ---- messages ---- */

/* One flow as mail tells of it: the last that has met a receive, of those that were sent. */
typedef struct weft_mail_flow {
    uint32_t src, dst, tag, used;
    uint64_t last;
} weft_mail_flow;

/* What became of every message. In the descriptor: on_mail = weft_mail_take, mail_user = the object. */
typedef struct weft_mail {
    weft_check *check;
    uint32_t workers;
    uint64_t *count[WEFT_SIM_FATES]; /* of each worker, in whose name it was sent */
    weft_mail_flow *flow;
    size_t flows, room; /* a power of two, more than half empty */
} weft_mail;

/* 0 without memory. The check's sim is that of the run (it may be filled in later). */
WEFT_FN int weft_mail_begin(weft_mail *m, weft_check *c, uint32_t workers) {
    size_t k;
    memset(m, 0, sizeof *m);
    m->check = c;
    m->workers = workers;
    m->room = 256;
    m->flow = (weft_mail_flow *)calloc(m->room, sizeof *m->flow);
    m->count[0] = (uint64_t *)calloc((size_t)workers * (WEFT_SIM_FATES + 1) + 1, sizeof **m->count);
    for (k = 1; m->count[0] && k < WEFT_SIM_FATES; k++) m->count[k] = m->count[0] + k * workers;
    return m->flow && m->count[0];
}

WEFT_FN void weft_mail_free(weft_mail *m) {
    free(m->flow);
    free(m->count[0]);
    memset(m, 0, sizeof *m);
}

WEFT_FN weft_mail_flow *weft_mail_find(weft_mail_flow *table, size_t room, uint32_t src, uint32_t dst, uint32_t tag) {
    size_t i = (size_t)weft_sim_flow_key(src, dst, tag) & (room - 1);
    while (table[i].used && (table[i].src != src || table[i].dst != dst || table[i].tag != tag))
        i = (i + 1) & (room - 1);
    table[i].src = src;
    table[i].dst = dst;
    table[i].tag = tag;
    return &table[i];
}

WEFT_FN void weft_mail_take(void *user, weft_sim_fate fate, const weft_sim_message *message) {
    weft_mail *m = (weft_mail *)user;
    weft_mail_flow *f;
    size_t i;
    if (message->src >= m->workers || message->dst >= m->workers) {
        weft_check_fail(m->check, "a message from worker %lu to worker %lu", (unsigned long)message->src,
                        (unsigned long)message->dst);
        return;
    }
    m->count[fate][message->src]++;
    if (fate != WEFT_SIM_MATCHED || message->number >> 63) return; /* forged ones have no place in the order */
    f = weft_mail_find(m->flow, m->room, message->src, message->dst, message->tag);
    if (!f->used && 2 * ++m->flows > m->room) {
        weft_mail_flow *table = (weft_mail_flow *)calloc(2 * m->room, sizeof *table);
        if (!table) {
            weft_check_fail(m->check, "no memory to check the order of messages");
            m->flows--;
            return;
        }
        for (i = 0; i < m->room; i++)
            if (m->flow[i].used)
                *weft_mail_find(table, 2 * m->room, m->flow[i].src, m->flow[i].dst, m->flow[i].tag) = m->flow[i];
        free(m->flow);
        m->flow = table;
        m->room *= 2;
        f = weft_mail_find(m->flow, m->room, message->src, message->dst, message->tag);
    }
    f->used = 1;
    m->check->checks++;
    if (message->number <= f->last)
        weft_check_fail(m->check, "worker %lu gets message %llu of worker %lu, tag %lu, after message %llu",
                        (unsigned long)message->dst, (unsigned long long)message->number, (unsigned long)message->src,
                        (unsigned long)message->tag, (unsigned long long)f->last);
    f->last = message->number;
}

/* At any time: what was sent, or forged in somebody's name, is delivered, gone, or really there; and the simulator's
 * own counts say the same. */
WEFT_FN int weft_check_mail(weft_check *c, weft_mail *m) {
    uint32_t r;
    size_t i;
    uint64_t *left = m->count[WEFT_SIM_FATES - 1] + m->workers; /* a row to reckon in */
    c->checks++;
    for (r = 0; r < m->workers; r++) {
        const weft_sim_counts *own = weft_sim_counts_of(c->sim, r);
        uint64_t in = m->count[WEFT_SIM_SENT][r] + m->count[WEFT_SIM_FORGED][r];
        uint64_t out = m->count[WEFT_SIM_DELIVERED][r] + m->count[WEFT_SIM_GONE][r];
        if (in != own->sent[0] + own->sent[1] + own->forged || out != own->delivered + own->gone)
            return weft_check_fail(c, "worker %lu: %llu messages seen, %llu done with; its own counts: %llu, %llu",
                                   (unsigned long)r, (unsigned long long)in, (unsigned long long)out,
                                   (unsigned long long)(own->sent[0] + own->sent[1] + own->forged),
                                   (unsigned long long)(own->delivered + own->gone));
        left[r] = in - out;
    }
    for (i = 0; i < c->sim->msg_count; i++)
        if (c->sim->msg[i].flow != WEFT_SIM_NONE) left[c->sim->msg[i].src]--;
    for (r = 0; r < m->workers; r++)
        if (left[r])
            return weft_check_fail(c, "worker %lu: of its messages not done with, %lld are not there", (unsigned long)r,
                                   (long long)left[r]);
    return 1;
}

#endif /* WEFT_SIM_CHECK_H */
