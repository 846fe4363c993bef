/* SPDX-License-Identifier: MIT
 * bench-kernels: the kernels of the headers against OpenBLAS, torch and plain C, in one process and one run.
 *
 * Everybody works on the same arrays. Before anything is timed, ours must equal the serial set bit for bit, and every
 * peer must come to about the same result. Then contestants take turns, round after round, in an order that rotates; a
 * measurement is a call that is not timed and as many as are needed to time them. A ratio is formed of the two times
 * of one round; reported are medians and quartiles over the rounds. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clock.h"
#include "latency.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"
#include "train/plot.h"

#include "rows.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { MOST_CONTESTANTS = 32, MOST_ROUNDS = 61, MOST_SIZES = 16, MOST_THREADS = 8 };

typedef struct settings {
    double size[MOST_SIZES], threads[MOST_THREADS];
    size_t sizes, threads_count;
    const char *only, *rows_at;
    int isa;       /* ours */
    int every_isa; /* beside ours */
    int quick;
    double seconds; /* a row's rounds may take */
} settings;

/* Who is measured: one of our sets, a form of a peer, or a ceiling. */
typedef enum contestant_kind { OURS, PEER, CEILING } contestant_kind;

typedef struct contestant {
    contestant_kind kind;
    char name[96];
    int isa;            /* OURS */
    const peer *of;     /* PEER */
    const form *form;   /* PEER */
    int tuned;          /* PEER: malloc */
    int which;          /* CEILING */
    size_t calls;       /* timed at a time */
    double seconds[MOST_ROUNDS];
    double faults;      /* page faults of a call */
    double error;       /* largest relative difference from ours */
    stats time, ratio;  /* ratio: time / that of contestant 0 */
} contestant;

static const peer *const peers[] = {
#ifdef HAVE_OPENBLAS
    &peer_openblas,
#endif
#ifdef HAVE_TORCH
    &peer_torch,
#endif
    &peer_plain,
};
enum { PEERS = sizeof peers / sizeof *peers };

/* ---- arrays ---- */

static float *map_floats(size_t n) {
    void *p = mmap(NULL, n * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "bench-kernels: %zu bytes cannot be had\n", n * sizeof(float));
        exit(1);
    }
    return (float *)p;
}

static void unmap_floats(float *p, size_t n) { munmap(p, n * sizeof(float)); }

/* Numbers in (-1, 1), the same each time. */
static void fill(float *x, size_t n, uint64_t which) {
    size_t i;
    for (i = 0; i < n; i++) {
        uint64_t z = (which << 40 | i) * UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
        x[i] = (float)(int32_t)(z >> 32) * 0x1p-31f;
    }
}

static void arrays_make(arrays *a, size_t d) {
    int i;
    memset(a, 0, sizeof *a);
    a->d = d;
    a->stride = (d + 15) / 16 * 16;
    a->x[0] = map_floats(a->stride * MODELS);
    for (i = 1; i < MODELS; i++) a->x[i] = a->x[i - 1] + a->stride;
    a->out = map_floats(a->stride);
    for (i = 0; i < MODELS; i++) {
        a->w[i] = (i + 1) / 36.0;
        fill(a->x[i], d, (uint64_t)i);
    }
    memset(a->out, 0, d * sizeof(float));
    a->a = 1e-3;
    a->pull = 0.3;
    a->rate = 1e-3;
    a->momentum = 0.9;
    a->decay = 1e-4;
    a->rho = 0.05;
    a->eps = 1e-12;
    a->count = 4;
    a->carry = 0.5;
}

static void arrays_free(arrays *a) {
    unmap_floats(a->x[0], a->stride * MODELS);
    unmap_floats(a->out, a->stride);
}

/* As before the kernel ran. */
static void arrays_reset(arrays *a, const row *r) {
    int i;
    for (i = 0; i < MODELS; i++)
        if (r->changes >> i & 1u) fill(a->x[i], a->d, (uint64_t)i);
    if (r->makes_out) memset(a->out, 0, a->d * sizeof(float));
    memset(a->result, 0, sizeof a->result);
}

