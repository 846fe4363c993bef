/* SPDX-License-Identifier: MIT
 * bench-flatness: what the paper on GRAWA claims, tried: test error after the same virtual time, how flat minima are,
 * what it takes to get there, more workers, unequal ones, and a convex problem; MGRAWA and LGRAWA beside uniform
 * averaging (equal weights, and no probe), EASGD, LSGD and an all-reduce of gradients. */
#define GRAWA_IMPLEMENTATION
#include "grawa.h"

#include "flatness/tell.h"

#include "census.h"
#include "machine.h"
#include "options.h"

enum { RULES = 12, RATES = 6, WORKERS = 5, MOST_TUNING = 10 };

/* Periods and pulls of the published code, EASGD's beta of its own paper as well; and all at the same periods. */
static const rule rules[RULES] = {
    {"all-reduce", ALL_REDUCE, 1, 0},          {"EASGD, tau 4, beta 0.1", EASGD, 4, 0.1},
    {"EASGD, tau 4, beta 0.9", EASGD, 4, 0.9}, {"LSGD, tau 4", LSGD, 4, 0.1},
    {"uniform, tau 32", UNIFORM, 32, 0.5},     {"MGRAWA, tau 32", MGRAWA, 32, 0.5},
    {"LGRAWA, tau 32", LGRAWA, 32, 0.5},       {"EASGD, tau 32, beta 0.9", EASGD, 32, 0.9},
    {"LSGD, tau 32", LSGD, 32, 0.1},           {"uniform, tau 4", UNIFORM, 4, 0.5},
    {"MGRAWA, tau 4", MGRAWA, 4, 0.5},         {"LGRAWA, tau 4", LGRAWA, 4, 0.5}};
enum { OWN = 7, FIRST_GRAWA = 5, LAST_GRAWA = 6, AT_ALL_REDUCE = 0, AT_EASGD = 1, AT_EASGD9 = 2, AT_LSGD = 3 };
enum { AT_UNIFORM = 4, SCALED = 16 /* gradients of all workers together, by the seconds of a run */ };

static const double rates[2][RATES] = {{0.00625, 0.0125, 0.025, 0.05, 0.1, 0.2}, {0.05, 0.1, 0.2, 0.4, 0.8, 1.6}};
static const uint32_t worker_counts[WORKERS] = {4, 8, 12, 16, 32};

typedef struct settings {
    const char *images, *adult, *rows_at;
    double seconds, sync;
    uint64_t seeds, tuning;
    size_t train;
    int quick;
} settings;

typedef struct study {
    const settings *o;
    report r;
    FILE *csv;
    images *im;
    people *pe;
    census rows;
    double rate[2][RULES]; /* images, people */
    outcome images[RULES], slow[RULES], people[RULES], scaled[WORKERS][OWN];
    double target;
} study;

static void usage(void) {
    puts("usage: bench-flatness [options]\n"
         "Trains with grawa.h and what it is compared with over a simulated network, and measures test error at equal\n"
         "virtual time, flatness, rounds and bytes, scaling, unequal workers, and a convex problem.\n"
         "\n"
         "  --images DIR   Fashion-MNIST, MNIST or CIFAR-10; without it: glyphs that the program draws itself\n"
         "  --adult DIR    UCI Adult; without it: people that the program draws itself\n"
         "  --train N      images to train on (4000; 500 to 30000)\n"
         "  --seconds S    of virtual time, of which a step takes one (400; 64 to 100000)\n"
         "  --sync S       that a sum of the models takes (0.5; 0.001 to 100)\n"
         "  --seeds N      scored (5; 1 to 20)\n"
         "  --tuning N     seeds to tune step sizes on (2; 1 to 10)\n"
         "  --quick        --seconds 128 --seeds 2 --tuning 1 --train 1000, 4 and 16 workers only\n"
         "  --json FILE    a row a run; the report (.md), a table (.csv) and a picture (.svg) beside it\n"
         "  --help");
}

static double number(const char *option, const char *text, double least, double most) {
    return option_number("bench-flatness", option, text, least, most);
}

