/* SPDX-License-Identifier: MIT
 * grid.h: many runs, some at a time. Each is a thread's own from beginning to end, so that how many threads there are
 * makes no difference to what comes out. */
#ifndef HETEROGENEITY_GRID_H
#define HETEROGENEITY_GRID_H

#include "crew.h"

#include <errno.h>
#include <pthread.h>

enum { GRID_MOST_THREADS = 64 };

typedef struct grid {
    const dataset *data;
    run_desc *run;
    size_t count, room;
    run_rows rows; /* those that there are */
    FILE *out;     /* lines are added; NULL: to nothing */
    size_t next;   /* that nobody has taken */
    size_t left, finished;
    uint64_t begun;
    pthread_mutex_t lock;
} grid;

static inline void grid_add(grid *g, const run_desc *d) {
    if (g->count == g->room) {
        g->room = g->room ? 2 * g->room : 256;
        g->run = (run_desc *)realloc(g->run, g->room * sizeof *g->run);
        if (!g->run) broken("out of memory");
    }
    g->run[g->count++] = *d;
}

/* Rows that are there are read, new ones are written behind them. */
static inline void grid_file(grid *g, const char *path) {
    rows_read(&g->rows, path);
    g->out = lines_append(path);
    if (!g->out) broken("%s: %s", path, strerror(errno));
}

static inline void grid_tell(const grid *g, const run_desc *d, const run_result *r) {
    const double seconds = 1e-9 * (double)(clock_ns() - g->begun);
    fprintf(stderr, "%zu of %zu: alpha %g, %s, %s, rate %g, seed %llu: ", g->finished, g->left, d->alpha,
            rule_name[d->rule], coding_name[d->coding], d->rate, (unsigned long long)d->seed);
    if (r->diverged)
        fprintf(stderr, "diverged");
    else
        fprintf(stderr, "%.2f %%, eigenvalue %.1f", r->accuracy, r->eigenvalue);
    fprintf(stderr, "; %.1f s; %.0f s to go\n", r->seconds,
            seconds / (double)g->finished * (double)(g->left - g->finished));
}

static inline void *grid_thread(void *arg) {
    grid *g = (grid *)arg;
    learner l;
    learner_open(&l, g->data);
    for (;;) {
        const run_desc *d = NULL;
        char key[ROW_KEY];
        run_result r;
        pthread_mutex_lock(&g->lock);
        while (g->next < g->count && rows_find(&g->rows, &g->run[g->next])) g->next++;
        if (g->next < g->count) d = &g->run[g->next++];
        pthread_mutex_unlock(&g->lock);
        if (!d) break;
        crew_run(&r, d, &l);
        pthread_mutex_lock(&g->lock);
        row_key(key, d);
        row_round(&r);
        rows_add(&g->rows, key)->result = r;
        if (g->out) row_write(g->out, d, &r);
        g->finished++;
        grid_tell(g, d, &r);
        pthread_mutex_unlock(&g->lock);
    }
    learner_close(&l);
    return NULL;
}

static inline void grid_run(grid *g, unsigned threads) {
    pthread_t thread[GRID_MOST_THREADS];
    g->begun = clock_ns();
    g->next = g->left = g->finished = 0;
    for (size_t i = 0; i < g->count; i++) g->left += !rows_find(&g->rows, &g->run[i]);
    if (!g->left) return;
    if (pthread_mutex_init(&g->lock, NULL)) broken("no mutex");
    if (threads > g->left) threads = (unsigned)g->left;
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, grid_thread, g)) broken("no thread");
    for (unsigned i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&g->lock);
}

static inline void grid_close(grid *g) {
    if (g->out) fclose(g->out);
    free(g->run);
    free(g->rows.row);
}

#endif
