/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "train/plot.h"
#include "train/util.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double BITS = 1.4426950408889634; /* in a nat */

static const run_point *last(const run_result *r) {
    return &r->point[r->points - 1];
}

void report_table(double pairs, size_t runs, const run_result *run) {
    puts("rule      workers  validation loss  bits a character   seconds  MB sent by a worker");
    printf("%-8s  %7s  %15.4f  %16.4f  %8s  %19s\n", "pairs", "", pairs, BITS * pairs, "", "");
    for (size_t i = 0; i < runs; i++)
        printf("%-8s  %7zu  %15.4f  %16.4f  %8.1f  %19.2f\n", RULE_NAME[run[i].rule], run[i].workers,
               last(&run[i])->loss, BITS * last(&run[i])->loss, last(&run[i])->seconds,
               (double)last(&run[i])->bytes * 1e-6);
    fflush(stdout);
}

void report_csv(const char *file, size_t runs, const run_result *run) {
    FILE *out = fopen(file, "w");
    if (!out) bad_input("%s: %s", file, strerror(errno));
    fputs("rule,workers,samples,validation_loss,bits_a_character,seconds,bytes_sent\n", out);
    for (size_t i = 0; i < runs; i++)
        for (size_t k = 0; k < run[i].points; k++) {
            const run_point *p = &run[i].point[k];
            fprintf(out, "%s,%zu,%llu,%.17g,%.6f,%.6f,%llu\n", RULE_NAME[run[i].rule], run[i].workers,
                    (unsigned long long)p->samples, p->loss, BITS * p->loss, p->seconds, (unsigned long long)p->bytes);
        }
    const int failed = ferror(out);
    if (fclose(out) != 0 || failed) bad_input("%s: %s", file, strerror(errno));
}

void report_picture(const char *file, const char *title, double pairs, size_t runs, const run_result *run) {
    plot_series series[RULES + 1];
    double least = pairs, x[2] = {0.0, 0.0}, y[2] = {pairs, pairs};
    for (size_t i = 0; i < runs; i++) {
        double *a = new_array(run[i].points, sizeof *a), *b = new_array(run[i].points, sizeof *b);
        for (size_t k = 0; k < run[i].points; k++) {
            a[k] = (double)run[i].point[k].samples;
            b[k] = run[i].point[k].loss;
            least = b[k] < least ? b[k] : least;
            x[1] = a[k] > x[1] ? a[k] : x[1];
        }
        series[i] = (plot_series){RULE_NAME[run[i].rule], 1 + (int)run[i].rule, run[i].points, a, b};
    }
    series[runs] = (plot_series){"pairs", 0, 2, x, y};
    plot_panel panel = {.x_label = "samples, all workers together",
                        .y_label = "validation loss, nats a character",
                        .y_from = floor(5.0 * least) / 5.0,
                        .y_upto = ceil(5.0 * (pairs + 0.25 * (pairs - least))) / 5.0 + 0.2,
                        .count = runs + 1,
                        .series = series};
    plot_panels(file, title, 1, &panel);
    for (size_t i = 0; i < runs; i++) {
        free((void *)(uintptr_t)series[i].x);
        free((void *)(uintptr_t)series[i].y);
    }
}
