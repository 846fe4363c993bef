/* SPDX-License-Identifier: MIT
 * bench-cuda: the device kernels against the GPU's own copies, in one process and one run.
 *
 * Before a work is timed, what it writes and yields must equal what the serial kernels make of the same numbers on the
 * host, bit for bit. Then the work, a copy on the device and a memset take turns, round after round, in an order that
 * rotates; a measurement is a launch that is not timed and as many as are needed to time them, between two events.
 * Ratios are formed of the bandwidths of one round; reported are medians and quartiles over the rounds. */
#define WEFT_CUDA
#define HPSGD_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#include "works.h"

#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"

#include <vector>

enum { MOST_ROUNDS = 61, MOST_SIZES = 16, OURS = 0, COPY, MEMSET, CONTESTANTS };
enum : size_t { STEP = 64, TOTALS = WORK_SOURCES * WEFT_SLOTS, PIECE = 1 << 20 };

/* what a row is to come to, of the copy's bandwidth */
static const double GOAL = 0.9;

static const struct type {
    const char *name;
    weft_dtype stored, computed;
} types[] = {{"f32", WEFT_F32, WEFT_F32}, {"f64", WEFT_F64, WEFT_F64}, {"bf16", WEFT_BF16, WEFT_F32}};

static struct settings {
    double size[MOST_SIZES], goal_from[1], seconds;
    size_t sizes;
    unsigned arrays; /* that the works asked for need */
    const char *only, *types, *rows_at;
    int quick;
    char command[1024];
} o;

static struct gpu {
    char card[512], driver[256];
    double cache; /* bytes */
    cudaStream_t stream;
    cudaEvent_t from, to;
} g;

static machine m;
static report r;

/* Of one type and size: arrays there, and here the numbers that array i begins with, those from number i * STEP on. */
struct arrays {
    const type *is;
    size_t n, each[2];         /* bytes of an element: of the type, of the one that is computed with */
    unsigned char *numbers[2]; /* of those */
    weft_device device;
    side there;
    void *taken[WORK_ARRAYS + 4], *spare[2]; /* device memory; what is copied and set */
    unsigned count, have;                    /* of taken; arrays that there is memory for */
    int holds[WORK_ARRAYS];                  /* 1 + which of its numbers; 0: something else */
};

struct outcome {
    size_t rounds, launches[CONTESTANTS];
    stats time, rate[CONTESTANTS], share; /* rate: bytes a second; share: of the copy's */
    const char *met;                      /* "-": not judged */
};

/* ---- whatever goes wrong ends the program ---- */
[[noreturn]] static void fail(const char *what, const char *why) {
    fprintf(stderr, "bench-cuda: %s: %s\n", what, why);
    exit(1);
}

static void must(cudaError_t e, const char *what) {
    if (e != cudaSuccess) fail(what, cudaGetErrorString(e));
}

static void must(weft_status s, const weft_device &d, const char *what) {
    must(d.error, what);
    if (s != WEFT_OK) fail(what, "the kernels refuse it");
}

static unsigned char *take(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) fail("memory", "there is not enough on the host");
    return (unsigned char *)p;
}

/* ---- arrays ---- */

/* n numbers in (-1, 1), the same each time. */
static unsigned char *numbers_of(weft_dtype t, size_t n) {
    unsigned char *p = take(n * weft_dtype_bytes(t));
    for (size_t i = 0; i < n; i++) {
        const double d = (double)((int64_t)weft_mix(i) >> 11) * (1.0 / 4503599627370496.0);
        const float f = (float)d;
        if (t == WEFT_F64) memcpy(p + i * 8, &d, 8);
        if (t == WEFT_F32) memcpy(p + i * 4, &f, 4);
        if (t == WEFT_BF16) serial()->f32_to_bf16(1, &f, (uint16_t *)(void *)p + i);
    }
    return p;
}

static void *take_there(arrays *a, size_t bytes) {
    void *p = NULL;
    must(cudaMalloc(&p, bytes), "device memory");
    return a->taken[a->count++] = p;
}

