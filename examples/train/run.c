/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "run.h"

#include "crew.h"
#include "measure.h"
#include "optim.h"
#include "progress.h"
#include "rules.h"
#include "trainer.h"
#include "util.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Points on a curve, the first at the start. Workers only copy their models at these moments; they are averaged and
 * measured afterwards, so that measuring does not cost training time. */
enum { POINTS = 25 };

/* A worker's model at one of these moments. Written by the worker, then published by `ready`. */
typedef struct cell {
    atomic_bool ready;
    tensor_list model;
    double seconds;
    uint64_t steps, payload;
} cell;

typedef struct run run;

typedef struct worker {
    run *run;
    size_t rank;
    pthread_t thread;
    cell cell[POINTS];
    size_t next_point;

    /* Read by the main thread while the run goes on. */
    atomic_bool finished, dead;
    bool stopped;                                /* once */
    _Atomic uint64_t samples, right, micro_loss; /* micro_loss: millionths, summed over samples */
    uint64_t payload_at_death;                   /* written before `dead` */

    /* Exchanges with the others, in order: for wait and sync in the picture. */
    size_t rounds, capacity;
    struct {
        uint64_t round;
        double from, upto;
    } * round;
    double died, ended;
    rule_stats stats;
    uint64_t first, step; /* it began with; it is in */
    trainer trainer;
    rule *joined; /* of a newcomer that is in the view, and waits for the rest */
} worker;

struct run {
    algorithm algorithm;
    const options *o;
    const dataset *d;
    const model *m;
    size_t workers;
    team *team;
    crew *crew; /* NULL: all workers are threads of this process; else only that of o->rank is */
    partition share;
    worker *worker;
    tensor_list initial;
    bool reports; /* this process has the result */
    crew_events events;
    uint64_t budget;     /* samples, of all workers */
    uint64_t steps_each; /* of each worker, where all do the same number */
    size_t period;       /* steps between two moments at which all workers meet */
    bool pooled;         /* workers take steps from a common pool, the fast ones more */
    uint64_t started;    /* clock_ns */
    pthread_barrier_t ready;
    _Atomic uint64_t taken;     /* samples out of the pool */
    _Atomic uint64_t last_step; /* with --seconds: where all stop */
    tensor_list mean[POINTS];
    run_point point[POINTS];
    size_t reduced; /* points whose mean is formed */
};

static double seconds_since(uint64_t start) {
    return (double)(clock_ns() - start) * 1e-9;
}

/* ---- How far a worker is ---- */

/* With --seconds: is step number `step` one to take? Workers that wait for each other must all stop after the same
 * one, though their clocks tell them at different steps. Nobody can pass the next meeting without whoever asks here,
 * so whoever first finds the time over may say: the next meeting is the last. */
static bool in_time(run *r, uint64_t step, double elapsed) {
    if (r->pooled || !rule_has_meetings(r->algorithm)) return elapsed < r->o->seconds;
    if (elapsed >= r->o->seconds) {
        uint64_t never = UINT64_MAX, last = (step / r->period + 1) * r->period;
        atomic_compare_exchange_strong(&r->last_step, &never, last);
    }
    return step < atomic_load(&r->last_step);
}

/* May the worker take its next step? And how much of the run is over, from 0 to 1? */
static bool take_step(run *r, uint64_t step, double *progress) {
    if (r->o->seconds > 0.0) {
        double elapsed = seconds_since(r->started);
        *progress = elapsed < r->o->seconds ? elapsed / r->o->seconds : 1.0;
        return in_time(r, step, elapsed);
    }
    if (r->pooled) {
        uint64_t before = atomic_fetch_add(&r->taken, r->o->batch);
        *progress = before < r->budget ? (double)before / (double)r->budget : 1.0;
        return before + r->o->batch <= r->budget;
    }
    *progress = (double)step / (double)r->steps_each;
    return step < r->steps_each;
}

/* ---- A worker's life ---- */

