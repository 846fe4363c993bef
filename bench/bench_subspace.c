/* SPDX-License-Identifier: MIT
 * bench-subspace: what AdaCons costs beside the plain mean, over a transport (one thread a worker) and with all
 * gradients in one address space (subspace_combine).
 *
 * Contestants take turns, round after round, in an order that rotates; a turn is as many aggregations as take a
 * twentieth of a second, after one that is not timed. A ratio is formed of the two times of one round; reported are
 * medians and quartiles over the rounds. Before anything is timed, all ways to one result must come to the same
 * bits. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#include "pool/weft_pthread_pool.h"
#include "transports/weft_threads.h"

#include "clock.h"
#include "latency.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"
#include "train/plot.h"

#include <sys/mman.h>

enum { MOST_WORKERS = 16, MOST_ROUNDS = 41, MOST_SIZES = 8, MOST_COUNTS = 8 };

typedef enum who {
    COLLECTIVE, /* over the transport */
    MEAN,
    ADACONS,
    IN_PLACE,
    SHARED_MEAN, /* over the transport, by way of shared memory */
    SHARED_ADACONS,
    SHARED_IN_PLACE,
    HERE_SUM, /* in one address space, the calling thread alone */
    HERE_MEAN,
    HERE_ADACONS,
    HERE_GROUPS,
    POOL_SUM, /* ... with a pool */
    POOL_MEAN,
    POOL_ADACONS,
    POOL_GROUPS,
    CONTESTANTS
} who;

static const struct {
    const char *key, *title, *what;
    who base; /* what its time is compared with */
} names[CONTESTANTS] = {
    {"collective", "transport: collective", "weft_collective, all-reduce with weights 1/N", MEAN},
    {"mean", "transport: mean", "subspace_aggregate with SUBSPACE_MEAN, plan EXCHANGE", MEAN},
    {"adacons", "transport: AdaCons", "subspace_aggregate, momentum 0.99, plan EXCHANGE", MEAN},
    {"in-place", "transport: AdaCons, in place", "the same with in_place", MEAN},
    {"shared-mean", "shared: mean", "subspace_aggregate with SUBSPACE_MEAN, plan SHARED", SHARED_MEAN},
    {"shared-adacons", "shared: AdaCons", "subspace_aggregate, momentum 0.99, plan SHARED", SHARED_MEAN},
    {"shared-in-place", "shared: AdaCons, in place", "the same with in_place", SHARED_MEAN},
    {"here-sum", "here: plain mean", "the weighted sum alone, by the header's kernel, one thread", HERE_SUM},
    {"here-mean", "here: mean", "subspace_combine with SUBSPACE_MEAN, one thread", HERE_SUM},
    {"here-adacons", "here: AdaCons", "subspace_combine, momentum 0.99, one thread", HERE_SUM},
    {"here-groups", "here: AdaCons, groups", "the same, weights for each group of tensors that fits the cache",
     HERE_SUM},
    {"pool-sum", "pool: plain mean", "as here, with a pool", POOL_SUM},
    {"pool-mean", "pool: mean", "as here, with a pool", POOL_SUM},
    {"pool-adacons", "pool: AdaCons", "as here, with a pool", POOL_SUM},
    {"pool-groups", "pool: AdaCons, groups", "as here, with a pool", POOL_SUM},
};

typedef struct settings {
    double size[MOST_SIZES], workers[MOST_COUNTS], cache;
    size_t sizes, counts;
    const char *rows_at, *only;
    double seconds;
    int quick;
} settings;

typedef struct contestant {
    int present, calls;
    double seconds[MOST_ROUNDS];
    stats time, ratio;
} contestant;

typedef struct row {
    const settings *s;
    uint32_t workers;
    size_t d, group; /* elements; of a group that fits the cache */
    float *g[MOST_WORKERS], *out;
    void *memory[MOST_WORKERS]; /* of one object a worker */
    size_t bytes;
    const weft_pool *pool;
    size_t rounds;
    contestant c[CONTESTANTS];
    load others;
    double core_to_core[MOST_ROUNDS];
} row;

static void must(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "bench-subspace: %s\n", what);
    exit(1);
}

static void *map_bytes(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(p != MAP_FAILED, "out of memory");
    return p;
}

/* ---- gradients: something that all have in common, and noise ---- */

static float noise(uint64_t which) {
    uint64_t z = which * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    return (float)(int32_t)(z >> 32) * 0x1p-31f;
}

