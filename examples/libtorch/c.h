/* SPDX-License-Identifier: MIT
 * c.h: what this program has in common with the other examples, which are C. */
#ifndef LIBTORCH_C_H
#define LIBTORCH_C_H

extern "C" {
#include "train/data.h"
#include "train/glyphs.h"
#include "train/plot.h"
#include "train/processes.h"
#include "train/progress.h"
#include "train/rng.h"
#include "train/util.h"
#include "train/values.h"
}

#endif
