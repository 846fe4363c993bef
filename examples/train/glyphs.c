/* SPDX-License-Identifier: MIT */
#include "glyphs.h"

#include "rng.h"
#include "util.h"

#include <stdlib.h>
#include <string.h>

/* ---- The digits, as polylines in a box of 100 x 100, y downwards ---- */

enum { MAX_POINTS = 20, PEN_UP = -1 };

/* A glyph is one list of points; {PEN_UP, 0} lifts the pen. Several variants of a digit are drawn equally often. */
typedef struct glyph {
    int digit;
    int count;
    signed char point[MAX_POINTS][2];
} glyph;

/* clang-format off */
static const glyph GLYPHS[] = {
    {0, 9, {{50, 5}, {75, 15}, {85, 50}, {75, 85}, {50, 95}, {25, 85}, {15, 50}, {25, 15}, {50, 5}}},
    {1, 3, {{30, 25}, {55, 5}, {55, 95}}},
    {1, 6, {{28, 28}, {52, 5}, {52, 95}, {PEN_UP, 0}, {25, 95}, {80, 95}}},
    {2, 9, {{18, 28}, {28, 10}, {50, 5}, {72, 12}, {80, 30}, {70, 50}, {40, 72}, {15, 95}, {85, 95}}},
    {3, 11, {{18, 15}, {40, 5}, {65, 7}, {78, 25}, {65, 43}, {42, 48},
             {65, 52}, {82, 72}, {68, 90}, {42, 96}, {17, 85}}},
    {3, 8, {{18, 5}, {80, 5}, {45, 42}, {70, 48}, {82, 70}, {68, 90}, {42, 96}, {17, 85}}},
    {4, 4, {{65, 95}, {65, 5}, {12, 68}, {88, 68}}},
    {4, 6, {{25, 5}, {18, 55}, {85, 55}, {PEN_UP, 0}, {68, 25}, {68, 95}}},
    {5, 9, {{80, 5}, {25, 5}, {20, 45}, {50, 38}, {78, 50}, {82, 72}, {68, 90}, {42, 96}, {15, 85}}},
    {6, 11, {{75, 8}, {45, 15}, {24, 42}, {17, 70}, {30, 92}, {55, 96},
             {78, 85}, {82, 65}, {68, 50}, {45, 48}, {22, 62}}},
    {7, 3, {{12, 5}, {85, 5}, {45, 95}}},
    {7, 6, {{12, 5}, {85, 5}, {45, 95}, {PEN_UP, 0}, {30, 50}, {74, 50}}},
    {8, 15, {{50, 48}, {25, 38}, {20, 20}, {35, 6}, {65, 6}, {80, 20}, {75, 38}, {50, 48}, {22, 60}, {15, 80}, {35, 95},
             {65, 95}, {85, 80}, {78, 60}, {50, 48}}},
    {9, 11, {{78, 38}, {55, 52}, {32, 50}, {18, 35}, {22, 15}, {45, 4},
             {70, 8}, {83, 30}, {76, 58}, {55, 85}, {25, 92}}},
};
/* clang-format on */

/* ---- Geometry, in 1/256 of a pixel ---- */

enum { UNIT = 256, CENTER = GLYPH_SIDE * UNIT / 2 };

typedef struct point {
    int32_t x, y;
} point;

/* Rotation by 2 atan(t), slant, scale and shift, then a smooth bend: displacements on a coarse grid, interpolated. */
enum { BEND_CELLS = 3 };
typedef struct distortion {
    int32_t m[2][2]; /* linear part, x 65,536 / 100: glyph box to 1/256 pixel */
    point shift;
    point bend[BEND_CELLS + 1][BEND_CELLS + 1];
} distortion;

static distortion distortion_draw(rng *r) {
    distortion d;
    const int64_t one = 65536;
    /* cos and sin of the angle from its half-angle tangent t: no libm, so no platform's own last digit. */
    int64_t t = rng_range(r, -10000, 10000); /* t x 65,536: up to 17 degrees either way */
    int64_t norm = one * one + t * t;
    int64_t c = (one * one - t * t) * one / norm, s = 2 * t * one * one / norm;
    int64_t slant = rng_range(r, -12000, 12000);
    int64_t width = rng_range(r, 12, 18) * UNIT, height = rng_range(r, 16, 21) * UNIT; /* of the box, in pixels */
    d.m[0][0] = (int32_t)(c * width / 100);
    d.m[0][1] = (int32_t)((c * slant / one - s) * height / 100);
    d.m[1][0] = (int32_t)(s * width / 100);
    d.m[1][1] = (int32_t)((s * slant / one + c) * height / 100);
    d.shift.x = CENTER + rng_range(r, -UNIT * 7 / 4, UNIT * 7 / 4);
    d.shift.y = CENTER + rng_range(r, -UNIT * 7 / 4, UNIT * 7 / 4);
    for (int i = 0; i <= BEND_CELLS; i++)
        for (int j = 0; j <= BEND_CELLS; j++) {
            d.bend[i][j].x = rng_range(r, -UNIT * 7 / 4, UNIT * 7 / 4);
            d.bend[i][j].y = rng_range(r, -UNIT * 7 / 4, UNIT * 7 / 4);
        }
    return d;
}

