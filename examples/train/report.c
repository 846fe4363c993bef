/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "plot.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Table ---- */

static const run_point *last(const run_result *r) {
    return &r->point[r->points - 1];
}

/* 1234567 -> "1.23 MB" */
static const char *bytes_text(uint64_t bytes, char *out, size_t capacity) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1000.0 && i + 1 < sizeof unit / sizeof *unit; i++) v /= 1000.0;
    snprintf(out, capacity, i == 0 || v >= 99.95 ? "%.0f %s" : v >= 9.995 ? "%.1f %s" : "%.2f %s", v, unit[i]);
    return out;
}

void report_head(void) {
    puts("algorithm  test accuracy  test loss   steps  rounds  payload sent  consensus distance  sharpness  samples/s  "
         "seconds");
    fflush(stdout);
}

void report_line(const run_result *r) {
    char payload[32];
    const run_point *p = last(r);
    printf("%-9s  %11.2f %%  %9.4f  %6llu  %6llu  %12s  %18.4f  %9.4f  %9.0f  %7.2f\n", ALGORITHM_NAME[r->algorithm],
           100.0 * p->accuracy, p->loss, (unsigned long long)p->steps, (unsigned long long)r->rounds,
           bytes_text(r->payload, payload, sizeof payload), p->distance, p->sharpness, (double)r->samples / r->seconds,
           r->seconds);
    if (r->events.views)
        printf("           new views: %llu, lost: %llu, came: %llu\n", (unsigned long long)r->events.views,
               (unsigned long long)r->events.lost, (unsigned long long)r->events.came);
    fflush(stdout);
}

/* ---- Numbers ---- */

void report_csv(const char *file, size_t runs, const run_result *run) {
    FILE *out = fopen(file, "w");
    if (!out) bad_input("%s: %s", file, strerror(errno));
    fputs("algorithm,workers,steps,seconds,test_loss,test_accuracy,consensus_distance,sharpness,bytes_sent\n", out);
    for (size_t i = 0; i < runs; i++)
        for (size_t k = 0; k < run[i].points; k++) {
            const run_point *p = &run[i].point[k];
            fprintf(out, "%s,%zu,%llu,%.6f,%.6f,%.6f,%.6g,%.6g,%llu\n", ALGORITHM_NAME[run[i].algorithm],
                    run[i].workers, (unsigned long long)p->steps, p->seconds, p->loss, p->accuracy, p->distance,
                    p->sharpness, (unsigned long long)p->payload);
        }
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) bad_input("%s: %s", file, strerror(errno));
}

/* ---- Pictures ---- */

typedef enum abscissa { STEPS, SECONDS } abscissa;

/* The curve of one run; its memory is new. */
static plot_series series_of(const run_result *r, abscissa a) {
    double *x = new_array(r->points, sizeof *x), *y = new_array(r->points, sizeof *y);
    for (size_t k = 0; k < r->points; k++) {
        x[k] = a == STEPS ? (double)r->point[k].steps : r->point[k].seconds;
        y[k] = 100.0 * r->point[k].accuracy;
    }
    /* The colour belongs to the algorithm, whichever others are in the picture; the mean is the grey one. */
    static const int colour[ALGORITHMS] = {
        [ALGORITHM_MEAN] = 0,     [ALGORITHM_SINGLE] = 1,   [ALGORITHM_MGRAWA] = 2, [ALGORITHM_LGRAWA] = 3,
        [ALGORITHM_UNIFORM] = 4,  [ALGORITHM_EASGD] = 5,    [ALGORITHM_LSGD] = 6,   [ALGORITHM_SUBSPACE] = 7,
        [ALGORITHM_ADASUM] = 8,   [ALGORITHM_DSGD_AAU] = 9, [ALGORITHM_HPSGD] = 10, [ALGORITHM_QSADDLE] = 11,
        [ALGORITHM_NSADDLE] = 12, [ALGORITHM_QGM] = 13,     [ALGORITHM_NGC] = 14,   [ALGORITHM_DPSGD] = 15,
        [ALGORITHM_DSGDM] = 16};
    return (plot_series){ALGORITHM_NAME[r->algorithm], colour[r->algorithm], r->points, x, y};
}

static plot_panel panel_of(size_t runs, const run_result *run, abscissa a) {
    plot_series *s = new_array(runs, sizeof *s);
    for (size_t i = 0; i < runs; i++) s[i] = series_of(&run[i], a);
    return (plot_panel){
        .title = a == STEPS ? "against steps" : "against time",
        .x_label = a == STEPS ? "steps, all workers together" : "seconds",
        .y_label = "test accuracy, %",
        .count = runs,
        .series = s,
    };
}

static void panel_free(plot_panel *p) {
    for (size_t i = 0; i < p->count; i++) {
        free((void *)(uintptr_t)p->series[i].x);
        free((void *)(uintptr_t)p->series[i].y);
    }
    free((void *)(uintptr_t)p->series);
}

void report_curves(const char *file, const char *title, size_t runs, const run_result *run) {
    plot_panel panel[2] = {panel_of(runs, run, STEPS), panel_of(runs, run, SECONDS)};
    plot_panels(file, title, 2, panel);
    panel_free(&panel[0]);
    panel_free(&panel[1]);
}

typedef struct strip_name {
    char text[64];
} strip_name;

static void name_worker(strip_name *n, const options *o, size_t rank) {
    if (o->slow[rank] > 1.0)
        snprintf(n->text, sizeof n->text, "worker %zu, %gx slower", rank, o->slow[rank]);
    else if (o->kill[rank] <= 1.0)
        snprintf(n->text, sizeof n->text, "worker %zu, killed", rank);
    else
        snprintf(n->text, sizeof n->text, "worker %zu", rank);
}

void report_picture(const char *file, const char *title, const options *o, size_t runs, const run_result *run) {
    plot_panel panel = panel_of(runs, run, SECONDS);
    panel.title = NULL;
    plot_block *block = new_array(runs, sizeof *block);
    plot_strip *strip = new_array(runs * o->workers, sizeof *strip), *next = strip;
    strip_name *name = new_array(o->workers, sizeof *name);
    plot_mark mark[MAX_WORKERS];
    strip_name mark_name[MAX_WORKERS];
    size_t marks = 0;
    for (size_t i = 0; i < o->workers; i++) name_worker(&name[i], o, i);
    for (size_t i = 0; i < runs; i++) {
        block[i] = (plot_block){ALGORITHM_NAME[run[i].algorithm], run[i].workers, next};
        for (size_t w = 0; w < run[i].workers; w++, next++)
            *next = (plot_strip){name[w].text, run[i].worker[w].spans, run[i].worker[w].span};
    }
    for (size_t w = 0; w < run[0].workers; w++)
        if (run[0].worker[w].died >= 0.0) {
            snprintf(mark_name[marks].text, sizeof mark_name[marks].text, "worker %zu dies", w);
            mark[marks] = (plot_mark){run[0].worker[w].died, mark_name[marks].text};
            marks++;
        }
    plot_gantt(file, title, &panel, marks, mark, runs, block);
    free(name);
    free(strip);
    free(block);
    panel_free(&panel);
}
