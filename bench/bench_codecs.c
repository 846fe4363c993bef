/* SPDX-License-Identifier: MIT
 * bench-codecs: what codecs cost, against torch and against what memory gives to a pass that reads and writes as they
 * do, and the speed of a link below which each of them pays.
 *
 * One thread. Contestants take turns, round after round, in an order that rotates; a turn is one call after one that is
 * not timed. Ratios are formed of two times of one round; reported are medians and quartiles over the rounds. Before
 * anything is timed, what comes out must equal what the serial set makes, bit by bit. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"

#include "clock.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"

#include "codecs/peer.h"

#include <sys/mman.h>

enum { MOST_ROUNDS = 41, MOST_TURNS = 6, MOST_SIZES = 8 };

typedef struct settings {
    double size[MOST_SIZES];
    size_t sizes;
    const char *rows_at, *only;
    double seconds;
    int quick;
    weft_isa isa;
} settings;

/* What a row does, and what it is compared with. */
static const struct row_kind {
    const char *key, *title;
    weft_codec codec;
    weft_codec_form form;
    int decodes;
    double bytes; /* an element, at least, in memory */
    int peer;     /* PEER_...; -1: none */
    double goal;  /* times as fast as torch; 0: none set */
    double of_memory; /* the share of what memory gives; 0: none set */
} kinds[] = {
    {"q8-encode", "q8, feedback", {WEFT_CODEC_Q8, 0, 0, 0}, WEFT_CODEC_FEEDBACK, 0, 13, PEER_Q8_ENCODE, 18, 0.9},
    {"q8-decode", "q8, decode and add", {WEFT_CODEC_Q8, 0, 0, 0}, WEFT_CODEC_PLAIN, 1, 9, PEER_Q8_DECODE, 2.2, 0.9},
    {"q4-encode", "q4, feedback", {WEFT_CODEC_Q4, 0, 0, 0}, WEFT_CODEC_FEEDBACK, 0, 12.5, -1, 0, 0},
    {"q4-decode", "q4, decode and add", {WEFT_CODEC_Q4, 0, 0, 0}, WEFT_CODEC_PLAIN, 1, 8.5, -1, 0, 0},
    {"topk1-encode", "top-k 1 %", {WEFT_CODEC_TOPK, 0, 0, 0.99}, WEFT_CODEC_PLAIN, 0, 4, PEER_TOPK, 28, 0},
    {"topk1-decode", "top-k 1 %, decode and add", {WEFT_CODEC_TOPK, 0, 0, 0.99}, WEFT_CODEC_PLAIN, 1, 0.16, -1, 0, 0},
    {"topk10-encode", "top-k 10 %", {WEFT_CODEC_TOPK, 0, 0, 0.9}, WEFT_CODEC_PLAIN, 0, 4, PEER_TOPK, 6.5, 0},
    {"topk10-decode", "top-k 10 %, decode and add", {WEFT_CODEC_TOPK, 0, 0, 0.9}, WEFT_CODEC_PLAIN, 1, 1.6, -1, 0, 0},
    {"topk1f-encode", "top-k 1 %, feedback", {WEFT_CODEC_TOPK, 0, 0, 0.99}, WEFT_CODEC_FEEDBACK, 0, 12, -1, 0, 0},
    {"qsgd-encode", "qsgd 8 bits", {WEFT_CODEC_QSGD, 8, 0, 0}, WEFT_CODEC_PLAIN, 0, 5.125, -1, 0, 0},
    {"qsgd-decode", "qsgd 8 bits, decode and add", {WEFT_CODEC_QSGD, 8, 0, 0}, WEFT_CODEC_PLAIN, 1, 9.125, -1, 0, 0},
    {"sign-encode", "sign, feedback", {WEFT_CODEC_SIGN, 0, 0, 0}, WEFT_CODEC_FEEDBACK, 0, 12.125, -1, 0, 0},
    {"sign-decode", "sign, decode and add", {WEFT_CODEC_SIGN, 0, 0, 0}, WEFT_CODEC_PLAIN, 1, 8.125, -1, 0, 0},
    {"bf16-encode", "bf16", {WEFT_CODEC_BF16, 0, 0, 0}, WEFT_CODEC_PLAIN, 0, 6, -1, 0, 0},
    {"bf16-decode", "bf16, decode and add", {WEFT_CODEC_BF16, 0, 0, 0}, WEFT_CODEC_PLAIN, 1, 10, -1, 0, 0},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef enum turn_kind { OURS, CEILING, TORCH, TORCH_TUNED } turn_kind;

typedef struct turn {
    turn_kind kind;
    double seconds[MOST_ROUNDS];
    stats time, ratio; /* ratio: this one's time by ours */
} turn;

typedef struct arrays {
    size_t d, capacity, bytes;
    float *z, *kept, *out, *step;
    unsigned char *message;
    const weft_codec_kernels *k;
} arrays;

static void must(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "bench-codecs: %s\n", what);
    exit(1);
}

