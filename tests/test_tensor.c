/* SPDX-License-Identifier: MIT
 * base.h and tensor.h: sizes that cannot overflow, memory that is carved out exactly, views refused by name. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"

#include <check.h>

/* ---- sizes ---- */
START_TEST(sizes_do_not_overflow) {
    size_t r = 7;
    ck_assert(weft_add_size(3, 4, &r) && r == 7);
    ck_assert(weft_add_size(SIZE_MAX, 0, &r) && r == SIZE_MAX);
    ck_assert(weft_add_size(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
    ck_assert(!weft_add_size(SIZE_MAX, 1, &r));
    ck_assert(!weft_add_size(1, SIZE_MAX, &r));
    ck_assert(!weft_add_size(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &r));
    ck_assert(weft_mul_size(6, 7, &r) && r == 42);
    ck_assert(weft_mul_size(0, SIZE_MAX, &r) && r == 0);
    ck_assert(weft_mul_size(SIZE_MAX, 0, &r) && r == 0);
    ck_assert(weft_mul_size(SIZE_MAX, 1, &r) && r == SIZE_MAX);
    ck_assert(weft_mul_size(SIZE_MAX / 8, 8, &r) && r == SIZE_MAX / 8 * 8);
    ck_assert(!weft_mul_size(SIZE_MAX / 8 + 1, 8, &r));
    ck_assert(!weft_mul_size(SIZE_MAX, SIZE_MAX, &r));
}
END_TEST

START_TEST(finite_by_bits) {
    const double huge = 1.7976931348623157e308;
    volatile double zero = 0.0;
    ck_assert(weft_is_finite(0.0) && weft_is_finite(-0.0) && weft_is_finite(5e-324));
    ck_assert(weft_is_finite(huge) && weft_is_finite(-huge));
    ck_assert(!weft_is_finite(1.0 / zero) && !weft_is_finite(-1.0 / zero) && !weft_is_finite(zero / zero));
}
END_TEST

START_TEST(every_status_has_its_words) {
    int s, t;
    for (s = -18; s <= 3; s++) {
        const char *a = weft_strerror((weft_status)s);
        ck_assert_ptr_nonnull(a);
        ck_assert_str_ne(a, "unknown status");
        for (t = -18; t < s; t++) ck_assert_str_ne(a, weft_strerror((weft_status)t));
    }
    ck_assert_str_eq(weft_strerror((weft_status)-999), "unknown status");
    ck_assert_str_eq(weft_strerror((weft_status)999), "unknown status");
}
END_TEST

/* ---- carving ---- */
/* Measures and hands out the same buffers at each start within a line: in bounds, aligned, apart, named. */
START_TEST(measuring_and_handing_out_agree) {
    static const size_t count[] = {1, 0, 3, 64, 100, 7}, each[] = {1, 8, 8, 1, 4, 24};
    static unsigned char memory[4096 + 64];
    size_t shift, i, total;
    weft_memory_report report;
    weft_layout m;
    memset(&report, 0, sizeof report);
    memset(&m, 0, sizeof m);
    m.report = &report;
    for (i = 0; i < 6; i++) ck_assert_ptr_null(weft_layout_take(&m, "buffer", count[i], each[i]));
    total = weft_layout_total(&m);
    ck_assert_uint_gt(total, 0);
    ck_assert_uint_le(total, 4096);
    ck_assert_uint_eq(report.count, 6);
    for (shift = 0; shift < 64; shift++) {
        unsigned char *start = memory + shift, *end = NULL;
        weft_layout l;
        memset(&l, 0, sizeof l);
        l.base = weft_align_memory(start);
        ck_assert_uint_eq((uintptr_t)l.base % 64, 0);
        ck_assert(l.base >= start && l.base < start + 64);
        for (i = 0; i < 6; i++) {
            unsigned char *p = (unsigned char *)weft_layout_take(&l, "buffer", count[i], each[i]);
            ck_assert_uint_eq((uintptr_t)p % 64, 0);
            ck_assert_ptr_eq(p, l.base + report.entry[i].offset);
            ck_assert_uint_eq(report.entry[i].bytes, count[i] * each[i]);
            ck_assert_str_eq(report.entry[i].name, "buffer");
            if (end) ck_assert(p >= end);
            end = p + count[i] * each[i];
            ck_assert(end <= start + total);
        }
        ck_assert_uint_eq(weft_layout_total(&l), total);
    }
}
END_TEST

START_TEST(layouts_refuse_what_does_not_fit) {
    static const size_t count[] = {SIZE_MAX, SIZE_MAX / 8 + 1, SIZE_MAX - 10, SIZE_MAX / 2};
    static const size_t each[] = {1, 8, 1, 2};
    size_t i;
    for (i = 0; i < 4; i++) {
        weft_layout l;
        memset(&l, 0, sizeof l);
        weft_layout_take(&l, "small", 1, 1);
        ck_assert_uint_ne(weft_layout_total(&l), 0);
        weft_layout_take(&l, "large", count[i], each[i]);
        ck_assert_uint_eq(weft_layout_total(&l), 0);
        weft_layout_take(&l, "small", 1, 1); /* and it stays refused */
        ck_assert_uint_eq(weft_layout_total(&l), 0);
    }
    {
        weft_layout l;
        memset(&l, 0, sizeof l);
        weft_layout_take(&l, "half", SIZE_MAX / 2, 1);
        weft_layout_take(&l, "half", SIZE_MAX / 2, 1); /* each fits, both do not */
        ck_assert_uint_eq(weft_layout_total(&l), 0);
    }
}
END_TEST

START_TEST(a_full_report_still_measures) {
    weft_memory_report report;
    weft_layout l;
    size_t i;
    memset(&report, 0, sizeof report);
    memset(&l, 0, sizeof l);
    l.report = &report;
    for (i = 0; i < WEFT_MEMORY_ENTRIES + 5; i++) weft_layout_take(&l, "x", 64, 1);
    ck_assert_uint_eq(report.count, WEFT_MEMORY_ENTRIES);
    ck_assert_uint_eq(weft_layout_total(&l), 64 * (WEFT_MEMORY_ENTRIES + 5) + 63);
}
END_TEST

/* ---- tensors ---- */
static double memory[64];

static weft_tensor tensor(size_t byte, size_t count, weft_dtype dtype) {
    weft_tensor t;
    t.data = (unsigned char *)memory + byte;
    t.count = count;
    t.dtype = dtype;
    return t;
}

static weft_status check(const weft_tensor *t, size_t count, int may_be_absent, weft_detail *d) {
    weft_tensors view;
    view.tensor = t;
    view.count = count;
    *d = weft_detail_none();
    return weft_tensors_check(&view, may_be_absent, d);
}

static void refused(const weft_tensor *t, size_t count, int may_be_absent, weft_status status, const char *field) {
    weft_detail d;
    ck_assert_int_eq(check(t, count, may_be_absent, &d), status);
    ck_assert_int_eq(d.status, status);
    ck_assert_ptr_nonnull(d.field);
    ck_assert_msg(strstr(d.field, field) != NULL, "\"%s\" does not say %s", d.field, field);
    ck_assert_uint_eq(d.peer, WEFT_NO_RANK);
}

static void accepted(const weft_tensor *t, size_t count, int may_be_absent) {
    weft_detail d;
    const weft_status s = check(t, count, may_be_absent, &d);
    ck_assert_msg(s == WEFT_OK, "refused: %s", d.field);
    ck_assert_ptr_null(d.field);
}

START_TEST(element_sizes) {
    ck_assert_uint_eq(weft_dtype_bytes(WEFT_F32), 4);
    ck_assert_uint_eq(weft_dtype_bytes(WEFT_F64), 8);
    ck_assert_uint_eq(weft_dtype_bytes(WEFT_BF16), 2);
    ck_assert_uint_eq(weft_dtype_bytes(WEFT_F16), 2);
    ck_assert_uint_eq(weft_dtype_bytes((weft_dtype)4), 0);
}
END_TEST

START_TEST(legal_views) {
    weft_tensor t[4];
    accepted(NULL, 0, 0);
    t[0] = tensor(0, 4, WEFT_F64);
    t[1] = tensor(32, 3, WEFT_F32); /* begins where the last one ends */
    t[2] = tensor(46, 5, WEFT_BF16);
    t[3] = tensor(44, 1, WEFT_F16);
    accepted(t, 4, 0);
    accepted(t, 4, 1);
    t[1].count = 0; /* empty ones may lie anywhere, or nowhere */
    t[1].data = t[0].data;
    accepted(t, 4, 0);
    t[1].data = NULL;
    accepted(t, 4, 0);
}
END_TEST

START_TEST(illegal_views) {
    weft_tensor t[2];
    refused(NULL, 1, 0, WEFT_ERR_ARGUMENT, "tensors.tensor");
    t[0] = tensor(0, 4, (weft_dtype)4);
    refused(t, 1, 0, WEFT_ERR_ARGUMENT, "dtype");
    t[0] = tensor(0, 4, (weft_dtype)-1);
    refused(t, 1, 0, WEFT_ERR_ARGUMENT, "dtype");
    t[0] = tensor(4, 4, WEFT_F64);
    refused(t, 1, 0, WEFT_ERR_ARGUMENT, "alignment");
    t[0] = tensor(2, 4, WEFT_F32);
    refused(t, 1, 0, WEFT_ERR_ARGUMENT, "alignment");
    t[0] = tensor(1, 4, WEFT_F16);
    refused(t, 1, 1, WEFT_ERR_ARGUMENT, "alignment");
    t[0] = tensor(0, SIZE_MAX / 4 + 1, WEFT_F32);
    refused(t, 1, 0, WEFT_ERR_OVERFLOW, "count");
    t[0] = tensor(0, SIZE_MAX / 8 + 1, WEFT_F32); /* fits size_t, but not an object */
    refused(t, 1, 0, WEFT_ERR_OVERFLOW, "count");
    t[0] = tensor(0, SIZE_MAX / 8, WEFT_F32);
    t[0].data = NULL;
    refused(t, 1, 0, WEFT_ERR_ARGUMENT, "data");
    accepted(t, 1, 1); /* a gradient that is not there */
}
END_TEST

START_TEST(overlapping_parameters) {
    size_t a, b;
    weft_tensor t[2];
    weft_detail d;
    /* bytes [16, 32) against [4 a, 4 a + 4 b) */
    t[0] = tensor(16, 2, WEFT_F64);
    for (a = 0; a < 12; a++)
        for (b = 0; b < 10; b++) {
            const int apart = b == 0 || 4 * a >= 32 || 4 * (a + b) <= 16;
            weft_tensor swapped[2];
            t[1] = tensor(4 * a, b, WEFT_F32);
            swapped[0] = t[1];
            swapped[1] = t[0];
            if (apart) {
                accepted(t, 2, 0);
                accepted(swapped, 2, 0);
            } else {
                refused(t, 2, 0, WEFT_ERR_ARGUMENT, "overlap");
                refused(swapped, 2, 0, WEFT_ERR_ARGUMENT, "overlap");
                accepted(t, 2, 1); /* gradients are only read */
            }
        }
    t[1] = t[0];
    check(t, 2, 0, &d);
    ck_assert_uint_eq(d.expected, 0); /* the two tensors */
    ck_assert_uint_eq(d.got, 1);
}
END_TEST

START_TEST(shapes_must_match) {
    weft_tensor p[2], g[2];
    weft_tensors params, grads;
    weft_detail d = weft_detail_none();
    p[0] = tensor(0, 4, WEFT_F32);
    p[1] = tensor(16, 5, WEFT_F32);
    g[0] = p[0];
    g[1] = p[1];
    params.tensor = p;
    grads.tensor = g;
    params.count = grads.count = 2;
    ck_assert_int_eq(weft_tensors_match(&params, &grads, &d), WEFT_OK);
    ck_assert_uint_eq(weft_tensors_elements(&params), 9);
    g[1].data = NULL; /* absent, but of the same shape */
    ck_assert_int_eq(weft_tensors_match(&params, &grads, &d), WEFT_OK);
    g[1].count = 6;
    ck_assert_int_eq(weft_tensors_match(&params, &grads, &d), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(d.expected, 5);
    ck_assert_uint_eq(d.got, 6);
    grads.count = 1;
    ck_assert_int_eq(weft_tensors_match(&params, &grads, &d), WEFT_ERR_ARGUMENT);
    ck_assert_uint_eq(d.expected, 2);
    ck_assert_uint_eq(d.got, 1);
    params.count = 0;
    ck_assert_uint_eq(weft_tensors_elements(&params), 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("tensor");
    TCase *c = tcase_create("tensor");
    SRunner *r;
    int failed;
    tcase_add_test(c, sizes_do_not_overflow);
    tcase_add_test(c, finite_by_bits);
    tcase_add_test(c, every_status_has_its_words);
    tcase_add_test(c, measuring_and_handing_out_agree);
    tcase_add_test(c, layouts_refuse_what_does_not_fit);
    tcase_add_test(c, a_full_report_still_measures);
    tcase_add_test(c, element_sizes);
    tcase_add_test(c, legal_views);
    tcase_add_test(c, illegal_views);
    tcase_add_test(c, overlapping_parameters);
    tcase_add_test(c, shapes_must_match);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