static int32_t mix(int32_t a, int32_t b, int32_t weight, int32_t whole) {
    return (int32_t)(((int64_t)a * (whole - weight) + (int64_t)b * weight) / whole);
}

static point distort(const distortion *d, int32_t gx, int32_t gy) {
    const int32_t cell = GLYPH_SIDE * UNIT / BEND_CELLS;
    int64_t x = gx - 50, y = gy - 50;
    point p;
    p.x = d->shift.x + (int32_t)((d->m[0][0] * x + d->m[0][1] * y) / 65536);
    p.y = d->shift.y + (int32_t)((d->m[1][0] * x + d->m[1][1] * y) / 65536);
    int32_t i = p.x / cell, j = p.y / cell;
    i = i < 0 ? 0 : i >= BEND_CELLS ? BEND_CELLS - 1 : i;
    j = j < 0 ? 0 : j >= BEND_CELLS ? BEND_CELLS - 1 : j;
    int32_t u = p.x - i * cell, v = p.y - j * cell;
    u = u < 0 ? 0 : u > cell ? cell : u;
    v = v < 0 ? 0 : v > cell ? cell : v;
    const point *a = d->bend[j], *b = d->bend[j + 1];
    p.x += mix(mix(a[i].x, a[i + 1].x, u, cell), mix(b[i].x, b[i + 1].x, u, cell), v, cell);
    p.y += mix(mix(a[i].y, a[i + 1].y, u, cell), mix(b[i].y, b[i + 1].y, u, cell), v, cell);
    return p;
}

/* Square root, rounded down. */
static int32_t root(int64_t n) {
    int64_t r = 0;
    for (int64_t bit = (int64_t)1 << 24; bit; bit >>= 1)
        if ((r + bit) * (r + bit) <= n) r += bit;
    return (int32_t)r;
}

/* ---- Ink ---- */

typedef struct canvas {
    int32_t ink[GLYPH_SIDE][GLYPH_SIDE]; /* 0 .. 255 */
} canvas;

/* A round-ended line: full ink within `radius` of it, fading out over the next pixel. Lines do not add up: the darkest
 * counts. */
static void draw_line(canvas *c, point a, point b, int32_t radius, int32_t strength) {
    int32_t reach = radius + UNIT;
    int32_t x0 = (a.x < b.x ? a.x : b.x) - reach, x1 = (a.x > b.x ? a.x : b.x) + reach;
    int32_t y0 = (a.y < b.y ? a.y : b.y) - reach, y1 = (a.y > b.y ? a.y : b.y) + reach;
    int64_t dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    for (int32_t j = 0; j < GLYPH_SIDE; j++) {
        int32_t y = j * UNIT + UNIT / 2;
        if (y < y0 || y > y1) continue;
        for (int32_t i = 0; i < GLYPH_SIDE; i++) {
            int32_t x = i * UNIT + UNIT / 2;
            if (x < x0 || x > x1) continue;
            int64_t along = (x - a.x) * dx + (y - a.y) * dy; /* foot of the perpendicular, x length2 */
            along = along < 0 ? 0 : along > length2 ? length2 : along;
            int64_t ex = x - a.x - (length2 ? along * dx / length2 : 0);
            int64_t ey = y - a.y - (length2 ? along * dy / length2 : 0);
            int32_t left = reach - root(ex * ex + ey * ey);
            int32_t ink = left <= 0 ? 0 : left >= UNIT ? strength : strength * left / UNIT;
            if (ink > c->ink[j][i]) c->ink[j][i] = ink;
        }
    }
}