static void arrays_open(arrays *a, const type &t, size_t n) {
    /* the blocks of subspace.h are smaller ones */
    const size_t blocks = n * (WEFT_BLOCK / WEFT_DEVICE_COLUMNS), own = weft_device_bytes(blocks, WORK_SOURCES);
    memset(a, 0, sizeof *a);
    a->is = &t;
    a->n = n;
    a->each[0] = weft_dtype_bytes(t.stored);
    a->each[1] = weft_dtype_bytes(t.computed);
    a->numbers[0] = numbers_of(t.stored, n + STEP * WORK_ARRAYS);
    a->numbers[1] = t.computed == t.stored ? a->numbers[0] : numbers_of(t.computed, n + STEP * WORK_ARRAYS);
    must(weft_device_init(&a->device, g.stream, take_there(a, own), own, blocks, WORK_SOURCES), a->device, "memory");
    a->there.device = &a->device;
    a->there.dtype = t.stored;
    a->there.n = n;
    a->there.total = (weft_slot *)take_there(a, TOTALS * sizeof(weft_slot));
    for (int i = 0; i < 2; i++) a->spare[i] = take_there(a, n * a->each[0]);
    must(cudaMemcpyAsync(a->spare[0], a->numbers[0], n * a->each[0], cudaMemcpyHostToDevice, g.stream), "upload");
    for (; a->have < o.arrays; a->have++) {
        size_t left = 0, all = 0;
        must(cudaMemGetInfo(&left, &all), "device memory");
        if (left < n * a->each[1] + all / 32) break;
        a->there.array[a->have] = take_there(a, n * a->each[1]);
    }
}

static void arrays_close(arrays *a) {
    must(cudaStreamSynchronize(g.stream), "the end");
    while (a->count) must(cudaFree(a->taken[--a->count]), "device memory");
    if (a->numbers[1] != a->numbers[0]) free(a->numbers[1]);
    free(a->numbers[0]);
}

/* ---- verification ---- */
static void same(const work &w, const char *what, const void *there, const void *here, size_t bytes) {
    std::vector<unsigned char> piece(PIECE);
    for (size_t at = 0, n; at < bytes; at += n) {
        n = bytes - at < PIECE ? bytes - at : PIECE;
        must(cudaMemcpyAsync(piece.data(), (const char *)there + at, n, cudaMemcpyDeviceToHost, g.stream), w.name);
        must(cudaStreamSynchronize(g.stream), w.name);
        if (memcmp(piece.data(), (const char *)here + at, n)) fail(w.name, what);
    }
}

/* Once on both sides. */
static void check(arrays *a, const work &w) {
    weft_slot total[TOTALS];
    side here = a->there;
    memset(total, 0, sizeof total);
    here.device = NULL;
    here.total = total;
    for (unsigned i = 0; i < w.arrays; i++) {
        const bool wide = has(w.wide, i), written = has(w.writes, i);
        const size_t bytes = a->n * a->each[wide];
        unsigned char *own = a->numbers[wide] + i * STEP * a->each[wide];
        if (a->holds[i] != 1 + wide)
            must(cudaMemcpyAsync(a->there.array[i], own, bytes, cudaMemcpyHostToDevice, g.stream), "upload");
        a->holds[i] = written ? 0 : 1 + wide;
        here.array[i] = written ? memcpy(take(bytes), own, bytes) : own;
    }
    must(cudaMemsetAsync(a->there.total, 0, sizeof total, g.stream), w.name);
    must(w.run(w, a->there), a->device, w.name);
    w.run(w, here);
    if (w.slots) same(w, "other results than the serial kernels'", a->there.total, total, sizeof total);
    for (unsigned i = 0; i < w.arrays; i++) {
        if (!has(w.writes, i)) continue;
        same(w, "other elements than the serial kernels'", a->there.array[i], here.array[i],
             a->n * a->each[has(w.wide, i)]);
        free(here.array[i]);
    }
}

