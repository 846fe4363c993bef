/* SPDX-License-Identifier: MIT
 * sound.h: how a spoken digit is described; the host that prepares the data and the boards agree on it. */
#ifndef EDGE_SOUND_H
#define EDGE_SOUND_H

enum { BANDS = 10, FRAMES = 10, FEATURES = BANDS * FRAMES, CLASSES = 10, PARAMETERS = CLASSES * (FEATURES + 1) };

#endif
