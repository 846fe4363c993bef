/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "run.h"

#include "node.h"
#include "train/util.h"
#include "weft_sim.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct run run;

typedef enum phase { STARTING, COMPUTING, AVERAGING, REGROUPING, DEAD } phase;

typedef struct worker {
    run *run;
    node node;
    phase phase;
    uint64_t due;   /* when its gradient is ready, ns */
    uint64_t since; /* in this phase */
    uint64_t waited, longest;
    bool ever_lost;
    run_strip *strip;
} worker;

struct run {
    const options *o;
    node_setting setting;
    weft_sim sim;
    worker *worker;
    uint32_t size;
    uint32_t epoch; /* of the view */
    uint32_t *member;
    uint32_t members;
    run_result *out;
};

static uint64_t ns_of(double seconds) {
    return (uint64_t)(seconds * 1e9 + 0.5);
}

static double seconds_of(uint64_t ns) {
    return (double)ns * 1e-9;
}

/* ---- What a worker does when ---- */

static void note_span(worker *w, uint64_t upto, int kind) {
    run_strip *s = w->strip;
    if (!s || upto <= w->since) return;
    if (s->spans == s->room) {
        s->room = s->room ? 2 * s->room : 256;
        plot_span *p = realloc(s->span, s->room * sizeof *p);
        if (!p) broken("out of memory");
        s->span = p;
    }
    s->span[s->spans++] = (plot_span){seconds_of(w->since), seconds_of(upto), kind};
}

static void enter(worker *w, phase p) {
    static const int kind[] = {STRIP_WAIT, STRIP_COMPUTE, STRIP_WAIT, STRIP_SYNC, STRIP_DEAD};
    const uint64_t now = weft_sim_now(&w->run->sim), stay = now - w->since;
    note_span(w, now, kind[w->phase]);
    if (w->phase == STARTING || w->phase == AVERAGING || w->phase == REGROUPING) {
        w->waited += stay;
        if (stay > w->longest) w->longest = stay;
    }
    w->phase = p;
    w->since = now;
}

static void compute(worker *w) {
    run *r = w->run;
    const uint64_t ns = weft_pace_draw_ns(&r->o->pace, r->o->seed, w->node.rank, w->node.steps);
    enter(w, COMPUTING);
    w->due = w->since + ns;
    if (node_listens(&w->node))
        weft_sim_sleep(&r->sim, w->node.rank, ns);
    else
        weft_sim_busy(&r->sim, w->node.rank, ns);
}

/* Be called again when the library wants it, or at `also`, if nothing happens before. */
static void call_again(worker *w, uint64_t also) {
    const uint64_t now = weft_sim_now(&w->run->sim);
    uint64_t at = node_wake_ns(&w->node);
    if (also < at) at = also;
    if (at != UINT64_MAX) weft_sim_sleep(&w->run->sim, w->node.rank, at > now ? at - now : 1);
}

/* Errors are counted, and the worker goes on: what can be waited for is waited for. */
static weft_status look(worker *w, weft_status s) {
    if (s >= 0) return s;
    const weft_detail *d = node_detail(&w->node);
    if (s == WEFT_ERR_NONFINITE)
        broken("%s: the training has diverged (worker %lu); try a smaller --lr", METHOD_NAME[w->run->setting.method],
               (unsigned long)w->node.rank);
    if (s == WEFT_ERR_ORDER || s == WEFT_ERR_ARGUMENT)
        broken("%s, worker %lu: %s (%s)", METHOD_NAME[w->run->setting.method], (unsigned long)w->node.rank,
               weft_strerror(s), d->field ? d->field : "-");
    w->run->out->errors++;
    return WEFT_AGAIN;
}

static int step(void *user, uint32_t rank) {
    worker *w = user;
    run *r = w->run;
    (void)rank;
    for (;;) {
        weft_status s;
        if (w->phase == COMPUTING && weft_sim_now(&r->sim) < w->due) { /* news in the middle of it */
            /* a loss that shows here shows again at the end of the step */
            if (node_listens(&w->node)) {
                const weft_status told = node_listen(&w->node);
                if (told != WEFT_ERR_PEER_LOST || !method_has_members(r->setting.method)) look(w, told);
            }
            call_again(w, w->due);
            return 0;
        }
        if (w->phase == COMPUTING) {
            enter(w, AVERAGING);
            s = node_gradient(&w->node);
        } else {
            s = node_poll(&w->node);
        }
        while (s == WEFT_ERR_PEER_LOST && method_has_members(r->setting.method) && w->node.epoch != r->epoch) {
            enter(w, REGROUPING);
            s = node_regroup(&w->node, r->epoch, r->member, r->members);
        }
        if (look(w, s) != WEFT_OK) { /* WEFT_AGAIN, or the network is behind: WEFT_STALL */
            call_again(w, UINT64_MAX);
            return 0;
        }
        compute(w);
        if (!node_listens(&w->node)) return 0;
    }
}