static void fill(row *r) {
    for (uint32_t i = 0; i < r->workers; i++)
        for (size_t k = 0; k < r->d; k++) r->g[i][k] = 0.3f * noise(k) + noise((uint64_t)(i + 1) << 40 | k);
}

/* ---- over the transport ---- */

typedef struct team {
    row *r;
    who who;
    int calls;
    weft_threads_team threads;
    pthread_barrier_t together;
    double seconds;
    struct team_worker {
        struct team *all;
        uint32_t rank;
    } worker[MOST_WORKERS];
} team;

/* One worker's object, whichever it is. */
typedef struct object {
    subspace *a;
    weft_collective *c;
    weft_transport net;
    weft_tensor tensor;
    double weight[MOST_WORKERS];
} object;

static subspace_desc how(who w) {
    subspace_desc d = {.struct_size = sizeof d};
    d.rule = w == MEAN || w == SHARED_MEAN || w == HERE_MEAN || w == POOL_MEAN ? SUBSPACE_MEAN : SUBSPACE_NORMALISED;
    if (w < HERE_SUM) d.plan = w < SHARED_MEAN ? SUBSPACE_PLAN_EXCHANGE : SUBSPACE_PLAN_SHARED;
    d.in_place = w == IN_PLACE || w == SHARED_IN_PLACE;
    d.momentum = d.rule == SUBSPACE_MEAN ? 0.0 : 0.99;
    return d;
}

static void object_open(object *o, team *t, uint32_t rank) {
    row *r = t->r;
    memset(o, 0, sizeof *o);
    weft_threads_transport(&t->threads, rank, &o->net);
    o->tensor = (weft_tensor){r->g[rank], r->d, WEFT_F32};
    if (t->who == COLLECTIVE) {
        weft_collective_desc d = {.struct_size = sizeof d, .tensors = {&o->tensor, 1}, .transport = &o->net};
        for (uint32_t i = 0; i < r->workers; i++) o->weight[i] = 1.0 / r->workers;
        must(weft_collective_memory(&d, NULL) <= r->bytes, "a collective's memory");
        must(weft_collective_init(&o->c, &d, r->memory[rank], r->bytes, NULL) == WEFT_OK, "weft_collective_init");
    } else {
        subspace_desc d = how(t->who);
        d.gradients = (weft_tensors){&o->tensor, 1};
        d.transport = &o->net;
        must(subspace_init(&o->a, &d, r->memory[rank], r->bytes) == WEFT_OK, "subspace_init");
    }
}

static void object_run(object *o) {
    weft_status s;
    if (o->a) {
        must(subspace_aggregate(o->a) == WEFT_OK, "subspace_aggregate");
        return;
    }
    s = weft_collective_begin(o->c, WEFT_OP_ALL_REDUCE, o->weight, 0);
    while (s == WEFT_AGAIN) {
        o->net.wait(o->net.ctx, UINT64_MAX);
        s = weft_collective_poll(o->c);
    }
    must(s == WEFT_OK, "weft_collective_begin");
}

/* A worker on a processor of its own if there are enough. */
static void place(uint32_t rank, uint32_t workers) {
    cpu_set_t mine, one;
    int cpu;
    uint32_t at = 0;
    if (sched_getaffinity(0, sizeof mine, &mine) || (uint32_t)CPU_COUNT(&mine) < workers) return;
    for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &mine) || at++ != rank) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

static void *team_work(void *arg) {
    const struct team_worker *me = (const struct team_worker *)arg;
    team *t = me->all;
    object o;
    double start;
    place(me->rank, t->r->workers);
    object_open(&o, t, me->rank);
    object_run(&o); /* with it, all have met */
    pthread_barrier_wait(&t->together);
    start = clock_now();
    for (int i = 0; i < t->calls; i++) object_run(&o);
    if (me->rank == 0) t->seconds = clock_now() - start;
    pthread_barrier_wait(&t->together); /* what was sent last has been fetched */
    if (o.a)
        subspace_close(o.a);
    else
        weft_collective_close(o.c);
    return NULL;
}

