/* SPDX-License-Identifier: MIT
 * bench-bandwidth: what this machine's memory gives, from the first cache to main memory, by one thread and by several:
 * reading one array, copying one into another, and from two into a third (the triad, without its arithmetic). Of the
 * loops of kernels/ceiling.c the best one counts. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clock.h"
#include "kernels/kernels.h"
#include "latency.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"
#include "train/plot.h"

#include <sys/mman.h>

enum { MOST_SIZES = 16, MOST_THREADS = 8, ROUNDS = 7, MIXES = 3, MOST_BYTES = 1 << 30 };

typedef struct settings {
    double size[MOST_SIZES], threads[MOST_THREADS];
    size_t sizes, threads_count;
    const char *rows_at;
    double seconds; /* a measurement takes, at least */
} settings;

static const struct {
    const char *name;
    streams s;
    int colour;
} mix[MIXES] = {{"read", {1, 0, 0}, 1}, {"copy", {1, 0, 1}, 2}, {"triad", {2, 0, 1}, 3}};

typedef struct outcome {
    int which; /* the best loop */
    size_t bytes;
    stats rate; /* bytes a second, those written counted once */
} outcome;

/* Seconds a pass, of as many as last about s->seconds. */
static double measure(int which, streams m, arrays *a, size_t *passes, const settings *s) {
    double start, took;
    size_t i;
    ceiling_begin();
    if (a->threads > 1) clock_quiet();
    for (;; *passes *= 2) {
        ceiling_run(which, m, a);
        start = clock_now();
        for (i = 0; i < *passes; i++) ceiling_run(which, m, a);
        took = clock_now() - start;
        if (took >= s->seconds || *passes >= (size_t)1 << 30) break;
    }
    ceiling_end();
    return took / (double)*passes;
}

/* `memory` holds `bytes`, which the arrays of the mix share. */
static outcome run(int m, float *memory, size_t bytes, int threads, const settings *s) {
    const int n = mix[m].s.read + mix[m].s.write;
    double rate[CEILINGS][ROUNDS];
    size_t passes[CEILINGS], i;
    outcome o = {0, 0, {0}};
    arrays a;
    int k, way;
    memset(&a, 0, sizeof a);
    a.threads = threads;
    /* whole blocks of all loops and threads: four parts of four lines of 16 elements each */
    a.d = bytes / sizeof(float) / (size_t)n / (256 * (size_t)threads) * (256 * (size_t)threads);
    for (k = 0; k < mix[m].s.read; k++) a.x[k] = memory + a.d * (size_t)k;
    if (mix[m].s.write) a.out = memory + a.d * (size_t)(n - 1);
    o.bytes = a.d * sizeof(float) * (size_t)n;
    for (i = 0; i < ROUNDS; i++)
        for (way = 0; way < CEILINGS; way++) {
            if (ceiling_bypasses(way) && !mix[m].s.write) continue;
            if (i == 0) passes[way] = 1;
            rate[way][i] = (double)o.bytes / measure(way, mix[m].s, &a, &passes[way], s);
        }
    for (way = 0; way < CEILINGS; way++) {
        stats t;
        if (ceiling_bypasses(way) && !mix[m].s.write) continue;
        t = stats_of(rate[way], ROUNDS);
        if (t.median > o.rate.median) o.rate = t, o.which = way;
    }
    return o;
}

static void write_row(report *r, const machine *m, int k, int threads, const outcome *o, const load *others) {
    json *j = &r->rows;
    json_line_begin(j);
    json_text(j, "bench", "bandwidth");
    json_text(j, "date", m->date);
    json_text(j, "mix", mix[k].name);
    json_integer(j, "bytes", (long long)o->bytes);
    json_integer(j, "threads", threads);
    json_stats(j, "gb_per_s", o->rate, 1e-9);
    json_text(j, "loop", ceiling_name(o->which));
    json_number(j, "others_load", load_share(others));
    machine_row(m, j);
    json_line_end(j);
}

static void size_text(char *text, size_t capacity, double bytes) {
    if (bytes >= 1 << 30)
        snprintf(text, capacity, "%g GiB", bytes / (1 << 30));
    else if (bytes >= 1 << 20)
        snprintf(text, capacity, "%g MiB", bytes / (1 << 20));
    else
        snprintf(text, capacity, "%g KiB", bytes / (1 << 10));
}