static void draw_glyph(canvas *c, rng *r, uint32_t digit) {
    const glyph *variant[4];
    uint32_t variants = 0;
    for (size_t i = 0; i < sizeof GLYPHS / sizeof *GLYPHS; i++)
        if ((uint32_t)GLYPHS[i].digit == digit) variant[variants++] = &GLYPHS[i];
    const glyph *g = variant[rng_below(r, variants)];

    distortion d = distortion_draw(r);
    int32_t radius = rng_range(r, UNIT * 3 / 8, UNIT * 9 / 8), strength = rng_range(r, 130, 255);
    point last = {0, 0};
    bool down = false;
    for (int i = 0; i < g->count; i++) {
        if (g->point[i][0] == PEN_UP) {
            down = false;
            continue;
        }
        /* One draw a statement: C leaves open in which order the arguments of a call are evaluated. */
        int32_t x = g->point[i][0] + rng_range(r, -6, 6);
        int32_t y = g->point[i][1] + rng_range(r, -6, 6);
        point p = distort(&d, x, y);
        if (down) draw_line(c, last, p, radius, strength);
        last = p;
        down = true;
    }
}

static point somewhere(rng *r) {
    point p;
    p.x = rng_range(r, 0, GLYPH_SIDE * UNIT);
    p.y = rng_range(r, 0, GLYPH_SIDE * UNIT);
    return p;
}

/* Scraps of other strokes: short, fainter lines anywhere. */
static void draw_clutter(canvas *c, rng *r) {
    for (uint32_t n = rng_below(r, 3); n > 0; n--) {
        point a = somewhere(r), b = a;
        b.x += rng_range(r, -8 * UNIT, 8 * UNIT);
        b.y += rng_range(r, -8 * UNIT, 8 * UNIT);
        int32_t radius = rng_range(r, UNIT / 8, UNIT * 3 / 4), strength = rng_range(r, 60, 200);
        draw_line(c, a, b, radius, strength);
    }
}

/* In one image of three a patch hides whatever was drawn there. */
static void cover(canvas *c, rng *r) {
    if (rng_below(r, 3) != 0) return;
    int32_t w = rng_range(r, 4, 10), h = rng_range(r, 4, 10);
    int32_t x = rng_range(r, 2, GLYPH_SIDE - 2 - w), y = rng_range(r, 2, GLYPH_SIDE - 2 - h);
    for (int32_t j = y; j < y + h; j++)
        for (int32_t i = x; i < x + w; i++) c->ink[j][i] = 0;
}

/* Paper that is not white, and grain: the sum of four uniform numbers is near enough to a bell. */
static void develop(const canvas *c, rng *r, uint8_t *pixel) {
    int32_t paper = rng_range(r, 0, 50), tilt_x = rng_range(r, -40, 40), tilt_y = rng_range(r, -40, 40);
    int32_t grain = rng_range(r, 5, 25);
    for (int32_t j = 0; j < GLYPH_SIDE; j++)
        for (int32_t i = 0; i < GLYPH_SIDE; i++) {
            int32_t noise = 0;
            for (int k = 0; k < 4; k++) noise += rng_range(r, -grain, grain);
            int32_t shade = paper + (tilt_x * (i - GLYPH_SIDE / 2) + tilt_y * (j - GLYPH_SIDE / 2)) / GLYPH_SIDE;
            int32_t v = shade + c->ink[j][i] * (255 - paper) / 255 + noise / 2;
            *pixel++ = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
}

/* Image number `index` of the endless collection that the seed defines. */
static uint8_t draw_image(uint64_t seed, uint64_t index, uint8_t *pixel) {
    rng r = rng_make(seed, RNG_GLYPH, index);
    canvas c;
    memset(&c, 0, sizeof c);
    uint32_t digit = rng_below(&r, MAX_CLASSES);
    draw_glyph(&c, &r, digit);
    draw_clutter(&c, &r);
    cover(&c, &r);
    develop(&c, &r, pixel);
    return (uint8_t)digit;
}

static void draw_set(image_set *set, size_t count, uint64_t seed, uint64_t first) {
    const size_t pixels = (size_t)GLYPH_SIDE * GLYPH_SIDE;
    set->count = count;
    set->pixel = new_array(count, pixels);
    set->label = new_array(count, 1);
    for (size_t i = 0; i < count; i++) set->label[i] = draw_image(seed, first + i, set->pixel + i * pixels);
}

void glyphs_make(dataset *d, size_t train, size_t test, uint64_t seed) {
    memset(d, 0, sizeof *d);
    strcpy(d->name, "glyphs");
    d->width = d->height = GLYPH_SIDE;
    d->channels = 1;
    d->features = (size_t)GLYPH_SIDE * GLYPH_SIDE;
    d->classes = MAX_CLASSES;
    draw_set(&d->train, train, seed, 0);
    draw_set(&d->test, test, seed, train);
    /* Two training labels of a hundred are drawn anew, as careless hands would have left them. */
    for (size_t i = 0; i < train; i++) {
        rng r = rng_make(seed, RNG_LABEL, i);
        if (rng_below(&r, 100) < 2) d->train.label[i] = (uint8_t)rng_below(&r, MAX_CLASSES);
    }
    dataset_normalise(d);
}