/* Seconds an aggregation, by rank 0's clock. */
static double team_run(row *r, who w, int calls) {
    team t = {.r = r, .who = w, .calls = calls};
    pthread_t thread[MOST_WORKERS];
    must(weft_threads_init(&t.threads, r->workers) == WEFT_OK, "weft_threads_init");
    pthread_barrier_init(&t.together, NULL, r->workers);
    for (uint32_t i = 0; i < r->workers; i++) {
        t.worker[i].all = &t;
        t.worker[i].rank = i;
        must(!pthread_create(&thread[i], NULL, team_work, &t.worker[i]), "threads cannot be had");
    }
    for (uint32_t i = 0; i < r->workers; i++) pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&t.together);
    weft_threads_free(&t.threads);
    return calls ? t.seconds / calls : 0.0;
}

/* ---- in one address space ---- */

static double here_run(row *r, who w, int calls) {
    const int by_groups = w == HERE_GROUPS || w == POOL_GROUPS;
    const size_t each = by_groups ? r->group : r->d, tensors = (r->d + each - 1) / each;
    weft_tensor *tensor = (weft_tensor *)calloc((r->workers + 1) * tensors, sizeof *tensor);
    uint32_t *group_of = (uint32_t *)calloc(tensors, sizeof *group_of);
    weft_tensors set[MOST_WORKERS + 1]; /* the last: where it goes */
    subspace_desc d = how(w);
    subspace *a;
    double start;
    must(tensor && group_of, "out of memory");
    for (uint32_t i = 0; i <= r->workers; i++) {
        float *x = i < r->workers ? r->g[i] : r->out;
        set[i] = (weft_tensors){tensor + i * tensors, tensors};
        for (size_t k = 0; k < tensors; k++)
            tensor[i * tensors + k] = (weft_tensor){x + k * each, k + 1 < tensors ? each : r->d - k * each, WEFT_F32};
    }
    for (size_t k = 0; k < tensors; k++) group_of[k] = (uint32_t)k;
    d.gradients = set[r->workers];
    d.here = r->workers;
    d.pool = w >= POOL_SUM ? r->pool : NULL;
    d.group_of_tensor = by_groups ? group_of : NULL;
    d.groups = by_groups ? (uint32_t)tensors : 0;
    must(subspace_memory(&d, NULL) <= r->bytes, "too many groups for the memory");
    must(subspace_init(&a, &d, r->memory[0], r->bytes) == WEFT_OK, "subspace_init");
    must(subspace_combine(a, set, r->workers, NULL, &set[r->workers]) == WEFT_OK, "subspace_combine");
    start = clock_now();
    for (int i = 0; i < calls; i++)
        must(subspace_combine(a, set, r->workers, NULL, &set[r->workers]) == WEFT_OK, "subspace_combine");
    start = clock_now() - start;
    subspace_close(a);
    free(tensor);
    free(group_of);
    return calls ? start / calls : 0.0;
}

/* What a trainer would do that has all gradients and wants their mean. */
static double sum_run(row *r, who w, int calls) {
    const weft_kernels *k = weft_kernels_select(WEFT_ISA_AUTO, r->d * sizeof(float));
    const void *x[MOST_WORKERS];
    double weight[MOST_WORKERS], start = 0.0;
    for (uint32_t i = 0; i < r->workers; i++) {
        x[i] = r->g[i];
        weight[i] = 1.0 / r->workers;
    }
    for (int i = -1; i < calls; i++) {
        if (i == 0) start = clock_now();
        weft_run_weighted_sum(k, w == POOL_SUM ? r->pool : NULL, WEFT_F32, r->d, r->workers, weight, x, r->out);
    }
    return calls ? (clock_now() - start) / calls : 0.0;
}

static double run(row *r, who w, int calls) {
    if (w < HERE_SUM) return team_run(r, w, calls);
    return w == HERE_SUM || w == POOL_SUM ? sum_run(r, w, calls) : here_run(r, w, calls);
}

/* ---- a row ---- */

/* All ways to one result: the same bits. What goes over the transport is in place, so the gradients are made anew. */
static void verify(row *r) {
    static const who pairs[][2] = {{MEAN, HERE_MEAN},
                                   {MEAN, POOL_MEAN},
                                   {MEAN, POOL_SUM},
                                   {COLLECTIVE, HERE_SUM},
                                   {ADACONS, HERE_ADACONS},
                                   {ADACONS, POOL_ADACONS},
                                   {SHARED_MEAN, HERE_MEAN},
                                   {SHARED_ADACONS, HERE_ADACONS},
                                   {SHARED_IN_PLACE, HERE_ADACONS}};
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        if (!r->c[pairs[p][0]].present || !r->c[pairs[p][1]].present) continue;
        fill(r);
        run(r, pairs[p][1], 0);
        team_run(r, pairs[p][0], 0);
        for (uint32_t i = 0; i < r->workers; i++)
            must(!memcmp(r->g[i], r->out, r->d * sizeof(float)), "the results differ");
    }
    fill(r);
}