static void read_options(int argc, char **argv, settings *o) {
    options line = {argc, 1, argv};
    const char *v;
    *o = (settings){.seconds = 400, .sync = 0.5, .seeds = 5, .tuning = 2, .train = 4000};
    while (line.at < argc) {
        if (option_switch(&line, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&line, "--quick")) {
            o->quick = 1;
            o->seconds = 128;
            o->seeds = 2;
            o->tuning = 1;
            o->train = 1000;
        } else if ((v = option_value(&line, "--images")))
            o->images = v;
        else if ((v = option_value(&line, "--adult")))
            o->adult = v;
        else if ((v = option_value(&line, "--json")))
            o->rows_at = v;
        else if ((v = option_value(&line, "--train")))
            o->train = (size_t)number("--train", v, 500, 30000);
        else if ((v = option_value(&line, "--seconds")))
            o->seconds = number("--seconds", v, 64, 1e5);
        else if ((v = option_value(&line, "--sync")))
            o->sync = number("--sync", v, 0.001, 100);
        else if ((v = option_value(&line, "--seeds")))
            o->seeds = (uint64_t)number("--seeds", v, 1, MOST_SEEDS);
        else if ((v = option_value(&line, "--tuning")))
            o->tuning = (uint64_t)number("--tuning", v, 1, MOST_TUNING);
        else {
            fprintf(stderr, "bench-flatness: what is '%s'? (--help lists the options)\n", argv[line.at]);
            exit(2);
        }
    }
}

static setting plain(const study *s, const rule *r, double rate, uint64_t seed) {
    return (setting){
        .rule = r, .workers = 4, .rate = rate, .sync = s->o->sync, .seconds = s->o->seconds, .slow = 1, .seed = seed};
}

/* ---- The program checks itself before it tells others ---- */

static void check(int right, const char *what, double wanted, double got) {
    if (right) return;
    fprintf(stderr, "bench-flatness: %s: expected %.9g, got %.9g\n", what, wanted, got);
    exit(1);
}

/* The largest difference of two numbers; NaN counts. */
static double farthest(const problem *p, const tensor_list *a, const tensor_list *b) {
    double off = 0;
    for (size_t t = 0; t < p->tensors; t++)
        for (size_t i = 0; i < p->count[t]; i++) {
            const double e = fabs((double)a->tensor[t][i] - (double)b->tensor[t][i]);
            if (!(e <= off)) off = e;
            if (isnan(off)) return off;
        }
    return off;
}

/* One worker under any rule that leaves a single worker's model alone is plain SGD. */
static void check_alone(study *s) {
    problem *p = &s->im->p;
    tensor_list at = problem_new(p), g = problem_new(p), v = problem_new(p), out;
    const int kinds[] = {AT_ALL_REDUCE, AT_LSGD, AT_UNIFORM, FIRST_GRAWA};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        setting one = plain(s, &rules[kinds[k]], 0.05, 77);
        run_result r;
        double off;
        uint64_t step = 0, probes = 0;
        one.workers = 1;
        one.steps = 40;
        cluster_run(&r, p, &one, &out);
        p->first(p, &at, 77);
        for (size_t t = 0; t < p->tensors; t++) memset(v.tensor[t], 0, p->count[t] * sizeof(float));
        for (; step < (uint64_t)r.steps; step++) {
            /* GRAWA takes one batch more for its norm at the end of a period */
            p->gradient(p, &at, 77, 0, step + probes, &g);
            if (one.rule->kind == MGRAWA && (step + 1) % one.rule->period == 0) probes++;
            for (size_t t = 0; t < p->tensors; t++)
                for (size_t i = 0; i < p->count[t]; i++) {
                    v.tensor[t][i] = 0.9f * v.tensor[t][i] + g.tensor[t][i];
                    at.tensor[t][i] -= 0.05f * (g.tensor[t][i] + 0.9f * v.tensor[t][i]);
                }
        }
        off = farthest(p, &at, &out);
        check(off < 1e-4, one.rule->name, 0, off);
        problem_free(p, &out);
    }
    problem_free(p, &at);
    problem_free(p, &g);
    problem_free(p, &v);
}

