/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "train/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Table ---- */

void report_head(void) {
    puts("algorithm       loss  accuracy  steps/worker  waiting  longest wait  rounds  partners  alone  "
         "payload/step  control/step  distance  sharpness");
    fflush(stdout);
}

void report_line(const run_result *r) {
    const run_point *p = &r->point[POINTS - 1];
    const double steps = r->steps ? (double)r->steps : 1.0;
    char accuracy[32] = "-", partners[32] = "-", alone[32] = "-", span[48];
    if (p->accuracy >= 0.0) snprintf(accuracy, sizeof accuracy, "%.2f %%", 100.0 * p->accuracy);
    if (!method_has_members(r->method)) {
        snprintf(partners, sizeof partners, "%.2f", r->partners);
        snprintf(alone, sizeof alone, "%.0f %%", 100.0 * r->alone);
    }
    snprintf(span, sizeof span, "%llu-%llu", (unsigned long long)r->least_steps, (unsigned long long)r->most_steps);
    printf("%-9s %10.4f  %8s  %12s  %5.0f %%  %10.3f s  %6llu  %8s  %5s  %9.1f kB  %9.2f kB  %8.4f  %9.4f\n",
           METHOD_NAME[r->method], p->loss, accuracy, span, 100.0 * r->waiting, r->longest_wait,
           (unsigned long long)r->rounds, partners, alone, (double)r->payload / steps * 1e-3,
           (double)r->control / steps * 1e-3, p->distance, p->sharpness);
    if (r->losses || r->returns)
        printf("%-9s %llu workers lost, %llu back\n", "", (unsigned long long)r->losses,
               (unsigned long long)r->returns);
    if (r->packets)
        printf("%-9s %llu packets, %llu lost, %llu sent again\n", "", (unsigned long long)r->packets,
               (unsigned long long)r->packets_lost, (unsigned long long)r->packets_again);
    if (r->errors) printf("%-9s %llu errors returned on the way\n", "", (unsigned long long)r->errors);
    fflush(stdout);
    /* not part of the run: it differs from machine to machine */
    fprintf(stderr, "%s: %llu events in %.2f s, %.3g a second; %zu bytes a worker's object; run %016llx\n",
            METHOD_NAME[r->method], (unsigned long long)r->events, r->wall, (double)r->events / r->wall, r->bytes,
            (unsigned long long)r->hash);
}

/* ---- Numbers ---- */

void report_csv(const char *file, size_t runs, const run_result *run) {
    FILE *out = fopen(file, "w");
    if (!out) bad_input("%s: %s", file, strerror(errno));
    fputs("algorithm,workers,seconds,steps,loss,accuracy,distance,sharpness,payload\n", out);
    for (size_t i = 0; i < runs; i++)
        for (size_t k = 0; k < POINTS; k++) {
            const run_point *p = &run[i].point[k];
            fprintf(out, "%s,%lu,%.9g,%llu,%.9g,%.9g,%.9g,%.9g,%llu\n", METHOD_NAME[run[i].method],
                    (unsigned long)run[i].workers, p->seconds, (unsigned long long)p->steps, p->loss, p->accuracy,
                    p->distance, p->sharpness, (unsigned long long)p->payload);
        }
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) bad_input("%s: %s", file, strerror(errno));
}

/* ---- Picture ---- */

typedef struct label {
    char text[64];
} label;

static size_t marks_of(const options *o, plot_mark *mark, label *text) {
    size_t n = 0;
    for (size_t i = 0; i < o->faults; i++) {
        const planned_fault *f = &o->fault[i];
        if (f->from > o->seconds) continue;
        switch (f->kind) {
        case FAULT_KILL:
            snprintf(text[n].text, sizeof text[n].text, "worker %lu is lost", (unsigned long)f->rank);
            break;
        case FAULT_RESTART:
            snprintf(text[n].text, sizeof text[n].text, "worker %lu is back", (unsigned long)f->rank);
            break;
        case FAULT_PARTITION:
            snprintf(text[n].text, sizeof text[n].text, "%lu workers cut off", (unsigned long)f->count);
            break;
        }
        mark[n] = (plot_mark){f->from, text[n].text};
        n++;
        if (f->kind != FAULT_PARTITION || f->upto > o->seconds) continue;
        snprintf(text[n].text, sizeof text[n].text, "healed");
        mark[n] = (plot_mark){f->upto, text[n].text};
        n++;
    }
    return n;
}

void report_picture(const char *file, const char *title, const options *o, size_t runs, const run_result *run) {
    static const int colour[METHODS] = {
        [METHOD_DSGD_AAU] = 9, [METHOD_MEAN] = 0,   [METHOD_SUBSPACE] = 7, [METHOD_MGRAWA] = 2,
        [METHOD_LGRAWA] = 3,   [METHOD_HPSGD] = 10, [METHOD_QSADDLE] = 11, [METHOD_NSADDLE] = 12,
        [METHOD_QGM] = 13,     [METHOD_NGC] = 14,   [METHOD_DPSGD] = 15,   [METHOD_DSGDM] = 16};
    double(*x)[POINTS] = new_array(runs, sizeof *x), (*y)[POINTS] = new_array(runs, sizeof *y);
    plot_series *series = new_array(runs, sizeof *series);
    plot_block *block = new_array(runs, sizeof *block);
    plot_strip *strip = new_array(runs * STRIPS, sizeof *strip), *next = strip;
    label name[STRIPS], text[2 * MOST_FAULTS];
    plot_mark mark[2 * MOST_FAULTS];
    plot_panel panel = {.x_label = "seconds", .count = runs, .series = series};
    const bool images = o->task != TASK_QUADRATIC;
    panel.y_label = images ? "test loss" : "loss above the least";
    for (size_t i = 0; i < STRIPS; i++) snprintf(name[i].text, sizeof name[i].text, "worker %zu", i);
    for (size_t i = 0; i < runs; i++) {
        for (size_t k = 0; k < POINTS; k++) {
            x[i][k] = run[i].point[k].seconds;
            y[i][k] = run[i].point[k].loss;
            if (y[i][k] > panel.y_upto) panel.y_upto = y[i][k];
        }
        series[i] = (plot_series){METHOD_NAME[run[i].method], colour[run[i].method], POINTS, x[i], y[i]};
        block[i] = (plot_block){METHOD_NAME[run[i].method], run[i].strips, next};
        for (size_t w = 0; w < run[i].strips; w++, next++)
            *next = (plot_strip){name[w].text, run[i].strip[w].spans, run[i].strip[w].span};
    }
    const size_t marks = marks_of(o, mark, text);
    plot_gantt(file, title, &panel, marks, mark, runs, block);
    free(x);
    free(y);
    free(series);
    free(block);
    free(strip);
}
