/* SPDX-License-Identifier: MIT
 * bench-linreg: the demonstration that was published with AdaCons, made again in C, and checked against what the
 * published code did (bench/data/linreg_reference.json): a linear regression from the same random numbers.
 *
 * Every step multiplies rounding errors here, and where two workers' alphas are equal to seven digits, rounding
 * decides who is given which weight: the published run was in single precision. So what is checked is that the loss
 * stays within a thousandth of the published one for as long as a replay in double precision has been found to follow
 * it; weights are rounded to single precision as there (with 32 workers and batches of 128, weights in double precision
 * decide a tie at iteration 72 the other way). The status is 1 if it does not stay. --seeds shows how much of the
 * result is that of one seed; --bias whether the aggregate's expectation is the mean. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"

#include "linreg/bias.h"
#include "linreg/demo.h"
#include "linreg/reference.h"

#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"

enum { MOST_SEEDS = 100, WORKER_COUNTS = 2, BATCHES = 2 };
static const size_t WORKERS[WORKER_COUNTS] = {8, 32}, BATCH[BATCHES] = {128, 2048};

typedef struct settings {
    double batch[BATCHES];
    size_t batches, seeds, trials;
    int replay, bias;
    const char *rows_at, *reference_at;
} settings;

static int misses; /* of all checks */

static const char *judge(int right) {
    misses += !right;
    return right ? "yes" : "NO";
}

#define ADACONS(title, ...)                                                                                            \
    {                                                                                                                  \
        .name = title, .kind = RULE_SUBSPACE, .how = { __VA_ARGS__ }                                                   \
    }
#define FORWARD .assignment = SUBSPACE_FORWARD
#define INVERSE .assignment = SUBSPACE_INVERSE

/* ---- the published runs ---- */

/* `mode`: what the file calls it; NULL: it is not there. */
typedef struct replayed {
    rule how;
    const char *mode;
} replayed;

static const replayed replays[] = {
    {ADACONS("AdaCons, forward (as published)", FORWARD, .momentum = 0.99), "adacons"},
    {ADACONS("AdaCons, inverse", INVERSE, .momentum = 0.99), "adacons, inverse permutation (no reference run)"},
    {{.name = "mean", .kind = RULE_MEAN}, "baseline"},
    {{.name = "unit mean", .kind = RULE_UNIT_MEAN}, NULL},
    {{.name = "Adasum", .kind = RULE_ADASUM}, NULL},
};
enum { REPLAYS = sizeof replays / sizeof *replays };

static double deviation(double got, double want) {
    return fabs(got - want) / fabs(want);
}

/* The last iteration up to which all points are within a thousandth. */
static int horizon(const trajectory *t, const reference *r) {
    int i = 0;
    while (i < r->points && deviation(t->population[i], r->population[i]) <= 1e-3) i++;
    return i * EVERY;
}