/* Three workers' all-reduce is SGD on the mean of their gradients. */
static void check_mean(study *s) {
    problem *p = &s->im->p;
    setting one = plain(s, &rules[AT_ALL_REDUCE], 0.05, 79);
    tensor_list at = problem_new(p), g[3], v = problem_new(p), out;
    run_result r;
    double off;
    one.workers = 3;
    one.steps = 12;
    cluster_run(&r, p, &one, &out);
    p->first(p, &at, 79);
    for (int i = 0; i < 3; i++) g[i] = problem_new(p);
    for (uint64_t step = 0; step < (uint64_t)r.rounds; step++) {
        for (uint32_t i = 0; i < 3; i++) p->gradient(p, &at, 79, i, step, &g[i]);
        for (size_t t = 0; t < p->tensors; t++)
            for (size_t i = 0; i < p->count[t]; i++) {
                const float mean = (g[0].tensor[t][i] + g[1].tensor[t][i] + g[2].tensor[t][i]) / 3;
                v.tensor[t][i] = 0.9f * v.tensor[t][i] + mean;
                at.tensor[t][i] -= 0.05f * (mean + 0.9f * v.tensor[t][i]);
            }
    }
    off = farthest(p, &at, &out);
    check(r.rounds >= 10 && off < 1e-4, "all-reduce of three", 0, off);
    for (int i = 0; i < 3; i++) problem_free(p, &g[i]);
    problem_free(p, &at);
    problem_free(p, &v);
    problem_free(p, &out);
}

/* Bytes that a worker sends for models: 2 (N - 1) / N of them for a sum; what comes on top are norms and losses. */
static void check_bytes(study *s) {
    for (int k = 0; k < OWN; k++) {
        setting one = plain(s, &rules[k], 0.05, 78);
        run_result r;
        double models, small;
        one.steps = 64;
        cluster_run(&r, &s->im->p, &one, NULL);
        models = 4.0 * (double)s->im->p.parameters * (rules[k].kind == LSGD ? 3.0 / 4 : 2 * 3.0 / 4);
        small = rules[k].kind == LSGD     ? 4 * 4 * 3 * 2
                : rules[k].kind == LGRAWA ? 16.0 * 3 * (double)s->im->p.tensors
                                          : 48;
        check(r.rounds > 0, "rounds", 1, r.rounds);
        /* the last round may be under way */
        check(r.bytes >= r.rounds * models * 0.999 && r.bytes <= (r.rounds + 1) * (models + small) * 1.001,
              rules[k].name, r.rounds * models, r.bytes);
    }
}

/* The Hessian's quotient along l->direction, of length 1. */
static double quotient(images *m, const tensor_list *at, double h) {
    learner *l = &m->l;
    const size_t d = l->net.parameters;
    learner_loss(l, learner_move(l, at, h, l->direction), &m->data.train, m->pool, m->train, NULL, l->product);
    learner_loss(l, learner_move(l, at, -h, l->direction), &m->data.train, m->pool, m->train, NULL, l->sum);
    for (size_t i = 0; i < d; i++) l->product[i] = (l->product[i] - l->sum[i]) / (2 * h);
    return vector_dot(d, l->direction, l->product);
}

/* The largest eigenvalue is above any quotient, such as the gradient's. The trace over the output's biases, by
 * Hutchinson's estimate, is the sum of their quotients. The convex loss's Hessian is that of its gradient. */
