/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "progress.h"

#include "util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Lines a second. */
enum { PER_SECOND = 5 };

void progress_begin(progress_line *p, const char *name, uint64_t budget, double seconds) {
    memset(p, 0, sizeof *p);
    p->name = name;
    p->budget = budget;
    p->seconds = seconds;
    p->started = p->shown = clock_ns();
    p->terminal = isatty(STDERR_FILENO) == 1;
}

void progress_show(progress_line *p, uint64_t samples, uint64_t right, double loss) {
    uint64_t now = clock_ns();
    if (!p->terminal || now - p->shown < 1000000000u / PER_SECOND || samples == p->samples) return;
    double since = (double)(now - p->shown) * 1e-9, elapsed = (double)(now - p->started) * 1e-9;
    double n = (double)(samples - p->samples);
    double left = p->budget ? ((double)p->budget / (double)samples - 1.0) * elapsed : p->seconds - elapsed;
    if (left < 0.0) left = 0.0;
    fprintf(stderr, "\r%-8s %4.0f %%  loss %.4f  accuracy %5.1f %%  %8.0f samples/s  %d:%02d left ", p->name,
            100.0 * elapsed / (elapsed + left), (loss - p->loss) / n, 100.0 * (double)(right - p->right) / n, n / since,
            (int)left / 60, (int)left % 60);
    p->shown = now;
    p->samples = samples;
    p->right = right;
    p->loss = loss;
}

void progress_end(progress_line *p) {
    if (p->terminal) fprintf(stderr, "\r%79s\r", "");
}