static void calibrate(row *r, who w) {
    const double wanted = r->s->quick ? 0.02 : 0.05;
    const double one = run(r, w, 1);
    r->c[w].calls = one < wanted ? (int)fmin(2000, ceil(wanted / one)) : 1;
}

static void row_open(row *r) {
    object o;
    team t = {.r = r, .who = ADACONS};
    subspace_desc d = how(ADACONS);
    for (uint32_t i = 0; i < r->workers; i++) r->g[i] = (float *)map_bytes(r->d * sizeof(float));
    r->out = (float *)map_bytes(r->d * sizeof(float));
    must(weft_threads_init(&t.threads, r->workers) == WEFT_OK, "weft_threads_init");
    weft_threads_transport(&t.threads, 0, &o.net);
    o.tensor = (weft_tensor){r->out, r->d, WEFT_F32};
    d.gradients = (weft_tensors){&o.tensor, 1};
    d.transport = &o.net;
    r->bytes = subspace_memory(&d, NULL) + ((size_t)1 << 24); /* groups, and the collective's own needs */
    weft_threads_free(&t.threads);
    for (uint32_t i = 0; i < r->workers; i++) r->memory[i] = map_bytes(r->bytes);
}

static void row_close(row *r) {
    for (uint32_t i = 0; i < r->workers; i++) {
        munmap(r->g[i], r->d * sizeof(float));
        munmap(r->memory[i], r->bytes);
    }
    munmap(r->out, r->d * sizeof(float));
}

static void row_run(row *r) {
    const size_t least = r->s->quick ? 3 : 7;
    double start;
    row_open(r);
    for (int i = 0; i < CONTESTANTS; i++) r->c[i].present = option_lists(r->s->only, names[i].key);
    verify(r);
    for (int i = 0; i < CONTESTANTS; i++)
        if (r->c[i].present) calibrate(r, (who)i);
    start = clock_now();
    while (r->rounds < least || (r->rounds < MOST_ROUNDS && clock_now() - start < r->s->seconds)) {
        r->core_to_core[r->rounds] = latency_ns();
        for (int k = 0; k < CONTESTANTS; k++) {
            const int i = (k + (int)r->rounds) % CONTESTANTS;
            if (!r->c[i].present) continue;
            load_begin(&r->others);
            r->c[i].seconds[r->rounds] = run(r, (who)i, r->c[i].calls);
            load_end(&r->others);
        }
        r->rounds++;
    }
    for (int i = 0; i < CONTESTANTS; i++) {
        contestant *c = &r->c[i], *base = &r->c[names[i].base];
        c->time = stats_of(c->seconds, c->present ? r->rounds : 0);
        c->ratio = stats_of_ratios(c->seconds, base->seconds, c->present && base->present ? r->rounds : 0);
    }
    row_close(r);
}

/* ---- reporting ---- */

/* Are all gradients to be read twice? */
static int reads_twice(who w) {
    return w == HERE_ADACONS || w == POOL_ADACONS;
}

/* The bytes that GB/s is about: over the transport, what all workers together send; in one memory, what all together
 * have to read and write. With shared memory each reads its shard of all gradients (but for the mean twice), writes its
 * shard of the aggregate, and copies the whole; in place it writes its shard N times. */
static double bytes_of(const row *r, who w) {
    const double n = r->workers, each = 4.0 * (double)r->d;
    if (w < SHARED_MEAN) return 2 * (n - 1) * each;
    if (w < HERE_SUM) return (w == SHARED_MEAN ? 3 * n + 1 : w == SHARED_ADACONS ? 4 * n + 1 : 3 * n) * each;
    return (reads_twice(w) ? 2 * n + 1 : n + 1) * each;
}

/* What the ratio would be if nothing but memory took time. */
static double floor_of(const row *r, who w) {
    const double n = r->workers, part = 4 * (n - 1) / n;
    if (w == ADACONS || w == IN_PLACE) return (part + 2 + 1 / n) / (part + 1 + 1 / n);
    if (w == SHARED_ADACONS || w == SHARED_IN_PLACE) return bytes_of(r, w) / bytes_of(r, SHARED_MEAN);
    return reads_twice(w) ? (2 * n + 1) / (n + 1) : 1;
}