static uint64_t payload_of(const rule *ru) {
    rule_stats s;
    rule_read_stats(ru, &s);
    return s.payload;
}

/* Copies the model for every moment that has come. */
static void keep(worker *w, rule *ru, uint64_t steps, double progress) {
    const model *m = w->run->m;
    while (w->next_point < POINTS && progress >= (double)w->next_point / (POINTS - 1)) {
        cell *c = &w->cell[w->next_point++];
        c->model = tensors_new(m);
        rule_model(ru, &c->model);
        c->seconds = seconds_since(w->run->started);
        c->steps = steps;
        c->payload = payload_of(ru);
        atomic_store(&c->ready, true);
    }
}

/* Round 0 is none. */
static void log_round(worker *w, uint64_t round, double from) {
    if (round == 0) return;
    if (w->rounds == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 256;
        void *p = realloc(w->round, w->capacity * sizeof *w->round);
        if (!p) broken("out of memory");
        w->round = p;
    }
    w->round[w->rounds].round = round;
    w->round[w->rounds].from = from;
    w->round[w->rounds].upto = seconds_since(w->run->started);
    w->rounds++;
}

/* A slow worker idles as if on a slower machine. */
static void slow_down(rule *ru, double slow, uint64_t begun) {
    if (slow > 1.0) rule_idle(ru, (uint64_t)((slow - 1.0) * (double)(clock_ns() - begun)));
}

/* Forward and backward on the next batch; returns its loss, summed. */
static double compute_gradient(trainer *t, rule *ru, double slow, size_t *right) {
    uint64_t begun = clock_ns();
    trainer_draw(t);
    double loss = trainer_gradient(t, &t->params, &t->grads, right);
    slow_down(ru, slow, begun);
    return loss;
}

/* A step of a rule that is the optimiser: gradients of one batch, where the rule wants them. */
typedef struct wanted {
    worker *w;
    trainer *t;
    rule *ru;
    double slow, loss;
    size_t *right;
    double since; /* what is between two gradients is waiting */
} wanted;

static void differentiate_here(void *ctx, const tensor_list *at, tensor_list *into, bool own) {
    wanted *q = ctx;
    const run *r = q->w->run;
    size_t right = 0;
    uint64_t begun = clock_ns();
    log_round(q->w, q->w->rounds + 1, q->since);
    double loss = trainer_gradient(q->t, at, into, &right);
    if (own) {
        q->loss = loss;
        *q->right = right;
    }
    slow_down(q->ru, q->slow, begun);
    q->since = seconds_since(r->started);
}

static double learn(worker *w, trainer *t, rule *ru, double slow, double rate, size_t *right) {
    wanted q = {.w = w, .t = t, .ru = ru, .slow = slow, .right = right};
    trainer_draw(t);
    q.since = seconds_since(w->run->started);
    rule_learn(ru, rate, differentiate_here, &q);
    log_round(w, w->rounds + 1, q.since);
    return q.loss;
}

/* Falls linearly to 0 with the samples. By the clock it would fall differently on each worker, and those who average
 * their gradients would no longer hold the same model; so with --seconds it stays. */
static float learning_rate(const options *o, double progress) {
    return (float)(o->seconds > 0.0 ? o->rate : o->rate * (1.0 - progress));
}

/* A step of a rule that leaves the optimiser to the worker; returns the loss of the batch, summed. */
static double step_by_step(worker *w, trainer *t, rule *ru, double slow, float rate, size_t *right) {
    const run *r = w->run;
    double loss = compute_gradient(t, ru, slow, right);
    double from = seconds_since(r->started);
    log_round(w, rule_gradient(ru), from);
    trainer_step(t, rate);
    from = seconds_since(r->started);
    log_round(w, rule_step(ru, loss / (double)r->o->batch), from);
    return loss;
}

/* ---- Workers that are killed, stopped, saved, and come again (between processes) ---- */

