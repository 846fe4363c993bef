/* SPDX-License-Identifier: MIT
 * bench_overlap.c: is it worth training on while the network sums up? Loss at equal virtual time, for networks from
 * twice as fast as a step to eight times slower: synchronous SGD, local SGD, CoCoD-SGD, HPSGD with three carries, and,
 * to tell what the replica is good for, the same overlap with delayed gradients and no replica. */
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#include "transports/weft_pace.h"
#include "transports/weft_sim.h"

#include "machine.h"
#include "options.h"
#include "overlap/cluster.h"
#include "table.h"
#include "train/plot.h"

#include <ctype.h>
#include <errno.h>

enum { METHODS = 8, NETWORKS = 5, SPLITS = 2, RATES = 13, MOST_SEEDS = 50 };

static const method methods[METHODS] = {{"SSGD", HPSGD_BLOCKING, 1, 0.0, 0},
                                        {"local SGD, H = 4", HPSGD_BLOCKING, 4, 0.0, 0},
                                        {"local SGD, H = 16", HPSGD_BLOCKING, 16, 0.0, 0},
                                        {"CoCoD-SGD", HPSGD_FREE, 16, 1.0, 0},
                                        {"HPSGD, beta 0", HPSGD_FREE, 16, 0.0, 0},
                                        {"HPSGD, beta 1/N", HPSGD_FREE, 16, -1.0, 0},
                                        {"HPSGD, beta 1/2", HPSGD_FREE, 16, 0.5, 0},
                                        {"delayed gradients", HPSGD_FREE, 16, 0.0, 1}};
enum { SSGD = 0, PUBLISHED = 4, HALF = 6 };

static const double network[NETWORKS] = {0.5, 1, 2, 4, 8}; /* seconds an all-reduce; a step takes one */
static const double alpha_of[SPLITS] = {0.0, 0.1};
static const char *const split_name[SPLITS] = {"alike", "Dirichlet(0.1)"};
/* a grid of step sizes, each the square root of two times the last */
static const double rates[RATES] = {0.0125, 0.0177, 0.025, 0.0354, 0.05, 0.0707, 0.1,
                                    0.141,  0.2,    0.283, 0.4,    0.566, 0.8};

typedef struct settings {
    const char *images, *rows_at, *csv_at;
    uint32_t workers;
    double seconds;
    uint64_t seeds, tuning;
    int quick;
} settings;

typedef struct outcome {
    double rate;
    run_result run[MOST_SEEDS];
} outcome;

static void usage(void) {
    puts("usage: bench-overlap [options]\n"
         "Trains a perceptron on images with hpsgd.h over simulated networks, each method at its best learning rate "
         "(tuned\n"
         "on other seeds), and compares them at equal virtual time.\n"
         "\n"
         "  --images DIR   Fashion-MNIST, MNIST or CIFAR-10; without it: glyphs that the program draws itself\n"
         "  --workers N    (4; 2 to 16)\n"
         "  --seconds S    of virtual time, of which a step takes one (200; 1 to 100,000)\n"
         "  --seeds N      scored (10; 1 to 50)\n"
         "  --tuning N     seeds to tune on (4; 1 to 50)\n"
         "  --quick        --seconds 40 --seeds 2 --tuning 1\n"
         "  --json FILE    a row for each method, network and split; a report and pictures beside it\n"
         "  --csv FILE     the same rows as a table of numbers\n"
         "  --help");
}

static double number(const char *option, const char *text, double least, double most) {
    return option_number("bench-overlap", option, text, least, most);
}

static void read_options(int argc, char **argv, settings *o) {
    options line = {argc, 1, argv};
    int seconds = 0, seeds = 0, tuning = 0;
    o->workers = 4;
    while (line.at < line.argc) {
        const char *v;
        if (option_switch(&line, "--help")) {
            usage();
            exit(0);
        }
        if (option_switch(&line, "--quick"))
            o->quick = 1;
        else if ((v = option_value(&line, "--images")))
            o->images = v;
        else if ((v = option_value(&line, "--workers")))
            o->workers = (uint32_t)number("--workers", v, 2, CLUSTER_MOST);
        else if ((v = option_value(&line, "--seconds")))
            o->seconds = number("--seconds", v, 1, 1e5), seconds = 1;
        else if ((v = option_value(&line, "--seeds")))
            o->seeds = (uint64_t)number("--seeds", v, 1, MOST_SEEDS), seeds = 1;
        else if ((v = option_value(&line, "--tuning")))
            o->tuning = (uint64_t)number("--tuning", v, 1, MOST_SEEDS), tuning = 1;
        else if ((v = option_value(&line, "--json")))
            o->rows_at = v;
        else if ((v = option_value(&line, "--csv")))
            o->csv_at = v;
        else {
            fprintf(stderr, "bench-overlap: an option is expected, got '%s' (--help lists them)\n", line.argv[line.at]);
            exit(2);
        }
    }
    if (!seconds) o->seconds = o->quick ? 40 : 200;
    if (!seeds) o->seeds = o->quick ? 2 : 10;
    if (!tuning) o->tuning = o->quick ? 1 : 4;
}