/* ---- running ---- */

static void contestant_ready(const contestant *c, kernel_id k, const arrays *a) {
    size_t i;
    if (c->kind == OURS) ours_begin(k, c->isa, a->threads, a);
    if (c->kind == CEILING) ceiling_begin();
    for (i = 0; c->kind == PEER && i < PEERS; i++)
        if (peers[i]->allocator) peers[i]->allocator(c->tuned);
}

static void contestant_run(const contestant *c, kernel_id k, arrays *a) {
    size_t i;
    if (c->kind == OURS) ours_run(k, a);
    else if (c->kind == PEER) c->form->run(a);
    else
        for (i = 0; i < rows[k].passes; i++) ceiling_run(c->which, rows[k].pass[i], a);
}

static void contestant_done(const contestant *c) {
    if (c->kind == CEILING) ceiling_end();
}

static double page_faults(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_minflt;
}

/* Seconds a call. */
static double measure(contestant *c, kernel_id k, arrays *a) {
    double start, faults;
    size_t i;
    contestant_ready(c, k, a);
    if (a->threads > 1) clock_quiet();
    /* where there are temporaries, it takes some calls until malloc has settled after the change */
    for (i = c->kind == PEER && c->form->flags & FORM_TEMPORARIES ? 3 : 1; i; i--) contestant_run(c, k, a);
    faults = page_faults();
    start = clock_now();
    for (i = 0; i < c->calls; i++) contestant_run(c, k, a);
    start = clock_now() - start;
    c->faults = (page_faults() - faults) / (double)c->calls;
    contestant_done(c);
    return start / (double)c->calls;
}

/* As many calls as take about 300 microseconds. */
static void calibrate(contestant *c, kernel_id k, arrays *a) {
    double one;
    for (c->calls = 1;; c->calls *= 4) {
        one = measure(c, k, a);
        if (one * (double)c->calls > 1e-4 || c->calls > 100000) break;
    }
    c->calls = one < 3e-4 ? (size_t)ceil(3e-4 / one) : 1;
}

/* ---- verification ---- */

typedef struct reference {
    float *array[MODELS + 1]; /* the last: out; NULL: not written */
    double result[RESULTS];
} reference;

static const float *array_of(const arrays *a, int i) { return i < MODELS ? a->x[i] : a->out; }

static reference reference_take(const arrays *a, const row *r) {
    reference f;
    int i;
    memset(&f, 0, sizeof f);
    for (i = 0; i <= MODELS; i++) {
        if (!(i < MODELS ? (int)(r->changes >> i & 1u) : r->makes_out)) continue;
        f.array[i] = map_floats(a->d);
        memcpy(f.array[i], array_of(a, i), a->d * sizeof(float));
    }
    memcpy(f.result, a->result, sizeof f.result);
    return f;
}

static void reference_free(reference *f, const arrays *a) {
    int i;
    for (i = 0; i <= MODELS; i++)
        if (f->array[i]) unmap_floats(f->array[i], a->d);
}

static int same_bits(const reference *f, const arrays *a, const row *r) {
    int i;
    for (i = 0; i <= MODELS; i++)
        if (f->array[i] && memcmp(f->array[i], array_of(a, i), a->d * sizeof(float))) return 0;
    return !memcmp(f->result, a->result, (size_t)r->results * sizeof(double));
}

/* The largest difference of an element, relative to the largest element; and whether results are about right. Sums in
 * single precision are a good part of a per cent off for long vectors. */