static void begin(worker *w) {
    enter(w, STARTING);
    look(w, node_start(&w->node));
    weft_sim_worker(&w->run->sim, w->node.rank, step, w);
}

/* ---- Workers lost and back, links broken and healed ---- */

static void new_view(run *r) {
    r->members = 0;
    for (uint32_t i = 0; i < r->size; i++)
        if (weft_sim_alive(&r->sim, i)) r->member[r->members++] = i;
}

static void come_back(run *r, uint32_t rank) {
    worker *w = &r->worker[rank];
    uint32_t n;
    const uint32_t *neighbour = weft_graph_neighbours(r->setting.graph, rank, &n);
    const uint64_t steps = w->node.steps;
    node_stats was;
    node_read(&w->node, &was); /* what it had sent counts */
    r->out->payload += was.traffic.payload_sent;
    r->out->control += was.traffic.control_sent;
    r->out->messages += was.traffic.messages_sent;
    node_free(&w->node);
    memset(&w->node, 0, sizeof w->node);
    w->node.of = &r->setting;
    w->node.rank = rank;
    w->node.steps = steps;
    weft_sim_transport(&r->sim, rank, &w->node.net);
    node_open(&w->node, true);
    for (uint32_t k = 0; k < n; k++) {
        if (!weft_sim_alive(&r->sim, neighbour[k])) {
            node_peer(&w->node, neighbour[k], false);
            continue;
        }
        node_peer(&r->worker[neighbour[k]].node, rank, true);
        weft_sim_wake(&r->sim, neighbour[k], weft_sim_now(&r->sim));
    }
    begin(w);
}

/* Called by the simulation when the others notice. */
static void change(void *user, uint32_t rank, int alive) {
    run *r = user;
    r->out->losses += !alive;
    r->out->returns += alive != 0;
    if (alive) {
        come_back(r, rank);
        return;
    }
    r->worker[rank].ever_lost = true;
    enter(&r->worker[rank], DEAD);
    r->epoch++;
    new_view(r);
}

/* A link between the first `count` workers and the others is up or down: both of its ends come to know. What has no
 * links waits until messages get through again. */
static void tell_of_links(run *r, uint32_t count, bool up) {
    if (method_has_members(r->setting.method)) return;
    for (uint32_t i = 0; i < r->size; i++) {
        uint32_t n;
        const uint32_t *neighbour = weft_graph_neighbours(r->setting.graph, i, &n);
        for (uint32_t k = 0; k < n; k++) {
            if ((i < count) == (neighbour[k] < count) || !weft_sim_alive(&r->sim, i)) continue;
            node_peer(&r->worker[i].node, neighbour[k], up && weft_sim_alive(&r->sim, neighbour[k]));
        }
        if (weft_sim_alive(&r->sim, i)) weft_sim_wake(&r->sim, i, weft_sim_now(&r->sim));
    }
}

/* What happens at a time of its own, outside of the simulated network, in order of time. */
typedef struct appointment {
    double at;
    uint32_t count;
    bool up;
} appointment;

static int earlier(const void *a, const void *b) {
    const double x = ((const appointment *)a)->at, y = ((const appointment *)b)->at;
    return (x > y) - (x < y);
}

static size_t plan_faults(run *r, appointment *list) {
    const options *o = r->o;
    unsigned char *first = new_array(r->size, 1), *rest = new_array(r->size, 1);
    size_t n = 0;
    for (size_t i = 0; i < o->faults; i++) {
        const planned_fault *f = &o->fault[i];
        if (f->kind == FAULT_KILL) weft_sim_lose_at(&r->sim, f->rank, ns_of(f->from));
        if (f->kind == FAULT_RESTART) weft_sim_revive_at(&r->sim, f->rank, ns_of(f->from));
        if (f->kind != FAULT_PARTITION) continue;
        for (uint32_t k = 0; k < r->size; k++) {
            first[k] = k < f->count;
            rest[k] = k >= f->count;
        }
        weft_sim_partition(&r->sim, first, ns_of(f->from), ns_of(f->upto));
        weft_sim_partition(&r->sim, rest, ns_of(f->from), ns_of(f->upto));
        if (f->from + o->detect < f->upto) { /* shorter ones go unnoticed: messages are late, that is all */
            list[n++] = (appointment){f->from + o->detect, f->count, false};
            list[n++] = (appointment){f->upto, f->count, true};
        }
    }
    qsort(list, n, sizeof *list, earlier);
    free(first);
    free(rest);
    return n;
}