/* ---- Running ---- */

/* The rate with the lowest mean loss over the tuning seeds, which are none of those scored. */
static double tune(const settings *o, learning *l, const method *m, double sync, double alpha) {
    double best = 0, least = (double)INFINITY;
    for (int k = 0; k < RATES; k++) {
        double loss = 0;
        for (uint64_t s = 0; s < o->tuning; s++) {
            run_result r;
            run_cluster(&r, m, l, o->workers, rates[k], sync, o->seconds, alpha, 1000 + s, 0);
            loss += r.diverged ? (double)INFINITY : r.loss;
        }
        if (loss < least) {
            least = loss;
            best = rates[k];
        }
    }
    return best;
}

static void mean_of(const outcome *c, uint64_t seeds, size_t at, double *mean, double *error) {
    double sum = 0, square = 0;
    for (uint64_t s = 0; s < seeds; s++) {
        const double v = *(const double *)(const void *)((const char *)&c->run[s] + at);
        sum += v;
        square += v * v;
    }
    *mean = sum / (double)seeds;
    *error = seeds > 1 ? sqrt(fmax(0, square / (double)seeds - *mean * *mean) / (double)(seeds - 1)) : (double)NAN;
}
#define MEAN(c, seeds, field, mean, error) mean_of(c, seeds, offsetof(run_result, field), mean, error)

/* Loss less the loss of `other` with the same seed. */
static void paired(const outcome *c, const outcome *other, uint64_t seeds, double *mean, double *error) {
    double sum = 0, square = 0;
    for (uint64_t s = 0; s < seeds; s++) {
        const double v = c->run[s].loss - other->run[s].loss;
        sum += v;
        square += v * v;
    }
    *mean = sum / (double)seeds;
    *error = seeds > 1 ? sqrt(fmax(0, square / (double)seeds - *mean * *mean) / (double)(seeds - 1)) : (double)NAN;
}

/* ---- Telling ---- */

static void plus_minus(table *t, double mean, double error, int with_sign) {
    if (isfinite(error))
        table_cell(t, with_sign ? "%+.4f +- %.4f" : "%.4f +- %.4f", mean, error);
    else
        table_cell(t, with_sign ? "%+.4f" : "%.4f", mean);
}

