/* SPDX-License-Identifier: MIT
 * sixteen.h: works between arrays of f32 and of the 16-bit types, on a GPU (WEFT_CUDA). On the CPU whoever has such
 * arrays takes pieces of them through f32 on the stack. */
#include "base.h"
#include "tensor.h"
#include "kernels.h"
#include "device.h"
/*==== API ====*/
/*==== IMPLEMENTATION ====*/

#ifdef WEFT_CUDA
typedef enum weft_sixteen_op {
    WEFT_SIXTEEN_CONVERT, /* y = x */
    WEFT_SIXTEEN_COUNT,   /* how many elements of x would not be finite as y; y may be NULL */
    WEFT_SIXTEEN_ADD,     /* y = y + x */
    WEFT_SIXTEEN_MIX      /* y = y + a * (x - times * q): q is y as it travels */
} weft_sixteen_op;

/* Of n elements each. Scalars are rounded to f32. Left to right, as written. */
typedef struct weft_sixteen {
    weft_sixteen_op op;
    weft_dtype x_type, y_type, wire; /* any but f64 */
    const void *x;
    void *y;
    double a, times;
} weft_sixteen;

#define WEFT_DEVICE_SIXTEEN
#include "kernels/cuda_sixteen.h"
#undef WEFT_DEVICE_SIXTEEN

WEFT_FN weft_sixteen weft_sixteen_make(weft_sixteen_op op, weft_dtype from, const void *x, weft_dtype to, void *y) {
    weft_sixteen w;
    memset(&w, 0, sizeof w);
    w.op = op;
    w.x_type = from;
    w.y_type = to;
    w.wire = WEFT_F32;
    w.x = x;
    w.y = y;
    return w;
}

/* y = x, or y = y + x; enqueued. */
WEFT_FN void weft_gpu_between(weft_gpu *u, weft_sixteen_op op, size_t n, weft_dtype from, const void *x, weft_dtype to,
                              void *y) {
    const weft_sixteen w = weft_sixteen_make(op, from, x, to, y);
    weft_gpu_note(u, weft_device_sixteen(&u->device, &w, n, NULL));
}

/* How many elements of x are not finite once they are of the other type. */
WEFT_FN uint64_t weft_gpu_count_as(weft_gpu *u, size_t n, weft_dtype from, const void *x, weft_dtype to) {
    const weft_sixteen w = weft_sixteen_make(WEFT_SIXTEEN_COUNT, from, x, to, NULL);
    weft_slot total;
    weft_gpu_fetch(u, weft_device_sixteen(&u->device, &w, n, u->total), &total, 1);
    return total.count;
}
#endif
