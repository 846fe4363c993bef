/* SPDX-License-Identifier: MIT
 * plot.h: three kinds of SVG picture: panels of curves, a curve above a strip per worker that shows what it spent its
 * time on, and bars. Nothing but stdio. */
#ifndef TRAIN_PLOT_H
#define TRAIN_PLOT_H

#include <stddef.h>

/* One line of a panel. Points in order of x. */
typedef struct plot_series {
    const char *name; /* NULL: not in the legend */
    int colour;       /* 0: neutral grey; 1, 2, ...: the palette */
    size_t count;
    const double *x, *y;
} plot_series;

typedef struct plot_panel {
    const char *title; /* or NULL */
    const char *x_label, *y_label;
    double y_from, y_upto; /* what lies outside is cut off; equal: whatever shows the upper ends of the curves well */
    size_t count;
    const plot_series *series;
} plot_panel;

/* A vertical line with a word, at a time. */
typedef struct plot_mark {
    double x;
    const char *text;
} plot_mark;

/* What a worker can be doing. */
enum { STRIP_COMPUTE, STRIP_WAIT, STRIP_SYNC, STRIP_DEAD, STRIP_KINDS };

/* A stretch of time. Stretches of one strip do not overlap; what none covers stays white. */
typedef struct plot_span {
    double from, upto;
    int kind;
} plot_span;

typedef struct plot_strip {
    const char *name;
    size_t count;
    const plot_span *span; /* in order of time */
} plot_strip;

typedef struct plot_block {
    const char *title;
    size_t count;
    const plot_strip *strip;
} plot_block;

/* A length with a name, from 0 on, and a whisker from low to high (equal: none). */
typedef struct plot_bar {
    const char *name;
    int colour; /* as of a series */
    double value, low, high;
} plot_bar;

typedef struct plot_bars_group {
    const char *title;
    size_t count;
    const plot_bar *bar;
} plot_bars_group;

/* Panels side by side, with one legend for all. These end the program with a line if the file cannot be written. */
void plot_panels(const char *file, const char *title, size_t count, const plot_panel *panel);

/* One panel above blocks of strips, all on the same axis of time. */
void plot_gantt(const char *file, const char *title, const plot_panel *panel, size_t marks, const plot_mark *mark,
                size_t blocks, const plot_block *block);

/* Groups of bars, one below the other, on one axis from 0 to a little above the largest value, with a vertical line at `reference`. */
void plot_bars(const char *file, const char *title, const char *x_label, double reference, size_t groups,
               const plot_bars_group *group);

#endif