static void *map_bytes(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(p != MAP_FAILED, "out of memory");
    return p;
}

/* Something like a gradient: more or less normal. */
static void fill(arrays *a) {
    for (size_t i = 0; i < a->d; i++) {
        const uint64_t u = weft_mix(i * WEFT_HASH_KEY);
        double sum = 0;
        for (int s = 0; s < 64; s += 16) sum += (double)(u >> s & 0xFFFFu) / 32768 - 1;
        a->z[i] = (float)(sum * 1e-2 + (double)(weft_mix(u) >> 40) * 1e-14); /* few are alike */
    }
}

static weft_codec_job job_of(const struct row_kind *r, const arrays *a) {
    weft_codec_job j;
    memset(&j, 0, sizeof j);
    j.codec = &r->codec;
    j.form = r->form;
    j.count = a->d;
    j.data = a->z;
    j.kept = r->form ? a->kept : NULL;
    j.key = 1;
    return j;
}

static void encode(const struct row_kind *r, arrays *a, const weft_codec_kernels *k) {
    const weft_codec_job j = job_of(r, a);
    weft_detail d;
    must(weft_codec_encode_tensor(k, &j, a->message, a->capacity, &a->bytes, NULL, &d) == WEFT_OK, "encode");
}

static void decode(const struct row_kind *r, arrays *a, const weft_codec_kernels *k) {
    weft_detail d;
    must(weft_codec_decode_add(k, &r->codec, WEFT_F32, a->d, 0, a->d, a->message, a->bytes, 0.5, a->out, &d) == WEFT_OK,
         "decode");
}

/* ---- the same traffic, and nothing else ---- */
typedef unsigned line __attribute__((vector_size(64), may_alias, aligned(4)));
static volatile unsigned none, sink;

static void ceiling(const struct row_kind *r, arrays *a) {
    const line zero = {none};
    line all = zero;
    for (size_t i = 0; i + 256 <= a->d; i += 256) {
        for (size_t p = 0; p < 256; p += 64) {
            for (size_t q = 0; q < 64; q += 16) {
                line v = zero;
                if (!r->decodes) v = *(const line *)(const void *)(a->z + i + p + q);
                if (r->decodes || r->form) {
                    line *to = (line *)(void *)((r->decodes ? a->out : a->kept) + i + p + q);
                    const line w = *to;
                    *to = w | zero;
                    v |= w;
                }
                all |= v;
            }
            if (r->decodes && r->codec.kind == WEFT_CODEC_Q8) all |= *(const line *)(const void *)(a->message + i + p);
            if (!r->decodes && r->codec.kind == WEFT_CODEC_Q8) *(line *)(void *)(a->message + i + p) = all;
        }
    }
    sink = all[0];
}

static void take_turn(const struct row_kind *r, arrays *a, turn_kind kind) {
    if (kind == CEILING) ceiling(r, a);
    else if (kind == OURS && r->decodes) decode(r, a, a->k);
    else if (kind == OURS) encode(r, a, a->k);
#ifdef HAVE_TORCH
    else peer_run(r->peer);
#endif
}

/* Ours must be what the serial set makes. */
static void agree(const struct row_kind *r, arrays *a) {
    const size_t bytes = a->d * sizeof(float);
    float *kept = (float *)map_bytes(bytes), *out = (float *)map_bytes(bytes);
    unsigned char *message = (unsigned char *)map_bytes(a->capacity);
    memset(a->kept, 0, bytes);
    memset(a->out, 0, bytes);
    encode(r, a, weft_codec_kernels_select(WEFT_ISA_SERIAL, 0));
    decode(r, a, weft_codec_kernels_select(WEFT_ISA_SERIAL, 0));
    memcpy(kept, a->kept, bytes);
    memcpy(out, a->out, bytes);
    memcpy(message, a->message, a->bytes);
    memset(a->kept, 0, bytes);
    memset(a->out, 0, bytes);
    encode(r, a, a->k);
    decode(r, a, a->k);
    must(!memcmp(kept, a->kept, bytes) && !memcmp(out, a->out, bytes) && !memcmp(message, a->message, a->bytes),
         "the sets of instructions differ");
    munmap(kept, bytes);
    munmap(out, bytes);
    munmap(message, a->capacity);
}

static size_t line_up(const struct row_kind *r, turn *turns) {
    size_t n = 0;
    turns[n++].kind = OURS;
    if (r->of_memory > 0 || r->codec.kind == WEFT_CODEC_TOPK) turns[n++].kind = CEILING;
#ifdef HAVE_TORCH
    if (r->peer >= 0) {
        turns[n++].kind = TORCH;
        turns[n++].kind = TORCH_TUNED;
    }
#endif
    return n;
}

