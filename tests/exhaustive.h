/* SPDX-License-Identifier: MIT
 * exhaustive.h: for tests: every worker lost before and after every message of a scene, and then every second one
 * before and after every message until the first loss was settled.
 *
 * A family (the objects of one algorithm) gives a function that plays a scene with the losses of a case and tells what
 * it has seen; what the scenes are is its own affair. It plays without losses first, to count the messages; so the
 * number of cases is known before they are played, and each is compared with it:
 *
 *     static void play(const exh_case *c, exh_seen *s);   // s->why: what is wrong, if anything
 *     exh_all(&family, variant, scene, n, 1);            // 1: pairs with every first loss; 0: none
 *     exh_tell("grawa", 500);                             // prints the number of cases; so many at least
 *
 * Every case: each loss has struck; every survivor has settled what the last loss cut short (has committed, abandoned,
 * or is alone) within `bound` events of the simulator; and whatever the family's oracle looks at.
 *
 * ---- The bound ----
 *
 * It is made of what the protocols may still have to do, not of what was seen. An event is anything that the simulator
 * takes from its queue. A message makes at most EXH_PER_MESSAGE of them: it arrives; its receive is over; its send is
 * over; and each of these three may wake a worker, which may be woken once more for what it did not look at. A worker
 * that computes has a timer, which ends in waking it: EXH_PER_STEP, so often as it may take a step until all are
 * settled. So: EXH_PER_MESSAGE x (messages to each other worker) x n (n - 1) + EXH_PER_STEP x (steps) x n. How many
 * messages and steps that are is said where a family is described.
 *
 * Include after check.h and a header that includes weft_sim.h. */
#ifndef EXHAUSTIVE_H
#define EXHAUSTIVE_H

enum { EXH_PER_MESSAGE = 7, EXH_PER_STEP = 4, EXH_LOSSES = 2 };

typedef struct exh_loss {
    uint32_t rank;
    uint64_t message; /* of the scene, from 1 */
    int after;
} exh_loss;

typedef struct exh_case {
    int variant, scene;
    uint32_t n, losses;
    exh_loss loss[EXH_LOSSES];
} exh_case;

typedef struct exh_seen {
    char why[1100];           /* empty: all is well */
    uint64_t messages;        /* of the scene */
    uint64_t settled_message; /* how many had come when all had settled the last loss */
    uint64_t events;          /* from the last loss until then */
    int settled;
    uint32_t struck;                   /* losses */
    uint64_t commits, abandons, solos; /* how survivors came out of it */
} exh_seen;

typedef struct exh_family {
    const char *name;
    void (*play)(const exh_case *c, exh_seen *s);
    uint64_t per_pair, steps; /* for the bound: messages to each other worker, steps of a worker */
} exh_family;

static struct {
    uint64_t cases, doubles, messages, most_events, commits, abandons, solos;
    double nearest; /* to the bound */
} exh_total;

static inline uint64_t exh_bound(const exh_family *f, uint32_t n) {
    return EXH_PER_MESSAGE * f->per_pair * n * (n - 1) + EXH_PER_STEP * f->steps * n;
}

/* ---- for families ---- */

typedef struct exh_watch {
    weft_sim *sim;
    exh_seen *seen;
    const exh_case *c;
    int fault[EXH_LOSSES];
    uint64_t from, at; /* messages before the scene; events when the last loss struck */
    uint64_t turns;    /* of workers that the simulator does not call itself: these count as events */
    int (*settled)(void *ctx, uint32_t lost);  /* have all survivors settled all that was lost so far? */
    void (*struck)(void *ctx, uint32_t which); /* a loss has struck just now */
    void (*look)(void *ctx);                   /* after everything that happens; NULL: nothing to see */
    void *ctx;
} exh_watch;

/* The scene begins now. */
static inline void exh_begin(exh_watch *w, weft_sim *sim, const exh_case *c, exh_seen *s,
                             int (*settled)(void *, uint32_t), void (*struck)(void *, uint32_t), void *ctx) {
    uint32_t i;
    memset(w, 0, sizeof *w);
    w->sim = sim;
    w->c = c;
    w->seen = s;
    w->settled = settled;
    w->struck = struck;
    w->ctx = ctx;
    w->from = weft_sim_arrived(sim);
    for (i = 0; i < c->losses; i++)
        w->fault[i] = weft_sim_lose_at_message(sim, c->loss[i].rank, w->from + c->loss[i].message, c->loss[i].after);
}

/* After everything that happens. */
static inline void exh_look(exh_watch *w) {
    exh_seen *s = w->seen;
    if (w->look) w->look(w->ctx);
    while (s->struck < w->c->losses && weft_sim_fired(w->sim, w->fault[s->struck])) {
        w->struck(w->ctx, s->struck);
        s->struck++;
        s->settled = 0;
        w->at = w->sim->events + w->turns;
    }
    if (!s->struck || s->settled) return;
    s->commits = s->abandons = s->solos = 0;
    if (w->settled(w->ctx, s->struck)) {
        s->settled = 1;
        s->events = w->sim->events + w->turns - w->at;
        s->settled_message = weft_sim_arrived(w->sim) - w->from;
    }
}

/* How a survivor came out of it: told by `settled`, of each. */
static inline void exh_came_out(exh_seen *s, int alone, int abandoned) {
    if (alone)
        s->solos++;
    else if (abandoned)
        s->abandons++;
    else
        s->commits++;
}

/* A scene is over. `why`: what the family found wrong, or empty. */
static inline void exh_end(exh_seen *s, int ok, const char *why) {
    snprintf(s->why, sizeof s->why, "%s", ok || why[0] ? why : "a check failed");
}

