/* SPDX-License-Identifier: MIT
 * glyphs.h: the program's own data set, so that it runs where there is no data: the ten digits drawn as strokes and
 * made hard: slanted, squeezed, bent, thick and thin, faint, over clutter, partly covered, noisy, a few labelled
 * wrongly. */
#ifndef TRAIN_GLYPHS_H
#define TRAIN_GLYPHS_H

#include "data.h"

enum { GLYPH_SIDE = 28, GLYPH_TRAIN = 12000, GLYPH_TEST = 4000 };

/* Draws the whole set. The same seed gives the same bytes on every machine: all arithmetic is in integers. */
void glyphs_make(dataset *d, size_t train, size_t test, uint64_t seed);

#endif