static void check_curvature(study *s) {
    images *m = s->im;
    learner *l = &m->l;
    tensor_list at = problem_new(&m->p);
    const size_t d = l->net.parameters, train = m->train, from = d - m->p.count[m->p.tensors - 1];
    double eigenvalue, some, sum = 0;
    rng r = rng_make(5, STREAM_TRACE, 1);
    m->train = 200;
    m->p.first(&m->p, &at, 5);
    eigenvalue = learner_eigenvalue(l, &at, m->pool, m->train, 1e-3, 5);
    learner_loss(l, &at, &m->data.train, m->pool, m->train, NULL, l->direction);
    some = 1 / sqrt(vector_dot(d, l->direction, l->direction));
    for (size_t i = 0; i < d; i++) l->direction[i] *= some;
    some = quotient(m, &at, 1e-3);
    check(some <= 1.05 * eigenvalue, "the largest eigenvalue, above the gradient's quotient", some, eigenvalue);
    memset(l->direction, 0, d * sizeof *l->direction);
    for (size_t i = from; i < d; i++) {
        l->direction[i] = 1;
        sum += quotient(m, &at, 1e-2);
        l->direction[i] = 0;
    }
    some = images_trace(m, &at, 1e-2, from, 400, 5);
    check(fabs(some - sum) < 0.05 * sum, "the trace over the output's biases", sum, some);
    m->train = train;
    problem_free(&m->p, &at);
    /* of the convex problem the Hessian is at hand: its gradient's difference along a direction */
    people *q = s->pe;
    const size_t n = q->features + 1;
    double *w = (double *)new_array(n, sizeof *w), *g = (double *)new_array(n, sizeof *g);
    double *h = (double *)new_array(n * n, sizeof *h), *z = (double *)new_array(n, sizeof *z), by_h = 0, by_g = 0;
    for (size_t j = 0; j < n; j++) w[j] = 0.3 * (rng_uniform(&r) - 0.5), z[j] = rng_uniform(&r) - 0.5;
    people_loss(q, w, g, h);
    for (size_t j = 0; j < n; j++)
        for (size_t k = 0; k < n; k++) by_h += z[j] * z[k] * (k <= j ? h[j * n + k] : h[k * n + j]);
    for (int side = -1; side <= 1; side += 2) {
        for (size_t j = 0; j < n; j++) w[j] += (side < 0 ? -1e-5 : 2e-5) * z[j];
        people_loss(q, w, g, NULL);
        by_g += side * vector_dot(n, g, z) / 2e-5;
    }
    check(fabs(by_h - by_g) < 1e-5 * by_h, "second derivative of the convex loss", by_h, by_g);
    free(w);
    free(g);
    free(h);
    free(z);
}

/* ---- Running ---- */

/* The step size with the least error at the end, on other seeds; images: on images held out. */
static double tune(study *s, problem *p, const rule *r, const double *grid) {
    double best = 0, least = (double)INFINITY;
    for (int k = 0; k < RATES; k++) {
        double sum = 0;
        for (uint64_t i = 0; i < s->o->tuning; i++) {
            setting one = plain(s, r, grid[k], 1000 + i);
            run_result out;
            cluster_run(&out, p, &one, NULL);
            sum += out.diverged ? (double)INFINITY : curve_at(&out, CLUSTER_POINTS - 1);
        }
        if (sum < least) least = sum, best = grid[k];
    }
    if (best == 0) {
        fprintf(stderr, "bench-flatness: %s diverges with every step size\n", r->name);
        exit(1);
    }
    return best;
}

static void tune_all(study *s) {
    for (int k = 0; k < RULES; k++) {
        s->im->tuning = 1;
        s->rate[0][k] = tune(s, &s->im->p, &rules[k], rates[0]);
        s->im->tuning = 0;
        s->rate[1][k] = tune(s, &s->pe->p, &rules[k], rates[1]);
        fprintf(stderr, "%s: step sizes %g (images), %g (people)\n", rules[k].name, s->rate[0][k], s->rate[1][k]);
    }
}

static void run_one(study *s, const char *name, problem *p, const setting *one, outcome *o, int flat, double target) {
    run_result out;
    tensor_list at;
    place w;
    cluster_run(&out, p, one, &at);
    if (flat && !out.diverged) w = images_place(s->im, &at, one->seed);
    problem_free(p, &at);
    outcome_add(o, &out, flat && !out.diverged ? &w : NULL, target);
    o->rate = one->rate;
    tell_row(&s->r, s->csv, name, one, o);
}

static void run_all(study *s) {
    for (uint64_t seed = 1; seed <= s->o->seeds; seed++) {
        for (int k = 0; k < RULES; k++) {
            setting one = plain(s, &rules[k], s->rate[0][k], seed);
            run_one(s, "images", &s->im->p, &one, &s->images[k], 1, s->target);
            one.slow = 4;
            run_one(s, "slow", &s->im->p, &one, &s->slow[k], 0, s->target);
            one = plain(s, &rules[k], s->rate[1][k], seed);
            run_one(s, "people", &s->pe->p, &one, &s->people[k], 0, 1e-3);
        }
        for (int k = 0; k < OWN; k++)
            for (int n = 0; n < WORKERS; n++) {
                setting one = plain(s, &rules[k], s->rate[0][k], seed);
                if (s->o->quick && n != 0 && n != 3) continue;
                one.workers = worker_counts[n];
                one.steps = (uint64_t)(s->o->seconds * SCALED / one.workers);
                run_one(s, "scaled", &s->im->p, &one, &s->scaled[n][k], 0, s->target);
            }
        fprintf(stderr, "seed %llu of %llu\n", (unsigned long long)seed, (unsigned long long)s->o->seeds);
    }
}