/* Lets so much time pass. */
static inline void exh_advance(exh_watch *w, uint64_t ns) {
    const uint64_t until = w->sim->now + ns;
    while (w->sim->heap_count && w->sim->heap[0].at <= until && weft_sim_next(w->sim)) exh_look(w);
    w->sim->now = until;
}

/* Until nothing happens any more. */
static inline void exh_pump(exh_watch *w) {
    uint64_t most = w->sim->events + 200000; /* the bound is looked at later */
    exh_look(w);
    while (w->sim->undone && w->sim->events < most && weft_sim_next(w->sim)) exh_look(w);
    w->seen->messages = weft_sim_arrived(w->sim) - w->from;
}

/* ---- all cases ---- */

static inline void exh_fail(const exh_family *f, const exh_case *c, const char *why) {
    char text[300];
    size_t n = 0;
    uint32_t i;
    text[0] = 0;
    for (i = 0; i < c->losses && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, ", worker %u lost %s message %llu", (unsigned)c->loss[i].rank,
                              c->loss[i].after ? "after" : "before", (unsigned long long)c->loss[i].message);
    ck_abort_msg("%s, variant %d, scene %d, %u workers%s: %s", f->name, c->variant, c->scene, (unsigned)c->n, text,
                 why);
}

static inline void exh_one(const exh_family *f, const exh_case *c, exh_seen *s) {
    char why[200];
    memset(s, 0, sizeof *s);
    f->play(c, s);
    if (s->why[0]) exh_fail(f, c, s->why);
    if (s->struck != c->losses) exh_fail(f, c, "a loss has not struck");
    if (!c->losses) return;
    if (!s->settled) exh_fail(f, c, "a survivor neither commits nor abandons nor is alone");
    if (s->events > exh_bound(f, c->n)) {
        snprintf(why, sizeof why, "%llu events until all had settled it, %llu are the bound",
                 (unsigned long long)s->events, (unsigned long long)exh_bound(f, c->n));
        exh_fail(f, c, why);
    }
    exh_total.cases++;
    exh_total.doubles += c->losses > 1;
    if (s->events > exh_total.most_events) exh_total.most_events = s->events;
    if ((double)s->events / (double)exh_bound(f, c->n) > exh_total.nearest)
        exh_total.nearest = (double)s->events / (double)exh_bound(f, c->n);
    exh_total.commits += s->commits;
    exh_total.abandons += s->abandons;
    exh_total.solos += s->solos;
}

/* A second loss, at each moment from the first one on until that was settled. Returns the number of cases. */
static inline uint64_t exh_second(const exh_family *f, const exh_case *first, uint64_t until) {
    exh_case c = *first;
    exh_seen s;
    uint64_t n = 0;
    c.losses = 2;
    for (c.loss[1].message = c.loss[0].message; c.loss[1].message <= until; c.loss[1].message++)
        for (c.loss[1].after = 0; c.loss[1].after < 2; c.loss[1].after++)
            for (c.loss[1].rank = 0; c.loss[1].rank < c.n; c.loss[1].rank++) {
                if (c.loss[1].rank == c.loss[0].rank) continue;
                if (c.loss[1].message == c.loss[0].message &&
                    (c.loss[1].after < c.loss[0].after ||
                     (c.loss[1].after == c.loss[0].after && c.loss[1].rank < c.loss[0].rank)))
                    continue; /* that is the same pair the other way round */
                exh_one(f, &c, &s);
                n++;
            }
    return n;
}

/* Every worker, before and after every message. Pairs: of every `stride`-th first loss. */
static inline void exh_all(const exh_family *f, int variant, int scene, uint32_t n, uint32_t stride) {
    exh_case c;
    exh_seen s;
    uint64_t messages, played = 0;
    const uint64_t before = exh_total.cases;
    memset(&c, 0, sizeof c);
    c.variant = variant;
    c.scene = scene;
    c.n = n;
    exh_one(f, &c, &s);
    messages = s.messages;
    if (messages < n) exh_fail(f, &c, "hardly any messages");
    exh_total.messages += messages;
    c.losses = 1;
    for (c.loss[0].message = 1; c.loss[0].message <= messages; c.loss[0].message++)
        for (c.loss[0].after = 0; c.loss[0].after < 2; c.loss[0].after++)
            for (c.loss[0].rank = 0; c.loss[0].rank < n; c.loss[0].rank++) {
                exh_one(f, &c, &s);
                played++;
                if (stride && n > 2 && played % stride == 0) played += exh_second(f, &c, s.settled_message);
            }
    ck_assert_uint_ge(played, 2 * messages * n);
    ck_assert_uint_eq(exh_total.cases - before, played);
}

/* What was done; at least so many cases must have been, and every way out of a loss must have been taken. */
static inline void exh_tell(const char *name, uint64_t least) {
    printf("%s: %llu cases, %llu of them with two losses, over %llu messages; most events until settled: %llu (%.0f %% "
           "of the bound); survivors: %llu committed, %llu abandoned, %llu alone\n",
           name, (unsigned long long)exh_total.cases, (unsigned long long)exh_total.doubles,
           (unsigned long long)exh_total.messages, (unsigned long long)exh_total.most_events, 100 * exh_total.nearest,
           (unsigned long long)exh_total.commits, (unsigned long long)exh_total.abandons,
           (unsigned long long)exh_total.solos);
    fflush(stdout);
    ck_assert_uint_ge(exh_total.cases, least);
    ck_assert_uint_gt(exh_total.doubles, 100);
    ck_assert(exh_total.commits && exh_total.abandons && exh_total.solos);
    memset(&exh_total, 0, sizeof exh_total);
}

static inline int exh_main(const TTest *losses) {
    Suite *s = suite_create("exhaustive");
    TCase *t = tcase_create("losses");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_test(t, losses);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif /* EXHAUSTIVE_H */