static void suffer(worker *w, double progress) {
    const options *o = w->run->o;
    if (progress >= o->kill[w->rank]) crew_doom(o->seed % 8);
    if (progress >= o->stop[w->rank] && !w->stopped) {
        w->stopped = true;
        raise(SIGSTOP);
    }
}

static void save(const worker *w, rule *ru, uint64_t step) {
    size_t bytes;
    void *of_rule = rule_save(ru, &bytes);
    trainer_save(&w->trainer, w->run->o->save, w->rank, step, of_rule, bytes);
    free(of_rule);
}

/* Whoever asks is told how far this worker is. */
static void serve(void *ctx) {
    worker *w = ctx;
    size_t who;
    if (!crew_asked(w->run->crew, &who)) return;
    const size_t bytes = trainer_state_bytes(&w->trainer);
    void *state = new_array(bytes, 1);
    trainer_write(&w->trainer, w->step, seconds_since(w->run->started), state);
    (void)crew_send(w->run->crew, CREW_STATE, who, state, bytes); /* if it is lost, it needs nothing */
    free(state);
}

static void attend(void *ctx) {
    worker *w = ctx;
    if (w->joined) rule_attend(w->joined);
}

/* A newcomer asks until somebody has answered. */
static void catch_up(worker *w, trainer *t, bool with_model) {
    const size_t bytes = trainer_state_bytes(t);
    void *state = new_array(bytes, 1);
    double seconds = 0.0;
    size_t whom;
    crew_serve_with(w->run->crew, attend, w); /* who is in may change meanwhile, and then all must regroup */
    do whom = crew_ask(w->run->crew);
    while (!crew_receive(w->run->crew, CREW_STATE, whom, state, bytes));
    crew_serve_with(w->run->crew, NULL, NULL);
    if (!trainer_read(t, state, bytes, with_model, &w->first, &seconds))
        broken("worker %zu: worker %zu trains another model", w->rank, whom);
    crew_answered(w->run->crew);
    w->run->started = clock_ns() - (uint64_t)(seconds * 1e9);
    free(state);
}

/* What this worker saved in its last life, if anything: its own model, and what the rule had. */
static void *remember(worker *w, trainer *t, size_t *of_rule) {
    const options *o = w->run->o;
    uint64_t step;
    double seconds;
    void *file = o->save ? trainer_load(t, o->save, w->rank, of_rule) : NULL;
    if (file && !trainer_read(t, file, trainer_state_bytes(t), true, &step, &seconds))
        bad_input("%s/worker-%zu: damaged, or of another model", o->save, w->rank);
    return file;
}

static rule *come_in(worker *w, trainer *t) {
    run *r = w->run;
    size_t of_rule = 0;
    rule *ru;
    if (rule_has_views(r->algorithm)) { /* the view first: all wait for this worker while it is told the rest */
        if (r->algorithm == ALGORITHM_ADASUM || r->algorithm == ALGORITHM_EASGD || r->algorithm == ALGORITHM_LSGD)
            bad_input("%s, which is there for comparison, lets nobody in", ALGORITHM_NAME[r->algorithm]);
        ru = rule_new(r->team, r->algorithm, w->rank, r->o, t->device, &t->params, &t->grads, RULE_LATE, NULL, 0);
        rule_listen(ru, r->crew);
        w->joined = ru;
        catch_up(w, t, r->algorithm != ALGORITHM_HPSGD);
        w->joined = NULL;
        return ru;
    }
    catch_up(w, t, true);
    unsigned char *file = remember(w, t, &of_rule);
    ru = rule_new(r->team, r->algorithm, w->rank, r->o, t->device, &t->params, &t->grads,
                  of_rule ? RULE_AGAIN : RULE_LATE, file ? file + trainer_state_bytes(t) : NULL, of_rule);
    free(file);
    return ru;
}