/* ---- Telling ---- */

static void tell_head(study *s, const machine *m) {
    const settings *o = s->o;
    report_say(&s->r, "# Flatness\n\n- Written by `build/bench-flatness`%s: seeds 1 to %llu.\n",
               o->quick ? " with --quick: a look, no result" : "", (unsigned long long)o->seeds);
    machine_report(m, &s->r);
    report_say(
        &s->r,
        "- Virtual time: what it was run on makes no difference to the numbers.\n\n"
        "%s, %zu images to train on, a perceptron with %d hidden units (%zu parameters), SGD with Nesterov "
        "momentum 0.9, batches of %d, which any\nworker may draw from all images. 4 workers; a gradient takes "
        "U(0.95, 1.05) s, a sum of all models %g s, a run %g s. A round begins when\nall workers together have "
        "taken workers x tau steps (tau: the period). GRAWA's norms are of a probe: a batch more a round, which "
        "takes a\nstep's time. Pulls: GRAWA and uniform 0.5, LSGD 0.1, EASGD's alpha is beta / workers. No "
        "proximal terms. Step sizes are tuned rule by rule,\non %llu other seeds and images held out; mean and "
        "standard error over seeds. Errors are of the mean model (EASGD: its center) on %zu test\nimages, a mean of "
        "%d looks. Less than 0 is better in differences, which are paired over seeds; decided: with 95 %% "
        "confidence (Student's t).\n\n",
        o->images ? "Images" : "Drawn glyphs", o->train, LEARN_HIDDEN, s->im->p.parameters, IMAGES_BATCH, o->sync,
        o->seconds, (unsigned long long)o->tuning, s->im->tests, LAST);
}

static void tell_budgets(study *s, const char *title, const outcome *o, int decimals, const char *what) {
    char heads[256];
    table *t;
    snprintf(heads, sizeof heads, "rule|>step size|>%s after %g s|>%g s|>%g s", what, s->o->seconds / 4,
             s->o->seconds / 2, s->o->seconds);
    t = table_new(heads);
    for (int k = 0; k < RULES; k++) {
        table_row(t);
        table_cell(t, "%s", rules[k].name);
        table_cell(t, "%g", o[k].rate);
        for (int b = 0; b < BUDGETS; b++) cell_mean(t, o[k].budget[b], o[k].seeds, decimals);
    }
    report_say(&s->r, "## %s\n\n", title);
    table_print(t, &s->r);
}

static void tell_flat(study *s) {
    const uint64_t n = s->o->seeds;
    table *t = table_new(
        "rule|>largest eigenvalue|>trace|>training loss|>its gradient|>steps a worker|>rounds|>MB sent a worker|"
        ">waited, %|>mean of abs(N weight - 1)");
    table *to = table_new("rule|>seconds|>steps a worker|>rounds|>MB sent a worker");
    for (int k = 0; k < RULES; k++) {
        const outcome *o = &s->images[k];
        double mb[MOST_SEEDS], to_mb[MOST_SEEDS];
        for (uint64_t i = 0; i < n; i++) mb[i] = o->bytes[i] * 1e-6, to_mb[i] = o->bytes_to[i] * 1e-6;
        table_row(t);
        table_cell(t, "%s", rules[k].name);
        cell_mean(t, o->eigenvalue, n, 2);
        cell_mean(t, o->trace, n, 0);
        cell_mean(t, o->loss, n, 4);
        cell_mean(t, o->gradient, n, 4);
        cell_mean(t, o->steps, n, 0);
        cell_mean(t, o->rounds, n, 0);
        cell_mean(t, mb, n, 1);
        cell_mean(t, o->waited, n, 1);
        if (rules[k].kind >= MGRAWA)
            cell_mean(t, o->spread, n, 3);
        else
            table_cell(t, "-");
        table_row(to);
        table_cell(to, "%s", rules[k].name);
        cell_mean(to, o->reached, n, 0);
        cell_mean(to, o->steps_to, n, 0);
        cell_mean(to, o->rounds_to, n, 0);
        cell_mean(to, to_mb, n, 1);
    }
    report_say(&s->r,
               "## How flat it is there\n\nOf the training loss's Hessian at the model that is evaluated, after all "
               "of the time: power iteration; Hutchinson's\nestimate with %d directions.\n\n",
               TRACE_DRAWS);
    table_print(t, &s->r);
    report_say(&s->r, "## Until the test error is %g %%\n\nA look every %g s; never: not in the mean.\n\n", s->target,
               s->o->seconds / (CLUSTER_POINTS - 1));
    table_print(to, &s->r);
}