/* ---- Measuring ---- */

static void measure(run *r, run_point *p) {
    const model *m = &r->setting.task->model;
    tensor_list mean = tensors_new(m), *room = new_array(r->size, sizeof *room);
    const tensor_list **x = new_array(r->size, sizeof *x);
    double square = 0.0, n = 0.0;
    p->seconds = seconds_of(weft_sim_now(&r->sim));
    p->steps = 0;
    p->payload = r->out->payload; /* of those that have come back, before */
    for (uint32_t i = 0; i < r->size; i++) {
        node_stats s;
        node_read(&r->worker[i].node, &s);
        p->payload += s.traffic.payload_sent;
        p->steps += r->worker[i].node.steps;
        n += weft_sim_alive(&r->sim, i);
        if (r->worker[i].node.hpsgd) room[i] = tensors_new(m);
        x[i] = node_model(&r->worker[i].node, &room[i]);
    }
    for (size_t t = 0; t < m->tensors; t++)
        for (size_t j = 0; j < m->tensor[t].count; j++) {
            double sum = 0.0;
            for (uint32_t i = 0; i < r->size; i++)
                if (weft_sim_alive(&r->sim, i)) sum += (double)x[i]->tensor[t][j];
            for (uint32_t i = 0; i < r->size; i++) {
                const double d = (double)x[i]->tensor[t][j] - sum / n;
                if (weft_sim_alive(&r->sim, i)) square += d * d;
            }
            mean.tensor[t][j] = (float)(sum / n);
        }
    p->distance = sqrt(square / n);
    task_measure(r->setting.task, &mean, &p->loss, &p->accuracy);
    p->sharpness = task_sharpness(r->setting.task, &mean);
    for (uint32_t i = 0; i < r->size; i++) tensors_free(m, &room[i]);
    free(room);
    free(x);
    tensors_free(m, &mean);
}

static void progress(const run *r, const run_point *p, uint64_t began, bool end) {
    if (!isatty(STDERR_FILENO)) return;
    const double wall = seconds_of(clock_ns() - began), share = p->seconds / r->o->seconds;
    if (end)
        fprintf(stderr, "\r%79s\r", "");
    else
        fprintf(stderr, "\r%-9s %4.0f %%  loss %.4f  %llu steps  %.2g events/s  %.0f s left  ",
                METHOD_NAME[r->setting.method], 100.0 * share, p->loss, (unsigned long long)p->steps,
                (double)r->sim.events / wall, share > 0.0 ? wall * (1.0 / share - 1.0) : 0.0);
}

static void sum_up(run *r) {
    run_result *out = r->out;
    uint64_t waited = 0, time = 0, averagings = 0, partners = 0, alone = 0;
    out->least_steps = UINT64_MAX;
    for (uint32_t i = 0; i < r->size; i++) {
        worker *w = &r->worker[i];
        node_stats s;
        enter(w, w->phase); /* the last span ends here */
        node_read(&w->node, &s);
        if (s.rounds > out->rounds) out->rounds = s.rounds;
        averagings += s.averagings;
        partners += s.partners;
        alone += s.alone;
        out->payload += s.traffic.payload_sent;
        out->control += s.traffic.control_sent;
        out->messages += s.traffic.messages_sent;
        out->steps += w->node.steps;
        if (w->node.bytes > out->bytes) out->bytes = w->node.bytes;
        if (w->longest > ns_of(out->longest_wait)) out->longest_wait = seconds_of(w->longest);
        if (w->ever_lost) continue;
        waited += w->waited;
        time += weft_sim_now(&r->sim);
        if (w->node.steps < out->least_steps) out->least_steps = w->node.steps;
        if (w->node.steps > out->most_steps) out->most_steps = w->node.steps;
    }
    if (out->least_steps == UINT64_MAX) out->least_steps = 0;
    out->waiting = time ? (double)waited / (double)time : 0.0;
    out->partners = averagings ? (double)partners / (double)averagings : 0.0;
    out->alone = out->steps ? (double)alone / (double)out->steps : 0.0;
    const weft_sim_packets packets = weft_sim_packets_of(&r->sim, WEFT_SIM_ANY, WEFT_SIM_ANY);
    out->packets = packets.sent;
    out->packets_lost = packets.lost;
    out->packets_again = packets.again;
    out->events = r->sim.events;
    out->hash = weft_sim_hash(&r->sim);
}

