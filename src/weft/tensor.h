/* SPDX-License-Identifier: MIT
 * tensor.h: a view of the host's parameter memory: n tensors, each (pointer, count, dtype). Nothing is copied or
 * owned. */
#include "base.h"
/*==== API ====*/

/* Element types. The 16-bit ones are storage and wire formats: computed in f32, rounded once (nearest even). */
typedef enum weft_dtype {
    WEFT_F32 = 0,
    WEFT_F64 = 1,
    WEFT_BF16 = 2, /* the upper half of an f32 */
    WEFT_F16 = 3   /* IEEE 754 binary16 */
} weft_dtype;

/* One tensor of the host: `count` elements at `data`, contiguous, aligned for its element type; it stays the host's.
 * In a view of gradients, data == NULL says "no gradient for this tensor in this step" (frozen, unused): `count` is
 * still that of the parameter. */
typedef struct weft_tensor {
    void *data;
    size_t count;
    weft_dtype dtype;
} weft_tensor;

/* A list of tensors. The list and the tensors stay the host's; both must outlive the object that was given them. */
typedef struct weft_tensors {
    const weft_tensor *tensor;
    size_t count;
} weft_tensors;

/* Bytes of one element, 0 for an unknown type. */
WEFT_INLINE size_t weft_dtype_bytes(weft_dtype dtype) {
    switch (dtype) {
    case WEFT_F32: return 4;
    case WEFT_F64: return 8;
    case WEFT_BF16:
    case WEFT_F16: return 2;
    }
    return 0;
}
/*==== IMPLEMENTATION ====*/

/* Is this a view that the library may compute on? Parameters need their memory; gradients may be absent (NULL).
 * Two parameters that share memory (a tied weight listed twice) would be pulled twice, so they are refused. */
WEFT_FN weft_status weft_tensors_check(const weft_tensors *t, int may_be_absent, weft_detail *d) {
    size_t i, j, elements = 0;
    if (t->count && !t->tensor) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors.tensor"), 1, 0);
    for (i = 0; i < t->count; i++) {
        const weft_tensor *a = &t->tensor[i];
        size_t each = weft_dtype_bytes(a->dtype), bytes = 0;
        if (!each) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.dtype"), WEFT_F16, (uint64_t)a->dtype);
        if (!weft_mul_size(a->count, each, &bytes) || !weft_add_size(elements, a->count, &elements) ||
            bytes > SIZE_MAX / 2)
            return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("tensor.count"), SIZE_MAX / 2 / each, a->count);
        if (!a->data) {
            if (a->count && !may_be_absent) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.data"), 1, 0);
            continue;
        }
        if ((uintptr_t)a->data % each)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.data (alignment)"), 0,
                               (uintptr_t)a->data % each);
        for (j = 0; !may_be_absent && j < i; j++) {
            const weft_tensor *b = &t->tensor[j];
            uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
            if (a->count && b->count && a0 < b0 + b->count * weft_dtype_bytes(b->dtype) && b0 < a0 + bytes)
                return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors overlap (tied? list it once)"), j, i);
        }
    }
    return WEFT_OK;
}

/* Do gradients describe the same shapes as the parameters? Names the first tensor that differs. */
WEFT_FN weft_status weft_tensors_match(const weft_tensors *params, const weft_tensors *other, weft_detail *d) {
    size_t i;
    if (other->count != params->count)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensors.count"), params->count, other->count);
    for (i = 0; i < params->count; i++)
        if (other->tensor[i].count != params->tensor[i].count)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.count"), params->tensor[i].count,
                               other->tensor[i].count);
    return WEFT_OK;
}

WEFT_FN size_t weft_tensors_elements(const weft_tensors *t) {
    size_t i, n = 0;
    for (i = 0; i < t->count; i++) n += t->tensor[i].count;
    return n;
}