static void tell_network(report *out, FILE *csv, const settings *o, int split, int n, const outcome *c) {
    table *t = table_new("method|>step size|>loss|>less that of SSGD|>accuracy|>gradients a worker|>samples/s|>steps a round|"
                         ">s a round|>hidden|>computing|>cosine|>distance");
    for (int m = 0; m < METHODS; m++) {
        double loss, loss_e, gain, gain_e, accuracy, e, gradients, rounds, sync, hidden, stalled, cosine, distance;
        MEAN(&c[m], o->seeds, loss, &loss, &loss_e);
        MEAN(&c[m], o->seeds, accuracy, &accuracy, &e);
        MEAN(&c[m], o->seeds, gradients, &gradients, &e);
        MEAN(&c[m], o->seeds, rounds, &rounds, &e);
        MEAN(&c[m], o->seeds, sync, &sync, &e);
        MEAN(&c[m], o->seeds, hidden, &hidden, &e);
        MEAN(&c[m], o->seeds, stalled, &stalled, &e);
        MEAN(&c[m], o->seeds, cosine, &cosine, &e);
        MEAN(&c[m], o->seeds, distance, &distance, &e);
        paired(&c[m], &c[SSGD], o->seeds, &gain, &gain_e);
        table_row(t);
        table_cell(t, "%s", methods[m].name);
        table_cell(t, "%g", c[m].rate);
        plus_minus(t, loss, loss_e, 0);
        plus_minus(t, gain, gain_e, 1);
        table_cell(t, "%.2f %%", 100 * accuracy);
        table_cell(t, "%.1f", gradients);
        table_cell(t, "%.1f", gradients * o->workers * LEARN_BATCH / o->seconds);
        table_cell(t, "%.2f", rounds > 0 ? gradients / rounds : 0);
        table_cell(t, "%.2f", sync);
        table_cell(t, "%.0f %%", 100 * hidden);
        table_cell(t, "%.0f %%", 100 - 100 * stalled);
        table_number(t, cosine, "");
        table_number(t, distance, "");
        json_line_begin(&out->rows);
        json_text(&out->rows, "split", split_name[split]);
        json_number(&out->rows, "sync", network[n]);
        json_text(&out->rows, "method", methods[m].name);
        json_number(&out->rows, "rate", c[m].rate);
        json_number(&out->rows, "loss", loss);
        json_number(&out->rows, "loss_error", loss_e);
        json_number(&out->rows, "less_ssgd", gain);
        json_number(&out->rows, "less_ssgd_error", gain_e);
        json_number(&out->rows, "accuracy", accuracy);
        json_number(&out->rows, "gradients", gradients);
        json_number(&out->rows, "rounds", rounds);
        json_number(&out->rows, "sync_seconds", sync);
        json_number(&out->rows, "hidden", hidden);
        json_number(&out->rows, "stalled", stalled);
        json_number(&out->rows, "cosine", cosine);
        json_number(&out->rows, "distance", distance);
        json_line_end(&out->rows);
        if (csv)
            fprintf(csv, "%s,%g,\"%s\",%g,%.6f,%.6f,%.6f,%.2f,%.4f,%.4f\n", split_name[split], network[n],
                    methods[m].name, c[m].rate, loss, loss_e, accuracy, gradients, hidden, stalled);
    }
    report_say(out, "An all-reduce takes %g step%s:\n\n", network[n], network[n] == 1 ? "" : "s");
    table_print(t, out);
}

typedef struct lines {
    double x[METHODS][CLUSTER_POINTS], y[METHODS][CLUSTER_POINTS];
    plot_series series[METHODS];
} lines;

static plot_panel panel_of(lines *l, size_t count, const char *title, const char *x_label) {
    for (int m = 0; m < METHODS; m++) l->series[m] = (plot_series){methods[m].name, m, count, l->x[m], l->y[m]};
    return (plot_panel){
        .title = title, .x_label = x_label, .y_label = "test loss", .count = METHODS, .series = l->series};
}

static void picture(const settings *o, outcome (*c)[NETWORKS][METHODS]) {
    static lines l[SPLITS + 1];
    plot_panel panel[SPLITS + 1];
    static const char *const title[SPLITS] = {"shares alike", "shares by Dirichlet(0.1)"};
    char file[REPORT_PATH];
    if (!o->rows_at) return;
    report_path(file, o->rows_at, ".svg");
    for (int split = 0; split < SPLITS; split++) {
        double most = 0, e;
        for (int m = 0; m < METHODS; m++)
            for (int n = 0; n < NETWORKS; n++) {
                l[split].x[m][n] = log2(network[n]);
                MEAN(&c[split][n][m], o->seeds, loss, &l[split].y[m][n], &e);
                if (m == SSGD && l[split].y[m][n] > most) most = l[split].y[m][n];
            }
        panel[split] = panel_of(&l[split], NETWORKS, title[split], "log2 of steps an all-reduce takes");
        panel[split].y_upto = 1.1 * most; /* what is far behind SSGD is cut off */
    }
    for (int m = 0; m < METHODS; m++)
        for (int k = 0; k < CLUSTER_POINTS; k++) {
            double mean = 0;
            for (uint64_t s = 0; s < o->seeds; s++) mean += c[0][2][m].run[s].curve[k] / (double)o->seeds;
            l[SPLITS].x[m][k] = o->seconds * k / (CLUSTER_POINTS - 1);
            l[SPLITS].y[m][k] = mean;
        }
    panel[SPLITS] =
        panel_of(&l[SPLITS], CLUSTER_POINTS, "shares alike, an all-reduce takes 2 steps", "virtual time, s");
    panel[SPLITS].y_upto = l[SPLITS].y[SSGD][0];
    plot_panels(file, "Training on while the network sums up", SPLITS + 1, panel);
}