/* ---- time ---- */
static void launch(const arrays *a, const work &w, int who) {
    const size_t bytes = a->n * a->each[0];
    if (who == OURS) must(w.run(w, a->there), a->device, w.name);
    if (who == COPY) must(cudaMemcpyAsync(a->spare[1], a->spare[0], bytes, cudaMemcpyDeviceToDevice, g.stream), "copy");
    if (who == MEMSET) must(cudaMemsetAsync(a->spare[1], 0, bytes, g.stream), "memset");
}

/* Seconds a launch. */
static double measure(const arrays *a, const work &w, int who, size_t launches) {
    float ms = 0;
    launch(a, w, who);
    must(cudaEventRecord(g.from, g.stream), w.name);
    for (size_t i = 0; i < launches; i++) launch(a, w, who);
    must(cudaEventRecord(g.to, g.stream), w.name);
    must(cudaEventSynchronize(g.to), w.name);
    must(cudaEventElapsedTime(&ms, g.from, g.to), w.name);
    if (!(ms > 0)) fail(w.name, "the GPU's clock stands still");
    return (double)ms * 1e-3 / (double)launches;
}

/* As many launches as take a millisecond. */
static size_t calibrate(const arrays *a, const work &w, int who) {
    size_t launches = 1;
    double one;
    while ((one = measure(a, w, who, launches)) * (double)launches < 3e-4 && launches < 4096) launches *= 4;
    return one < 1e-3 ? (size_t)ceil(1e-3 / one) : 1;
}

/* That a parameter costs. */
static double bytes_of(const arrays *a, const work &w) {
    return (double)(w.stored * a->each[0] + w.computed * a->each[1]);
}

static outcome run_row(arrays *a, const work &w) {
    static double seconds[CONTESTANTS][MOST_ROUNDS], rate[CONTESTANTS][MOST_ROUNDS];
    const double n = (double)a->n, each = (double)a->each[0], bytes[] = {n * bytes_of(a, w), n * 2 * each, n * each};
    const size_t least = o.quick ? 3 : 7;
    double spent = 0;
    outcome out;
    check(a, w);
    for (int i = 0; i < CONTESTANTS; i++) out.launches[i] = calibrate(a, w, i);
    for (out.rounds = 0; out.rounds < least || (out.rounds < MOST_ROUNDS && spent < o.seconds); out.rounds++)
        for (size_t i = 0; i < CONTESTANTS; i++) {
            const size_t at = (i + out.rounds) % CONTESTANTS;
            const double t = measure(a, w, (int)at, out.launches[at]);
            seconds[at][out.rounds] = t;
            rate[at][out.rounds] = bytes[at] / t;
            spent += t * (double)out.launches[at];
        }
    out.time = stats_of(seconds[OURS], out.rounds);
    for (int i = 0; i < CONTESTANTS; i++) out.rate[i] = stats_of(rate[i], out.rounds);
    out.share = stats_of_ratios(rate[OURS], rate[COPY], out.rounds);
    /* what the cache holds says nothing about memory */
    out.met = n < o.goal_from[0] || bytes[OURS] < 2 * g.cache ? "-" : out.share.median >= GOAL ? "yes" : "no";
    return out;
}