static void train(worker *w, trainer *t, rule *ru) {
    run *r = w->run;
    const options *o = r->o;
    uint64_t step = w->first;
    double progress;
    if (step == 0) keep(w, ru, 0, 0.0);
    while (step && w->next_point < POINTS && /* what was before it came is not its own */
           (double)step / (double)r->steps_each > (double)w->next_point / (POINTS - 1))
        w->next_point++;
    for (; take_step(r, step, &progress); step++) {
        size_t right = 0;
        w->step = step;
        if (r->crew) suffer(w, progress);
        rule_attend(ru);
        if (!r->crew && progress >= o->kill[w->rank] && r->workers > 1) {
            w->died = seconds_since(r->started);
            w->payload_at_death = payload_of(ru);
            team_die(r->team, w->rank);
            atomic_store(&w->dead, true);
            return;
        }
        double slow = o->slow[w->rank] * weft_pace_draw(&o->pace, o->seed, (uint32_t)w->rank, step);
        double loss = rule_is_optimiser(r->algorithm)
                          ? learn(w, t, ru, slow, (double)learning_rate(o, progress), &right)
                          : step_by_step(w, t, ru, slow, learning_rate(o, progress), &right);

        atomic_fetch_add_explicit(&w->samples, o->batch, memory_order_relaxed);
        atomic_fetch_add_explicit(&w->right, right, memory_order_relaxed);
        if (loss < 1e12) /* not NaN, and fits */
            atomic_fetch_add_explicit(&w->micro_loss, (uint64_t)(loss * 1e6), memory_order_relaxed);
        if (progress < 1.0) { /* the last point is for after the last step */
            const size_t before = w->next_point;
            keep(w, ru, step + 1 - w->first, progress);
            if (o->save && w->next_point != before) save(w, ru, step + 1);
        }
    }
    w->step = step;
    rule_leave(ru);
    w->ended = seconds_since(r->started);
    keep(w, ru, step - w->first, 1.0);
}

static void *work(void *arg) {
    worker *w = arg;
    run *r = w->run;
    const bool late = r->crew && crew_is_newcomer(r->crew);
    trainer *t = &w->trainer;
    rule *ru;
    t->job = (r->o->seed * 64 + r->workers) * ALGORITHMS + (uint64_t)r->algorithm;
    trainer_init(t, r->o, r->m, r->d, &r->share, w->rank, &r->initial);
    ru = late ? come_in(w, t)
              : rule_new(r->team, r->algorithm, w->rank, r->o, t->device, &t->params, &t->grads, RULE_FOUNDS, NULL, 0);
    if (r->crew) {
        rule_listen(ru, r->crew);
        rule_serve_with(ru, serve, w);
        crew_serve_with(r->crew, serve, w);
    }
    /* All start at once: nobody's clock runs while others still set up. */
    if (pthread_barrier_wait(&r->ready) == PTHREAD_BARRIER_SERIAL_THREAD && !late) {
        if (r->crew) crew_meet(r->crew);
        r->started = clock_ns();
    }
    pthread_barrier_wait(&r->ready);
    train(w, t, ru);
    rule_read_stats(ru, &w->stats);
    if (r->crew) crew_listen(r->crew, NULL, NULL);
    rule_free(ru);
    atomic_store(&w->finished, true);
    return NULL;
}

/* ---- Points ---- */

/* Has every worker that will ever reach this moment reached it? */
static bool point_complete(run *r, size_t k) {
    if (r->crew) return true; /* all that will ever come is here */
    for (size_t i = 0; i < r->workers; i++) {
        bool dead = atomic_load(&r->worker[i].dead); /* before `ready`: a dead worker publishes nothing more */
        if (!atomic_load(&r->worker[i].cell[k].ready) && !dead) return false;
    }
    return true;
}