/* What was to be seen, and whether it is. */
static int tell_checks(report *out, const settings *o, outcome (*c)[NETWORKS][METHODS]) {
    int misses = 0;
    table *t = table_new("shares|>steps an all-reduce takes|what|>here|met");
    for (int split = 0; split < SPLITS; split++)
        for (int n = 0; n < NETWORKS; n++) {
            double gain, e;
            if (network[n] < 1) continue;
            for (int k = 0; k < 2; k++) {
                const int m = k ? HALF : PUBLISHED;
                paired(&c[split][n][m], &c[split][n][SSGD], o->seeds, &gain, &e);
                table_row(t);
                table_cell(t, "%s", split_name[split]);
                table_cell(t, "%g", network[n]);
                table_cell(t, "%s ahead of SSGD", methods[m].name);
                plus_minus(t, gain, e, 1);
                table_cell(t, "%s", gain < 0 ? "yes" : "NO");
                misses += !(gain < 0);
            }
        }
    report_say(out,
               "## What was to be seen\n\nLoss less that of SSGD with the same seed, mean and standard error.\n\n");
    table_print(t, out);
    return misses;
}

int main(int argc, char **argv) {
    static settings o;
    static learning l;
    static report out;
    static machine here;
    static outcome c[SPLITS][NETWORKS][METHODS];
    FILE *csv = NULL;
    int misses;
    read_options(argc, argv, &o);
    learning_open(&l, o.images);
    machine_describe(&here);
    report_open(&out, o.rows_at);
    if (o.csv_at && !(csv = fopen(o.csv_at, "w"))) {
        fprintf(stderr, "bench-overlap: %s: %s\n", o.csv_at, strerror(errno));
        return 2;
    }
    if (csv) fputs("split,sync,method,rate,loss,loss_error,accuracy,gradients,hidden,stalled\n", csv);
    report_say(&out, "# Overlap\n\n- Written by `build/bench-overlap`.\n");
    machine_report(&here, &out);
    report_say(
        &out,
        "- Virtual time: what it was run on makes no difference to the numbers.\n\n"
        "%s, a perceptron with %d hidden units (%zu parameters), %u workers, batches of %d, plain SGD; %g s of "
        "virtual time, a step takes U(0.95, 1.05) s.\nEvery method is a setting of one object of hpsgd.h over a "
        "simulated network; at most 16 steps without a result. Each at the best of %d step sizes,\nfound on %llu "
        "other seed%s; mean and standard error over %llu seeds. Loss and accuracy: of the global model, on %zu "
        "test images, mean over the last tenth of the time.\n\n"
        "*samples/s*: of all workers. *s a round*: from a launch until the result is there. *hidden*: the share of "
        "that in which the worker trained.\n*computing*: the share of all time in which it did. *cosine*, "
        "*distance*: of the replica's gradient and that at the global model on the same\nbatch (distance relative "
        "to the latter). *delayed gradients*: the same overlap without a replica: gradients are taken at the global\n"
        "model, and reach it one round late.\n\n",
        l.data.name, LEARN_HIDDEN, l.net.parameters, o.workers, LEARN_BATCH, o.seconds, RATES,
        (unsigned long long)o.tuning, o.tuning == 1 ? "" : "s", (unsigned long long)o.seeds, l.tests);
    for (int split = 0; split < SPLITS; split++) {
        report_say(&out, "## Shares: %s\n\n", split_name[split]);
        for (int n = 0; n < NETWORKS; n++) {
            for (int m = 0; m < METHODS; m++) {
                fprintf(stderr, "\r%s, all-reduce %g s: %s          ", split_name[split], network[n], methods[m].name);
                c[split][n][m].rate = tune(&o, &l, &methods[m], network[n], alpha_of[split]);
                for (uint64_t s = 0; s < o.seeds; s++)
                    run_cluster(&c[split][n][m].run[s], &methods[m], &l, o.workers, c[split][n][m].rate, network[n],
                                o.seconds, alpha_of[split], 1 + s, split == 0 && n == 2);
            }
            fputs("\r                                                                \r", stderr);
            tell_network(&out, csv, &o, split, n, c[split][n]);
        }
    }
    misses = tell_checks(&out, &o, c);
    picture(&o, c);
    report_close(&out);
    if (csv && fclose(csv)) fprintf(stderr, "bench-overlap: %s: %s\n", o.csv_at, strerror(errno));
    learning_close(&l);
    return misses && !o.quick ? 1 : 0;
}