static double difference(const reference *f, const arrays *a, const row *r, unsigned flags, int *about_right) {
    double most = 0;
    size_t j;
    int i;
    *about_right = 1;
    for (i = 0; i <= MODELS; i++) {
        const float *x = array_of(a, i), *y = f->array[i];
        float off = 0, largest = 0;
        if (!y || (i == MODELS && flags & FORM_OWN_OUT)) continue;
        for (j = 0; j < a->d; j++) {
            const float e = fabsf(x[j] - y[j]), size = fabsf(y[j]);
            if (!(e <= off)) off = e; /* NaN, too */
            if (size > largest) largest = size;
        }
        if (!(off <= 1e-5f * largest)) *about_right = 0;
        if (!((double)(off / largest) <= most)) most = (double)(off / largest);
    }
    for (i = 0; i < r->results - (flags & FORM_LESS ? 1 : 0); i++) {
        const double e = fabs(a->result[i] - f->result[i]);
        /* a dot product is near zero for vectors that are independent: measured by the length of their sum */
        const double size = fmax(fabs(f->result[i]), i == 0 ? sqrt((double)a->d) / 3 : 0);
        if (!(e <= 0.02 * size)) *about_right = 0;
        if (!(e / size <= most)) most = e / size;
    }
    return most;
}

/* Everybody once, from the same start. Ends the program where somebody is wrong. */
static void verify(contestant *c, size_t n, kernel_id k, arrays *a) {
    const row *r = &rows[k];
    reference f;
    size_t i;
    arrays_reset(a, r);
    ours_begin(k, ours_isa_of("serial"), 1, a);
    ours_run(k, a);
    f = reference_take(a, r);
    for (i = 0; i < n; i++) {
        int right = 1;
        if (c[i].kind == CEILING) continue;
        arrays_reset(a, r);
        contestant_ready(&c[i], k, a);
        contestant_run(&c[i], k, a);
        if (c[i].kind == OURS) right = same_bits(&f, a, r);
        else c[i].error = difference(&f, a, r, c[i].form->flags, &right);
        if (!right) {
            fprintf(stderr, "bench-kernels: %s of %zu: %s gives another result (%g, %g, %g; error %g)\n", r->name, a->d,
                    c[i].name, a->result[0], a->result[1], a->result[2], c[i].error);
            exit(1);
        }
    }
    arrays_reset(a, r);
    reference_free(&f, a);
}

/* ---- a row ---- */

static contestant *enter(contestant *c, size_t *n, contestant_kind kind) {
    if (*n == MOST_CONTESTANTS) {
        fprintf(stderr, "bench-kernels: too many contestants\n");
        exit(1);
    }
    memset(&c[*n], 0, sizeof *c);
    c[*n].kind = kind;
    c[*n].error = STATS_NONE;
    return &c[(*n)++];
}

/* Ours is the first. */
static size_t enter_all(contestant *c, kernel_id k, const settings *s) {
    size_t n = 0, i, f;
    int isa, tuned;
    contestant *e = enter(c, &n, OURS);
    e->isa = s->isa;
    snprintf(e->name, sizeof e->name, "ours, %s", ours_isa_name(e->isa));
    for (isa = 1; s->every_isa && ours_isa_name(isa); isa++) {
        if (isa == s->isa || !ours_isa_available(isa)) continue;
        e = enter(c, &n, OURS);
        e->isa = isa;
        snprintf(e->name, sizeof e->name, "ours, %s", ours_isa_name(isa));
    }
    for (i = 0; i < PEERS; i++) {
        for (f = 0; f < peers[i]->count; f++) {
            const form *p = &peers[i]->forms[f];
            for (tuned = 0; p->kernel == k && tuned <= (p->flags & FORM_TEMPORARIES ? 1 : 0); tuned++) {
                e = enter(c, &n, PEER);
                e->of = peers[i];
                e->form = p;
                e->tuned = tuned;
                snprintf(e->name, sizeof e->name, "%s: %s%s", peers[i]->name, p->how, tuned ? ", malloc tuned" : "");
            }
        }
    }
    return n;
}

static int judged(const contestant *c) { return c->kind == PEER && c->of->judged && !(c->form->flags & FORM_MATRIX); }