static void write_row(const row *r, table *t, json *j, const machine *m) {
    json_line_begin(j);
    json_text(j, "bench", "subspace");
    json_text(j, "date", m->date);
    json_integer(j, "workers", (long long)r->workers);
    json_integer(j, "elements", (long long)r->d);
    json_integer(j, "group_elements", (long long)r->group);
    json_integer(j, "rounds", (long long)r->rounds);
    json_number(j, "others_load", load_share(&r->others));
    json_stats(j, "core_to_core_ns", stats_of(r->core_to_core, r->rounds), 1);
    json_begin(j, "contestants", '[');
    for (int i = 0; i < CONTESTANTS; i++) {
        const contestant *c = &r->c[i];
        if (!c->present) continue;
        table_row(t);
        table_cell(t, "%u", (unsigned)r->workers);
        table_cell(t, "%.4g M", (double)r->d * 1e-6);
        table_cell(t, "%s", names[i].title);
        table_number(t, c->time.median * 1e3, "");
        table_range(t, c->time.q1 * 1e3, c->time.q3 * 1e3);
        table_number(t, bytes_of(r, (who)i) / c->time.median * 1e-9, "");
        if ((int)names[i].base != i && isfinite(c->ratio.median)) {
            table_cell(t, "%.2f", c->ratio.median);
            table_cell(t, "%.2f to %.2f", c->ratio.q1, c->ratio.q3);
            table_cell(t, "%.2f", floor_of(r, (who)i));
        } else {
            table_cell(t, "-");
            table_cell(t, "-");
            table_cell(t, "-");
        }
        table_number(t, 100 * load_share(&r->others), " %");
        json_begin(j, NULL, '{');
        json_text(j, "name", names[i].title);
        json_text(j, "what", names[i].what);
        json_integer(j, "calls", c->calls);
        json_stats(j, "ms", c->time, 1e3);
        json_number(j, "gb_s", bytes_of(r, (who)i) / c->time.median * 1e-9);
        if ((int)names[i].base != i) {
            json_text(j, "base", names[names[i].base].title);
            json_stats(j, "ratio", c->ratio, 1);
            json_number(j, "floor", floor_of(r, (who)i));
        }
        json_end(j, '}');
    }
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

/* Times the plain mean: of each way in which AdaCons can be had, a group of bars for each number of workers and
 * elements. */
typedef struct picture {
    plot_bar bar[MOST_COUNTS * MOST_SIZES][CONTESTANTS];
    plot_bars_group group[MOST_COUNTS * MOST_SIZES];
    char title[MOST_COUNTS * MOST_SIZES][64];
    size_t groups;
} picture;

static void picture_group(picture *p, const row *r) {
    static const int colours[] = {1, 2, 3, 4}; /* transport, shared, here, pool */
    plot_bars_group *g = &p->group[p->groups];
    g->title = p->title[p->groups];
    g->bar = p->bar[p->groups];
    snprintf(p->title[p->groups], sizeof p->title[0], "%u workers, %.4g million elements", (unsigned)r->workers,
             (double)r->d * 1e-6);
    for (int i = 0; i < CONTESTANTS; i++) {
        const stats ratio = r->c[i].ratio;
        plot_bar *b = &p->bar[p->groups][g->count];
        if (!r->c[i].present || !isfinite(ratio.median) || !strstr(names[i].title, "AdaCons")) continue;
        *b = (plot_bar){names[i].title, colours[i < SHARED_MEAN ? 0 : i < HERE_SUM ? 1 : i < POOL_SUM ? 2 : 3],
                        ratio.median, ratio.q1, ratio.q3};
        g->count++;
    }
    if (g->count) p->groups++;
}

static void run_all(const settings *s, report *out, const machine *m) {
    static picture p;
    char picture_at[REPORT_PATH];
    table *t = table_new(">workers|>elements|what|>ms|>quartiles|>GB/s|>ratio to mean|>quartiles|>floor|>others");
    weft_pthread_pool pool;
    static row r;
    must(weft_pthread_pool_create(&pool, (size_t)m->processors) == WEFT_OK, "threads cannot be had");
    for (size_t n = 0; n < s->counts; n++)
        for (size_t i = 0; i < s->sizes; i++) {
            memset(&r, 0, sizeof r);
            r.s = s;
            r.workers = (uint32_t)s->workers[n];
            r.d = (size_t)s->size[i];
            r.group = (size_t)(s->cache / (4.0 * r.workers)) / 1024 * 1024;
            if (r.group < 1024) r.group = 1024;
            r.pool = &pool.pool;
            fprintf(stderr, "%u workers, %zu elements\n", (unsigned)r.workers, r.d);
            row_run(&r);
            write_row(&r, t, &out->rows, m);
            picture_group(&p, &r);
        }
    weft_pthread_pool_destroy(&pool);
    if (s->rows_at && p.groups) {
        report_path(picture_at, s->rows_at, ".svg");
        plot_bars(picture_at, "AdaCons: times the plain mean by the same way", "time / the mean's", 1, p.groups,
                  p.group);
    }
    table_print(t, out);
}

static void say_head(report *out, const machine *m, const settings *s) {
    report_say(out, "# AdaCons beside the plain mean\n\n- Written by `build/bench-subspace`%s.\n",
               s->quick ? " with --quick: a look, no result" : "");
    machine_report(m, out);
    for (int i = 0; i < CONTESTANTS; i++)
        if (option_lists(s->only, names[i].key)) report_say(out, "- %s: %s\n", names[i].title, names[i].what);
    report_say(
        out,
        "- pool: %d threads; groups: the gradients of all workers for one group take %.3g MiB\n"
        "\nGradients are floats. Milliseconds an aggregation, medians. GB/s: over the transport, what all workers "
        "send;\n"
        "here and with shared memory, what has to be read and written: AdaCons reads all gradients twice, or once "
        "where a\n"
        "group stays in the cache. Ratios are to the mean over the same transport and by the same plan, or to the "
        "plain\n"
        "mean, formed round by round; floor: what the ratio would be if nothing but memory traffic took time. Others:\n"
        "how much of the processors other programs had meanwhile.\n\n",
        m->processors, s->cache / 1048576);
}

static void usage(void) {
    puts("usage: bench-subspace [options]\n"
         "  --workers LIST    (2,4,8)\n"
         "  --size LIST       elements (1e6,25.6e6)\n"
         "  --full            also 124e6 elements\n"
         "  --cache BYTES     of a group, all workers together (8Mi)\n"
         "  --only LIST       collective, mean, adacons, in-place, shared-mean, shared-adacons, shared-in-place,\n"
         "                    and each of here- and pool- with sum, mean, adacons, groups\n"
         "  --quick           a look: short turns, 1e6 elements\n"
         "  --seconds S       a row takes about so long (10)\n"
         "  --json FILE       rows as JSON lines, and the report and a picture beside them");
}

static settings read_options(int argc, char **argv) {
    settings s = {{1e6, 25.6e6}, {2, 4, 8}, 8 << 20, 2, 3, NULL, NULL, 10, 0};
    options o = {argc, 1, argv};
    double n[1];
    while (o.at < o.argc) {
        const char *v;
        if (option_switch(&o, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&o, "--full"))
            s.size[s.sizes++ % MOST_SIZES] = 124e6;
        else if (option_switch(&o, "--quick"))
            s.quick = 1, s.sizes = 1, s.seconds = 1;
        else if ((v = option_value(&o, "--workers")))
            s.counts = option_numbers(v, s.workers, MOST_COUNTS);
        else if ((v = option_value(&o, "--size")))
            s.sizes = option_numbers(v, s.size, MOST_SIZES - 1);
        else if ((v = option_value(&o, "--only")))
            s.only = v;
        else if ((v = option_value(&o, "--json")))
            s.rows_at = v;
        else if ((v = option_value(&o, "--seconds")))
            s.seconds = atof(v);
        else if ((v = option_value(&o, "--cache"))) {
            option_numbers(v, n, 1);
            s.cache = n[0];
        } else {
            fprintf(stderr, "bench-subspace: unknown option %s (--help lists them)\n", o.argv[o.at]);
            exit(2);
        }
    }
    for (size_t i = 0; i < s.counts; i++)
        if (s.workers[i] > MOST_WORKERS) {
            fprintf(stderr, "bench-subspace: --workers: at most %d\n", MOST_WORKERS);
            exit(2);
        }
    return s;
}

int main(int argc, char **argv) {
    const settings s = read_options(argc, argv);
    static machine m;
    static report out;
    machine_describe(&m);
    report_open(&out, s.rows_at);
    say_head(&out, &m, &s);
    run_all(&s, &out, &m);
    report_close(&out);
    return 0;
}
