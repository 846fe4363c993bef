/* SPDX-License-Identifier: MIT
 * bench-sim: how fast the simulator is, and how much memory a worker takes: events a second on one core, for a message
 * that goes to and fro between two workers (the most that there can be), the same over links that lose packets, and for
 * dsgd_aau.h with a toy model on a torus. An event is something that happens at a time of its own: a message arrives, a
 * worker is called, a timer fires. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"

#include "transports/weft_sim.h"
#include "transports/weft_sim_pace.h"

#include "clock.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"

enum { MOST_COUNTS = 16, MODEL = 16, REPEATS = 3 };

typedef struct settings {
    double workers[MOST_COUNTS], events;
    size_t counts;
    const char *only, *rows_at;
} settings;

/* What one run has come to. */
typedef struct outcome {
    double seconds, set_up_seconds; /* 0: not run */
    uint64_t events, messages, steps, bytes_sent;
    double sim_bytes, object_bytes; /* a worker */
    double virtual_seconds;
} outcome;

/* Of the processor, not of the clock on the wall: nothing here waits, and others may be at work on this machine. */
static double cpu_now(void) {
    return clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void *must(void *p) {
    if (p) return p;
    fprintf(stderr, "bench-sim: out of memory\n");
    exit(1);
}

static void expect(int right, const char *what) {
    if (right) return;
    fprintf(stderr, "bench-sim: %s\n", what);
    exit(1);
}

static void finish(outcome *o, const weft_sim *s) {
    uint32_t r;
    o->events = s->events;
    o->messages = weft_sim_sent(s);
    for (r = 0; r < s->desc.size; r++) {
        const weft_sim_counts *c = weft_sim_counts_of(s, r);
        o->bytes_sent += c->sent_bytes[0] + c->sent_bytes[1];
    }
    o->sim_bytes = (double)weft_sim_memory(s) / s->desc.size;
    o->virtual_seconds = (double)weft_sim_now(s) * 1e-9;
    expect(!weft_sim_violation(s), "the contract is broken");
}

/* ---- to and fro ---- */

typedef struct player {
    weft_transport net;
    weft_request in, out;
    uint64_t ball, left;
    int receiving, sending;
} player;

static int play(void *user, uint32_t rank) {
    player *p = (player *)user;
    const uint32_t other = rank ^ 1u;
    for (;;) {
        if (p->sending) {
            if (p->net.test(p->net.ctx, &p->out) != WEFT_OK) return 0;
            p->sending = 0;
            if (!--p->left) return 1;
        }
        if (!p->receiving) {
            expect(p->net.recv(p->net.ctx, other, 1, &p->ball, sizeof p->ball, &p->in) == WEFT_OK, "recv");
            p->receiving = 1;
        }
        if (p->net.test(p->net.ctx, &p->in) != WEFT_OK) return 0;
        p->receiving = 0;
        p->ball++;
        expect(p->net.send(p->net.ctx, other, 1, &p->ball, sizeof p->ball, &p->out) == WEFT_OK, "send");
        p->sending = 1;
    }
}

static outcome run_ping(uint32_t workers, double events, int lossy) {
    weft_sim_desc d;
    static weft_sim s;
    outcome o;
    player *p = (player *)must(calloc(workers, sizeof *p));
    uint64_t serves = 1 + (uint64_t)(events / ((lossy ? 5.0 : 2.0) * workers));
    double start = cpu_now();
    uint32_t r;
    memset(&o, 0, sizeof o);
    memset(&d, 0, sizeof d);
    d.seed = 1;
    d.size = workers;
    d.latency_ns = 1000;
    d.jitter_ns = 500;
    if (lossy) d.lossy.loss_ppm = 10000;
    expect(weft_sim_init(&s, &d) == WEFT_OK, "init");
    for (r = 0; r < workers; r++) {
        weft_sim_transport(&s, r, &p[r].net);
        p[r].left = serves;
        weft_sim_worker(&s, r, play, &p[r]);
    }
    for (r = 0; r < workers; r += 2) { /* the first ball of each pair is in the air */
        p[r].sending = p[r].net.send(p[r].net.ctx, r ^ 1u, 1, &p[r].ball, sizeof p[r].ball, &p[r].out) == WEFT_OK;
        p[r ^ 1u].left = serves - 1;
        if (!p[r ^ 1u].left) weft_sim_worker(&s, r ^ 1u, NULL, NULL);
    }
    o.set_up_seconds = cpu_now() - start;
    start = cpu_now();
    expect(weft_sim_run(&s, UINT64_MAX / 2) == WEFT_SIM_DONE, weft_sim_text(&s));
    o.seconds = cpu_now() - start;
    o.object_bytes = sizeof *p;
    finish(&o, &s);
    weft_sim_free(&s);
    free(p);
    return o;
}

/* ---- dsgd_aau.h ---- */

typedef struct trainer {
    weft_sim *sim;
    const weft_pace *pace;
    weft_transport net;
    dsgd_aau *x;
    void *memory;
    weft_tensor tensor;
    float params[MODEL], goal[MODEL];
    uint64_t due, steps;
    int computing;
} trainer;

static int train(void *user, uint32_t rank) {
    trainer *t = (trainer *)user;
    const uint64_t now = weft_sim_now(t->sim);
    weft_status s;
    for (;;) {
        uint64_t at;
        int k;
        if (t->computing && now >= t->due) {
            for (k = 0; k < MODEL; k++) t->params[k] -= 0.1f * (t->params[k] - t->goal[k]);
            t->computing = 0;
            t->steps++;
            s = dsgd_aau_step(t->x);
        } else {
            s = dsgd_aau_poll(t->x);
        }
        expect(s >= 0, weft_strerror(s));
        if (!t->computing && s == WEFT_OK) {
            t->computing = 1;
            t->due = now + weft_sim_pace(t->sim, rank, t->pace, t->steps);
        }
        at = dsgd_aau_wake_ns(t->x);
        if (t->computing && t->due < at) at = t->due;
        if (at != UINT64_MAX) weft_sim_sleep(t->sim, rank, at > now ? at - now : 1);
        return 0;
    }
}

/* Nobody has a last step, after which others would wait: it ends after so many events. */
static outcome run_dsgd_aau(uint32_t side, double events, double memory) {
    const uint32_t workers = side * side;
    static weft_sim s;
    weft_sim_desc d;
    weft_graph g;
    weft_pace pace = weft_pace_default();
    outcome o;
    trainer *t = (trainer *)must(calloc(workers, sizeof *t));
    void *edges;
    double start = cpu_now();
    uint32_t r;
    int k;
    memset(&o, 0, sizeof o);
    memset(&d, 0, sizeof d);
    d.seed = 1;
    d.size = workers;
    d.latency_ns = 100000;
    d.jitter_ns = 50000;
    d.bytes_per_second = UINT64_C(1250000000);
    weft_pace_parse(&pace, "uniform:0.01:0.2");
    weft_pace_parse_stragglers(&pace, "0.1x10");
    (void)weft_graph_torus(&g, side, side, NULL, 0);
    edges = must(malloc(g.bytes));
    expect(weft_graph_torus(&g, side, side, edges, g.bytes) == WEFT_OK, "torus");
    expect(weft_sim_init(&s, &d) == WEFT_OK, "init");
    for (r = 0; r < workers; r++) {
        dsgd_aau_desc a;
        size_t bytes;
        memset(&a, 0, sizeof a);
        a.struct_size = sizeof a;
        t[r].sim = &s;
        t[r].pace = &pace;
        t[r].tensor.data = t[r].params;
        t[r].tensor.count = MODEL;
        t[r].tensor.dtype = WEFT_F32;
        for (k = 0; k < MODEL; k++) t[r].goal[k] = (float)(r % 7) - (float)k;
        weft_sim_transport(&s, r, &t[r].net);
        a.params.tensor = &t[r].tensor;
        a.params.count = 1;
        a.transport = &t[r].net;
        a.graph = &g;
        a.grace_ns = 1000000;
        bytes = dsgd_aau_memory(&a, NULL);
        o.object_bytes = (double)bytes;
        if (o.object_bytes * workers > memory) { /* too much for this machine: that is all there is to say */
            weft_sim_free(&s);
            free(t);
            free(edges);
            return o;
        }
        t[r].memory = must(malloc(bytes));
        expect(dsgd_aau_init(&t[r].x, &a, t[r].memory, bytes) == WEFT_OK, "dsgd_aau_init");
        (void)dsgd_aau_start(t[r].x);
        t[r].computing = 1;
        t[r].due = weft_sim_pace(&s, r, &pace, 0);
        weft_sim_worker(&s, r, train, &t[r]);
    }
    o.set_up_seconds = cpu_now() - start;
    start = cpu_now();
    while ((double)s.events < events) expect(weft_sim_next(&s), "nothing happens any more");
    o.seconds = cpu_now() - start;
    for (r = 0; r < workers; r++) {
        o.steps += t[r].steps;
        dsgd_aau_close(t[r].x);
        free(t[r].memory);
    }
    finish(&o, &s);
    weft_sim_free(&s);
    free(t);
    free(edges);
    return o;
}

/* ---- the table ---- */

static const char *const models[3] = {"ping", "ping, 1 % lost", "dsgd_aau, torus"};
static const char *const names[3] = {"ping", "lossy", "dsgd_aau"};

static outcome run_model(int model, uint32_t workers, double events, double memory) {
    uint32_t side = 1;
    if (model < 2) return run_ping(workers + workers % 2, events, model);
    while ((side + 1) * (side + 1) <= workers) side++;
    return run_dsgd_aau(side, events, memory);
}

static void run(const settings *set, report *out, const machine *m) {
    table *t = table_new("model|>workers|>events|>events a second|>messages a second|>gradients a second|"
                         ">simulator, bytes a worker|>object, bytes a worker");
    for (int model = 0; model < 3; model++)
        for (size_t i = 0; i < set->counts; i++) {
            const uint32_t workers = (uint32_t)set->workers[i];
            json *j = &out->rows;
            outcome best;
            double rates[REPEATS];
            memset(&best, 0, sizeof best);
            if (!option_lists(set->only, names[model])) continue;
            fprintf(stderr, "%s, %u workers\n", models[model], workers);
            for (int k = 0; k < REPEATS; k++) {
                outcome o = run_model(model, workers, set->events, 0.7 * 1073741824.0 * m->memory_gib);
                rates[k] = (double)o.events / o.seconds;
                if (!k || o.seconds < best.seconds) best = o;
                if (k) expect(o.events == best.events, "the same seed has given another run");
            }
            if (!(best.seconds > 0.0)) {
                report_say(out, "%s with %u workers takes %.1f GiB: left out.\n\n", models[model], workers,
                           best.object_bytes * workers / 1073741824.0);
                continue;
            }
            table_row(t);
            table_cell(t, "%s", models[model]);
            table_cell(t, "%u", workers);
            table_cell(t, "%llu", (unsigned long long)best.events);
            table_cell(t, "%.3g", (double)best.events / best.seconds);
            table_cell(t, "%.3g", (double)best.messages / best.seconds);
            if (best.steps)
                table_cell(t, "%.3g", (double)best.steps / best.seconds);
            else
                table_cell(t, "-");
            table_cell(t, "%.0f", best.sim_bytes);
            table_cell(t, "%.0f", best.object_bytes);
            json_line_begin(j);
            json_text(j, "bench", "sim");
            json_text(j, "date", m->date);
            json_text(j, "model", names[model]);
            json_integer(j, "workers", workers);
            json_integer(j, "events", (long long)best.events);
            json_number(j, "events_per_second", (double)best.events / best.seconds);
            json_begin(j, "events_per_second_of_each_run", '[');
            for (int k = 0; k < REPEATS; k++) json_number(j, NULL, rates[k]);
            json_end(j, ']');
            json_number(j, "messages_per_second", (double)best.messages / best.seconds);
            if (best.steps) json_number(j, "gradients_per_second", (double)best.steps / best.seconds);
            json_number(j, "sim_bytes_per_worker", best.sim_bytes);
            json_number(j, "object_bytes_per_worker", best.object_bytes);
            json_number(j, "set_up_seconds", best.set_up_seconds);
            json_number(j, "seconds", best.seconds);
            json_number(j, "virtual_seconds", best.virtual_seconds);
            machine_row(m, j);
            json_line_end(j);
        }
    report_say(out,
               "One core, seconds of processor time, the fastest of %d runs of the same seed. Events: a message\n"
               "arrives, a worker is called, a timer fires. Bytes: what the simulator has taken, and what the worker's "
               "object wants.\n\n",
               REPEATS);
    table_print(t, out);
}

static void usage(void) {
    puts("usage: bench-sim [options]\n"
         "  --workers LIST    (16,100,1024,4096,10000)\n"
         "  --events N        about so many a run (3e6)\n"
         "  --quick           --workers 16,1024 --events 3e5\n"
         "  --only LIST       of ping, lossy, dsgd_aau\n"
         "  --json FILE       rows as JSON lines, and the report beside them");
}

int main(int argc, char **argv) {
    settings s = {{16, 100, 1024, 4096, 10000}, 3e6, 5, NULL, NULL};
    options o = {argc, 1, argv};
    static machine m;
    static report out;
    while (o.at < o.argc) {
        const char *v;
        if (option_switch(&o, "--help")) {
            usage();
            return 0;
        }
        if (option_switch(&o, "--quick")) {
            s.workers[1] = 1024;
            s.counts = 2;
            s.events = 3e5;
        } else if ((v = option_value(&o, "--workers")))
            s.counts = option_numbers(v, s.workers, MOST_COUNTS);
        else if ((v = option_value(&o, "--events")))
            option_numbers(v, &s.events, 1);
        else if ((v = option_value(&o, "--only")))
            s.only = v;
        else if ((v = option_value(&o, "--json")))
            s.rows_at = v;
        else {
            fprintf(stderr, "bench-sim: unknown option %s (--help lists them)\n", o.argv[o.at]);
            return 2;
        }
    }
    for (size_t i = 0; i < s.counts; i++)
        if (s.workers[i] < 9 || s.workers[i] > 100000) {
            fprintf(stderr, "bench-sim: --workers: 9 to 100000\n");
            return 2;
        }
    machine_describe(&m);
    report_open(&out, s.rows_at);
    report_say(&out, "# The simulator\n\n- Written by `build/bench-sim`.\n");
    machine_report(&m, &out);
    report_say(&out, "\n");
    run(&s, &out, &m);
    report_close(&out);
    return 0;
}