static void tell_pairs(study *s) {
    static const struct {
        int a, b;
    } pair[] = {{FIRST_GRAWA, AT_UNIFORM},
                {LAST_GRAWA, AT_UNIFORM},
                {10, 9},
                {11, 9},
                {FIRST_GRAWA, AT_EASGD},
                {FIRST_GRAWA, AT_EASGD9},
                {FIRST_GRAWA, 7},
                {FIRST_GRAWA, AT_LSGD},
                {FIRST_GRAWA, AT_ALL_REDUCE},
                {LAST_GRAWA, AT_EASGD},
                {LAST_GRAWA, AT_EASGD9},
                {LAST_GRAWA, 7},
                {LAST_GRAWA, AT_LSGD},
                {LAST_GRAWA, AT_ALL_REDUCE},
                {AT_UNIFORM, AT_ALL_REDUCE}};
    const uint64_t n = s->o->seeds;
    table *t = table_new(
        "what|against|>error at the end, points|decided|>a quarter of the time|decided|>log of eigenvalues' ratio|"
        "flatter|>log of traces' ratio|flatter|>unequal workers, points|decided");
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        const outcome *a = &s->images[pair[i].a], *b = &s->images[pair[i].b];
        const outcome *sa = &s->slow[pair[i].a], *sb = &s->slow[pair[i].b];
        double ea[MOST_SEEDS], eb[MOST_SEEDS], ta[MOST_SEEDS], tb[MOST_SEEDS];
        for (uint64_t k = 0; k < n; k++) {
            ea[k] = log(a->eigenvalue[k]);
            eb[k] = log(b->eigenvalue[k]);
            ta[k] = log(a->trace[k]);
            tb[k] = log(b->trace[k]);
        }
        const spread d[5] = {paired(a->budget[2], b->budget[2], n), paired(a->budget[0], b->budget[0], n),
                             paired(ea, eb, n), paired(ta, tb, n), paired(sa->budget[2], sb->budget[2], n)};
        table_row(t);
        table_cell(t, "%s", rules[pair[i].a].name);
        table_cell(t, "%s", rules[pair[i].b].name);
        for (int k = 0; k < 5; k++) {
            cell_error(t, d[k], 2);
            table_cell(t, "%s", verdict(d[k]));
        }
    }
    report_say(&s->r, "## One against the other\n\n");
    table_print(t, &s->r);
}

static void tell_scaled(study *s) {
    table *t = table_new("rule|>4 workers|>8|>12|>16|>32");
    table *time = table_new("rule|>4 workers|>8|>12|>16|>32");
    for (int k = 0; k < OWN; k++) {
        table_row(t);
        table_row(time);
        table_cell(t, "%s", rules[k].name);
        table_cell(time, "%s", rules[k].name);
        for (int n = 0; n < WORKERS; n++) {
            const outcome *o = &s->scaled[n][k];
            double took[MOST_SEEDS];
            for (uint64_t i = 0; i < o->seeds; i++) took[i] = o->run[i].seconds;
            cell_mean(t, o->budget[2], o->seeds, 2);
            cell_mean(time, took, o->seeds, 0);
        }
    }
    report_say(
        &s->r,
        "## More workers, the same number of samples\n\n%g steps of all workers together, step sizes as tuned with "
        "4. Test error, %%:\n\n",
        s->o->seconds * SCALED);
    table_print(t, &s->r);
    report_say(&s->r, "Seconds of virtual time:\n\n");
    table_print(time, &s->r);
}

