/* SPDX-License-Identifier: MIT
 * The tests of the codecs over vectors of several lanes in plain C: the whole vectors and the rests of body.h. And in a
 * unit where a header without codecs has been implemented before. */
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#define EXTRA_SET "wide_set.h"
#include "test_codec.c"