/* ---- the GPU ---- */
static void gpu_open(void) {
    cudaDeviceProp p;
    char line[200];
    int device = 0, devices = 0, knows = 0, runtime = 0;
    const cudaError_t e = cudaGetDeviceCount(&devices);
    if (e != cudaSuccess || !devices) fail("no GPU", cudaGetErrorString(e));
    must(cudaGetDevice(&device), "cudaGetDevice");
    must(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
    must(cudaDriverGetVersion(&knows), "cudaDriverGetVersion");
    must(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    must(cudaStreamCreate(&g.stream), "cudaStreamCreate");
    must(cudaEventCreate(&g.from), "cudaEventCreate");
    must(cudaEventCreate(&g.to), "cudaEventCreate");
    g.cache = (double)p.l2CacheSize;
    machine_line("/proc/driver/nvidia/version", line, sizeof line);
    snprintf(g.card, sizeof g.card, "%s, sm_%d%d, %d processors, %.0f GiB, cache of %.0f MiB", p.name, p.major, p.minor,
             p.multiProcessorCount, (double)p.totalGlobalMem / (1 << 30), g.cache / (1 << 20));
    snprintf(g.driver, sizeof g.driver, "%s, for CUDA %d.%d; runtime: %d.%d", line[0] ? line : "unknown", knows / 1000,
             knows % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
}

/* ---- reporting ---- */
static void write_row(const arrays *a, const work &w, const outcome &out) {
    json *j = &r.rows;
    json_line_begin(j);
    json_text(j, "bench", "cuda");
    json_text(j, "date", m.date);
    json_text(j, "command", o.command);
    json_text(j, "work", w.name);
    json_text(j, "dtype", a->is->name);
    json_integer(j, "d", (long long)a->n);
    json_number(j, "least_bytes_a_parameter", bytes_of(a, w));
    json_integer(j, "rounds", (long long)out.rounds);
    json_integer(j, "launches", (long long)out.launches[OURS]);
    json_stats(j, "ms", out.time, 1e3);
    json_stats(j, "gb_per_s", out.rate[OURS], 1e-9);
    json_stats(j, "copy_gb_per_s", out.rate[COPY], 1e-9);
    json_stats(j, "memset_gb_per_s", out.rate[MEMSET], 1e-9);
    json_stats(j, "of_copy", out.share, 1);
    json_text(j, "met", out.met);
    json_text(j, "gpu", g.card);
    json_text(j, "driver", g.driver);
    machine_row(&m, j);
    json_line_end(j);
}

static void table_share(table *t, stats s) {
    table_cell(t, "%.1f (%.1f to %.1f) %%", 100 * s.median, 100 * s.q1, 100 * s.q3);
}

static void say_row(table *t, const arrays *a, const work &w, const outcome &out) {
    table_row(t);
    table_cell(t, "%s", w.title);
    table_number(t, bytes_of(a, w), "");
    table_number(t, out.time.median * 1e3, "");
    table_number(t, out.rate[OURS].median * 1e-9, "");
    table_range(t, out.rate[OURS].q1 * 1e-9, out.rate[OURS].q3 * 1e-9);
    table_number(t, out.rate[COPY].median * 1e-9, "");
    table_number(t, out.rate[MEMSET].median * 1e-9, "");
    table_share(t, out.share);
    table_cell(t, "%s", out.met);
}

static void say_head(void) {
    report_say(&r, "# Device kernels\n\n- Written by `%s`%s.\n", o.command, o.quick ? ": a look, no result" : "");
    machine_report(&m, &r);
    report_say(&r, "- GPU: %s\n- driver: %s\n", g.card, g.driver);
    report_say(&r,
               "\nB: bytes that a parameter costs at least, each array once: read, and written. GB/s is of these, of\n"
               "the copy (cudaMemcpyAsync on the device) both, of cudaMemsetAsync those written. Medians with\n"
               "quartiles; of copy: formed round by round. Launches follow each other without a pause; at small d\n"
               "they are what is measured, and the cache. Numbers of K participants are K launches that read all of\n"
               "them. What each work writes and yields was the serial kernels', bit for bit. The goal, %.0f %% of\n"
               "the copy's bandwidth from d = %g on, is for works beyond twice the cache.\n\n",
               100 * GOAL, o.goal_from[0]);
}

/* Of one type and size. */
static void run_works(arrays *a, table *missed, unsigned *judged, unsigned *bad) {
    table *t = table_new("work|>B|>ms|>GB/s|>quartiles|>copy, GB/s|>memset, GB/s|>of copy|goal met");
    report_say(&r, "## d = %g, %s\n\n", (double)a->n, a->is->name);
    for (const work &w : works) {
        if (!option_lists(o.only, w.name)) continue;
        if (w.arrays > a->have) {
            report_say(&r, "Left out: %s; there is memory for %u arrays of %u.\n\n", w.title, a->have, w.arrays);
            continue;
        }
        fprintf(stderr, "%s, d = %g, %s ...", w.name, (double)a->n, a->is->name);
        const outcome out = run_row(a, w);
        fprintf(stderr, " %.4g GB/s, %.0f %% of the copy's\n", out.rate[OURS].median * 1e-9, 100 * out.share.median);
        write_row(a, w, out);
        say_row(t, a, w, out);
        *judged += out.met[0] != '-';
        if (out.met[0] != 'n') continue;
        ++*bad;
        table_row(missed);
        table_cell(missed, "%s", w.title);
        table_cell(missed, "%s", a->is->name);
        table_cell(missed, "%g", (double)a->n);
        table_share(missed, out.share);
    }
    table_print(t, &r);
}

static void usage(FILE *to) {
    fprintf(to, "bench-cuda [options]\n"
                "  --sizes LIST     elements (1e4,1e6,25.6e6,1e8); works for which memory is short are left out\n"
                "  --types NAMES    of these types: f32,f64,bf16\n"
                "  --only NAMES     of these works:");
    for (int i = 0; i < WORKS; i++)
        fprintf(to, "%s%s%s", i ? "," : "", i % 6 ? "" : "\n                   ", works[i].name);
    fprintf(to, "\n"
                "  --goal-from N    elements from which the goal holds (25.6e6)\n"
                "  --seconds S      for the rounds of a row (1)\n"
                "  --quick          few rounds, to see whether everything works\n"
                "  --json FILE      rows as JSON lines into FILE, the report beside it as .md (default: none)\n");
}

static void settings_read(int argc, char **argv) {
    const char *sizes = "1e4,1e6,25.6e6,1e8", *from = "25.6e6", *seconds = NULL;
    const struct {
        const char *name, **to;
    } texts[] = {{"--sizes", &sizes},    {"--types", &o.types},   {"--only", &o.only},
                 {"--goal-from", &from}, {"--seconds", &seconds}, {"--json", &o.rows_at}};
    options l = {argc, 1, argv};
    size_t used = 0;
    for (int i = 0; i < argc && used < sizeof o.command; i++)
        used += (size_t)snprintf(o.command + used, sizeof o.command - used, "%s%s", i ? " " : "", argv[i]);
    while (l.at < argc) {
        const char *v = NULL;
        for (const auto &t : texts)
            if (l.at < argc && (v = option_value(&l, t.name)) && (*t.to = v)) break;
        if (v || option_switch(&l, "--quick")) {
            o.quick |= !v;
            continue;
        }
        const int help = option_switch(&l, "--help");
        if (!help) fprintf(stderr, "bench-cuda: what is '%s'?\n", argv[l.at]);
        usage(help ? stdout : stderr);
        exit(help ? 0 : 2);
    }
    for (const work &w : works)
        if (option_lists(o.only, w.name) && w.arrays > o.arrays) o.arrays = w.arrays;
    o.sizes = option_numbers(sizes, o.size, MOST_SIZES);
    option_numbers(from, o.goal_from, 1);
    o.seconds = seconds && atof(seconds) > 0 ? atof(seconds) : o.quick ? 0 : 1;
}

int main(int argc, char **argv) {
    static arrays a;
    unsigned judged = 0, bad = 0;
    settings_read(argc, argv);
    gpu_open();
    machine_describe(&m);
    report_open(&r, o.rows_at);
    say_head();
    table *missed = table_new("below the goal|type|>d|>of copy");
    for (size_t i = 0; i < o.sizes; i++)
        for (const type &t : types) {
            if (!option_lists(o.types, t.name)) continue;
            arrays_open(&a, t, (size_t)o.size[i]);
            run_works(&a, missed, &judged, &bad);
            arrays_close(&a);
        }
    report_say(&r, "## The goal\n\n%u of %u rows with a goal miss it.\n\n", bad, judged);
    table_print(missed, &r);
    must(cudaEventDestroy(g.from), "the end");
    must(cudaEventDestroy(g.to), "the end");
    must(cudaStreamDestroy(g.stream), "the end");
    report_close(&r);
    return 0;
}