/* The mean of the workers' models, in the order of ranks, and how far they are from it. */
static void reduce_point(run *r, size_t k) {
    cell *there[MAX_WORKERS];
    size_t n = 0;
    double square = 0.0;
    run_point *p = &r->point[k];
    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < r->workers; i++)
        if (atomic_load(&r->worker[i].cell[k].ready)) there[n++] = &r->worker[i].cell[k];
    r->mean[k] = tensors_new(r->m);
    for (size_t t = 0; t < r->m->tensors; t++)
        for (size_t j = 0; j < r->m->tensor[t].count; j++) {
            double mean = 0.0;
            for (size_t i = 0; i < n; i++) mean += (double)there[i]->model.tensor[t][j];
            mean = n ? mean / (double)n : (double)r->initial.tensor[t][j]; /* nobody who was there is left */
            for (size_t i = 0; i < n; i++) {
                double d = (double)there[i]->model.tensor[t][j] - mean;
                square += d * d;
            }
            r->mean[k].tensor[t][j] = (float)mean;
        }
    p->distance = n ? sqrt(square / (double)n) : 0.0;
    for (size_t i = 0; i < n; i++) {
        p->seconds = fmax(p->seconds, there[i]->seconds);
        tensors_free(r->m, &there[i]->model);
    }
    for (size_t i = 0; i < r->workers; i++) { /* the dead count with what they did */
        worker *w = &r->worker[i];
        const bool ready = atomic_load(&w->cell[k].ready);
        p->steps += ready ? w->cell[k].steps : atomic_load(&w->samples) / r->o->batch;
        p->payload += ready ? w->cell[k].payload : w->payload_at_death;
    }
}

static void reduce_points(run *r) {
    while (r->reduced < POINTS && point_complete(r, r->reduced)) reduce_point(r, r->reduced++);
}

/* ---- What each worker spent its time on ---- */

/* When the last worker that took part in this round arrived. */
static double all_arrived(const run *r, uint64_t round, double from) {
    for (size_t i = 0; i < r->workers; i++) {
        const worker *w = &r->worker[i];
        size_t lo = 0, hi = w->rounds; /* rounds are logged in order */
        while (lo < hi) {
            size_t mid = (lo + hi) / 2;
            if (w->round[mid].round < round)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo < w->rounds && w->round[lo].round == round) from = fmax(from, w->round[lo].from);
    }
    return from;
}

static void add_span(run_worker *out, double from, double upto, int kind) {
    if (upto > from) out->span[out->spans++] = (plot_span){from, upto, kind};
}

/* Between rounds a worker computes; in a round it waits until the last has arrived, and then exchanges. */
static void spans(const run *r, const worker *w, double end, run_worker *out) {
    double at = 0.0;
    out->spans = 0;
    out->span = new_array(3 * w->rounds + 2, sizeof *out->span);
    out->died = w->died;
    for (size_t i = 0; i < w->rounds; i++) {
        double upto = w->round[i].upto, met = upto; /* without meetings: waiting, of which an exchange is a bit */
        if (rule_has_meetings(r->algorithm)) met = fmin(all_arrived(r, w->round[i].round, w->round[i].from), upto);
        add_span(out, at, w->round[i].from, STRIP_COMPUTE);
        add_span(out, w->round[i].from, met, STRIP_WAIT);
        add_span(out, met, upto, STRIP_SYNC);
        at = upto;
    }
    if (w->died >= 0.0) {
        add_span(out, at, w->died, STRIP_COMPUTE);
        add_span(out, w->died, end, STRIP_DEAD);
    } else {
        add_span(out, at, w->ended, STRIP_COMPUTE);
    }
}

/* ---- Workers in other processes ---- */

static bool is_here(const run *r, size_t rank) {
    return !r->crew || rank == r->o->rank;
}

/* What rank 0 must know of a worker, in the byte order of machines that are all alike in this. */
typedef struct summary {
    double ended;
    crew_events events;
    uint64_t samples, logged;
    rule_stats stats;
    bool ready[POINTS];
    double seconds[POINTS];
    uint64_t steps[POINTS], sent[POINTS];
} summary;

