/* SPDX-License-Identifier: MIT */
#include "plot.h"

#include "util.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Colours: told apart by most eyes, and on paper ---- */

static const char *const COLOUR[] = {"#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00",
                                     "#56b4e9", "#000000", "#8c564b", "#e0218a", "#6a51a3", "#b2182b",
                                     "#1a9e9e", "#b8a000", "#4040ff", "#7a8b00", "#c27ba0"};
enum { COLOURS = sizeof COLOUR / sizeof *COLOUR };

static const char *const KIND_COLOUR[STRIP_KINDS] = {"#5aa786", "#f2c879", "#2f5d9b", "#4a4a4a"};
static const char *const KIND_NAME[STRIP_KINDS] = {"compute", "wait", "sync", "dead"};

/* ---- A file ---- */

typedef struct svg {
    FILE *out;
    const char *name;
} svg;

static svg svg_open(const char *name, double width, double height, const char *title) {
    svg s = {fopen(name, "w"), name};
    if (!s.out) bad_input("%s: %s", name, strerror(errno));
    fprintf(s.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" "
            "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#333\">\n"
            "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            width, height, width, height, title);
    return s;
}

static void svg_close(svg *s) {
    fputs("</svg>\n", s->out);
    int failed = ferror(s->out);
    if (fclose(s->out) != 0 || failed) bad_input("%s: %s", s->name, strerror(errno));
}

/* anchor: start, middle or end. The texts of this program contain nothing that XML would mind. */
static void svg_text(svg *s, double x, double y, const char *anchor, const char *style, const char *text) {
    fprintf(s->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>%s</text>\n", x, y, anchor, style, text);
}

static void svg_line(svg *s, double x0, double y0, double x1, double y1, const char *style) {
    fprintf(s->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x0, y0, x1, y1, style);
}

static void svg_box(svg *s, double x, double y, double w, double h, const char *colour) {
    fprintf(s->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, y, w, h, colour);
}

#define STYLE_TITLE "font-size=\"16\" font-weight=\"bold\""
#define STYLE_HEADING "font-size=\"13\" font-weight=\"bold\""
#define STYLE_TEXT "fill=\"#555\""
#define STYLE_GRID "stroke=\"#e4e4e4\""
#define STYLE_AXIS "stroke=\"#888\""
#define STYLE_WHISKER "stroke=\"#222\" stroke-width=\"1.4\""
#define STYLE_MARK "stroke=\"#333\" stroke-dasharray=\"4 3\""

/* ---- Axes ---- */

/* Values from .. upto on pixels at .. at + length (length may be negative: upwards). */
typedef struct scale {
    double from, upto, at, length;
} scale;

static double on(const scale *a, double v) {
    return a->at + (v - a->from) / (a->upto - a->from) * a->length;
}

/* 1, 2 or 5 times a power of ten, so that about `parts` of them make up the range. */
static double tick_distance(double range, double parts) {
    double power = pow(10.0, floor(log10(range / parts))), rest = range / parts / power;
    return power * (rest < 1.5 ? 1.0 : rest < 3.5 ? 2.0 : rest < 7.5 ? 5.0 : 10.0);
}

static void tick_label(char *out, size_t capacity, double v) {
    if (v >= 10000.0)
        snprintf(out, capacity, "%gk", v / 1000.0);
    else
        snprintf(out, capacity, "%g", v);
}

static void draw_x_axis(svg *s, const scale *x, double top, double bottom, const char *label) {
    double distance = tick_distance(x->upto - x->from, 6.0);
    for (int i = 0; i * distance <= x->upto * 1.0001; i++) {
        char text[32];
        double at = on(x, i * distance);
        tick_label(text, sizeof text, i * distance);
        svg_line(s, at, top, at, bottom, STYLE_GRID);
        svg_text(s, at, bottom + 16, "middle", STYLE_TEXT, text);
    }
    svg_line(s, x->at, bottom, x->at + x->length, bottom, STYLE_AXIS);
    if (label) svg_text(s, x->at + x->length / 2, bottom + 34, "middle", STYLE_TEXT, label);
}

static void draw_y_axis(svg *s, const scale *y, double left, double right, const char *label) {
    double distance = tick_distance(y->upto - y->from, 6.0);
    const double last = y->upto + 1e-4 * fabs(y->upto);
    for (double i = ceil(y->from / distance); i * distance <= last; i++) { /* not added up: 0 shall be 0 */
        const double v = i * distance;
        char text[32];
        tick_label(text, sizeof text, v);
        svg_line(s, left, on(y, v), right, on(y, v), STYLE_GRID);
        svg_text(s, left - 6, on(y, v) + 4, "end", STYLE_TEXT, text);
    }
    svg_line(s, left, y->at, left, y->at + y->length, STYLE_AXIS);
    svg_text(s, left - 34, y->at + y->length - 10, "start", STYLE_TEXT, label);
}

/* Where curves end matters more than where they begin: the last part of the way up, and a margin. */
static void choose_y(const plot_panel *p, double *from, double *upto) {
    *from = p->y_from;
    *upto = p->y_upto;
    if (*from < *upto) return;
    double low = HUGE_VAL, high = -HUGE_VAL, start = HUGE_VAL;
    for (size_t i = 0; i < p->count; i++)
        for (size_t j = 0; j < p->series[i].count; j++) {
            double v = p->series[i].y[j];
            if (v > high) high = v;
            if (v < start) start = v;
            if (j + 1 == p->series[i].count && v < low) low = v;
        }
    if (low > high) low = high = start = 0.0; /* no points at all */
    *from = floor((low - 0.15 * (low - start)) / 2.0) * 2.0;
    *upto = ceil((high + 0.4) / 2.0) * 2.0;
}

static double largest_x(const plot_panel *p) {
    double x = 0.0;
    for (size_t i = 0; i < p->count; i++)
        for (size_t j = 0; j < p->series[i].count; j++)
            if (p->series[i].x[j] > x) x = p->series[i].x[j];
    return x > 0.0 ? x : 1.0;
}

static const char *colour_of(const plot_series *c) {
    return COLOUR[c->colour >= 0 ? c->colour % COLOURS : 0];
}

/* The plot area is that of the x axis, from top on; labels stand outside. */
static void draw_panel(svg *s, const plot_panel *p, const scale *x, const char *x_label, double top, double height,
                       int id) {
    scale y = {0, 0, top + height, -height};
    choose_y(p, &y.from, &y.upto);
    draw_x_axis(s, x, top, top + height, x_label);
    draw_y_axis(s, &y, x->at, x->at + x->length, p->y_label);
    if (p->title) svg_text(s, x->at, top - 24, "start", STYLE_HEADING, p->title);
    fprintf(s->out,
            "<clipPath id=\"panel%d\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/></clipPath>\n", id,
            x->at, top, x->length, height);
    for (size_t i = 0; i < p->count; i++) {
        const plot_series *c = &p->series[i];
        fprintf(s->out,
                "<polyline clip-path=\"url(#panel%d)\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" points=\"", id,
                colour_of(c), c->colour == 0 ? "2.4" : "1.8");
        for (size_t j = 0; j < c->count; j++) fprintf(s->out, "%.1f,%.1f ", on(x, c->x[j]), on(&y, c->y[j]));
        fputs("\"/>\n", s->out);
    }
}

/* Names beside their colours, one below the other. */
static void draw_legend(svg *s, const plot_panel *p, double left, double top) {
    for (size_t i = 0; i < p->count; i++) {
        char style[64];
        if (!p->series[i].name) continue;
        snprintf(style, sizeof style, "stroke=\"%s\" stroke-width=\"3\"", colour_of(&p->series[i]));
        svg_line(s, left, top, left + 20, top, style);
        svg_text(s, left + 27, top + 4, "start", "", p->series[i].name);
        top += 20;
    }
}

void plot_panels(const char *file, const char *title, size_t count, const plot_panel *panel) {
    const double width = 400, height = 280, gap = 70, top = 84;
    double legend = 110;
    for (size_t i = 0; count && i < panel[0].count; i++)
        if (panel[0].series[i].name) legend = fmax(legend, 60 + 7 * (double)strlen(panel[0].series[i].name));
    svg s = svg_open(file, gap + (double)count * (width + gap) + legend - 20, top + height + 56, title);
    svg_text(&s, gap, 32, "start", STYLE_TITLE, title);
    for (size_t i = 0; i < count; i++) {
        scale x = {0, largest_x(&panel[i]), gap + (double)i * (width + gap), width};
        draw_panel(&s, &panel[i], &x, panel[i].x_label, top, height, (int)i);
    }
    draw_legend(&s, &panel[0], gap + (double)count * (width + gap) - gap + 24, top + 10);
    svg_close(&s);
}

/* ---- Strips ---- */

/* How much of each stretch of the axis went into each kind. */
static void shares(const plot_strip *strip, size_t buckets, double each, double (*share)[STRIP_KINDS]) {
    memset(share, 0, buckets * sizeof *share);
    for (size_t i = 0; i < strip->count; i++) {
        const plot_span *p = &strip->span[i];
        if (p->upto <= 0.0) continue;
        for (size_t b = p->from > 0.0 ? (size_t)(p->from / each) : 0; b < buckets && (double)b * each < p->upto; b++) {
            double from = fmax(p->from, (double)b * each), upto = fmin(p->upto, (double)(b + 1) * each);
            if (upto > from) share[b][p->kind] += (upto - from) / each;
        }
    }
}

/* A Gantt strip of steps that are shorter than a pixel: every column is divided as its time was, one kind on top of the
 * other, so that areas are time. Equal neighbours become one box. */
static void draw_strip(svg *s, const plot_strip *strip, const scale *x, double top, double height) {
    enum { BUCKETS = 240 };
    static double share[BUCKETS][STRIP_KINDS];
    double each = x->upto / BUCKETS, pixel = x->length / BUCKETS;
    shares(strip, BUCKETS, each, share);
    svg_box(s, x->at, top, x->length, height, "#f7f7f7");
    for (int kind = 0; kind < STRIP_KINDS; kind++) {
        double last_y = -1, last_h = -1; /* in tenths of a pixel, as printed */
        size_t begun = 0;
        fprintf(s->out, "<path fill=\"%s\" d=\"", KIND_COLOUR[kind]);
        for (size_t b = 0; b <= BUCKETS; b++) {
            double below = 0, y = -1, h = -1;
            if (b < BUCKETS) {
                for (int k = 0; k < kind; k++) below += share[b][k];
                y = round((top + height * (1 - below - share[b][kind])) * 10) / 10;
                h = round(height * share[b][kind] * 10) / 10;
            }
            if (b > 0 && y == last_y && h == last_h) continue;
            if (b > 0 && last_h > 0)
                fprintf(s->out, "M%.1f %.1fh%.1fv%.1fh%.1fz", x->at + (double)begun * pixel, last_y,
                        (double)(b - begun) * pixel, last_h, -(double)(b - begun) * pixel);
            begun = b;
            last_y = y;
            last_h = h;
        }
        fputs("\"/>\n", s->out);
    }
}

static void draw_kinds(svg *s, double left, double y) {
    for (int k = 0; k < STRIP_KINDS; k++, left += 84) {
        svg_box(s, left, y - 10, 12, 12, KIND_COLOUR[k]);
        svg_text(s, left + 18, y, "start", "", KIND_NAME[k]);
    }
}

void plot_gantt(const char *file, const char *title, const plot_panel *panel, size_t marks, const plot_mark *mark,
                size_t blocks, const plot_block *block) {
    const double left = 150, width = 690, top = 92, height = 250, strip = 22, gap = 4, heading = 40;
    double strips = 0;
    for (size_t i = 0; i < blocks; i++) strips += heading + (double)block[i].count * (strip + gap);
    double y = top + height + 26, bottom = y + strips + 8;
    svg s = svg_open(file, left + width + 130, bottom + 64, title);
    svg_text(&s, left - 100, 32, "start", STYLE_TITLE, title);

    scale x = {0, largest_x(panel), left, width};
    for (size_t i = 0; i < blocks; i++)
        for (size_t j = 0; j < block[i].count; j++)
            for (size_t k = 0; k < block[i].strip[j].count; k++) x.upto = fmax(x.upto, block[i].strip[j].span[k].upto);
    draw_panel(&s, panel, &x, NULL, top, height, 0); /* the axis below the strips has the label */
    draw_legend(&s, panel, left + width + 16, top + 10);

    for (size_t i = 0; i < blocks; i++) {
        svg_text(&s, left - 100, y + 22, "start", STYLE_HEADING, block[i].title);
        y += heading - 6;
        for (size_t j = 0; j < block[i].count; j++, y += strip + gap) {
            svg_text(&s, left - 10, y + strip / 2 + 4, "end", STYLE_TEXT, block[i].strip[j].name);
            draw_strip(&s, &block[i].strip[j], &x, y, strip);
        }
        y += 6;
    }
    draw_x_axis(&s, &x, bottom, bottom, panel->x_label);
    draw_kinds(&s, left, bottom + 54);
    svg_text(&s, left + width, bottom + 54, "end", STYLE_TEXT, "strips: share of each worker's time");
    double free_from[2] = {0, 0}; /* two rows of words, the upper one for those that would run into the one before */
    for (size_t i = 0; i < marks; i++) {
        const double at = on(&x, mark[i].x), half = 3.7 * (double)strlen(mark[i].text);
        const int row = at - half < free_from[0] && free_from[1] <= free_from[0];
        free_from[row] = at + half;
        svg_line(&s, at, top - 6 - 15 * row, at, bottom, STYLE_MARK);
        svg_text(&s, at, top - 12 - 15 * row, "middle", "", mark[i].text);
    }
    svg_close(&s);
}

/* ---- Bars ---- */

void plot_bars(const char *file, const char *title, const char *x_label, double reference, size_t groups,
               const plot_bars_group *group) {
    const double left = 300, width = 520, top = 52, bar = 13, gap = 4, heading = 34;
    double y = top, bottom = top;
    scale x = {0, reference, left, width};
    for (size_t i = 0; i < groups; i++) {
        bottom += heading + (double)group[i].count * (bar + gap);
        for (size_t j = 0; j < group[i].count; j++)
            x.upto = fmax(x.upto, group[i].bar[j].value);
    }
    x.upto = x.upto > 0 ? 1.2 * x.upto : 1.0;
    svg s = svg_open(file, left + width + 70, bottom + 56, title);
    svg_text(&s, 16, 32, "start", STYLE_TITLE, title);
    draw_x_axis(&s, &x, top, bottom + 6, x_label);
    for (size_t i = 0; i < groups; i++) {
        svg_text(&s, 16, y + 22, "start", STYLE_HEADING, group[i].title);
        y += heading;
        for (size_t j = 0; j < group[i].count; j++, y += bar + gap) {
            const plot_bar *b = &group[i].bar[j];
            const double high = fmin(b->high, x.upto); /* a whisker may be cut off, a bar never */
            char value[32];
            svg_text(&s, left - 8, y + bar - 2, "end", "", b->name);
            svg_box(&s, left, y, on(&x, b->value) - left, bar, COLOUR[b->colour >= 0 ? b->colour % COLOURS : 0]);
            if (b->low < high) svg_line(&s, on(&x, b->low), y + bar / 2, on(&x, high), y + bar / 2, STYLE_WHISKER);
            snprintf(value, sizeof value, "%.3g", b->value);
            svg_text(&s, on(&x, fmax(b->value, high)) + 5, y + bar - 2, "start", STYLE_TEXT, value);
        }
    }
    svg_line(&s, on(&x, reference), top, on(&x, reference), bottom + 6, STYLE_MARK);
    svg_close(&s);
}