/* The two best ceilings of a first look go into the rounds; below the cache's size, stores that bypass it do not. */
static size_t enter_ceilings(contestant *c, size_t n, kernel_id k, arrays *a) {
    double took[CEILINGS];
    int which, i, best, bypass = rows[k].pass[rows[k].passes - 1].write > 0 && ours_streams();
    for (which = 0; which < CEILINGS; which++) {
        contestant try;
        double t[3];
        took[which] = HUGE_VAL;
        if (ceiling_bypasses(which) && !bypass) continue;
        memset(&try, 0, sizeof try);
        try.kind = CEILING;
        try.which = which;
        calibrate(&try, k, a);
        for (i = 0; i < 3; i++) t[i] = measure(&try, k, a);
        took[which] = stats_of(t, 3).median;
    }
    for (i = 0; i < 2; i++) {
        contestant *e;
        for (best = which = 0; which < CEILINGS; which++)
            if (took[which] < took[best]) best = which;
        if (took[best] == HUGE_VAL) break;
        e = enter(c, &n, CEILING);
        e->which = best;
        snprintf(e->name, sizeof e->name, "ceiling: %s", ceiling_name(best));
        took[best] = HUGE_VAL;
    }
    return n;
}

typedef struct outcome {
    size_t rounds, contestants;
    const contestant *best;    /* of the judged peers: against whom our ratio is least; NULL: there is none */
    const contestant *ceiling; /* the better one */
    double ceiling_share;      /* ceiling's time / ours */
    double core_to_core;       /* STATS_NONE on one thread */
    load others;               /* while the rounds went on */
    double goal;               /* 0: none for this size */
    const char *met;
    contestant c[MOST_CONTESTANTS];
} outcome;

/* Figures vary by that much from run to run, so that a goal missed by less is marked as such. */
static const char *judge(double ratio, double goal, int threads) {
    const double slack = threads > 1 ? 0.85 : 0.90;
    if (goal == 0 || !isfinite(ratio)) return "-";
    return ratio >= goal ? "yes" : ratio >= goal * slack ? "within slack" : "no";
}

static void run_row(outcome *o, kernel_id k, arrays *a, const settings *s) {
    const size_t least = s->quick ? 3 : 7;
    double lowest[MOST_ROUNDS], latencies[2], start;
    size_t n, i, at;
    memset(o, 0, sizeof *o);
    n = enter_all(o->c, k, s);
    verify(o->c, n, k, a);
    ours_begin(k, s->isa, a->threads, a);
    n = enter_ceilings(o->c, n, k, a);
    for (i = 0; i < n; i++) calibrate(&o->c[i], k, a);
    latencies[0] = a->threads > 1 ? latency_ns() : STATS_NONE;
    load_begin(&o->others);
    start = clock_now();
    while (o->rounds < least || (o->rounds < MOST_ROUNDS && clock_now() - start < s->seconds)) {
        for (i = 0; i < n; i++) {
            at = (i + o->rounds) % n;
            o->c[at].seconds[o->rounds] = measure(&o->c[at], k, a);
        }
        o->rounds++;
    }
    load_end(&o->others);
    latencies[1] = a->threads > 1 ? latency_ns() : STATS_NONE;
    o->core_to_core = (latencies[0] + latencies[1]) / 2;
    o->contestants = n;
    for (i = 0; i < o->rounds; i++) lowest[i] = HUGE_VAL;
    for (at = 0; at < n; at++) {
        contestant *c = &o->c[at];
        c->time = stats_of(c->seconds, o->rounds);
        c->ratio = stats_of_ratios(c->seconds, o->c[0].seconds, o->rounds);
        if (judged(c) && (!o->best || c->ratio.median < o->best->ratio.median)) o->best = c;
        if (c->kind != CEILING) continue;
        if (!o->ceiling || c->time.median < o->ceiling->time.median) o->ceiling = c;
        for (i = 0; i < o->rounds; i++) lowest[i] = fmin(lowest[i], c->seconds[i]);
    }
    o->ceiling_share = stats_of_ratios(lowest, o->c[0].seconds, o->rounds).median;
    o->goal = a->d * sizeof(float) * 2 < (size_t)64 << 20 ? 0 : a->threads > 1 ? rows[k].goal_threads : rows[k].goal;
    o->met = judge(o->best ? o->best->ratio.median : STATS_NONE, o->goal, a->threads);
}