/* Of a worker that is lost while it is told the rest does not count. */
static bool tell(run *r, worker *w, size_t reporter) {
    summary s;
    memset(&s, 0, sizeof s);
    s.ended = w->ended;
    s.events = crew_count(r->crew);
    s.samples = atomic_load(&w->samples);
    s.logged = w->rounds;
    s.stats = w->stats;
    for (size_t k = 0; k < POINTS; k++) {
        s.ready[k] = atomic_load(&w->cell[k].ready);
        s.seconds[k] = w->cell[k].seconds;
        s.steps[k] = w->cell[k].steps;
        s.sent[k] = w->cell[k].payload;
    }
    bool there = crew_send(r->crew, CREW_RESULTS, reporter, &s, sizeof s) &&
                 crew_send(r->crew, CREW_RESULTS, reporter, w->round, w->rounds * sizeof *w->round);
    for (size_t k = 0; there && k < POINTS; k++)
        for (size_t t = 0; there && s.ready[k] && t < r->m->tensors; t++)
            there = crew_send(r->crew, CREW_RESULTS, reporter, w->cell[k].model.tensor[t],
                              r->m->tensor[t].count * sizeof(float));
    return there;
}

static bool hear(run *r, worker *w) {
    summary s;
    if (!crew_receive(r->crew, CREW_RESULTS, w->rank, &s, sizeof s)) return false;
    if (s.logged > SIZE_MAX / sizeof *w->round - 1) broken("worker %zu: a summary that cannot be", w->rank);
    w->ended = s.ended;
    if (s.events.views > r->events.views) r->events = s.events;
    atomic_store(&w->samples, s.samples);
    w->stats = s.stats;
    w->rounds = w->capacity = (size_t)s.logged;
    w->round = new_array(w->rounds + 1, sizeof *w->round);
    bool there = crew_receive(r->crew, CREW_RESULTS, w->rank, w->round, w->rounds * sizeof *w->round);
    for (size_t k = 0; there && k < POINTS; k++) {
        cell *c = &w->cell[k];
        if (!s.ready[k]) continue;
        c->model = tensors_new(r->m);
        c->seconds = s.seconds[k];
        c->steps = s.steps[k];
        c->payload = s.sent[k];
        for (size_t t = 0; there && t < r->m->tensors; t++)
            there =
                crew_receive(r->crew, CREW_RESULTS, w->rank, c->model.tensor[t], r->m->tensor[t].count * sizeof(float));
        atomic_store(&c->ready, there);
    }
    return there;
}

/* Brings all results to the reporter, whichever of those who are left that is. */
static void collect(run *r) {
    const size_t me = r->o->rank;
    size_t reporter;
    if (!rule_has_views(r->algorithm)) crew_done(r->crew); /* (the others have said so in leaving) */
    while ((reporter = crew_reporter(r->crew)) != me)
        if (tell(r, &r->worker[me], reporter)) return;
    r->reports = true;
    if (crew_count(r->crew).views > r->events.views) r->events = crew_count(r->crew); /* who came late saw less */
    for (size_t i = 0; i < r->workers; i++) {
        worker *w = &r->worker[i];
        if (i == me || (crew_hears(r->crew, i) && hear(r, w))) continue;
        w->died = w->ended = seconds_since(r->started); /* (when it was, the living have not noted) */
        atomic_store(&w->dead, true);
    }
}

/* ---- The run as a whole ---- */

static void watch(run *r) {
    progress_line p;
    progress_begin(&p, ALGORITHM_NAME[r->algorithm], r->o->seconds > 0.0 ? 0 : r->budget, r->o->seconds);
    for (bool all = false; !all;) {
        uint64_t samples = 0, right = 0, micro_loss = 0;
        sleep_ns(20000000);
        all = true;
        for (size_t i = 0; i < r->workers; i++) {
            worker *w = &r->worker[i];
            if (!is_here(r, i)) continue;
            all = all && atomic_load(&w->finished);
            samples += atomic_load_explicit(&w->samples, memory_order_relaxed);
            right += atomic_load_explicit(&w->right, memory_order_relaxed);
            micro_loss += atomic_load_explicit(&w->micro_loss, memory_order_relaxed);
        }
        if (!r->crew) reduce_points(r);
        if (r->o->rank == 0) progress_show(&p, samples, right, (double)micro_loss * 1e-6);
    }
    progress_end(&p);
}

