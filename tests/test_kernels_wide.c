/* SPDX-License-Identifier: MIT
 * The tests of the kernels over vectors of several lanes: the whole vectors and the rests of body.h. */
#define EXTRA_SET "wide_set.h"
#define KERNELS_UNDER_TEST weft_kernels_wide
#define GRADIENT_KERNELS_UNDER_TEST weft_gradient_kernels_wide
#define WIDE_KERNELS_UNDER_TEST weft_wide_kernels_wide
#include "test_kernels.c"