static void replay_row(table *t, json *j, const machine *m, size_t workers, size_t batch, const replayed *what,
                       const trajectory *got, const char *text) {
    const int at_100 = 100 / EVERY - 1;
    reference r;
    int known = what->mode && reference_of(text, what->mode, workers, batch, &r), reached = 0;
    double wanted = (double)NAN;
    const char *verdict = "-";
    if (known) {
        reference published;
        must(reference_of(text, "adacons", workers, batch, &published), "the file of the reference has changed");
        wanted = isfinite(r.horizon) ? r.horizon : published.horizon; /* inverse: as for the other assignment */
        reached = horizon(got, &r);
        verdict = judge(reached >= wanted);
    }
    table_row(t);
    table_cell(t, "%zu", batch);
    table_cell(t, "%zu", workers);
    table_cell(t, "%s", what->how.name);
    table_cell(t, "%.4g", got->population[at_100]);
    table_cell(t, "%.3g", got->population[POINTS - 1]);
    table_cell(t, "%.4g", got->rank0[POINTS - 1]);
    if (known && isfinite(r.rank0[r.points - 1]))
        table_cell(t, "%.4g", r.rank0[r.points - 1]);
    else
        table_cell(t, "-");
    if (known) {
        table_cell(t, "%.1e", deviation(got->population[at_100], r.population[at_100]));
        table_cell(t, "%.0f", wanted);
        table_cell(t, "%d", reached);
    } else {
        table_cell(t, "-");
        table_cell(t, "-");
        table_cell(t, "-");
    }
    table_cell(t, "%s", verdict);

    json_line_begin(j);
    json_text(j, "bench", "linreg");
    json_text(j, "date", m->date);
    json_integer(j, "batch", (long long)batch);
    json_integer(j, "workers", (long long)workers);
    json_text(j, "rule", what->how.name);
    if (known) {
        json_number(j, "deviation_at_100", deviation(got->population[at_100], r.population[at_100]));
        json_number(j, "horizon_wanted", wanted);
        json_integer(j, "horizon", reached);
        json_text(j, "met", verdict);
    }
    json_integer(j, "every", EVERY);
    json_begin(j, "population_loss", '[');
    for (int i = 0; i < POINTS; i++) json_number(j, NULL, got->population[i]);
    json_end(j, ']');
    json_begin(j, "rank0_loss", '[');
    for (int i = 0; i < POINTS; i++) json_number(j, NULL, got->rank0[i]);
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

static void run_replays(const settings *s, report *out, const machine *m) {
    char *text = reference_read(s->reference_at);
    table *t = table_new(">batch|>workers|rule|>loss after 100|>after 1000|>rank 0's at 1000|>published|"
                         ">deviation at 100|>to agree up to|>agrees up to|met");
    for (size_t b = 0; b < s->batches; b++)
        for (size_t n = 0; n < WORKER_COUNTS; n++) {
            static trajectory got[REPLAYS];
            rule r[REPLAYS];
            for (size_t k = 0; k < REPLAYS; k++) r[k] = replays[k].how;
            fprintf(stderr, "batch %.0f, %zu workers\n", s->batch[b], WORKERS[n]);
            demo_run(WORKERS[n], (size_t)s->batch[b], 0, REPLAYS, r, got);
            for (size_t k = 0; k < REPLAYS; k++)
                replay_row(t, &out->rows, m, WORKERS[n], (size_t)s->batch[b], &replays[k], &got[k], text);
        }
    report_say(
        out,
        "## The published seed\n\nLosses over all inputs after so many iterations (two a step), and of rank 0's batch\n"
        "at the last one, which is what the published program prints. To agree: within a thousandth of the\n"
        "published run's loss over all inputs, at every %dth iteration; for the inverse assignment, which was never\n"
        "published, of another program's in double precision.\n\n",
        EVERY);
    table_print(t, out);
    free(text);
}

/* ---- other seeds ---- */

static const rule seeded[] = {
    {.name = "mean", .kind = RULE_MEAN},
    {.name = "unit mean", .kind = RULE_UNIT_MEAN},
    ADACONS("AdaCons .99, forward", FORWARD, .momentum = 0.99),
    ADACONS("AdaCons .99, inverse", INVERSE, .momentum = 0.99),
    ADACONS("AdaCons .9, forward", FORWARD, .momentum = 0.9),
    ADACONS("AdaCons .9, inverse", INVERSE, .momentum = 0.9),
    ADACONS("AdaCons 0, forward", FORWARD, .momentum = 0.0),
    ADACONS("AdaCons 0, inverse", INVERSE, .momentum = 0.0),
    ADACONS("AdaCons 0, shifted, forward", FORWARD, .negative = SUBSPACE_NEGATIVE_SHIFT),
    ADACONS("AdaCons 0, shifted, inverse", INVERSE, .negative = SUBSPACE_NEGATIVE_SHIFT),
    ADACONS("basic (not normalised)", .rule = SUBSPACE_BASIC),
    {.name = "Adasum", .kind = RULE_ADASUM},
};
enum { SEEDED = sizeof seeded / sizeof *seeded, AT_MEAN = 0, AT_FORWARD = 2, AT_INVERSE = 3 };

/* What every seed is to keep to, at batch 128: above or below this power of ten. Of twelve seeds none came within half
 * an order of magnitude. */
static int within_gates(size_t k, size_t workers, double power) {
    if (k == AT_MEAN) return power > -2.5;
    if (k == AT_FORWARD) return power < (workers == 32 ? -4.5 : -2.0);
    if (k == AT_INVERSE) return power < (workers == 32 ? -3.5 : -2.0);
    return 1;
}

static void run_seeds(const settings *s, report *out, const machine *m) {
    table *t = table_new(">batch|>workers|rule|>log10 loss|>sd|>least|>most|gates");
    for (size_t b = 0; b < s->batches; b++)
        for (size_t n = 0; n < WORKER_COUNTS; n++) {
            static double power[SEEDED][MOST_SEEDS];
            for (size_t seed = 0; seed < s->seeds; seed++) {
                static trajectory got[SEEDED];
                fprintf(stderr, "batch %.0f, %zu workers, seed %zu of %zu\n", s->batch[b], WORKERS[n], seed + 1,
                        s->seeds);
                demo_run(WORKERS[n], (size_t)s->batch[b], (uint32_t)seed + 1, SEEDED, seeded, got);
                for (size_t k = 0; k < SEEDED; k++) power[k][seed] = log10(fmax(got[k].population[POINTS - 1], 1e-300));
            }
            for (size_t k = 0; k < SEEDED; k++) {
                const int gated = s->batch[b] == 128 && (k == AT_MEAN || k == AT_FORWARD || k == AT_INVERSE);
                double mean = 0.0, square = 0.0, least = HUGE_VAL, most = -HUGE_VAL;
                int right = 1;
                json *j = &out->rows;
                for (size_t i = 0; i < s->seeds; i++) {
                    mean += power[k][i] / (double)s->seeds;
                    least = fmin(least, power[k][i]);
                    most = fmax(most, power[k][i]);
                    right &= within_gates(k, WORKERS[n], power[k][i]);
                }
                for (size_t i = 0; i < s->seeds; i++) square += (power[k][i] - mean) * (power[k][i] - mean);
                square = s->seeds > 1 ? sqrt(square / (double)(s->seeds - 1)) : (double)NAN;
                table_row(t);
                table_cell(t, "%.0f", s->batch[b]);
                table_cell(t, "%zu", WORKERS[n]);
                table_cell(t, "%s", seeded[k].name);
                table_cell(t, "%.1f", mean);
                table_cell(t, "%.1f", square);
                table_cell(t, "%.1f", least);
                table_cell(t, "%.1f", most);
                table_cell(t, "%s", gated ? judge(right) : "-");
                json_line_begin(j);
                json_text(j, "bench", "linreg-seeds");
                json_text(j, "date", m->date);
                json_number(j, "batch", s->batch[b]);
                json_integer(j, "workers", (long long)WORKERS[n]);
                json_text(j, "rule", seeded[k].name);
                json_begin(j, "log10_population_loss", '[');
                for (size_t i = 0; i < s->seeds; i++) json_number(j, NULL, power[k][i]);
                json_end(j, ']');
                machine_row(m, j);
                json_line_end(j);
            }
        }
    report_say(out,
               "## Other seeds\n\nlog10 of the loss over all inputs after %d iterations, %zu seeds. Gates, for every "
               "seed at batch\n"
               "128: AdaCons .99 below -2 with 8 workers and -4.5 (forward) or -3.5 (inverse) with 32, the mean above "
               "-2.5.\n\n",
               ITERATIONS, s->seeds);
    table_print(t, out);
}

/* ---- expectation ---- */

static const rule estimators[] = {
    {.name = "mean", .kind = RULE_MEAN},
    {.name = "unit mean", .kind = RULE_UNIT_MEAN},
    {.name = "Adasum", .kind = RULE_ADASUM},
    ADACONS("AdaCons 0", .momentum = 0.0),
    ADACONS("AdaCons .99", .momentum = 0.99),
    ADACONS("AdaCons 0, as published", FORWARD, .momentum = 0.0),
    ADACONS("AdaCons .99, as published", FORWARD, .momentum = 0.99),
    ADACONS("AdaCons .99, mean norm", .momentum = 0.99, .scale = SUBSPACE_SCALE_MEAN_NORM),
    ADACONS("basic (not normalised)", .rule = SUBSPACE_BASIC),
};
enum { ESTIMATORS = sizeof estimators / sizeof *estimators };

static const bias_case bias_cases[] = {
    {"i.i.d., noise as large as the gradient", 0, {1, 1, 1, 1, 1, 1, 1, 1}},
    {"i.i.d., noise 10 times as large", 0, {10, 10, 10, 10, 10, 10, 10, 10}},
    {"unequal gradients", 1, {1, 1, 1, 1, 1, 1, 1, 1}},
    {"unequal gradients and noise", 1, {0.5, 0.5, 1, 1, 2, 2, 4, 4}},
};
enum { BIAS_CASES = sizeof bias_cases / sizeof *bias_cases };

static void run_bias(const settings *s, report *out, const machine *m) {
    table *t = table_new("workers|rule|>length|>+-|>sideways|>+-|>sum of weights - 1|met");
    for (size_t c = 0; c < BIAS_CASES; c++) {
        static bias_result got[ESTIMATORS];
        fprintf(stderr, "%s\n", bias_cases[c].name);
        bias_run(&bias_cases[c], s->trials, ESTIMATORS, estimators, got);
        for (size_t k = 0; k < ESTIMATORS; k++) {
            const int weights = estimators[k].kind == RULE_SUBSPACE && estimators[k].how.rule == SUBSPACE_NORMALISED;
            json *j = &out->rows;
            table_row(t);
            table_cell(t, "%s", bias_cases[c].name);
            table_cell(t, "%s", estimators[k].name);
            table_cell(t, "%.4f", got[k].length);
            table_cell(t, "%.4f", got[k].length_error);
            table_cell(t, "%.4f", got[k].sideways);
            table_cell(t, "%.4f", got[k].sideways_error);
            if (weights)
                table_cell(t, "%.1e", got[k].worst_sum);
            else
                table_cell(t, "-");
            table_cell(t, "%s", weights ? judge(got[k].worst_sum <= 1e-12) : "-");
            json_line_begin(j);
            json_text(j, "bench", "linreg-bias");
            json_text(j, "date", m->date);
            json_text(j, "case", bias_cases[c].name);
            json_text(j, "rule", estimators[k].name);
            json_integer(j, "workers", BIAS_WORKERS);
            json_integer(j, "trials", (long long)s->trials);
            json_number(j, "length", got[k].length);
            json_number(j, "length_error", got[k].length_error);
            json_number(j, "sideways", got[k].sideways);
            json_number(j, "sideways_error", got[k].sideways_error);
            if (weights) json_number(j, "worst_sum", got[k].worst_sum);
            machine_row(m, j);
            json_line_end(j);
        }
    }
    report_say(
        out,
        "## Expectation of the aggregate\n\n%d workers, %d elements, %zu trials. Length: its component along the true "
        "mean, by\n"
        "the length of that: 1 is unbiased (rules that divide by norms, and do not scale back, have lengths of their\n"
        "own). Sideways: what is left, by that component: 0 is unbiased. The errors are standard errors; sideways, "
        "what\n"
        "no bias at all would show.\n\n",
        BIAS_WORKERS, DIM, s->trials);
    table_print(t, out);
}

/* ---- the line ---- */

static void usage(void) {
    puts("usage: bench-linreg [options]\n"
         "  --batch LIST      128, 2048 or both (the default)\n"
         "  --quick           --batch 128\n"
         "  --seeds N         also N other seeds\n"
         "  --bias            also whether the aggregate's expectation is the mean\n"
         "  --trials N        for --bias (20000)\n"
         "  --only            without the published runs\n"
         "  --reference FILE  (bench/data/linreg_reference.json)\n"
         "  --json FILE       rows as JSON lines, and the report beside them");
}

static int valid_batches(const settings *s) {
    for (size_t i = 0; i < s->batches; i++)
        if (s->batch[i] != (double)BATCH[0] && s->batch[i] != (double)BATCH[1]) return 0;
    return 1;
}

static settings read_options(int argc, char **argv) {
    settings s = {{(double)BATCH[0], (double)BATCH[1]}, BATCHES, 0, 20000, 1, 0, NULL,
                  "bench/data/linreg_reference.json"};
    options o = {argc, 1, argv};
    double n[1];
    while (o.at < o.argc) {
        const char *v;
        if (option_switch(&o, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&o, "--quick"))
            s.batches = 1;
        else if (option_switch(&o, "--bias"))
            s.bias = 1;
        else if (option_switch(&o, "--only"))
            s.replay = 0;
        else if ((v = option_value(&o, "--batch")))
            s.batches = option_numbers(v, s.batch, BATCHES);
        else if ((v = option_value(&o, "--seeds"))) {
            option_numbers(v, n, 1);
            s.seeds = n[0] < MOST_SEEDS ? (size_t)n[0] : MOST_SEEDS;
        } else if ((v = option_value(&o, "--trials"))) {
            option_numbers(v, n, 1);
            s.trials = (size_t)n[0];
        } else if ((v = option_value(&o, "--reference")))
            s.reference_at = v;
        else if ((v = option_value(&o, "--json")))
            s.rows_at = v;
        else {
            fprintf(stderr, "bench-linreg: unknown option %s (--help lists them)\n", o.argv[o.at]);
            exit(2);
        }
    }
    if (valid_batches(&s)) return s;
    fprintf(stderr, "bench-linreg: --batch: 128 and 2048 are what there is\n");
    exit(2);
}

int main(int argc, char **argv) {
    const settings s = read_options(argc, argv);
    static machine m;
    static report out;
    machine_describe(&m);
    report_open(&out, s.rows_at);
    report_say(&out, "# The published linear regression\n\n- Written by `build/bench-linreg`.\n");
    machine_report(&m, &out);
    report_say(&out, "\n");
    if (s.replay) run_replays(&s, &out, &m);
    if (s.seeds) run_seeds(&s, &out, &m);
    if (s.bias) run_bias(&s, &out, &m);
    if (misses) report_say(&out, "%d checks missed.\n", misses);
    report_close(&out);
    return misses ? 1 : 0;
}
