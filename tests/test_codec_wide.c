/* SPDX-License-Identifier: MIT
 * The tests of the codecs over vectors of several lanes in plain C: the whole vectors and the rests of body.h. */
#define EXTRA_SET "wide_set.h"
#include "test_codec.c"