static void run_row(const settings *s, const struct row_kind *r, arrays *a, report *out, const machine *m, table *t,
                    double *ms) {
    static turn turns[MOST_TURNS];
    const size_t n = line_up(r, turns);
    const double until = clock_now() + s->seconds;
    const turn *memory = NULL, *torch = NULL;
    size_t rounds, i;
    load others;
    json *j = &out->rows;
    memset(&others, 0, sizeof others);
    agree(r, a);
#ifdef HAVE_TORCH
    peer_arrays p = {a->d, weft_codec_sent(&r->codec, a->d), a->z, a->kept, a->out, NULL, a->step};
    static int8_t *code;
    if (!code) code = (int8_t *)map_bytes(a->d);
    p.code = code;
    peer_begin(&p);
#endif
    load_begin(&others);
    for (rounds = 0; rounds < MOST_ROUNDS && (rounds < 3 || clock_now() < until); rounds++)
        for (i = 0; i < n; i++) {
            turn *now = &turns[(i + rounds) % n];
            double begin;
#ifdef HAVE_TORCH
            peer_allocator(now->kind == TORCH_TUNED);
#endif
            take_turn(r, a, now->kind);
            begin = clock_now();
            take_turn(r, a, now->kind);
            now->seconds[rounds] = clock_now() - begin;
        }
    load_end(&others);
    for (i = 0; i < n; i++) {
        turns[i].time = stats_of(turns[i].seconds, rounds);
        turns[i].ratio = stats_of_ratios(turns[i].seconds, turns[0].seconds, rounds);
        if (turns[i].kind == CEILING) memory = &turns[i];
        else if (i && (!torch || turns[i].time.median < torch->time.median)) torch = &turns[i];
    }
    *ms = turns[0].time.median * 1e3;
    table_row(t);
    table_cell(t, "%.4g M", (double)a->d * 1e-6);
    table_cell(t, "%s", r->title);
    table_number(t, *ms, "");
    table_range(t, turns[0].time.q1 * 1e3, turns[0].time.q3 * 1e3);
    table_number(t, r->bytes * (double)a->d / turns[0].time.median * 1e-9, "");
    if (memory) table_cell(t, "%.0f %%", 100 * memory->ratio.median);
    else table_cell(t, "-");
    if (r->of_memory > 0) table_cell(t, "%.0f %%", 100 * r->of_memory);
    else table_cell(t, "-");
    if (torch) {
        table_number(t, torch->time.median * 1e3, "");
        table_cell(t, "%.2f", torch->ratio.median);
        table_cell(t, "%.2f to %.2f", torch->ratio.q1, torch->ratio.q3);
    } else
        for (i = 0; i < 3; i++) table_cell(t, "-");
    if (r->goal > 0) table_cell(t, "%.1f", r->goal);
    else table_cell(t, "-");
    table_number(t, 100 * load_share(&others), " %");
    json_line_begin(j);
    json_text(j, "bench", "codecs");
    json_text(j, "date", m->date);
    json_text(j, "row", r->key);
    json_text(j, "isa", weft_isa_name(a->k->core->isa));
    json_integer(j, "elements", (long long)a->d);
    json_integer(j, "message_bytes", (long long)a->bytes);
    json_integer(j, "rounds", (long long)rounds);
    json_number(j, "others_load", load_share(&others));
    json_number(j, "goal", r->goal);
    json_begin(j, "contestants", '[');
    for (i = 0; i < n; i++) {
        static const char *const names[] = {"ours", "memory", "torch", "torch, malloc tuned"};
        json_begin(j, NULL, '{');
        json_text(j, "name", names[turns[i].kind]);
        json_stats(j, "ms", turns[i].time, 1e3);
        json_stats(j, "ratio", turns[i].ratio, 1);
        json_end(j, '}');
    }
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

/* A codec pays if coding, sending less and decoding takes less time than sending it all:
 * encode + b / speed + decode < 4 d / speed. */
static void say_links(report *out, table *t, double size, const double *ms, const size_t *bytes) {
    for (int i = 0; i + 1 < KINDS; i++) {
        const double saved = 4 * size - (double)bytes[i], took = (ms[i] + ms[i + 1]) * 1e-3;
        if (kinds[i].decodes || !kinds[i + 1].decodes || !(ms[i] > 0) || !(ms[i + 1] > 0)) continue;
        table_row(t);
        table_cell(t, "%.4g M", size * 1e-6);
        table_cell(t, "%s", kinds[i].title);
        table_number(t, 4 * size / (double)bytes[i], "");
        table_number(t, ms[i] + ms[i + 1], "");
        table_number(t, saved / took * 1e-9, "");
        table_number(t, saved / took * 8e-9, "");
    }
    (void)out;
}

static void run_all(const settings *s, report *out, const machine *m) {
    table *t = table_new(">elements|what|>ms|>quartiles|>GB/s|>of memory|>goal|>torch ms|>times as fast|>quartiles|"
                         ">goal|>others");
    table *links = table_new(">elements|codec|>times smaller|>encode + decode ms|>pays below GB/s|>Gbit/s");
    for (size_t i = 0; i < s->sizes; i++) {
        arrays a;
        double ms[KINDS] = {0};
        size_t bytes[KINDS] = {0};
        memset(&a, 0, sizeof a);
        a.d = (size_t)s->size[i] / 256 * 256;
        must(a.d > 0, "--size: at least 256");
        a.capacity = a.d * 4 + 64;
        a.z = (float *)map_bytes(a.d * 4);
        a.kept = (float *)map_bytes(a.d * 4);
        a.out = (float *)map_bytes(a.d * 4);
        a.step = (float *)map_bytes(a.d / 64);
        a.message = (unsigned char *)map_bytes(a.capacity);
        a.k = weft_codec_kernels_select(s->isa, a.d * 4);
        must(a.k != NULL, "--isa: not here");
        fill(&a);
        for (int r = 0; r < KINDS; r++) {
            if (!option_lists(s->only, kinds[r].key)) continue;
            fprintf(stderr, "%zu elements, %s\n", a.d, kinds[r].title);
            run_row(s, &kinds[r], &a, out, m, t, &ms[r]);
            bytes[r] = a.bytes;
        }
        say_links(out, links, (double)a.d, ms, bytes);
        munmap(a.z, a.d * 4);
        munmap(a.kept, a.d * 4);
        munmap(a.out, a.d * 4);
        munmap(a.step, a.d / 64);
        munmap(a.message, a.capacity);
    }
    table_print(t, out);
    report_say(out, "The speed of a link, of one direction, below which a codec pays: encoding, sending its message "
                    "and decoding takes\nless than sending f32, one after the other, on one thread.\n\n");
    table_print(links, out);
}

static void say_head(report *out, const machine *m, const settings *s) {
    char peer[64] = "not here";
#ifdef HAVE_TORCH
    peer_version(peer, sizeof peer);
#endif
    report_say(out, "# Codecs\n\n- Written by `build/bench-codecs`%s.\n",
               s->quick ? " with --quick: a look, no result" : "");
    machine_report(m, out);
    report_say(out, "- instruction set: %s; peer: %s\n", weft_isa_name(weft_isa_resolve(s->isa)), peer);
    report_say(out, "\nOne thread. Milliseconds a call, medians; encode is with what it takes to look at the tensor "
                    "first. GB/s: of what has to\nbe read and written at least. Of memory: time of a pass with the "
                    "same traffic (top-k: that reads once) by ours. Torch:\nthe better of malloc as it comes and "
                    "tuned. Others: how much of the processors other programs had meanwhile.\n\n");
}

static settings read_options(int argc, char **argv) {
    settings s = {{25.6e6}, 1, NULL, NULL, 10, 0, WEFT_ISA_AUTO};
    options o = {argc, 1, argv};
    while (o.at < o.argc) {
        const char *v;
        if (option_switch(&o, "--help")) {
            puts("usage: bench-codecs [options]\n"
                 "  --size LIST       elements (25.6e6)\n"
                 "  --full            also 1e6 elements\n"
                 "  --isa NAME        instruction set (auto)\n"
                 "  --only LIST       {q8,q4,topk1,topk10,qsgd,sign,bf16}-{encode,decode}, topk1f-encode\n"
                 "  --quick           a look: short turns, 1e6 elements\n"
                 "  --seconds S       a row takes about so long (10)\n"
                 "  --json FILE       rows as JSON lines, and the report beside them");
            exit(0);
        }
        if (option_switch(&o, "--full")) s.size[s.sizes++ % MOST_SIZES] = 1e6;
        else if (option_switch(&o, "--quick")) s.quick = 1, s.sizes = 1, s.size[0] = 1e6, s.seconds = 0.2;
        else if ((v = option_value(&o, "--size"))) s.sizes = option_numbers(v, s.size, MOST_SIZES - 1);
        else if ((v = option_value(&o, "--only"))) s.only = v;
        else if ((v = option_value(&o, "--json"))) s.rows_at = v;
        else if ((v = option_value(&o, "--seconds"))) s.seconds = atof(v);
        else if ((v = option_value(&o, "--isa"))) {
            int i;
            for (i = 0; i < WEFT_ISA_COUNT && strcmp(weft_isa_name((weft_isa)i), v); i++) continue;
            must(i < WEFT_ISA_COUNT && weft_isa_available((weft_isa)i), "--isa: not here");
            s.isa = (weft_isa)i;
        } else {
            fprintf(stderr, "bench-codecs: unknown option %s (--help lists them)\n", o.argv[o.at]);
            exit(2);
        }
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