/* ---- The run as a whole ---- */

static void open_all(run *r, FILE *trace) {
    const options *o = r->o;
    weft_sim_desc d = {.seed = o->seed, .size = r->size, .trace = trace};
    d.latency_ns = ns_of(o->latency);
    d.jitter_ns = ns_of(o->jitter);
    d.bytes_per_second = (uint64_t)o->bandwidth;
    d.detect_ns = ns_of(o->detect);
    d.lossy.loss_ppm = (uint32_t)(o->loss * 1e6 + 0.5);
    d.lossy.duplicate_ppm = (uint32_t)(o->duplicate * 1e6 + 0.5);
    d.lossy.reorder_ppm = (uint32_t)(o->reorder * 1e6 + 0.5);
    d.on_change = change;
    d.user = r;
    if (weft_sim_init(&r->sim, &d) != WEFT_OK)
        broken("no memory for a simulation of %lu workers", (unsigned long)r->size);
    r->worker = new_array(r->size, sizeof *r->worker);
    r->member = new_array(r->size, sizeof *r->member);
    new_view(r);
    for (uint32_t i = 0; i < r->size; i++) {
        worker *w = &r->worker[i];
        w->run = r;
        w->node.of = &r->setting;
        w->node.rank = i;
        if (i < STRIPS) {
            w->strip = &r->out->strip[i];
            w->strip->rank = i;
            r->out->strips = i + 1;
        }
        weft_sim_transport(&r->sim, i, &w->node.net);
        node_open(&w->node, false);
    }
    for (uint32_t i = 0; i < r->size; i++) begin(&r->worker[i]);
}

static void advance_to(run *r, double seconds) {
    const uint64_t until = ns_of(seconds), now = weft_sim_now(&r->sim);
    if (until > now) weft_sim_advance(&r->sim, until - now);
    if (weft_sim_violation(&r->sim)) broken("%s", weft_sim_violation(&r->sim));
    if (r->sim.no_memory) broken("the simulation is out of memory at %g s", seconds_of(weft_sim_now(&r->sim)));
}

void run_simulate(run_result *out, method m, const options *o, task *t, const weft_graph *graph) {
    run r = {.o = o, .size = (uint32_t)o->workers, .out = out};
    appointment list[2 * MOST_FAULTS];
    const uint64_t began = clock_ns();
    FILE *trace = o->trace ? fopen(o->trace, "a") : NULL;
    if (o->trace && !trace) bad_input("--trace %s: %s", o->trace, strerror(errno));
    memset(out, 0, sizeof *out);
    out->method = m;
    out->workers = r.size;
    r.setting = (node_setting){m, o, t, graph, tensors_new(&t->model), tensors_new(&t->model)};
    task_init(t, &r.setting.initial);
    open_all(&r, trace);
    const size_t appointments = plan_faults(&r, list);
    for (size_t k = 0, next = 0; k < POINTS; k++) {
        const double at = o->seconds * (double)k / (POINTS - 1);
        for (; next < appointments && list[next].at <= at; next++) {
            advance_to(&r, list[next].at);
            tell_of_links(&r, list[next].count, list[next].up);
        }
        advance_to(&r, at);
        measure(&r, &out->point[k]);
        progress(&r, &out->point[k], began, false);
    }
    sum_up(&r);
    progress(&r, &out->point[POINTS - 1], began, true);
    for (uint32_t i = 0; i < r.size; i++) node_free(&r.worker[i].node);
    weft_sim_free(&r.sim);
    tensors_free(&t->model, &r.setting.initial);
    tensors_free(&t->model, &r.setting.grads);
    free(r.worker);
    free(r.member);
    if (trace && fclose(trace) != 0) bad_input("--trace %s: %s", o->trace, strerror(errno));
    out->wall = seconds_of(clock_ns() - began);
}

void run_free(run_result *r) {
    for (size_t i = 0; i < r->strips; i++) free(r->strip[i].span);
}