/* ---- reporting ---- */

static void write_row(report *r, const machine *m, kernel_id k, const arrays *a, const outcome *o) {
    json *j = &r->rows;
    size_t i;
    json_line_begin(j);
    json_text(j, "bench", "kernels");
    json_text(j, "date", m->date);
    json_text(j, "kernel", rows[k].name);
    json_integer(j, "d", (long long)a->d);
    json_integer(j, "threads", a->threads);
    json_integer(j, "least_bytes_a_parameter", rows[k].bytes);
    json_text(j, "isa", ours_isa_name(o->c[0].isa));
    json_integer(j, "rounds", (long long)o->rounds);
    json_stats(j, "ms", o->c[0].time, 1e3);
    json_number(j, "gb_per_s", rows[k].bytes * (double)a->d / o->c[0].time.median * 1e-9);
    json_number(j, "share_of_ceiling", o->ceiling_share);
    json_text(j, "ceiling", o->ceiling ? o->ceiling->name : NULL);
    json_number(j, "core_to_core_ns", o->core_to_core);
    json_number(j, "others_load", load_share(&o->others));
    json_text(j, "best_peer", o->best ? o->best->name : NULL);
    json_stats(j, "ratio", o->best ? o->best->ratio : stats_of(NULL, 0), 1);
    json_number(j, "goal", o->goal > 0 ? o->goal : STATS_NONE);
    json_text(j, "met", o->met);
    json_begin(j, "contestants", '[');
    for (i = 0; i < o->contestants; i++) {
        const contestant *c = &o->c[i];
        json_begin(j, NULL, '{');
        json_text(j, "name", c->name);
        json_integer(j, "judged", judged(c));
        json_stats(j, "ms", c->time, 1e3);
        json_stats(j, "ratio", c->ratio, 1);
        json_number(j, "page_faults", c->faults);
        json_number(j, "difference", c->error);
        json_end(j, '}');
    }
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

static void say_sizes(report *r, const arrays *a) {
    report_say(r, "## d = %g, %d thread%s\n\n", (double)a->d, a->threads, a->threads > 1 ? "s" : "");
}

#define SUMMARY "kernel|>B|>ours, ms|>GB/s|>of ceiling|best peer|>ms|>ratio|>goal|met"

static void summary_line(table *t, kernel_id k, const arrays *a, const outcome *o) {
    table_row(t);
    table_cell(t, "%s", rows[k].title);
    table_cell(t, "%u", rows[k].bytes);
    table_number(t, o->c[0].time.median * 1e3, "");
    table_number(t, rows[k].bytes * (double)a->d / o->c[0].time.median * 1e-9, "");
    table_number(t, o->ceiling_share * 100, " %");
    table_cell(t, "%s", o->best ? o->best->name : "none");
    table_number(t, o->best ? o->best->time.median * 1e3 : STATS_NONE, "");
    if (o->best)
        table_cell(t, "%.2f (%.2f to %.2f)", o->best->ratio.median, o->best->ratio.q1, o->best->ratio.q3);
    else
        table_cell(t, "-");
    table_number(t, o->goal > 0 ? o->goal : STATS_NONE, "");
    table_cell(t, "%s", o->met);
    if (t->columns > 10) table_number(t, o->core_to_core, "");
}

static void all_lines(table *t, kernel_id k, const outcome *o) {
    size_t i;
    for (i = 0; i < o->contestants; i++) {
        const contestant *c = &o->c[i];
        table_row(t);
        table_cell(t, "%s", i == 0 ? rows[k].title : "");
        table_cell(t, "%s", c->name);
        table_number(t, c->time.median * 1e3, "");
        table_range(t, c->time.q1 * 1e3, c->time.q3 * 1e3);
        table_number(t, c->ratio.median, "");
        table_number(t, c->faults, "");
        if (isfinite(c->error)) table_cell(t, "%.1e", c->error);
        else table_cell(t, "-");
    }
}

static void say_head(report *r, const machine *m, const settings *s) {
    size_t i;
    report_say(r, "# Kernels\n\n");
    report_say(r, "- Written by `make bench-kernels`%s.\n", s->quick ? " with --quick: a look, no result" : "");
    machine_report(m, r);
    report_say(r, "- ours: set of instructions %s, found at run time; compiled with -O2 and nothing else\n",
               ours_isa_name(s->isa));
    for (i = 0; i < PEERS; i++) {
        char version[128];
        peers[i]->version(version, sizeof version);
        report_say(r, "- %s: %s\n", peers[i]->name, version);
    }
#ifndef HAVE_OPENBLAS
    report_say(r, "- OpenBLAS: not here, left out (make bench-deps)\n");
#endif
#ifndef HAVE_TORCH
    report_say(r, "- torch: not here, left out (make bench-deps)\n");
#endif
    report_say(r, "\nMilliseconds are medians. B: bytes that a parameter costs at least in memory; GB/s is of these.\n"
                  "The ceiling is a loop that reads and writes as the kernel does and computes nothing, in the same\n"
                  "rounds. Ratios are peer / ours, formed round by round, with their quartiles; the best peer is the\n"
                  "one against which ours is least. Goals hold for vectors beyond the cache. Difference: of the\n"
                  "results, from ours, relative; ours has the same bits with each set and any number of threads.\n\n");
}

/* How many times as fast as the best peer: a group of bars for each size and number of threads. */
enum { MOST_GROUPS = MOST_SIZES * MOST_THREADS };
typedef struct picture {
    plot_bar bar[MOST_GROUPS][KERNELS];
    plot_bars_group group[MOST_GROUPS];
    char title[MOST_GROUPS][64];
    size_t groups;
} picture;

static void picture_group(picture *p, const arrays *a, const outcome *o, const settings *s) {
    plot_bars_group *g = &p->group[p->groups];
    int k;
    g->title = p->title[p->groups];
    g->bar = p->bar[p->groups];
    snprintf(p->title[p->groups], sizeof p->title[0], "d = %g, %d thread%s", (double)a->d, a->threads,
             a->threads > 1 ? "s" : "");
    for (k = 0; k < KERNELS; k++) {
        plot_bar *b = &p->bar[p->groups][g->count];
        if (!option_lists(s->only, rows[k].name) || !o[k].best) continue;
        b->name = rows[k].title;
        b->colour = o[k].best->ratio.median >= 1 ? 1 : 2;
        b->value = o[k].best->ratio.median;
        b->low = o[k].best->ratio.q1;
        b->high = o[k].best->ratio.q3;
        g->count++;
    }
    if (g->count) p->groups++;
}

static void picture_draw(const picture *p, const settings *s) {
    char file[REPORT_PATH];
    if (!s->rows_at || !p->groups) return;
    report_path(file, s->rows_at, ".svg");
    plot_bars(file, "Kernels: how many times as fast as the best of OpenBLAS and torch", "the best peer's time / ours", 1,
              p->groups, p->group);
}

static void run_all(const settings *s, report *r, const machine *m) {
    static outcome o[KERNELS];
    static picture p;
    size_t i, t;
    int k;
    for (t = 0; t < s->threads_count; t++) {
        ours_threads((int)s->threads[t]);
        ceiling_threads((int)s->threads[t]);
        for (i = 0; i < s->sizes; i++) {
            const int several = s->threads[t] > 1;
            table *summary = table_new(several ? SUMMARY "|>core to core, ns" : SUMMARY);
            table *all = table_new("kernel|who|>ms|>quartiles|>/ ours|>page faults|>difference");
            load others;
            arrays a;
            size_t at;
            memset(&others, 0, sizeof others);
            arrays_make(&a, (size_t)s->size[i]);
            a.threads = (int)s->threads[t];
            for (at = 0; at < PEERS; at++)
                if (peers[at]->begin) peers[at]->begin(&a);
            for (k = 0; k < KERNELS; k++) {
                if (!option_lists(s->only, rows[k].name)) continue;
                fprintf(stderr, "%s, d = %g, %d thread(s) ...", rows[k].name, (double)a.d, a.threads);
                run_row(&o[k], (kernel_id)k, &a, s);
                fprintf(stderr, " %.3g ms", o[k].c[0].time.median * 1e3);
                if (o[k].best)
                    fprintf(stderr, ", %.2f times as fast as %s", o[k].best->ratio.median, o[k].best->name);
                fputc('\n', stderr);
                write_row(r, m, (kernel_id)k, &a, &o[k]);
                summary_line(summary, (kernel_id)k, &a, &o[k]);
                all_lines(all, (kernel_id)k, &o[k]);
                others.others += o[k].others.others;
                others.all += o[k].others.all;
            }
            say_sizes(r, &a);
            table_print(summary, r);
            report_say(r, "Other programs had %.0f %% of the processors meanwhile.\n\n", 100 * load_share(&others));
            report_say(r, "All of them:\n\n");
            table_print(all, r);
            picture_group(&p, &a, o, s);
            arrays_free(&a);
        }
    }
    picture_draw(&p, s);
    ours_threads(1);
    ceiling_threads(1);
}

static void usage(FILE *to) {
    int k;
    fprintf(to, "bench-kernels [options]\n"
                "  --sizes LIST     elements (1e4,1e6,25.6e6)\n"
                "  --threads LIST   threads (1,2)\n"
                "  --only NAMES     of these kernels:");
    for (k = 0; k < KERNELS; k++) fprintf(to, "%s %s", k ? "," : "", rows[k].name);
    fprintf(to, "\n"
                "  --isa NAME       ours: auto (default), serial, sse2, avx2, ...; all: auto, and the others beside\n"
                "  --seconds S      for the rounds of a row (4)\n"
                "  --quick          few rounds, to see whether everything works\n"
                "  --json FILE      rows as JSON lines into FILE, the report beside it as .md, a picture as .svg\n");
}

static settings settings_read(int argc, char **argv) {
    settings s;
    options o;
    const char *v;
    int isa = 0;
    memset(&s, 0, sizeof s);
    o.argc = argc;
    o.argv = argv;
    s.sizes = option_numbers("1e4,1e6,25.6e6", s.size, MOST_SIZES);
    s.threads_count = option_numbers(sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "1,2" : "1", s.threads, MOST_THREADS);
    for (o.at = 1; o.at < argc;) {
        if (option_switch(&o, "--help")) {
            usage(stdout);
            exit(0);
        }
        if (option_switch(&o, "--quick")) s.quick = 1;
        else if ((v = option_value(&o, "--sizes"))) s.sizes = option_numbers(v, s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--threads"))) s.threads_count = option_numbers(v, s.threads, MOST_THREADS);
        else if ((v = option_value(&o, "--only"))) s.only = v;
        else if ((v = option_value(&o, "--json"))) s.rows_at = v;
        else if ((v = option_value(&o, "--seconds"))) s.seconds = atof(v);
        else if ((v = option_value(&o, "--isa"))) {
            s.every_isa = !strcmp(v, "all");
            isa = s.every_isa ? 0 : ours_isa_of(v);
            if (isa < 0 || !ours_isa_available(isa)) {
                fprintf(stderr, "bench-kernels: there is no set '%s' here\n", v);
                exit(2);
            }
        } else {
            fprintf(stderr, "bench-kernels: what is '%s'?\n", argv[o.at]);
            usage(stderr);
            exit(2);
        }
    }
    s.isa = isa ? isa : ours_isa_best();
    if (s.seconds <= 0) s.seconds = s.quick ? 0.5 : 4;
    return s;
}

int main(int argc, char **argv) {
    const settings s = settings_read(argc, argv);
    machine m;
    report r;
    machine_describe(&m);
    report_open(&r, s.rows_at);
    say_head(&r, &m, &s);
    report_say(&r, "Core to core: %.0f ns.\n\n", latency_ns());
    run_all(&s, &r, &m);
    report_close(&r);
    return 0;
}