static void run_all(const settings *s, report *r, const machine *m) {
    static double x[MOST_THREADS][MIXES][MOST_SIZES], y[MOST_THREADS][MIXES][MOST_SIZES];
    static plot_series series[MOST_THREADS][MIXES];
    static plot_panel panel[MOST_THREADS];
    static char title[MOST_THREADS][32];
    char picture[REPORT_PATH];
    float *memory;
    size_t t, i, largest = 0;
    int k;
    for (i = 0; i < s->sizes; i++)
        if ((size_t)s->size[i] > largest) largest = (size_t)s->size[i];
    memory = (float *)mmap(NULL, largest, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "bench-bandwidth: %zu bytes cannot be had\n", largest);
        exit(1);
    }
    memset(memory, 0, largest);
    for (t = 0; t < s->threads_count; t++) {
        table *all = table_new(">all arrays together|>read, GB/s|>copy|>triad|the triad's loop");
        const int threads = (int)s->threads[t];
        load others;
        memset(&others, 0, sizeof others);
        ceiling_threads(threads);
        snprintf(title[t], sizeof title[t], "%d thread%s", threads, threads > 1 ? "s" : "");
        panel[t].title = title[t];
        panel[t].x_label = "log2 of KiB, all arrays together";
        panel[t].y_label = "log10 of GB/s";
        panel[t].count = MIXES;
        panel[t].series = series[t];
        panel[t].y_upto = 3;
        for (i = 0; i < s->sizes; i++) {
            outcome o;
            char size[32];
            size_text(size, sizeof size, s->size[i]);
            fprintf(stderr, "%s, %s ...", size, title[t]);
            table_row(all);
            table_cell(all, "%s", size);
            for (k = 0; k < MIXES; k++) {
                load one;
                memset(&one, 0, sizeof one);
                load_begin(&one);
                o = run(k, memory, (size_t)s->size[i], threads, s);
                load_end(&one);
                others.others += one.others;
                others.all += one.all;
                write_row(r, m, k, threads, &o, &one);
                table_number(all, o.rate.median * 1e-9, "");
                fprintf(stderr, " %s %.3g GB/s", mix[k].name, o.rate.median * 1e-9);
                series[t][k].name = mix[k].name;
                series[t][k].colour = mix[k].colour;
                series[t][k].x = x[t][k];
                series[t][k].y = y[t][k];
                x[t][k][i] = log2(s->size[i] / 1024);
                y[t][k][i] = log10(o.rate.median * 1e-9);
                series[t][k].count = i + 1;
            }
            table_cell(all, "%s", ceiling_name(o.which));
            fputc('\n', stderr);
        }
        report_say(r, "## %s\n\n", title[t]);
        table_print(all, r);
        report_say(r, "Other programs had %.0f %% of the processors meanwhile.\n\n", 100 * load_share(&others));
    }
    ceiling_threads(1);
    munmap(memory, largest);
    if (!s->rows_at) return;
    report_path(picture, s->rows_at, ".svg");
    plot_panels(picture, "Memory: bytes read and written a second", s->threads_count, panel);
}

static void usage(FILE *to) {
    fputs("bench-bandwidth [options]\n"
          "  --sizes LIST     bytes of all arrays together (16Ki,64Ki,256Ki,1Mi,4Mi,16Mi,64Mi,256Mi,1024Mi)\n"
          "  --threads LIST   threads (1,2)\n"
          "  --seconds S      a measurement lasts at least so long (0.02)\n"
          "  --quick          --seconds 0.002\n"
          "  --json FILE      rows as JSON lines into FILE, the report beside it as .md, a picture as .svg\n",
          to);
}

static settings settings_read(int argc, char **argv) {
    settings s;
    options o;
    const char *v;
    size_t i;
    memset(&s, 0, sizeof s);
    s.seconds = 0.02;
    o.argc = argc;
    o.argv = argv;
    s.sizes = option_numbers("16Ki,64Ki,256Ki,1Mi,4Mi,16Mi,64Mi,256Mi,1024Mi", s.size, MOST_SIZES);
    s.threads_count = option_numbers(sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "1,2" : "1", s.threads, MOST_THREADS);
    for (o.at = 1; o.at < argc;) {
        if (option_switch(&o, "--help")) {
            usage(stdout);
            exit(0);
        }
        if (option_switch(&o, "--quick"))
            s.seconds = 0.002;
        else if ((v = option_value(&o, "--sizes")))
            s.sizes = option_numbers(v, s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--threads")))
            s.threads_count = option_numbers(v, s.threads, MOST_THREADS);
        else if ((v = option_value(&o, "--seconds")))
            s.seconds = option_number("bench-bandwidth", "--seconds", v, 1e-4, 60);
        else if ((v = option_value(&o, "--json")))
            s.rows_at = v;
        else {
            fprintf(stderr, "bench-bandwidth: what is '%s'?\n", argv[o.at]);
            usage(stderr);
            exit(2);
        }
    }
    for (i = 0; i < s.threads_count; i++)
        if (s.threads[i] > MOST_THREADS) {
            fprintf(stderr, "bench-bandwidth: --threads: at most %d, got %g\n", MOST_THREADS, s.threads[i]);
            exit(2);
        }
    for (i = 0; i < s.sizes; i++)
        if (s.size[i] < 16384 || s.size[i] > MOST_BYTES) {
            fprintf(stderr, "bench-bandwidth: --sizes: from 16Ki to 1024Mi, got %g\n", s.size[i]);
            exit(2);
        }
    return s;
}

int main(int argc, char **argv) {
    const settings s = settings_read(argc, argv);
    machine m;
    report r;
    machine_describe(&m);
    report_open(&r, s.rows_at);
    report_say(&r, "# Memory bandwidth\n\n- Written by `make bench-bandwidth`.\n");
    machine_report(&m, &r);
    report_say(&r,
               "\nGB/s of what is read and written; what a cache reads before it is overwritten is not counted.\n"
               "Medians of %d rounds of the best of %d loops. Core to core: %.0f ns.\n\n",
               ROUNDS, CEILINGS, latency_ns());
    run_all(&s, &r, &m);
    report_close(&r);
    return 0;
}