void run_train(run_result *out, algorithm a, unsigned number, const options *o, const dataset *d, const model *m) {
    run *r = new_array(1, sizeof *r);
    memset(out, 0, sizeof *out);
    if (a == ALGORITHM_SINGLE && o->transport != TRANSPORT_THREADS && o->rank != 0) { /* rank 0 alone */
        free(r);
        return;
    }
    r->algorithm = a;
    r->o = o;
    r->d = d;
    r->m = m;
    r->workers = a == ALGORITHM_SINGLE ? 1 : o->workers;
    if (a != ALGORITHM_SINGLE) r->crew = crew_open(o, number);
    r->team = team_new(r->workers, o, r->crew);
    r->reports = !r->crew;
    partition_make(&r->share, d, r->workers, o->alpha, o->seed);
    r->budget = (uint64_t)o->epochs * d->train.count;
    r->steps_each = r->budget / (r->workers * o->batch);
    if (r->steps_each == 0) r->steps_each = 1;
    r->period = rule_period(a, o);
    r->pooled = rule_is_free(a, o) && !r->crew;
    r->last_step = UINT64_MAX;
    r->initial = tensors_new(m);
    model_init(m, &r->initial, o->seed);
    r->worker = new_array(r->workers, sizeof *r->worker);
    if (pthread_barrier_init(&r->ready, NULL, (unsigned)(r->crew ? 1 : r->workers))) broken("cannot make a barrier");
    for (size_t i = 0; i < r->workers; i++) {
        r->worker[i].run = r;
        r->worker[i].rank = i;
        r->worker[i].died = -1.0;
        if (!is_here(r, i)) continue;
        if (pthread_create(&r->worker[i].thread, NULL, work, &r->worker[i])) broken("cannot start a thread");
    }
    watch(r);
    for (size_t i = 0; i < r->workers; i++)
        if (is_here(r, i)) pthread_join(r->worker[i].thread, NULL);
    if (r->crew) {
        collect(r);
        out->events = r->events;
    }
    crew_close(r->crew);
    if (r->reports)
        reduce_points(r);
    else /* others have them */
        for (size_t k = 0; k < POINTS; k++)
            if (atomic_load(&r->worker[o->rank].cell[k].ready)) tensors_free(m, &r->worker[o->rank].cell[k].model);

    out->algorithm = a;
    out->points = r->reduced;
    out->point = new_array(POINTS, sizeof *out->point);
    out->workers = r->workers;
    out->worker = new_array(r->workers, sizeof *out->worker);
    for (size_t i = 0; i < r->workers; i++) {
        out->seconds = fmax(out->seconds, r->worker[i].ended);
        out->samples += r->worker[i].samples;
        out->payload += r->worker[i].stats.payload;
        if (r->worker[i].stats.rounds > out->rounds) out->rounds = r->worker[i].stats.rounds;
    }
    for (size_t i = 0; i < r->workers; i++) spans(r, &r->worker[i], out->seconds, &out->worker[i]);
    for (size_t k = 0; k < out->points; k++) {
        out->point[k] = r->point[k];
        measure_test(m, d, &r->mean[k], &out->point[k].loss, &out->point[k].accuracy);
        out->point[k].sharpness = measure_sharpness(m, d, &r->mean[k]);
        tensors_free(m, &r->mean[k]);
    }

    for (size_t i = 0; i < r->workers; i++) {
        free(r->worker[i].round);
        if (is_here(r, i)) trainer_free(&r->worker[i].trainer);
    }
    free(r->worker);
    pthread_barrier_destroy(&r->ready);
    tensors_free(m, &r->initial);
    partition_free(&r->share);
    team_free(r->team);
    free(r);
}

void run_free(run_result *r) {
    for (size_t i = 0; i < r->workers; i++) free(r->worker[i].span);
    free(r->worker);
    free(r->point);
    memset(r, 0, sizeof *r);
}