static double as_it_is(double v) {
    return v;
}

static void picture(const study *s) {
    static double x[3][OWN][CLUSTER_POINTS], y[3][OWN][CLUSTER_POINTS];
    static plot_series series[3][OWN];
    static const int colours[OWN] = {0, 1, 6, 3, 5, 2, 4};
    plot_panel panel[3];
    char at[REPORT_PATH];
    if (!s->o->rows_at) return;
    memset(panel, 0, sizeof panel);
    for (int k = 0; k < OWN; k++) {
        const double seconds = s->o->seconds;
        tell_curve(&series[0][k], rules[k].name, colours[k], &s->images[k], seconds, as_it_is, x[0][k], y[0][k]);
        tell_curve(&series[1][k], rules[k].name, colours[k], &s->slow[k], seconds, as_it_is, x[1][k], y[1][k]);
        tell_curve(&series[2][k], rules[k].name, colours[k], &s->people[k], seconds, log10, x[2][k], y[2][k]);
    }
    for (int i = 0; i < 3; i++) {
        static const char *const titles[3] = {"Images", "Images, one worker four times slower", "Convex problem"};
        panel[i].title = titles[i];
        panel[i].x_label = "seconds of virtual time";
        panel[i].y_label = i < 2 ? "test error, %" : "log10 of the gap to the optimum";
        panel[i].count = OWN;
        panel[i].series = series[i];
        if (i < 2) {
            const double end = spread_of(s->images[FIRST_GRAWA].budget[2], s->o->seeds).mean;
            panel[i].y_from = floor(end - 2);
            panel[i].y_upto = floor(end + 14);
        } else {
            panel[i].y_from = -5;
            panel[i].y_upto = 0;
        }
    }
    report_path(at, s->o->rows_at, ".svg");
    plot_panels(at, "GRAWA and what it is compared with, each at its own period", 3, panel);
}

int main(int argc, char **argv) {
    static settings o;
    static study s;
    static images im;
    static people pe;
    machine m;
    double length;
    read_options(argc, argv, &o);
    s.o = &o;
    s.im = &im;
    s.pe = &pe;
    images_open(&im, o.images, o.train);
    census_open(&s.rows, o.adult);
    length = people_open(&pe, s.rows.row[0], s.rows.label[0], s.rows.count[0] / (o.quick ? 8 : 1), s.rows.features);
    check(length < 1e-9, "the optimum of the convex problem: its gradient", 0, length);
    check_alone(&s);
    check_mean(&s);
    check_bytes(&s);
    check_curvature(&s);
    machine_describe(&m);
    report_open(&s.r, o.rows_at);
    s.csv = tell_csv(o.rows_at);
    tell_head(&s, &m);
    tune_all(&s);
    /* a target that all come near: what the all-reduce reaches, on the first tuning seed, and a point more */
    {
        setting one = plain(&s, &rules[AT_ALL_REDUCE], s.rate[0][AT_ALL_REDUCE], 1000);
        run_result out;
        cluster_run(&out, &im.p, &one, NULL);
        s.target = floor(curve_at(&out, CLUSTER_POINTS - 1) + 1.5);
    }
    run_all(&s);
    tell_budgets(&s, "Test error after the same time, %", s.images, 2, "error");
    tell_flat(&s);
    tell_pairs(&s);
    tell_budgets(&s, "One of the four workers takes four times as long", s.slow, 2, "error");
    tell_scaled(&s);
    report_say(
        &s.r,
        "Convex: logistic regression on %s, %zu rows of %zu features, penalty %g, plain SGD with batches of %d; the "
        "optimum, %.9f, by Newton's\nmethod in doubles.\n\n",
        o.adult ? "UCI Adult" : "drawn people", pe.count, pe.features, PEOPLE_PENALTY, PEOPLE_BATCH, pe.optimum);
    tell_budgets(&s, "A convex problem: gap to the optimum", s.people, 5, "gap");
    picture(&s);
    if (s.csv) fclose(s.csv);
    report_close(&s.r);
    images_close(&im);
    free(pe.weight);
    census_close(&s.rows);
    return 0;
}
